//! Scripts and common files: git work trees beside the settings, which are pulled.

use super::{NAME, fleet, git, look, said};
use crate::support::Fleet;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Scripts, common files.
fn folders(fleet: &Fleet) -> [PathBuf; 2] {
    let instrument = fleet.root(NAME).join("c/Instrument");
    [instrument.join("Scripts"), instrument.join("Settings/config/common")]
}

fn commit(tree: &Path, file: &str, text: &str) {
    std::fs::write(tree.join(file), text).expect("a file");
    git(tree, &["add", "--all"]);
    git(tree, &["commit", "--quiet", "--message", file]);
}

/// The work tree of somebody else with the same remote.
fn others(fleet: &Fleet, tree: &Path) -> PathBuf {
    let name = if tree.ends_with("Scripts") { "others-scripts" } else { "others-common" };
    fleet.dir().join(name)
}

/// Both have a remote on which somebody has gone on, and work that nobody committed.
fn with_parts() -> Fleet {
    let fleet = fleet();
    for folder in folders(&fleet) {
        let other = others(&fleet, &folder);
        let (bare, at) = (other.with_extension("git").display().to_string(), folder.display().to_string());
        git(fleet.dir(), &["init", "--quiet", "--bare", "--initial-branch", "master", &bare]);
        git(fleet.dir(), &["clone", "--quiet", &bare, &other.display().to_string()]);
        commit(&other, "a.txt", "a\n");
        git(&other, &["push", "--quiet", "origin", "HEAD:master"]);
        let _ = std::fs::remove_dir_all(&folder);
        git(fleet.dir(), &["clone", "--quiet", "--branch", "master", &bare, &at]);
        commit(&other, "new.txt", "new\n");
        git(&other, &["push", "--quiet", "origin", "HEAD:master"]);
        std::fs::write(folder.join("a.txt"), "by a scientist\n").expect("a file");
    }
    fleet
}

fn look_at_all(fleet: &Fleet) -> [BTreeMap<String, String>; 3] {
    let [scripts, common] = folders(fleet);
    [look(&scripts), look(&common), look(&super::tree(fleet))]
}

/// Pulled, with what was there committed.
fn expect_new(fleet: &Fleet, told: &str) {
    for folder in folders(fleet) {
        assert_eq!(git(&folder, &["status", "--porcelain"]), "", "{}: {told}", folder.display());
        assert_eq!(git(&folder, &["show", "HEAD:a.txt"]), "by a scientist");
        assert_eq!(git(&folder, &["show", "HEAD:new.txt"]), "new");
    }
}

#[test]
fn work_in_scripts_and_common_files_is_committed_before_they_are_pulled() {
    let fleet = with_parts();
    let hook = folders(&fleet)[0].join(".git/hooks/commit-msg");
    std::fs::write(&hook, "#!/bin/sh\necho a message needs a ticket number\nexit 1\n").expect("a hook");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let ended = fleet.run(&["run", "settings", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    expect_new(&fleet, &ended.story());
    assert!(!hook.exists(), "{}", ended.story());
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, hook.exists()), (0, true), "{}", back.story());
}

#[test]
fn a_release_pulls_scripts_and_common_files_and_its_rollback_puts_them_back() {
    let fleet = with_parts();
    let before = look_at_all(&fleet);
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((release.code, release.outcome(NAME).as_str()), (0, "changed"), "{}", release.story());
    expect_new(&fleet, &release.story());
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    let [scripts, common, _] = look_at_all(&fleet);
    assert_eq!([&scripts, &common], [&before[0], &before[1]], "{}", back.story());
}

#[test]
fn a_release_that_fails_leaves_scripts_and_common_files_as_they_were() {
    let fleet = with_parts();
    fleet.add_to_script("26.9.0", "start_ibex_server.bat", "exit 3");
    let before = look_at_all(&fleet);
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((release.code, release.outcome(NAME).as_str()), (1, "rolled_back"), "{}", release.story());
    assert_eq!(look_at_all(&fleet), before, "{}", release.story());
}

#[test]
fn a_conflict_in_scripts_is_found_while_ibex_runs() {
    let fleet = with_parts();
    let [scripts, _] = folders(&fleet);
    let other = others(&fleet, &scripts);
    commit(&other, "a.txt", "by somebody else\n");
    git(&other, &["push", "--quiet", "origin", "HEAD:master"]);
    // What is committed is tried out while nothing is changed.
    git(&scripts, &["commit", "--quiet", "--all", "--message", "Mine"]);
    let (before, apps, server) = (look_at_all(&fleet), fleet.apps(NAME), fleet.ibex(NAME));
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((release.code, release.outcome(NAME).as_str()), (1, "failed"), "{}", release.story());
    assert!(said(&release, "has conflicts in a.txt"), "{}", release.story());
    assert!(release.last(NAME, "outage_started").is_none(), "{}", release.story());
    assert_eq!((look_at_all(&fleet), fleet.apps(NAME)), (before, apps));
    assert!(server.is_some() && fleet.ibex(NAME) == server, "the same server runs all the time");
}

#[test]
fn uncommitted_work_that_conflicts_ends_in_the_old_release_with_the_work_as_it_was() {
    let fleet = with_parts();
    let [scripts, _] = folders(&fleet);
    let other = others(&fleet, &scripts);
    commit(&other, "a.txt", "by somebody else\n");
    git(&other, &["push", "--quiet", "origin", "HEAD:master"]);
    let (before, apps) = (look_at_all(&fleet), fleet.apps(NAME));
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(release.code, 1, "{}", release.story());
    assert!(said(&release, "conflict") && said(&release, "a.txt"), "{}", release.story());
    assert_eq!((look_at_all(&fleet), fleet.apps(NAME)), (before, apps), "{}", release.story());
    assert!(fleet.ibex(NAME).is_some(), "IBEX runs");
}
