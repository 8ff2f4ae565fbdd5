//! What a release makes of the hotfixes that are in place.

use super::{NAME, START, archive, at, hotfix, ids, listed, look, put, read, said};
use crate::support::{Fleet, sandbox};
use std::collections::BTreeMap;

const OLDER: &str = "26.8.0";
const NEWER: &str = "26.9.0";

/// A path of the server that differs between the releases.
fn changed_file(fleet: &Fleet) -> String {
    let trees: Vec<BTreeMap<String, String>> =
        [OLDER, NEWER].iter().map(|version| Fleet::tree(&fleet.kits().join(version).join("EPICS"))).collect();
    let differs = |path: &&String| trees[1].get(*path).is_some_and(|hash| *hash != trees[0][*path]);
    let path = trees[0]
        .keys()
        .find(|path| *path != "VERSION.txt" && !path.contains("/bin") && differs(path))
        .expect("a file that changed");
    format!("EPICS/{path}")
}

/// A fleet whose server has a baseline: the older release was put there by a release.
fn fleet() -> Fleet {
    let fleet = Fleet::running(&[NAME]);
    let aside = fleet.dir().join(NEWER);
    std::fs::rename(fleet.kits().join(NEWER), &aside).expect("a release can be moved");
    let first = fleet.run(&["release", NAME, "--yes", "--skip-tags", "backup"]);
    assert_eq!(first.code, 0, "{}", first.story());
    std::fs::rename(&aside, fleet.kits().join(NEWER)).expect("a release can be moved back");
    fleet
}

fn by_hand(fleet: &Fleet) -> String {
    let status = fleet.run(&["status", NAME]);
    let all: serde_json::Value = serde_json::from_str(&status.stdout).expect("one document");
    all[0]["status"]["hand_changes"].to_string()
}

fn release(fleet: &Fleet, more: &[&str]) -> crate::support::Ended {
    fleet.run(&[&["release", NAME, "--yes", "--skip-tags", "backup"][..], more].concat())
}

#[test]
fn a_release_replaces_hotfixes_and_says_which_are_included_in_it() {
    let fleet = fleet();
    let changed = changed_file(&fleet);
    let below = changed.strip_prefix("EPICS/").expect("a path of the server");
    let fixed = std::fs::read_to_string(fleet.kits().join(NEWER).join("EPICS").join(below)).expect("a text");
    put(&fleet, &archive(&fleet, "included.zip", &[(&changed, &fixed)]));
    put(&fleet, &archive(&fleet, "dropped.zip", &[(START, "new\n"), ("EPICS/extra.txt", "extra\n")]));
    assert_eq!(by_hand(&fleet), r#"{"Client":[],"EPICS":[],"genie_python_3":[]}"#, "hotfixed files are nobody's work by hand");
    let with = look(&fleet);

    let dry = fleet.run(&["release", NAME, "--dry-run"]);
    assert!(dry.stdout.contains("hotfix included: included in 26.9.0 of EPICS"), "{}", dry.story());
    let short = "; hotfixes: included included, dropped dropped (`--keep-hotfixes` would keep it)";
    assert!(dry.stdout.contains(short), "said without -v: {}", dry.story());
    let reminded = |ended: &crate::support::Ended| {
        let reminders = ended.events.iter().filter(|e| e["event"] == "reminder").filter_map(|e| e["text"].as_str());
        reminders.filter(|text| text.contains("hotfix dropped: dropped, 26.9.0 of EPICS")).count()
    };
    let staged = fleet.run(&["stage", NAME, "--yes"]);
    assert_eq!((staged.code, reminded(&staged)), (0, 0), "nothing is dropped yet: {}", staged.story());
    let done = release(&fleet, &[]);
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    assert_eq!(reminded(&done), 1, "{}", done.story());
    assert!(done.events.iter().all(|e| e["event"] != "hand_changes" || e["files"].is_null()), "{}", done.story());
    assert_eq!(fleet.unlike(NAME, NEWER, &[]), [""; 0]);
    assert_eq!(ids(&fleet), [""; 0]);

    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(sandbox::differences(&with, &look(&fleet)), [""; 0]);
    assert_eq!(ids(&fleet), ["included", "dropped"]);
    assert_eq!(by_hand(&fleet), r#"{"Client":[],"EPICS":[],"genie_python_3":[]}"#);
}

#[test]
fn kept_hotfixes_stay_over_a_release_its_rollback_and_a_second_release() {
    let fleet = fleet();
    let before = look(&fleet);
    put(&fleet, &archive(&fleet, "kept.zip", &[(START, "new\n"), ("EPICS/extra.txt", "extra\n")]));
    let with = look(&fleet);
    let done = release(&fleet, &["--keep-hotfixes"]);
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    assert!(done.stdout.contains("hotfix kept: kept over 26.9.0 of EPICS"), "left for a person: {}", done.story());
    assert_eq!(fleet.unlike(NAME, NEWER, &["ioc/master/GALIL/st.cmd", "extra.txt"]), [""; 0]);
    assert_eq!((read(&fleet, START), read(&fleet, "EPICS/extra.txt")), ("new\n".to_owned(), "extra\n".to_owned()));
    assert_eq!(ids(&fleet), ["kept"]);
    assert_eq!(by_hand(&fleet), r#"{"Client":[],"EPICS":[],"genie_python_3":[]}"#);

    let again = release(&fleet, &["--keep-hotfixes"]);
    assert_eq!((again.code, again.outcome(NAME).as_str()), (0, "ok"), "nothing differs: {}", again.story());

    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(sandbox::differences(&with, &look(&fleet)), [""; 0]);
    assert_eq!(ids(&fleet), ["kept"]);

    let done = release(&fleet, &["--keep-hotfixes"]);
    assert_eq!(done.code, 0, "{}", done.story());
    let reverted = hotfix(&fleet, &["--revert", "kept"]);
    assert_eq!((reverted.code, reverted.outcome(NAME).as_str()), (0, "changed"), "{}", reverted.story());
    assert_eq!(fleet.unlike(NAME, NEWER, &[]), [""; 0], "the release is whole once the hotfix is gone");
    for _ in 0..2 {
        let back = fleet.run(&["rollback", NAME, "--yes"]);
        assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    }
    assert_eq!(sandbox::differences(&with, &look(&fleet)), [""; 0]);
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(sandbox::differences(&before, &look(&fleet)), [""; 0]);
}

#[test]
fn what_cannot_be_kept_is_named_and_the_operator_decides() {
    let fleet = fleet();
    let changed = changed_file(&fleet);
    put(&fleet, &archive(&fleet, "stuck.zip", &[(&changed, "mine\n")]));
    put(&fleet, &archive(&fleet, "fits.zip", &[(START, "new\n")]));
    let with = look(&fleet);
    let refused = release(&fleet, &["--keep-hotfixes"]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (1, "failed"), "{}", refused.story());
    let told = said(&refused);
    assert!(told.contains("the hotfix stuck cannot be kept") && told.contains(&changed), "{told}");
    assert!(told.contains("--drop-hotfix stuck") && refused.last(NAME, "outage_started").is_none(), "{told}");
    assert_eq!(look(&fleet), with, "nothing was changed");

    let done = release(&fleet, &["--keep-hotfixes", "--drop-hotfix", "stuck"]);
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    assert_eq!(fleet.unlike(NAME, NEWER, &["ioc/master/GALIL/st.cmd"]), [""; 0]);
    assert_eq!((read(&fleet, START), ids(&fleet)), ("new\n".to_owned(), vec!["fits".to_owned()]));
}

#[test]
fn a_kept_hotfix_can_be_reverted_long_after_the_releases_before_are_gone() {
    let fleet = fleet();
    put(&fleet, &archive(&fleet, "kept.zip", &[(START, "new\n")]));
    for version in ["26.9.0", "26.10.0", "26.11.0"] {
        let folder = fleet.kits().join(version);
        if !folder.exists() {
            let copied = std::process::Command::new("cp").arg("-a").arg(fleet.kits().join(NEWER)).arg(&folder).status();
            assert!(copied.expect("cp").success());
            std::fs::write(folder.join("EPICS/VERSION.txt"), format!("{version}\r\n")).expect("a version");
        }
        let done = release(&fleet, &["--keep-hotfixes", "--kit", version]);
        assert_eq!(done.code, 0, "{}", done.story());
    }
    assert_eq!(listed(&fleet).len(), 1);
    let reverted = hotfix(&fleet, &["--revert", "kept"]);
    assert_eq!((reverted.code, reverted.outcome(NAME).as_str()), (0, "changed"), "{}", reverted.story());
    assert_eq!(fleet.unlike(NAME, "26.11.0", &[]), [""; 0]);
}

#[test]
fn changes_by_hand_that_a_release_saved_come_back_as_a_hotfix() {
    let fleet = fleet();
    std::fs::write(at(&fleet, START), "by hand\n").expect("a file");
    std::fs::write(at(&fleet, "EPICS/mine.txt"), "mine\n").expect("a file");
    let done = release(&fleet, &[]);
    assert_eq!(done.code, 0, "{}", done.story());
    assert_eq!(fleet.unlike(NAME, NEWER, &[]), [""; 0]);
    let saved = std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/hand-changes")).expect("an archive was made");
    let saved = saved.flatten().next().expect("one").path();
    put(&fleet, &saved);
    assert_eq!((read(&fleet, START), read(&fleet, "EPICS/mine.txt")), ("by hand\n".to_owned(), "mine\n".to_owned()));
    assert_eq!(ids(&fleet).len(), 1);
}
