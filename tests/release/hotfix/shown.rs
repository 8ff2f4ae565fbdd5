//! What an operator reads: before, after, in the list, and when an archive or an instrument is refused.

use super::{FROZEN, NAME, START, archive, write_zip};
use crate::support::Fleet;
use insta::assert_snapshot;
use regex::Regex;

/// Two instruments, and a hotfix of every kind of change.
fn made() -> (Fleet, String) {
    let fleet = Fleet::running(&[NAME, "NDXZOOM"]);
    let head = format!("id: galil-timeout\ndescription: A longer timeout\nrequires: {{EPICS: 26.8.*}}\ndeletes: [{FROZEN}]\n");
    let entries =
        [("hotfix.yaml", head.as_str()), (START, "new\n"), ("EPICS/ioc/NEW/a.db", "r\n"), ("Client/ibex-client.exe", "c\n")];
    let zip = archive(&fleet, "patch.zip", &entries).display().to_string();
    (fleet, zip)
}

/// Exit code and what a command writes, without what is another one each time: runs, times, and which steps took longest.
fn shown(fleet: &Fleet, arguments: &[&str]) -> String {
    let mut command = fleet.command(arguments);
    command.args(["--output", "plain"]).env("USER", "ann").env("HOSTNAME", "desk");
    let ended = command.output().expect("the binary starts");
    let text = [ended.stdout, ended.stderr].concat();
    let mut text = String::from_utf8_lossy(&text).replace(&fleet.dir().display().to_string(), "DIR");
    for (what, instead) in [
        // Lines as they come, and the estimate behind the report: `report/` has tests of its own for those.
        (r"(?m)^\d{4}-\d\d-\d\dT.*\n", ""),
        (r"(?s)\nThe real thing, estimated:.*$", ""),
        (r"(?m)^  skip  .*\n", ""),
        (r"\d{8}-\d{6}-[a-z]{6}", "RUN"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d", "YYYY-MM-DD hh:mm"),
        (r"\d+\.\d s(?:  \S.*? \d+\.\d s(?:, .*? \d+\.\d s)*)?", "N s"),
        (r"Outage: .*", "Outage: ..."),
        (r" {3,}", "   "),
    ] {
        text = Regex::new(what).expect("an expression").replace_all(&text, instead).into_owned();
    }
    format!("exit {}\n{}", ended.status.code().unwrap_or(-1), text.trim_end())
}

#[test]
fn before_after_and_in_the_list() {
    let (fleet, zip) = made();
    assert_snapshot!("dry_run", shown(&fleet, &["hotfix", NAME, &zip, "--dry-run", "-v"]));
    assert_snapshot!("none_yet", shown(&fleet, &["hotfix", NAME, "--list"]));
    assert_snapshot!("not_confirmed", shown(&fleet, &["hotfix", NAME, &zip]));
    assert_snapshot!("applied", shown(&fleet, &["hotfix", "NDXLARMOR,NDXZOOM", &zip, "--yes"]));
    assert_snapshot!("list", shown(&fleet, &["hotfix", "NDXLARMOR,NDXZOOM", "--list"]));
    assert_snapshot!("list_with_files", shown(&fleet, &["hotfix", NAME, "--list", "-v"]));

    std::fs::write(super::at(&fleet, START), "by hand\n").expect("a file");
    assert_snapshot!("list_changed_since", shown(&fleet, &["hotfix", NAME, "--list"]));
    assert_snapshot!("revert_refused", shown(&fleet, &["hotfix", NAME, "--revert", "galil-timeout", "--yes"]));
    assert_snapshot!("revert_dry_run", shown(&fleet, &["hotfix", "NDXZOOM", "--revert", "galil-timeout", "--dry-run", "-v"]));
    assert_snapshot!("reverted", shown(&fleet, &["hotfix", "NDXZOOM", "--revert", "galil-timeout", "--yes"]));
    assert_snapshot!("revert_of_nothing", shown(&fleet, &["hotfix", "NDXZOOM", "--revert", "galil-timeout", "--yes"]));
}

#[test]
fn what_is_refused() {
    let fleet = Fleet::new(&ibexdeploy::rehearsal::KitShape::small().without_git());
    fleet.make(&[NAME]);
    let mut all = String::new();
    let long = "x".repeat(100);
    for (what, entries) in [
        ("leads elsewhere", vec![(START, "x"), ("EPICS/../../evil.txt", "x"), ("C:/Windows/x.dll", "x"), ("EPICS/aux.txt", "x")]),
        ("twice to Windows", vec![("EPICS/a.txt", "x"), ("EPICS/A.TXT", "x")]),
        ("no component", vec![("EPCIS/a.txt", "x")]),
        ("nothing in it", vec![("hotfix.yaml", "description: nothing\n")]),
        ("a mistake in its head", vec![("hotfix.yaml", "restrat: server\n"), (START, "x")]),
        ("a place that is none", vec![("hotfix.yaml", "checks:\n- file: {path: 'servr\\x.txt'}\n"), (START, "x")]),
        ("for another version", vec![("hotfix.yaml", "requires: {EPICS: 26.9.0}\n"), (START, long.as_str())]),
    ] {
        let path = fleet.dir().join("patch.zip");
        write_zip(&path, &entries);
        let said = shown(&fleet, &["hotfix", NAME, &path.display().to_string(), "--yes"]);
        all.push_str(&format!("== {what}\n{said}\n\n"));
    }
    std::fs::write(fleet.dir().join("patch.zip"), "no zip").expect("a file");
    let said = shown(&fleet, &["hotfix", NAME, &fleet.dir().join("patch.zip").display().to_string(), "--yes"]);
    all.push_str(&format!("== no archive\n{said}\n"));
    assert_snapshot!("refused", all);
}
