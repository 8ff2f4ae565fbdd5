//! `migrate --dir`: settings in a folder at hand, with the shipped chain, judged by git.
#![cfg(test)]
#![cfg(unix)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const IOCS: &str = "<?xml version=\"1.0\" ?>\r\n<iocs>\r\n    <!-- of the site -->\r\n    <ioc name=\"DFKPS_02\">\r\n        <macros/>\r\n    </ioc>\r\n</iocs>\r\n";

/// Settings of EMU as a release of long ago left them.
fn settings(git_tree: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("configurations/config_version.txt", "6.0.0\n"),
        ("configurations/configurations/beam/iocs.xml", IOCS),
        (
            "configurations/configurations/beam/blocks.xml",
            "<blocks><block><read_pv>IN:EMU:COORD1:NO_OFFSET</read_pv></block></blocks>",
        ),
        ("configurations/configurations/beam/meta.xml", "<meta>\n    <description/>\n</meta>"),
        ("configurations/components/_base/iocs.xml", "<iocs>\n    <ioc name=\"BSKAFKA\"/>\n</iocs>"),
        ("configurations/devices/screens.xml", "<devices/>"),
        ("configurations/globals.txt", "DFKPS_02__DISABLE_AUTOONOFF=1\n"),
    ];
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    if git_tree {
        git(dir.path(), &["init", "--quiet", "--initial-branch", "NDXEMU"]);
        git(dir.path(), &["config", "user.name", "tester"]);
        git(dir.path(), &["config", "user.email", "tester@example.com"]);
        git(dir.path(), &["add", "--all"]);
        git(dir.path(), &["commit", "--quiet", "--message", "first"]);
    }
    dir
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git").args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("migrate").arg("--dir").arg(dir).args(arguments).stdin(Stdio::null());
    command
}

fn migrate(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().unwrap()
}

/// Content of all files of the work tree, and all that git knows.
fn look(dir: &Path) -> BTreeMap<String, String> {
    let files = walkdir::WalkDir::new(dir).into_iter().filter_entry(|e| e.file_name() != ".git").flatten();
    let mut all: BTreeMap<String, String> = files
        .filter(|e| e.file_type().is_file())
        .map(|e| (e.path().display().to_string(), String::from_utf8_lossy(&std::fs::read(e.path()).unwrap()).into_owned()))
        .collect();
    if dir.join(".git").exists() {
        for args in [&["for-each-ref"][..], &["ls-files", "--stage"], &["status", "--porcelain"], &["log", "--format=%H"]] {
            all.insert(args.join(" "), git(dir, args));
        }
    }
    all
}

#[test]
fn a_dry_run_shows_a_diff_and_changes_nothing() {
    let dir = settings(true);
    let before = look(dir.path());
    let output = migrate(dir.path(), &["--dry-run"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let part = "+++ b/configurations/configurations/beam/blocks.xml\n@@ -1 +1 @@\n\
        -<blocks><block><read_pv>IN:EMU:COORD1:NO_OFFSET</read_pv></block></blocks>\n\\ No newline at end of file\n\
        +<blocks><block><read_pv>IN:EMU:COORD0:NO_OFF</read_pv></block></blocks>\n";
    assert!(text.contains(part), "{text}");
    assert!(text.contains("NDXEMU: would be migrated from 6.0.0 to 26.8.1"), "{text}");
    assert!(text.contains("skipped") && text.contains("MySQL-Log-DDL.sql") && text.contains("../common"), "{text}");
    assert_eq!(look(dir.path()), before);
}

#[test]
fn it_commits_and_tags_and_does_it_once() {
    let dir = settings(true);
    let output = migrate(dir.path(), &["--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told["machine"].as_str(), told["branch"].as_str()), (Some("NDXEMU"), Some("NDXEMU")));
    assert_eq!(told["commit"].as_str(), Some(git(dir.path(), &["rev-parse", "HEAD"]).trim()));
    let tags = git(dir.path(), &["tag"]);
    assert_eq!(told["tags"].as_array().map(Vec::len), Some(tags.lines().count()));
    assert!(tags.contains("NDXEMU_6.0.0_upgrade\n") && tags.contains("NDXEMU_26.8.1\n"), "{tags}");
    assert_eq!(git(dir.path(), &["status", "--porcelain"]), "");
    let iocs = git(dir.path(), &["show", "HEAD:configurations/configurations/beam/iocs.xml"]);
    let macro_line = "<macros>\r\n            <macro name=\"DISABLE_AUTOONOFF\" value=\"0\"/>\r\n        </macros>";
    assert_eq!(iocs, IOCS.replace("<macros/>", macro_line));
    assert_eq!(git(dir.path(), &["show", "HEAD:configurations/globals.txt"]), "DFKPS_02__DISABLE_AUTOONOFF=0\n");

    let before = look(dir.path());
    let again = migrate(dir.path(), &[]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("have the version 26.8.1 already"));
    assert_eq!(look(dir.path()), before);
}

#[test]
fn another_machine_and_another_version() {
    let dir = settings(false);
    let output = migrate(dir.path(), &["--machine", "NDXLOQ", "--to", "7.2.0"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |path: &str| std::fs::read_to_string(dir.path().join("configurations").join(path)).unwrap();
    assert_eq!((read("config_version.txt").as_str(), read("configurations/beam/iocs.xml").as_str()), ("7.2.0\n", IOCS));
    assert!(!dir.path().join(".git").exists());
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["configurations"], "nothing of ours stays behind");
}

/// Each makes the migration of a good tree impossible.
#[test]
fn whatever_is_wrong_nothing_changes() {
    type Spoil = fn(&Path);
    let cases: [(&str, i32, Spoil); 6] = [
        ("blocks.xml:1:", 2, |dir| {
            std::fs::write(dir.join("configurations/configurations/beam/blocks.xml"), "<blocks><a></blocks>").unwrap()
        }),
        ("does not know the version `6.6.6`", 2, |dir| {
            std::fs::write(dir.join("configurations/config_version.txt"), "6.6.6\n").unwrap()
        }),
        ("motion set points must be set up anew", 1, |dir| {
            std::fs::create_dir(dir.join("configurations/motionSetPoints")).unwrap()
        }),
        ("`git update-ref` ended with", 1, |dir| std::fs::write(dir.join(".git/refs/heads/NDXEMU.lock"), "").unwrap()),
        ("`git update-index` ended with", 1, |dir| std::fs::write(dir.join(".git/index.lock"), "").unwrap()),
        ("uncommitted changes", 1, |dir| std::fs::write(dir.join("configurations/globals.txt"), "x").unwrap()),
    ];
    for (told, code, spoil) in cases {
        let dir = settings(true);
        spoil(dir.path());
        if code == 2 {
            git(dir.path(), &["commit", "--quiet", "--all", "--message", "spoilt"]);
        }
        let before = look(dir.path());
        let output = migrate(dir.path(), &[]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(told), "{told}: {text}");
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert_eq!(look(dir.path()), before, "{told}");
    }
}

/// Begins a migration and waits until all files are in place and git is about to move the branch: its hook waits there
/// for one line, and ends with the exit code in it.
fn stopped_before_the_branch_moves(dir: &Path) -> Child {
    let hook = dir.join(".git/hooks/reference-transaction");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(dir.join(".git/gate")).status().unwrap().success());
    let (gate, there) = (dir.join(".git/gate"), dir.join(".git/there"));
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = prepared ] || exit 0\n: > '{}'\nread code < '{}'\nexit \"$code\"\n",
        there.display(),
        gate.display()
    );
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let child = command(dir, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !there.exists() {
        assert!(begun.elapsed() < Duration::from_secs(120), "git is never called");
        std::thread::yield_now();
    }
    child
}

/// Lets the hook end.
fn open_gate(dir: &Path, code: u8) {
    std::fs::write(dir.join(".git/gate"), format!("{code}\n")).unwrap();
    std::fs::remove_file(dir.join(".git/hooks/reference-transaction")).unwrap();
}

#[test]
fn a_migration_that_is_killed_is_never_taken_for_done() {
    let dir = settings(true);
    let before = look(dir.path());
    let mut child = stopped_before_the_branch_moves(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    open_gate(dir.path(), 1);
    let version = || std::fs::read_to_string(dir.path().join("configurations/config_version.txt")).unwrap();
    assert_eq!(version(), "26.8.1\n", "it was in the middle");
    let half = look(dir.path());
    let dry = migrate(dir.path(), &["--dry-run"]);
    assert_eq!(dry.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&dry.stderr).contains("was ended in the middle"));
    assert_eq!(look(dir.path()), half);

    let again = migrate(dir.path(), &["--to", "7.2.0"]);
    let told = String::from_utf8_lossy(&again.stdout).into_owned();
    assert_eq!(again.status.code(), Some(0), "{told}{}", String::from_utf8_lossy(&again.stderr));
    assert!(told.contains("was put back first") && told.contains("migrated from 6.0.0 to 7.2.0"), "{told}");
    assert_eq!(git(dir.path(), &["status", "--porcelain"]), "");
    git(dir.path(), &["reset", "--quiet", "--hard", "HEAD~1"]);
    let tags = git(dir.path(), &["tag"]);
    tags.lines().for_each(|tag| drop(git(dir.path(), &["tag", "--delete", tag])));
    let first = git(dir.path(), &["rev-list", "--max-parents=0", "HEAD"]);
    git(dir.path(), &["reset", "--quiet", "--hard", first.trim()]);
    assert_eq!(look(dir.path()), before);
}

#[test]
fn what_was_changed_after_a_kill_is_not_overwritten() {
    let dir = settings(true);
    let mut child = stopped_before_the_branch_moves(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    open_gate(dir.path(), 1);
    std::fs::write(dir.path().join("configurations/globals.txt"), "precious\n").unwrap();
    let half = look(dir.path());
    let refused = migrate(dir.path(), &[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("configurations/globals.txt"), "{said}");
    assert_eq!(look(dir.path()), half);
}

#[test]
fn an_interrupt_in_the_middle_lets_it_come_to_its_end() {
    let dir = settings(true);
    let mut child = stopped_before_the_branch_moves(dir.path());
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    open_gate(dir.path(), 0);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(git(dir.path(), &["status", "--porcelain"]), "");
    assert!(git(dir.path(), &["tag"]).contains("NDXEMU_26.8.1"));
    assert!(!dir.path().join(".ibexdeploy-migration").exists());
}

#[test]
fn files_that_git_does_not_have_are_never_deleted() {
    for (ignored, file) in [(false, "new.cmd"), (true, "new.log")] {
        let dir = settings(true);
        let galil = dir.path().join("configurations/galil");
        std::fs::create_dir(&galil).unwrap();
        std::fs::write(galil.join("old.cmd"), "old\n").unwrap();
        std::fs::write(dir.path().join(".gitignore"), "*.log\n").unwrap();
        git(dir.path(), &["add", "--all"]);
        git(dir.path(), &["commit", "--quiet", "--message", "galil", "--date", "2023-01-01T00:00:00Z"]);
        Command::new("git")
            .args(["commit", "--quiet", "--amend", "--no-edit"])
            .env("GIT_COMMITTER_DATE", "2023-01-01T00:00:00Z")
            .current_dir(dir.path())
            .status()
            .unwrap();
        std::fs::write(galil.join(file), "precious\n").unwrap();
        let before = look(dir.path());
        let refused = migrate(dir.path(), &[]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("which git does not have") && said.contains(file), "{said}");
        assert_eq!(look(dir.path()), before);
        if ignored {
            assert_eq!(migrate(dir.path(), &["--dry-run"]).status.code(), Some(1));
        }
        std::fs::remove_file(galil.join(file)).unwrap();
        assert_eq!(migrate(dir.path(), &[]).status.code(), Some(0));
        assert!(!galil.exists());
    }
}

#[test]
fn a_folder_and_instruments_exclude_each_other() {
    let dir = settings(false);
    assert_eq!(migrate(dir.path(), &["NDXLARMOR"]).status.code(), Some(2));
    assert_eq!(migrate(&dir.path().join("none"), &[]).status.code(), Some(2));
}
