//! The instrument's own branch of the server: made and pushed when the release is done, followed where it is there already,
//! and no reason to fail a release.

use crate::support::{Ended, Fleet};
use ibexdeploy::rehearsal::KitShape;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "NDXLARMOR";

/// What git answers in a folder; nothing when it fails.
fn ask(folder: &Path, arguments: &[&str]) -> Option<String> {
    let who = ["-c", "user.name=A Person", "-c", "user.email=person@example.org"];
    let output = Command::new("git").args(who).args(arguments).current_dir(folder).output().expect("git starts");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    ask(folder, arguments).unwrap_or_else(|| panic!("git {arguments:?}"))
}

/// An instrument with IBEX running, and a remote that has the release's commit on its branch `main`.
fn fleet() -> (Fleet, PathBuf) {
    let fleet = Fleet::new(&KitShape::small());
    fleet.make(&[NAME]);
    fleet.start_ibex(NAME);
    let remote = fleet.dir().join("EPICS.git");
    let kit = fleet.kits().join("26.9.0/EPICS").display().to_string();
    git(fleet.dir(), &["clone", "--quiet", "--bare", "--single-branch", "--branch", "main", &kit, &remote.display().to_string()]);
    (fleet, remote)
}

fn release(fleet: &Fleet, remote: &Path) -> Ended {
    let ended = fleet.run(&["release", NAME, "--yes", "--set", &format!("server_remote={}", remote.display())]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    // The branch is in `.git`, and nothing else is.
    assert_eq!(fleet.unlike(NAME, "26.9.0", &[".git/"]), [""; 0]);
    assert_eq!(git(&fleet.server(NAME), &["status", "--porcelain", "--untracked-files=no"]), "");
    assert_eq!(git(&fleet.server(NAME), &["symbolic-ref", "--short", "HEAD"]), NAME, "it is checked out: {}", ended.story());
    ended
}

fn upstream(fleet: &Fleet) -> Option<String> {
    ask(&fleet.server(NAME), &["rev-parse", "--abbrev-ref", &format!("{NAME}@{{upstream}}")])
}

fn left_for_you(ended: &Ended) -> String {
    let all = ended.events.iter().filter(|e| e["event"] == "reminder");
    all.map(|e| e["text"].as_str().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_branch_is_made_and_pushed_and_a_rollback_rewrites_nothing_there() {
    let (fleet, remote) = fleet();
    let before = fleet.apps(NAME);
    let main = git(&remote, &["rev-parse", "main"]);
    let ended = release(&fleet, &remote);
    let head = git(&fleet.server(NAME), &["rev-parse", "HEAD"]);
    assert_eq!(head, main, "the commit of the release");
    assert_eq!(git(&remote, &["rev-parse", NAME]), head, "{}", ended.story());
    assert_eq!(upstream(&fleet), Some(format!("origin/{NAME}")));

    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert!(fleet.apps(NAME) == before, "the server and its repository are as before: {}", back.story());
    assert_eq!(git(&remote, &["rev-parse", NAME]), head, "the remote is not rewritten");

    // The branch of then is followed; it has no commit that is not here.
    let again = release(&fleet, &remote);
    assert_eq!((git(&remote, &["rev-parse", NAME]), upstream(&fleet)), (head, Some(format!("origin/{NAME}"))));
    assert!(!left_for_you(&again).contains("commits that are not in"), "{}", again.story());
}

#[test]
fn a_branch_that_is_there_with_commits_of_its_own_is_followed_with_a_warning() {
    let (fleet, remote) = fleet();
    let other = fleet.dir().join("other");
    git(fleet.dir(), &["clone", "--quiet", &remote.display().to_string(), &other.display().to_string()]);
    git(&other, &["checkout", "--quiet", "-b", NAME]);
    std::fs::write(other.join("hotfix.txt"), "a hotfix").expect("a file");
    git(&other, &["add", "hotfix.txt"]);
    git(&other, &["commit", "--quiet", "--message", "A hotfix"]);
    git(&other, &["push", "--quiet", "origin", NAME]);
    let there = git(&remote, &["rev-parse", NAME]);
    let ended = release(&fleet, &remote);
    assert_eq!(git(&remote, &["rev-parse", NAME]), there, "it is not overwritten");
    assert_eq!(upstream(&fleet), Some(format!("origin/{NAME}")), "it is followed");
    let left = left_for_you(&ended);
    assert!(left.contains(&format!("origin/{NAME} has 1 commits that are not in C:\\Instrument\\Apps\\EPICS")), "{left}");
}

#[test]
fn a_remote_that_is_away_fails_no_release_and_is_reported() {
    let (fleet, remote) = fleet();
    let away = remote.with_file_name("away.git");
    let ended = release(&fleet, &away);
    assert!(fleet.ibex(NAME).is_some(), "IBEX runs on the new release");
    let step =
        |e: &&serde_json::Value| e["event"] == "step_finished" && e["step"]["name"] == "the instrument's branch of the server";
    let failed = ended.events.iter().find(step).expect("the step is told");
    assert_eq!(failed["outcome"], "failed", "{failed}");
    assert!(failed["error"].to_string().contains("away.git"), "{failed}");
    // People read it in the report.
    let report = fleet.command(&["runs", "report"]).output().expect("the binary starts");
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    let wrong = text.split_once("What went wrong:").map_or("", |(_, rest)| rest);
    assert!(wrong.contains("the instrument's branch of the server") && wrong.contains("cannot be reached"), "{text}");
}
