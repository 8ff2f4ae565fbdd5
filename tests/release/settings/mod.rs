//! The settings of an instrument, which are a git work tree with a remote: merged, committed and pushed by a release, as
//! they were when it fails, and never in between, whoever is killed.

mod parts;

use crate::kill::machine::kill_worker_when;
use crate::support::{Ended, Fleet};
use ibexdeploy::rehearsal::KitShape;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "NDXLARMOR";

fn tree(fleet: &Fleet) -> PathBuf {
    fleet.root(NAME).join("c/Instrument/Settings/config").join(NAME)
}

fn remote(fleet: &Fleet) -> PathBuf {
    fleet.root(NAME).join("remotes/settings.git")
}

/// Runs git as a person does; what it writes.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=A Person", "-c", "user.email=person@example.org"];
    let output = Command::new("git").args(who).args(arguments).current_dir(folder).output().expect("git starts");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Files, branch, commits, tags, index and status.
fn look(folder: &Path) -> BTreeMap<String, String> {
    let mut all = Fleet::tree(folder);
    all.retain(|path, _| !path.starts_with(".git/"));
    for arguments in [
        ["symbolic-ref", "HEAD"].as_slice(),
        &["for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags"],
        &["ls-files", "--stage"],
        &["status", "--porcelain"],
    ] {
        all.insert(arguments[0].to_owned(), git(folder, arguments));
    }
    for file in ["MERGE_HEAD", "index.lock", "HEAD.lock"] {
        assert!(!folder.join(".git").join(file).exists(), "{file} is left in {}", folder.display());
    }
    all
}

/// A sandbox with IBEX running, and work that nobody committed.
fn fleet() -> Fleet {
    let fleet = Fleet::new(&KitShape::small());
    fleet.make(&[NAME]);
    fleet.start_ibex(NAME);
    std::fs::write(tree(&fleet).join("configurations/globals.txt"), "GALIL_01__MTRCTRL=02\r\n").expect("a file");
    std::fs::write(tree(&fleet).join("configurations/own.cmd"), "by a scientist\r\n").expect("a file");
    fleet
}

/// The settings are those of the release: merged, committed, pushed.
fn is_new(fleet: &Fleet) -> bool {
    let tree = tree(fleet);
    git(&tree, &["status", "--porcelain"]).is_empty()
        && std::fs::read_to_string(tree.join(".gitignore")).is_ok_and(|text| text.contains("*.tmp"))
        && git(&tree, &["rev-parse", "HEAD"]) == git(&remote(fleet), &["rev-parse", NAME])
}

fn said(ended: &Ended, words: &str) -> bool {
    format!("{}{}", ended.stdout, ended.stderr).contains(words)
}

#[test]
fn a_release_merges_commits_tags_and_pushes_and_its_rollback_rewrites_nothing() {
    let fleet = fleet();
    let before = look(&tree(&fleet));
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((release.code, release.outcome(NAME).as_str()), (0, "changed"), "{}", release.story());
    assert!(is_new(&fleet), "{}", release.story());
    let pushed = git(&tree(&fleet), &["rev-parse", "HEAD"]);
    assert_eq!(git(&tree(&fleet), &["rev-parse", &format!("{NAME}_ibex_26.9.0^{{commit}}")]), pushed);
    let subjects = git(&tree(&fleet), &["log", "--format=%s", "-5"]);
    assert!(subjects.contains("Found before 2") && subjects.contains("Leave temporary files out"), "{subjects}");

    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(git(&remote(&fleet), &["rev-parse", NAME]), pushed, "the remote is not rewritten");
    assert_eq!(git(&tree(&fleet), &["merge-base", "HEAD", &pushed]), pushed, "nor is the branch");
    let mut now = look(&tree(&fleet));
    now.insert("for-each-ref".to_owned(), before["for-each-ref"].clone());
    assert_eq!(now, before, "{}", back.story());
    assert!(said(&back, "push it with"), "{}", back.story());
}

#[test]
fn commits_made_since_the_release_are_not_taken_back_unasked() {
    let fleet = fleet();
    let before = look(&tree(&fleet));
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(release.code, 0, "{}", release.story());
    std::fs::write(tree(&fleet).join("configurations/own.cmd"), "improved\r\n").expect("a file");
    git(&tree(&fleet), &["commit", "--quiet", "--all", "--message", "Improved"]);
    let changed = look(&tree(&fleet));
    let refused = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.story());
    assert!(said(&refused, "commits made since"), "{}", refused.story());
    assert_eq!(look(&tree(&fleet)), changed);
    let back = fleet.run(&["rollback", NAME, "--yes", "--discard-newer"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    let kept = git(&tree(&fleet), &["for-each-ref", "--format=%(refname:short)", "refs/heads/ibexdeploy-*"]);
    assert_eq!(git(&tree(&fleet), &["show", &format!("{kept}:configurations/own.cmd")]), "improved", "it is kept");
    assert!(said(&back, &kept), "{}", back.story());
    let own = tree(&fleet).join("configurations/own.cmd");
    assert_eq!(std::fs::read_to_string(own).expect("the file"), "by a scientist\r\n");
    assert_eq!(look(&tree(&fleet))["status"], before["status"]);
}

#[test]
fn a_release_that_fails_leaves_the_settings_as_they_were() {
    let fleet = fleet();
    fleet.add_to_script("26.9.0", "start_ibex_server.bat", "exit 3");
    let (before, there) = (look(&tree(&fleet)), look_at_remote(&fleet));
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((release.code, release.outcome(NAME).as_str()), (1, "rolled_back"), "{}", release.story());
    assert_eq!(look(&tree(&fleet)), before, "{}", release.story());
    assert_eq!(look_at_remote(&fleet), there);
}

fn look_at_remote(fleet: &Fleet) -> String {
    git(&remote(fleet), &["for-each-ref"])
}

/// Work in the settings that conflicts with origin/master, and the run that finds it out. With that what the settings were.
fn conflicting(fleet: &Fleet) -> (BTreeMap<String, String>, Ended) {
    std::fs::write(tree(fleet).join(".gitignore"), "*.mine\r\n").expect("a file");
    git(&tree(fleet), &["commit", "--quiet", "--message", "Mine", ".gitignore"]);
    let before = look(&tree(fleet));
    let conflict = fleet.run(&["run", "settings", NAME, "--yes"]);
    assert_eq!((conflict.code, conflict.outcome(NAME).as_str()), (1, "failed"), "{}", conflict.story());
    assert!(said(&conflict, "has conflicts in .gitignore"), "{}", conflict.story());
    (before, conflict)
}

#[test]
fn a_conflict_and_a_remote_that_is_away_are_found_while_ibex_runs() {
    let fleet = fleet();
    let server = fleet.ibex(NAME).expect("IBEX runs");
    let (before, _) = conflicting(&fleet);
    std::fs::rename(remote(&fleet), fleet.root(NAME).join("remotes/away.git")).expect("a folder");
    let away = fleet.run(&["run", "settings", NAME, "--yes"]);
    assert_eq!((away.code, away.outcome(NAME).as_str()), (1, "failed"), "{}", away.story());
    assert!(said(&away, "cannot be reached"), "{}", away.story());
    assert_eq!(look(&tree(&fleet)), before);
    assert_eq!(fleet.ibex(NAME), Some(server), "IBEX was not stopped");
}

#[test]
fn what_a_rollback_took_back_of_master_comes_again_with_the_next_release() {
    let fleet = fleet();
    let own = tree(&fleet).join("configurations/own.cmd");
    for round in 0..2 {
        let release = fleet.run(&["release", NAME, "--yes"]);
        assert_eq!((release.code, release.outcome(NAME).as_str()), (0, "changed"), "{}", release.story());
        assert!(is_new(&fleet), "round {round}: {}", release.story());
        let pushed = git(&tree(&fleet), &["rev-parse", "HEAD"]);
        let back = fleet.run(&["rollback", NAME, "--yes"]);
        assert_eq!(back.outcome(NAME), "rolled_back", "{}", back.story());
        assert!(!is_new(&fleet) && git(&remote(&fleet), &["rev-parse", NAME]) == pushed, "round {round}");
        // What the rollback put back is worked on.
        std::fs::write(&own, format!("improved in round {round}\r\n")).expect("a file");
    }
    let dry = fleet.run(&["run", "settings", NAME, "--dry-run"]);
    assert!(said(&dry, "origin/master to merge again, as its merge was taken back"), "{}", dry.story());
    let settings = fleet.run(&["run", "settings", NAME, "--yes"]);
    assert_eq!((settings.code, settings.outcome(NAME).as_str()), (0, "changed"), "{}", settings.story());
    assert!(is_new(&fleet), "{}", settings.story());
    assert_eq!(std::fs::read_to_string(&own).expect("the file"), "improved in round 1\r\n");
    let there = git(&tree(&fleet), &["rev-parse", "HEAD"]);
    let again = fleet.run(&["run", "settings", NAME, "--yes"]);
    assert_eq!(again.code, 0, "{}", again.story());
    assert_eq!(git(&tree(&fleet), &["rev-parse", "HEAD"]), there, "once is enough");
}

#[test]
fn what_is_merged_again_with_conflicts_is_merged_by_hand_as_the_error_says() {
    let fleet = fleet();
    for (command, outcome) in
        [(&["run", "settings", NAME, "--yes"][..], "changed"), (&["rollback", NAME, "--yes"], "rolled_back")]
    {
        let ended = fleet.run(command);
        assert_eq!(ended.outcome(NAME), outcome, "{}", ended.story());
    }
    let (before, conflict) = conflicting(&fleet);
    assert_eq!(look(&tree(&fleet)), before);
    let error = conflict.last(NAME, "instrument_finished").expect("it ended")["error"].clone();
    let next = error["next"].as_str().unwrap_or_default().to_owned();
    let command = next.split('`').nth(1).unwrap_or_default().to_owned();
    let commit = next.split("commit with ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_owned();
    git(&tree(&fleet), &["add", "--all"]);
    git(&tree(&fleet), &["commit", "--quiet", "--message", "Work"]);
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    assert!(!Command::new("git").args(arguments).current_dir(tree(&fleet)).output().expect("git").status.success());
    std::fs::write(tree(&fleet).join(".gitignore"), "*.tmp\r\n*.mine\r\n").expect("a file");
    git(&tree(&fleet), &["commit", "--quiet", "--all", "--message", &format!("Merged by hand, what {commit} took back")]);
    let ended = fleet.run(&["run", "settings", NAME, "--yes"]);
    assert_eq!(ended.code, 0, "{}", ended.story());
    assert!(is_new(&fleet), "{}", ended.story());
}

#[test]
fn settings_of_before_a_release_go_on_as_the_error_says() {
    let fleet = fleet();
    git(&tree(&fleet), &["add", "--all"]);
    git(&tree(&fleet), &["commit", "--quiet", "--message", "Work"]);
    let before = git(&tree(&fleet), &["rev-parse", "HEAD"]);
    let ended = fleet.run(&["run", "settings", NAME, "--yes"]);
    assert_eq!(ended.outcome(NAME), "changed", "{}", ended.story());
    // As a restore of a backup from before leaves them.
    git(&tree(&fleet), &["reset", "--quiet", "--hard", &before]);
    let refused = fleet.run(&["run", "settings", NAME, "--yes"]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (1, "failed"), "{}", refused.story());
    let own = format!("origin/{NAME}");
    assert!(said(&refused, "git merge -s ours -m"), "{}", refused.story());
    git(&tree(&fleet), &["merge", "--quiet", "-s", "ours", "-m", "Take back the release", &own]);
    assert!(!is_new(&fleet));
    let ended = fleet.run(&["run", "settings", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert!(is_new(&fleet), "{}", ended.story());
}

/// True once the newest run has a job with this in its name.
fn has_job(root: &Path, name: &str) -> bool {
    let Ok(runs) = std::fs::read_dir(root.join(".ibexdeploy/runs")) else { return false };
    let Some(newest) = runs.flatten().map(|e| e.path()).max() else { return false };
    let jobs = std::fs::read_dir(newest.join("jobs")).into_iter().flatten().flatten();
    jobs.into_iter().any(|e| e.file_name().to_string_lossy().contains(name))
}

/// As [`try_to_kill_at`]; a run that was faster than the kill is tried again.
fn killed_at(call: &str, failing: bool) -> (Fleet, String) {
    (0..5).find_map(|_| try_to_kill_at(call, failing)).unwrap_or_else(|| panic!("no run was killed at {call}"))
}

/// Runs `settings`, kills the worker once a call of git with this in its name was begun, and lets it end by itself;
/// nothing when the run had ended by then.
fn try_to_kill_at(call: &str, failing: bool) -> Option<(Fleet, String)> {
    let fleet = fleet();
    if failing {
        let script = fleet.server(NAME).join("start_ibex_server.bat");
        let text = std::fs::read_to_string(&script).expect("a script");
        // It fails the first time, and starts IBEX again when the run is taken back.
        let lines = "here=$(dirname \"$0\"); if [ ! -e \"$here/../failed\" ]; then touch \"$here/../failed\"; exit 3; fi";
        std::fs::write(&script, text.replacen("#!/bin/sh\n", &format!("#!/bin/sh\n{lines}\n"), 1)).expect("a script");
    }
    let root = fleet.root(NAME);
    let controller = fleet.start(&["run", "settings", NAME, "--yes"]);
    let ended = kill_worker_when(&root, controller, call, |_| has_job(&root, call))?;
    Some((fleet, ended))
}

#[test]
fn a_worker_killed_at_any_call_of_git_ends_on_the_new_settings() {
    for call in ["git-fetch", "git-status", ".add", ".commit", ".merge-0", "git-push"] {
        let (fleet, ended) = killed_at(call, false);
        assert_eq!(ended, "changed", "{call}");
        assert!(is_new(&fleet), "killed at {call}");
        assert!(fleet.ibex(NAME).is_some(), "IBEX runs: {call}");
    }
}

#[test]
fn a_worker_killed_while_it_takes_settings_back_ends_on_the_old_ones() {
    for call in [".merge-0", "git-head", "git-reset"] {
        let before = look(&tree(&fleet()));
        let (fleet, ended) = killed_at(call, true);
        assert_eq!(ended, "rolled_back", "{call}");
        assert_eq!(look(&tree(&fleet)), before, "killed at {call}");
        assert!(fleet.ibex(NAME).is_some(), "IBEX runs: {call}");
    }
}
