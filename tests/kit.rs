//! `ibexdeploy kit` through the binary, on the kits of a rehearsal.

#![cfg(test)]

use ibexdeploy::rehearsal::{KitShape, make_kits};
use std::path::{Path, PathBuf};
use std::process::Command;

struct Share {
    dir: tempfile::TempDir,
}

impl Share {
    /// Two whole releases, and a partial one of the server only.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        make_kits(&dir.path().join("kits"), &KitShape::small().without_git()).unwrap();
        let share = Self { dir };
        share.put("26.10.0/EPICS/VERSION.txt", "26.10.0 26.10.0.1\r\n");
        share.put("26.11.0-rc1/EPICS/VERSION.txt", "26.11.0\r\n");
        share
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("kits").join(below)
    }

    fn put(&self, below: &str, text: &str) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Exit code, standard output and standard error, with the share's path as `SHARE`.
    fn run(&self, arguments: &[&str]) -> String {
        let output = binary(arguments)
            .arg("--kits")
            .arg(self.path(""))
            .env("IBEXDEPLOY_STATE", self.dir.path().join("state"))
            .output()
            .unwrap();
        let streams = [output.stdout, output.stderr].map(|s| String::from_utf8(s).unwrap());
        format!("exit {}\n{}", output.status.code().unwrap(), streams.concat())
            .replace(&self.path("").display().to_string(), "SHARE/")
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.run(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(text.strip_prefix("exit 0\n").unwrap()).unwrap()
    }
}

fn binary(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("IBEXDEPLOY_")) {
        command.env_remove(name);
    }
    command.args(arguments).env_remove("COLUMNS");
    command
}

/// The sha256 of everything below a folder, by programs that are not ours.
fn digest(folder: &Path) -> String {
    let line = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum";
    let output = Command::new("sh").args(["-c", line]).current_dir(folder).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn list_names_the_newest_and_those_that_only_count_by_name() {
    let share = Share::new();
    insta::assert_snapshot!(share.run(&["kit", "list"]), @r"
    exit 0
    RELEASE      COMPONENTS
    26.8.0       Client EPICS genie_python_3
    26.9.0       Client EPICS genie_python_3
    26.10.0      EPICS                        newest
    26.11.0-rc1  EPICS                        only by name
    ");
    let json = share.json(&["kit", "list"]);
    assert_eq!(json[2]["release"], "26.10.0");
    assert_eq!(json[2]["newest"], true);
    assert_eq!(json[3]["plain"], false);
}

#[test]
fn show_completes_a_partial_release_and_says_so() {
    let share = Share::new();
    let json = share.json(&["kit", "show"]);
    assert_eq!(json["release"], "26.10.0");
    let components = json["components"].as_array().unwrap();
    let from: Vec<_> = components.iter().map(|c| (c["component"].as_str().unwrap(), c["release"].as_str().unwrap())).collect();
    assert_eq!(from, [("Client", "26.9.0"), ("EPICS", "26.10.0"), ("genie_python_3", "26.9.0")]);
    assert_eq!(json["notes"][0], "Client comes from 26.9.0: 26.10.0 does not have it");
    let text = share.run(&["kit", "show", "26.10.0"]);
    assert!(text.contains("note: genie_python_3 comes from 26.9.0: 26.10.0 does not have it\n"), "{text}");
}

#[test]
fn show_counts_as_find_does() {
    let share = Share::new();
    let json = share.json(&["kit", "show", "26.8.0"]);
    let server = json["components"].as_array().unwrap().iter().find(|c| c["component"] == "EPICS").unwrap();
    let find =
        Command::new("sh").args(["-c", "find . -type f | wc -l"]).current_dir(share.path("26.8.0/EPICS")).output().unwrap();
    assert_eq!(server["files"].to_string(), String::from_utf8(find.stdout).unwrap().trim());
    assert_eq!(server["version"], "26.8.0");
}

#[test]
fn verify_writes_a_manifest_and_finds_what_is_wrong_later() {
    let share = Share::new();
    let release = share.path("26.8.0");
    let before = digest(&release);
    let unverified = share.run(&["kit", "verify", "26.8.0"]);
    assert!(unverified.contains("readable; no manifest to compare with") && unverified.starts_with("exit 1"), "{unverified}");
    assert_eq!(digest(&release), before);
    assert!(share.run(&["kit", "verify", "26.8.0", "--write"]).contains("manifest written"));
    let json = share.json(&["kit", "verify", "26.8.0"]);
    assert_eq!(json["components"][0]["written"], "matches");

    std::fs::remove_file(share.path("26.8.0/EPICS/start_ibex_server.bat")).unwrap();
    share.put("26.8.0/EPICS/VERSION.txt", "26.8.0 changed\r\n");
    insta::assert_snapshot!(share.run(&["kit", "verify", "26.8.0"]), @r"
    exit 2
    error: SHARE/26.8.0/EPICS is not as SHARE/26.8.0/manifests/EPICS.json says: VERSION.txt has other content, start_ibex_server.bat is missing
      next: copy the release again; if the change is meant, write the manifest anew: ibexdeploy kit verify 26.8.0 --write
    ");
    insta::assert_snapshot!(share.run(&["kit", "show", "26.8.0"]), @r"
    exit 2
    error: SHARE/26.8.0/EPICS is not as SHARE/26.8.0/manifests/EPICS.json says: VERSION.txt has other content, start_ibex_server.bat is missing
      next: copy the release again; if the change is meant, write the manifest anew: ibexdeploy kit verify 26.8.0 --write
    ");
}

#[test]
fn a_release_that_is_not_there() {
    let share = Share::new();
    insta::assert_snapshot!(share.run(&["kit", "show", "26.80"]), @r"
    exit 2
    error: there is no release `26.80` in SHARE/
      next: did you mean `26.8.0`? `ibexdeploy kit list` shows all
    ");
    insta::assert_snapshot!(share.run(&["kit", "show", "nothing/here"]), @r"
    exit 2
    error: there is no kit folder nothing/here
      next: --kit takes the name of a release, or the path of a folder that holds EPICS, Client, ...
    ");
    for release in ["26.8.0", "26.9.0", "26.10.0"] {
        std::fs::remove_dir_all(share.path(release)).unwrap();
    }
    insta::assert_snapshot!(share.run(&["kit", "show"]), @r"
    exit 2
    error: no release found in SHARE/
      next: only plain x.y.z names count as newest; name one with --kit: 26.11.0-rc1
    ");
    std::fs::remove_dir_all(share.path("26.11.0-rc1")).unwrap();
    insta::assert_snapshot!(share.run(&["kit", "list"]), @r"
    exit 0
    no release in SHARE/
    ");
    insta::assert_snapshot!(share.run(&["kit", "verify"]), @r"
    exit 2
    error: no release found in SHARE/
      next: check --kits: releases are folders named like 26.8.0 in it
    ");
}

#[test]
fn a_folder_of_kits_that_is_not_there_or_not_named() {
    let share = Share::new();
    std::fs::remove_dir_all(share.path("")).unwrap();
    insta::assert_snapshot!(share.run(&["kit", "list"]), @r"
    exit 2
    error: there is no folder of releases SHARE/
      next: check --kits (IBEXDEPLOY_KITS): it names the folder that holds the releases
    ");
    let output = binary(&["kit", "list"]).env("IBEXDEPLOY_STATE", share.dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r"
    error: the folder of releases is not known
      next: name it with --kits DIR or IBEXDEPLOY_KITS, or look at a rehearsal's with --rehearse
    ");
}

#[test]
fn kits_that_windows_could_not_have() {
    let share = Share::new();
    share.put("26.8.0/EPICS/ioc/AUX.db", "");
    insta::assert_snapshot!(share.run(&["kit", "show", "26.8.0"]), @r"
    exit 2
    error: SHARE/26.8.0/EPICS has names that Windows cannot have: ioc/AUX.db (`aux` is a device name on Windows)
      next: rename or remove them in the kit
    ");
    std::fs::remove_file(share.path("26.8.0/EPICS/ioc/AUX.db")).unwrap();
    share.put("26.8.0/EPICS/Version.TXT", "");
    insta::assert_snapshot!(share.run(&["kit", "show", "26.8.0"]), @r"
    exit 2
    error: SHARE/26.8.0/EPICS has names that differ only in case: VERSION.txt and Version.TXT
      next: Windows takes them for one: rename or remove one of each in the kit
    ");
}

#[test]
fn a_client_that_is_still_being_copied() {
    let share = Share::new();
    std::fs::remove_file(share.path("26.9.0/Client/COPY_COMPLETE.txt")).unwrap();
    insta::assert_snapshot!(share.run(&["kit", "show", "26.9.0"]), @r"
    exit 2
    error: SHARE/26.9.0/Client is still being copied: it has no COPY_COMPLETE.txt
      next: wait until the build has written COPY_COMPLETE.txt, or choose another release with --kit
    ");
}

#[cfg(unix)]
#[test]
fn links_inside_a_component() {
    let share = Share::new();
    std::os::unix::fs::symlink("VERSION.txt", share.path("26.9.0/EPICS/link")).unwrap();
    insta::assert_snapshot!(share.run(&["kit", "show", "26.9.0"]), @r"
    exit 2
    error: SHARE/26.9.0/EPICS has links inside: link -> VERSION.txt
      next: replace each link by what it leads to; only a whole component may be a link
    ");
}

#[test]
fn the_kits_of_a_rehearsal_are_looked_at_without_naming_them() {
    let dir = tempfile::tempdir().unwrap();
    make_kits(&dir.path().join("kits"), &KitShape::small().without_git()).unwrap();
    let rehearse = format!("--rehearse={}", dir.path().display());
    let output = binary(&["kit", "list", &rehearse]).env("IBEXDEPLOY_STATE", dir.path().join("state")).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("26.9.0"));
}
