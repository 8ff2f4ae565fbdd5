//! Kits that are not right.

use super::Site;
use insta::assert_snapshot;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

const SYNC: &str = "playbook: t\napply:\n  - sync: {component: EPICS, to: server}\n";

#[test]
fn kits() {
    let site = Site::new();
    site.put("t.yaml", SYNC);
    let kit = |options: &[&str]| site.refused(&[&["run", "t", "NDXLARMOR", "--yes"], options].concat());
    assert_snapshot!(kit(&["--kits", "gone"]), @"
    exit 2
    error: there is no folder of releases gone
      next: check --kits (IBEXDEPLOY_KITS): it names the folder that holds the releases
    ");
    assert_snapshot!(kit(&["--kits", "."]), @"
    exit 2
    error: no release found in .
      next: check --kits: releases are folders named like 26.8.0 in it
    ");

    let release = site.fleet.kits().join("26.9.0/EPICS");
    // Each mistake alone, on the newest release; the sandboxes keep what they have.
    let with = |name: &str, make: &dyn Fn(&std::path::Path)| {
        make(&release.join(name));
        let said = kit(&[]);
        std::fs::remove_file(release.join(name)).unwrap();
        said
    };
    let file = |path: &std::path::Path| std::fs::write(path, "x").unwrap();
    assert_snapshot!(with("link", &|path| std::os::unix::fs::symlink("/etc/passwd", path).unwrap()), @"
    exit 2
    error: DIR/kits/26.9.0/EPICS has links inside: link -> /etc/passwd
      next: replace each link by what it leads to; only a whole component may be a link
    ");
    assert_snapshot!(with("what?.txt", &file), @"
    exit 2
    error: DIR/kits/26.9.0/EPICS has names that Windows cannot have: what?.txt (the character '?' is not allowed in Windows names)
      next: rename or remove them in the kit
    ");
    assert_snapshot!(with("aux.txt", &file), @"
    exit 2
    error: DIR/kits/26.9.0/EPICS has names that Windows cannot have: aux.txt (`aux` is a device name on Windows)
      next: rename or remove them in the kit
    ");
    assert_snapshot!(with("ends with a dot.", &file), @"
    exit 2
    error: DIR/kits/26.9.0/EPICS has names that Windows cannot have: ends with a dot. (Windows drops a dot or space at the end of a name)
      next: rename or remove them in the kit
    ");
    assert_snapshot!(with("VERSION.TXT", &file), @"
    exit 2
    error: DIR/kits/26.9.0/EPICS has names that differ only in case: VERSION.TXT and VERSION.txt
      next: Windows takes them for one: rename or remove one of each in the kit
    ");
    let pipe = |path: &std::path::Path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    assert_snapshot!(with("pipe", &pipe), @"
    exit 2
    error: DIR/kits/26.9.0/EPICS holds what cannot be sent: pipe is a pipe
      next: remove it from the kit, or put a file in its place
    ");
    std::fs::rename(release.join("VERSION.txt"), release.join("v")).unwrap();
    std::fs::rename(release.join("v"), release.join("VERSION.txt")).unwrap();
}

#[test]
fn a_kit_that_is_not_as_its_manifest_says() {
    let site = Site::new();
    site.put("t.yaml", SYNC);
    let written = site.said(&mut site.command(&["kit", "verify", "26.9.0", "--write"]));
    assert!(written.starts_with("exit 0"), "{written}");
    std::fs::remove_file(site.fleet.kits().join("26.9.0/EPICS/stop_ibex_server.bat")).unwrap();
    assert_snapshot!(site.refused(&["run", "t", "NDXLARMOR", "--yes"]), @"
    exit 2
    error: DIR/kits/26.9.0/EPICS is not as DIR/kits/26.9.0/manifests/EPICS.json says: stop_ibex_server.bat is missing
      next: copy the release again; if the change is meant, write the manifest anew: ibexdeploy kit verify 26.9.0 --write
    ");
    assert_snapshot!(site.refused(&["release", "NDXLARMOR", "--yes", "--kit", "26.7.0"]), @"
    exit 2
    error: there is no playbook `release` in .
      next: the playbooks there are: ndx, t
    ");
}

#[test]
fn a_kit_that_grows_while_it_is_read() {
    let site = Site::new();
    site.put("t.yaml", SYNC);
    let growing = site.fleet.kits().join("26.9.0/EPICS/growing.log");
    let mut file = std::fs::File::create(&growing).unwrap();
    let over = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                file.write_all(b"more\n").unwrap();
            }
        });
        let said = site.refused(&["run", "t", "NDXLARMOR", "--yes"]);
        over.store(true, Ordering::Relaxed);
        said
    });
    assert_snapshot!(said, @"
    exit 2
    error: DIR/kits/26.9.0/EPICS changed while it was read: growing.log
      next: wait until nothing is copied into the release any more, then try again
    ");
}

#[test]
fn a_version_that_could_not_be_proven_is_found_before_anything_is_stopped() {
    let site = Site::new();
    let prove = "prove:\n  - name: server version\n    check: {version: {at: server, is: '{{ kit.versions.EPICS }}'}}\n";
    site.put("t.yaml", format!("{SYNC}{prove}"));
    let file = site.fleet.kits().join("26.9.0/EPICS/VERSION.txt");
    let with = |content: &[u8]| {
        std::fs::write(&file, content).unwrap();
        site.refused(&["run", "t", "NDXLARMOR", "--yes"])
    };
    assert_snapshot!(with(b"  \r\n"), @"
    exit 2
    error: DIR/kits/26.9.0/EPICS/VERSION.txt is empty
      on NDXLARMOR
      because: the playbook proves it: server version
      next: write the component's version into it, as the first word of a plain text, for example 26.9.0
    ");
    assert_snapshot!(with(b"\x1b[31m26.9.0\x1b[0m\n"), @r#"
    exit 2
    error: DIR/kits/26.9.0/EPICS/VERSION.txt begins with "\u{1b}[31m26.9.0\u{1b}[0m", which is no version
      on NDXLARMOR
      because: the playbook proves it: server version
      next: write the component's version into it, as the first word of a plain text, for example 26.9.0
    "#);
    std::fs::remove_file(&file).unwrap();
    assert_snapshot!(site.refused(&["run", "t", "NDXLARMOR", "--yes"]), @"
    exit 2
    error: DIR/kits/26.9.0/EPICS/VERSION.txt is missing
      on NDXLARMOR
      because: the playbook proves it: server version
      next: write the component's version into it, as the first word of a plain text, for example 26.9.0
    ");
    // Nobody proves it: the release's name stands for it.
    site.put("t.yaml", SYNC);
    let planned = site.refused(&["plan", "t", "NDXLARMOR"]);
    assert!(planned.starts_with("exit 0"), "{planned}");
    site.put("t.yaml", format!("{SYNC}{}", prove.replace("{{ kit.versions.EPICS }}", "26.10.0")));
    assert_snapshot!(with(b"\xef\xbb\xbf26.9.0 of today\r\n"), @"
    exit 2
    error: DIR/kits/26.9.0/EPICS/VERSION.txt says 26.9.0, and the step wants 26.10.0
      --> ./t.yaml:6:39
      4 | prove:
      5 |   - name: server version
      6 |     check: {version: {at: server, is: '26.10.0'}}
        |                                       ^
      on NDXLARMOR
      next: correct the file, or write `{{ kit.versions.COMPONENT }}`, which is what it says
    ");
}

#[test]
fn a_release_whose_name_git_does_not_take_is_found_when_the_plan_is_made() {
    let site = Site::new();
    site.put(
        "t.yaml",
        "playbook: t\napply:\n  - sync: {component: EPICS, to: server}\n  - git: {at: server, tag: 'ibex_{{ kit.version }}'}\n",
    );
    let kits = site.fleet.kits();
    std::fs::rename(kits.join("26.9.0"), kits.join("26.9.0 rc 1")).unwrap();
    let kit = kits.join("26.9.0 rc 1").display().to_string();
    assert_snapshot!(site.refused(&["run", "t", "NDXLARMOR", "--yes", "--kit", &kit]), @r#"
    exit 2
    error: "ibex_26.9.0 rc 1" cannot be the name of a tag: git allows no space in it
      --> ./t.yaml:4:28
      2 | apply:
      3 |   - sync: {component: EPICS, to: server}
      4 |   - git: {at: server, tag: 'ibex_{{ kit.version }}'}
        |                            ^
      on NDXLARMOR
      next: write another name; where it comes from the release's name, rename the folder of the release
    "#);
}
