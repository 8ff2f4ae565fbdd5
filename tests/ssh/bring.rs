//! Bringing the agent: once for each build, whatever the account's shell says and the folder is called.

use crate::command::{Ended, Watched};
use crate::support::{BINARY, Home, LocalUser, Shell, Site, SshSettings, Sshd, give, output_of};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// What lies in an agent's `bin` folder.
fn builds(root: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(root.join(".ibexdeploy/bin")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// The only build in an agent's `bin` folder, which must be this executable.
fn brought(root: &Path) -> PathBuf {
    let builds = builds(root);
    assert_eq!(builds.len(), 1, "{builds:?}");
    let file = root.join(".ibexdeploy/bin").join(builds.first().unwrap()).join("ibexdeploy");
    output_of(Command::new("cmp").arg(&file).arg(BINARY));
    file
}

#[test]
fn once_for_each_build() {
    let sshd = Sshd::start();
    let mut site = Site::new();
    let root = site.add("NDXNEW", SshSettings::of(&sshd));
    let first = site.run_well(&["status", "NDXNEW", "-vv"]);
    assert!(first.stderr.contains("bringing the agent"), "{}", first.story());
    let file = brought(&root);
    assert_eq!(fs::metadata(root.join(".ibexdeploy")).unwrap().permissions().mode() & 0o777, 0o700);
    let look = || {
        let data = [&file, file.parent().unwrap(), file.parent().unwrap().parent().unwrap()].map(|p| fs::metadata(p).unwrap());
        data.map(|d| (d.ino(), d.mtime(), d.mtime_nsec(), d.ctime(), d.ctime_nsec()))
    };
    let before = look();
    let second = site.run_well(&["status", "NDXNEW", "-vv"]);
    assert!(second.stderr.contains("logged on") && !second.stderr.contains("bringing the agent"), "{}", second.story());
    assert_eq!(look(), before);
    assert_eq!(sshd.log().matches("Starting session: subsystem 'sftp'").count(), 1, "{}", sshd.log());
}

/// Programs that users may have as their shell, where this machine has them.
fn other_shells() -> Vec<&'static str> {
    let all = ["/bin/zsh", "/usr/bin/fish", "/bin/tcsh", "/bin/ksh"];
    let (there, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| Path::new(path).exists());
    if !missing.is_empty() {
        eprintln!("skipped: not tried are {}, which are not installed", missing.join(", "));
    }
    there
}

#[test]
fn whatever_the_shell_and_the_folder() {
    let mut site = Site::new();
    let banner = site.dir().join("banner");
    fs::write(&banner, "This machine belongs to ISIS.\n".repeat(40)).unwrap();
    let mut cases = vec![
        ("NDXSH".to_owned(), Shell::Sh, Home::Own, false),
        ("NDXBASH".to_owned(), Shell::Bash, Home::Own, false),
        ("NDXNOISY".to_owned(), Shell::Noisy, Home::Missing, true),
        ("NDXSHOUTING".to_owned(), Shell::Shouting, Home::Own, true),
    ];
    for path in other_shells() {
        let name = format!("NDX{}", Path::new(path).file_name().unwrap().to_string_lossy().to_uppercase());
        cases.push((name, Shell::Program(path), Home::Own, false));
    }
    let mut machines = Vec::new();
    for (name, shell, home, bring) in &cases {
        let Some(user) = LocalUser::create(*shell, *home) else { return };
        let sshd = Sshd::builder().user(&user).line(format!("Banner {}", banner.display())).start();
        let odd = site.dir().join(format!("roots/{name} {}", r#"Tom's "größte" $HOME `x` & (é)"#));
        let settings = SshSettings::of(&sshd).with("root", odd.display());
        let root = if *bring { site.add(name, settings) } else { site.add_with_agent(name, settings) };
        give(&root, &user);
        machines.push((user, sshd, root, *bring));
    }
    site.run_well(&["status", "--all"]);
    for (_, _, root, _) in machines.iter().filter(|(_, _, _, bring)| *bring) {
        brought(root);
    }
}

#[test]
fn by_two_controllers_at_the_same_moment() {
    let sshd = Sshd::start();
    let mut site = Site::new();
    let root = site.add("NDXBOTH", SshSettings::of(&sshd));
    let both = [(); 2].map(|()| site.command(&["status", "NDXBOTH"]).spawn().unwrap());
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", crate::support::told(&output));
    }
    brought(&root);
    site.run_well(&["status", "NDXBOTH"]);
}

/// An executable that does the same and is another build.
fn other_build(site: &Site, name: &str) -> PathBuf {
    let file = site.dir().join(name);
    fs::copy(BINARY, &file).unwrap();
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(name.as_bytes()).unwrap();
    file
}

fn make_older(path: &Path, hours: u64) {
    let changed = SystemTime::now() - Duration::from_secs(3600 * hours);
    fs::File::open(path).unwrap().set_modified(changed).unwrap();
}

#[test]
fn old_builds_go_and_never_one_that_a_run_needs() {
    let sshd = Sshd::start();
    let mut site = Site::new();
    let root = site.add("NDXOLD", SshSettings::of(&sshd));
    let go = site.dir().join("go");
    let run = format!("echo waiting; while [ ! -e {} ]; do sleep 0.02; done", go.display());
    site.playbook("wait", &format!("stage:\n  - command: {{run: '{run}', read_only: true}}\n"));
    let mut running = Watched::start(&mut site.command(&["run", "wait", "NDXOLD", "--yes", "--output", "json"]));
    running.until(|event| event["line"] == "waiting").expect("the step");
    let bin = root.join(".ibexdeploy/bin");
    let began = builds(&root).pop_first().unwrap();

    for build in ["aaaaaaaaaaaa", "bbbbbbbbbbbb"] {
        fs::create_dir(bin.join(build)).unwrap();
    }
    for file in ["incoming-0123456789abcdef", "incoming-fedcba9876543210"] {
        fs::write(bin.join(file), "half").unwrap();
    }
    make_older(&bin.join("aaaaaaaaaaaa"), 1);
    make_older(&bin.join("bbbbbbbbbbbb"), 2);
    make_older(&bin.join(&began), 3);
    make_older(&bin.join("incoming-0123456789abcdef"), 4);
    let status = |build: &Path| {
        let before = builds(&root);
        let ended = Ended::of(&mut site.command_of(build, &["status", "NDXOLD"]));
        assert_eq!(ended.code, 0, "{}", ended.story());
        builds(&root).difference(&before).next().expect("a new build").clone()
    };
    let second = status(&other_build(&site, "second"));
    // What just arrives is somebody else's.
    let stays = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(builds(&root), stays(&[&began, &second, "aaaaaaaaaaaa", "incoming-fedcba9876543210"]));

    fs::write(&go, "").unwrap();
    assert!(running.until(|event| event["event"] == "instrument_finished" && event["outcome"] == "ok").is_some());
    assert!(running.child.wait().unwrap().success());
    let third = status(&other_build(&site, "third"));
    assert_eq!(builds(&root), stays(&[&second, &third, "incoming-fedcba9876543210"]));
}
