//! Against the real git program, with a bare remote: what is done, what stands in its way, and how it is taken back.

use super::*;
use crate::error::ErrorKind;
use crate::platform::testing::Bench;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

const TREE: &str = "C:\\Instrument\\Settings\\config\\NDXTEST";

/// A bench with a work tree on its branch, a bare remote, and a clone in which somebody else works.
struct Site {
    bench: Bench,
    tree: PathBuf,
    remote: PathBuf,
    other: PathBuf,
}

/// Runs git as the people at the instrument do; what it writes.
fn git(folder: &std::path::Path, arguments: &[&str]) -> String {
    let who = ["-c", "user.name=A Person", "-c", "user.email=person@example.org", "-c", "init.defaultBranch=master"];
    let output = Command::new("git").args(who).args(arguments).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn put(folder: &std::path::Path, file: &str, text: &str) {
    std::fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
    std::fs::write(folder.join(file), text).unwrap();
}

fn commit_all(folder: &std::path::Path, message: &str) {
    git(folder, &["add", "--all"]);
    git(folder, &["commit", "--quiet", "--message", message]);
}

impl Site {
    fn new(arguments: serde_json::Value) -> Self {
        let bench = Bench::new();
        let (remote, other) = (bench.root.join("remote.git"), bench.root.join("other"));
        let tree = bench.native(TREE);
        std::fs::create_dir_all(tree.parent().unwrap()).unwrap();
        git(&bench.root, &["init", "--quiet", "--bare", "remote.git"]);
        git(&bench.root, &["clone", "--quiet", "remote.git", "other"]);
        put(&other, "globals.txt", "GALIL_01__MACRO=1\n");
        put(&other, "configurations/rcptt/blocks.xml", "<blocks/>\n");
        put(&other, ".gitignore", "*.tmp\n");
        commit_all(&other, "The beginning");
        git(&other, &["push", "--quiet", "origin", "HEAD:master", "HEAD:NDXTEST"]);
        git(&bench.root, &["clone", "--quiet", "--branch", "NDXTEST", "remote.git", tree.to_str().unwrap()]);
        let mut site = Self { bench, tree, remote, other };
        site.set(arguments);
        site
    }

    fn set(&mut self, arguments: serde_json::Value) {
        let mut all = json!({ "at": "settings", "branch": "NDXTEST" });
        all.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
        self.bench.set(json!({ "git": all }));
    }

    /// Something new on the remote's master.
    fn upstream(&self, file: &str, text: &str) {
        put(&self.other, file, text);
        commit_all(&self.other, "Upstream");
        git(&self.other, &["push", "--quiet", "origin", "HEAD:master"]);
    }

    /// Branch, commits, tags, index, work tree: everything that is the instrument's own.
    fn look(&self) -> BTreeMap<String, String> {
        let mut all = crate::actions::testing::contents(&self.tree);
        all.retain(|path, _| !path.starts_with(".git/"));
        for (name, arguments) in [
            ("head", vec!["symbolic-ref", "HEAD"]),
            ("refs", vec!["for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags"]),
            ("index", vec!["ls-files", "--stage"]),
            ("status", vec!["status", "--porcelain=v1", "--untracked-files=all"]),
        ] {
            let output = Command::new("git").args(&arguments).current_dir(&self.tree).output().unwrap();
            all.insert(format!("({name})"), String::from_utf8_lossy(&output.stdout).into_owned());
        }
        for file in ["MERGE_HEAD", "index.lock"] {
            assert!(!self.tree.join(".git").join(file).exists(), "{file} is left");
        }
        all
    }

    fn stage(&self) -> Result<FetchStats> {
        self.bench.with(|cx| self.bench.step.action.performer().stage(cx))
    }

    fn undo(&self) {
        for undone in self.bench.undo() {
            assert_eq!(undone.left, [""; 0], "{}", undone.summary);
        }
    }

    /// Uncommitted work of every kind.
    fn scribble(&self) {
        put(&self.tree, "globals.txt", "GALIL_01__MACRO=2\n");
        put(&self.tree, "new/untracked.txt", "new\n");
        put(&self.tree, "staged.txt", "staged\n");
        git(&self.tree, &["add", "staged.txt"]);
        put(&self.tree, "staged.txt", "staged, and changed after that\n");
        put(&self.tree, "ignored.tmp", "kept\n");
        std::fs::remove_file(self.tree.join("configurations/rcptt/blocks.xml")).unwrap();
    }
}

#[test]
fn a_merge_a_commit_and_a_tag_are_made_and_taken_back_exactly() {
    let site = Site::new(json!({"commit": "Found before the release", "merge": "origin/master", "tag": "NDXTEST_1"}));
    site.upstream("configurations/new.xml", "<new/>\n");
    site.scribble();
    let before = site.look();
    site.stage().unwrap();
    assert_eq!(site.look(), before, "staging changes nothing");
    let applied = site.bench.apply().unwrap();
    assert_eq!(applied.summary, "4 changes committed, origin/master merged, tagged NDXTEST_1");
    assert_eq!(git(&site.tree, &["status", "--porcelain"]), "");
    assert_eq!(std::fs::read_to_string(site.tree.join("configurations/new.xml")).unwrap(), "<new/>\n");
    assert_eq!(git(&site.tree, &["rev-parse", "NDXTEST_1^{commit}"]), git(&site.tree, &["rev-parse", "NDXTEST"]));
    assert_eq!(git(&site.tree, &["log", "-1", "--format=%s", "--no-merges", "--first-parent"]), "Found before the release");
    site.undo();
    assert_eq!(site.look(), before);
}

#[test]
fn nothing_to_do_is_nothing_done() {
    let site = Site::new(json!({"commit": "x", "merge": "origin/master"}));
    assert_eq!(site.bench.probe().unwrap().difference, Difference::Unknown);
    let applied = site.bench.apply().unwrap();
    assert_eq!((applied.outcome, applied.summary.as_str()), (Outcome::Ok, "already as wanted"));
    assert!(site.bench.told.intents.lock().unwrap().is_empty());
}

#[test]
fn a_folder_without_repository_is_passed_over_when_allowed() {
    let bench = Bench::of(json!({"git": {"at": "settings", "if_exists": true, "merge": "origin/master"}}));
    assert_eq!(bench.apply().unwrap().outcome, Outcome::Skipped);
    std::fs::create_dir_all(bench.native(TREE)).unwrap();
    assert_eq!(bench.apply().unwrap().outcome, Outcome::Skipped);
    let bench = Bench::of(json!({"git": {"at": "settings", "merge": "origin/master"}}));
    std::fs::create_dir_all(bench.native(TREE)).unwrap();
    let error = bench.apply().unwrap_err();
    assert!(error.to_string().contains("is no git work tree"), "{error}");
}

/// The step must fail with these words, during `stage` and in `apply`, and leave the work tree as it was.
fn refused(site: &Site, staged: bool, words: &str) {
    let before = site.look();
    if staged {
        let error = site.stage().unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.details().next.is_some(), "{error}");
        assert_eq!(site.look(), before);
    }
    let error = site.bench.apply().unwrap_err();
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.details().next.is_some(), "{error}");
    assert_eq!(site.look(), before);
    site.undo();
    assert_eq!(site.look(), before);
}

#[test]
fn uncommitted_work_stops_a_merge_unless_it_may_be_committed() {
    let site = Site::new(json!({"merge": "origin/master"}));
    site.upstream("a.txt", "a\n");
    site.scribble();
    refused(&site, true, "has 4 uncommitted changes");
}

#[test]
fn a_conflict_is_found_before_the_outage_and_taken_back_if_it_comes_later() {
    let site = Site::new(json!({"commit": "found", "merge": "origin/master"}));
    site.upstream("globals.txt", "GALIL_01__MACRO=7\n");
    put(&site.tree, "globals.txt", "GALIL_01__MACRO=8\n");
    commit_all(&site.tree, "By a scientist");
    put(&site.tree, "notes.txt", "uncommitted\n");
    refused(&site, true, "conflicts in globals.txt");
    // A second attempt finds the same.
    refused(&site, false, "conflicts in globals.txt");
}

#[test]
fn a_wrong_branch_and_a_detached_head_are_refused() {
    let site = Site::new(json!({"merge": "origin/master"}));
    git(&site.tree, &["checkout", "--quiet", "-b", "elsewhere"]);
    refused(&site, true, "is on elsewhere, and NDXTEST is wanted");
    git(&site.tree, &["checkout", "--quiet", "--detach"]);
    refused(&site, true, "is on no branch (detached head), and NDXTEST is wanted");
}

#[test]
fn commits_of_others_on_the_instruments_branch_are_refused_or_pulled() {
    let mut site = Site::new(json!({"merge": "origin/master"}));
    put(&site.other, "from_afar.txt", "x\n");
    commit_all(&site.other, "From afar");
    git(&site.other, &["push", "--quiet", "origin", "HEAD:NDXTEST"]);
    put(&site.tree, "here.txt", "y\n");
    commit_all(&site.tree, "Here");
    refused(&site, true, "origin/NDXTEST has 1 commits that are not in");
    site.set(json!({"pull": true}));
    let before = site.look();
    assert_eq!(site.bench.apply().unwrap().summary, "origin/NDXTEST merged");
    assert!(site.tree.join("from_afar.txt").exists());
    site.undo();
    assert_eq!(site.look(), before);
}

#[test]
fn a_remote_that_is_away_is_named_before_the_outage() {
    let site = Site::new(json!({"merge": "origin/master"}));
    std::fs::rename(&site.remote, site.bench.root.join("away.git")).unwrap();
    refused(&site, true, "cannot be reached");
    assert!(site.stage().unwrap_err().is_temporary());
}

#[test]
fn a_lock_that_was_left_behind_is_named_and_stays() {
    let mut site = Site::new(json!({"merge": "origin/master"}));
    let lock = site.tree.join(".git/index.lock");
    std::fs::write(&lock, "").unwrap();
    site.bench.limit = Duration::from_millis(200);
    let error = site.stage().unwrap_err();
    assert!(error.to_string().contains("another git works in") && error.to_string().contains("index.lock"), "{error}");
    assert!(lock.exists() && error.is_temporary());
    // Another git that finishes in time is waited for.
    site.bench.limit = Duration::from_secs(20);
    *site.bench.told.at_first_wait.lock().unwrap() = Some(Box::new(move || std::fs::remove_file(lock).unwrap()));
    site.stage().unwrap();
}

#[test]
fn a_tree_of_somebody_else_is_refused() {
    let site = Site::new(json!({"merge": "origin/master"}));
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may give files away");
        return;
    }
    std::os::unix::fs::chown(&site.tree, Some(65534), Some(65534)).unwrap();
    std::os::unix::fs::chown(site.tree.join(".git"), Some(65534), Some(65534)).unwrap();
    let error = site.stage().unwrap_err();
    assert!(error.to_string().contains("belongs to another account"), "{error}");
    assert!(error.details().next.as_deref().unwrap().contains("as: instrument"), "{error:?}");
}

#[test]
fn a_merge_that_somebody_began_is_left_to_them() {
    let site = Site::new(json!({"commit": "x", "merge": "origin/master"}));
    std::fs::write(site.tree.join(".git/MERGE_HEAD"), git(&site.tree, &["rev-parse", "HEAD"])).unwrap();
    let error = site.bench.apply().unwrap_err();
    assert!(error.to_string().contains("a merge is begun and not finished"), "{error}");
    assert!(site.tree.join(".git/MERGE_HEAD").exists());
}

#[test]
fn a_push_reaches_the_remote_and_is_never_forced() {
    let mut site = Site::new(json!({"push": true}));
    put(&site.tree, "here.txt", "y\n");
    commit_all(&site.tree, "Here");
    assert_eq!(site.bench.apply().unwrap().summary, "NDXTEST pushed");
    assert_eq!(git(&site.remote, &["rev-parse", "NDXTEST"]), git(&site.tree, &["rev-parse", "HEAD"]));
    assert_eq!(site.bench.apply().unwrap().outcome, Outcome::Ok);
    git(&site.other, &["push", "--quiet", "--force", "origin", "HEAD:NDXTEST"]);
    put(&site.other, "from_afar.txt", "x\n");
    commit_all(&site.other, "From afar");
    git(&site.other, &["push", "--quiet", "origin", "HEAD:NDXTEST"]);
    let there = git(&site.remote, &["rev-parse", "NDXTEST"]);
    put(&site.tree, "here.txt", "z\n");
    commit_all(&site.tree, "More");
    let error = site.bench.apply().unwrap_err();
    assert!(error.to_string().contains("has commits that are not here"), "{error}");
    assert_eq!(git(&site.remote, &["rev-parse", "NDXTEST"]), there);
    git(&site.tree, &["checkout", "--quiet", "--detach"]);
    site.bench.set(json!({"git": {"at": "settings", "push": true}}));
    assert!(site.bench.apply().unwrap_err().to_string().contains("detached head"));
}

#[test]
fn what_was_pushed_is_taken_back_by_a_new_commit() {
    let mut site = Site::new(json!({"commit": "found", "merge": "origin/master", "tag": "T"}));
    site.upstream("a.txt", "a\n");
    site.scribble();
    let before = site.look();
    site.bench.apply().unwrap();
    let intents = site.bench.told.intents.lock().unwrap().clone();
    site.set(json!({"push": true}));
    site.bench.apply().unwrap();
    let pushed = git(&site.tree, &["rev-parse", "HEAD"]);
    let undone = site.bench.with(|cx| intents[0].undo(cx)).unwrap();
    assert_eq!((undone.summary.as_str(), undone.left.len()), ("taken back by a new commit, as it was pushed", 0));
    assert_eq!(git(&site.tree, &["rev-parse", "HEAD~1"]), pushed, "nothing is rewritten");
    let mut now = site.look();
    now.insert("(refs)".to_owned(), before["(refs)"].clone());
    assert_eq!(now, before, "files, index and status are as before");
    git(&site.tree, &["push", "--quiet", "origin", "NDXTEST"]);
    assert!(site.bench.told.reminders.lock().unwrap().iter().any(|r| r.contains("git push")));
}

#[test]
fn what_others_committed_since_is_kept_beside() {
    let site = Site::new(json!({"merge": "origin/master"}));
    site.upstream("a.txt", "a\n");
    let before = site.look();
    site.bench.apply().unwrap();
    put(&site.tree, "since.txt", "since\n");
    commit_all(&site.tree, "Since");
    put(&site.tree, "since.txt", "and not committed\n");
    site.undo();
    assert_eq!(git(&site.tree, &["show", "ibexdeploy-r:since.txt"]), "and not committed");
    git(&site.tree, &["branch", "--quiet", "-D", "ibexdeploy-r"]);
    assert_eq!(site.look(), before);
}

#[test]
fn a_branch_is_made_and_one_that_is_there_is_followed() {
    let mut site = Site::new(json!({}));
    let of = |push: bool| json!({"git": {"at": "settings", "new_branch": "NDXNEW", "push": push}});
    site.bench.set(of(false));
    let before = site.look();
    assert_eq!(site.bench.apply().unwrap().summary, "branch NDXNEW made");
    assert_eq!(git(&site.tree, &["branch", "--show-current"]), "NDXNEW");
    site.undo();
    assert_eq!(site.look(), before);
    // The remote has one from before, with a commit that is not here.
    put(&site.other, "hotfix.txt", "x\n");
    commit_all(&site.other, "Hotfix");
    git(&site.other, &["push", "--quiet", "origin", "HEAD:NDXNEW"]);
    let there = git(&site.remote, &["rev-parse", "NDXNEW"]);
    let mut again = Site { bench: Bench::new(), ..site };
    let moved = again.bench.native(TREE);
    std::fs::create_dir_all(moved.parent().unwrap()).unwrap();
    git(&again.other, &["clone", "--quiet", "--branch", "NDXTEST", again.remote.to_str().unwrap(), moved.to_str().unwrap()]);
    again.tree = moved;
    again.bench.set(of(true));
    assert_eq!(again.bench.apply().unwrap().summary, "branch NDXNEW made, origin has NDXNEW already");
    assert_eq!(git(&again.remote, &["rev-parse", "NDXNEW"]), there);
    assert_eq!(git(&again.tree, &["rev-parse", "--abbrev-ref", "@{upstream}"]), "origin/NDXNEW");
    let reminders = again.bench.told.reminders.lock().unwrap();
    assert!(reminders.iter().any(|r| r.contains("1 commits that are not in")), "{reminders:?}");
}

#[test]
fn an_undo_that_was_interrupted_goes_on() {
    let site = Site::new(json!({"commit": "found", "merge": "origin/master", "tag": "T"}));
    site.upstream("a.txt", "a\n");
    site.scribble();
    let before = site.look();
    site.bench.apply().unwrap();
    for renames in 0..3 {
        crate::actions::testing::crash_after(Some(renames));
        let record = site.bench.told.intents.lock().unwrap()[0].clone();
        let crashed = site.bench.with(|cx| record.undo(cx));
        crate::actions::testing::crash_after(None);
        assert!(crashed.is_err(), "after {renames}");
    }
    // A git that the machine took with it has left its lock.
    std::fs::write(site.tree.join(".git/HEAD.lock"), "").unwrap();
    site.undo();
    assert_eq!(site.look(), before);
}

#[test]
fn damaged_notes_are_no_way_back() {
    let site = Site::new(json!({"merge": "origin/master"}));
    site.upstream("a.txt", "a\n");
    site.bench.apply().unwrap();
    let record = site.bench.told.intents.lock().unwrap()[0].clone();
    let notes = std::fs::read_dir(site.bench.root.join(".ibexdeploy/runs/r")).unwrap().flatten().map(|e| e.path());
    let file = notes.into_iter().find(|p| p.extension().is_some_and(|e| e == "git")).unwrap();
    std::fs::write(&file, "{}").unwrap();
    assert_eq!(site.bench.with(|cx| record.undo(cx)).unwrap_err().kind(), ErrorKind::Integrity);
}
