//! Hotfixes taken back: over nobody's work, in an order that can be, and together with rollbacks.

use super::{FROZEN, NAME, START, archive, at, hotfix, ids, look, put, read};
use crate::support::{Fleet, sandbox};

#[test]
fn files_changed_since_are_only_given_up_when_told_and_then_they_are_saved() {
    let fleet = Fleet::running(&[NAME]);
    let before = look(&fleet);
    put(&fleet, &archive(&fleet, "patch.zip", &[(START, "new\n"), (FROZEN, "newer\n")]));
    std::fs::write(at(&fleet, START), "by hand\n").expect("a file");
    let changed = look(&fleet);
    let refused = hotfix(&fleet, &["--revert", "patch"]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (1, "failed"), "{}", refused.story());
    assert!(refused.stdout.contains(START) && refused.stdout.contains("--discard-newer"), "{}", refused.story());
    assert_eq!(look(&fleet), changed, "nothing was touched");

    let back = hotfix(&fleet, &["--revert", "patch", "--discard-newer"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "changed"), "{}", back.story());
    assert_eq!(sandbox::differences(&before, &look(&fleet)), [""; 0]);
    let saved = std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/hand-changes")).expect("an archive was made");
    let saved: Vec<_> = saved.flatten().map(|e| e.path()).collect();
    assert_eq!(saved.len(), 1, "{saved:?}");
    // What was saved is a hotfix like any other.
    put(&fleet, &saved[0]);
    assert_eq!(read(&fleet, START), "by hand\n");
    assert_eq!(ids(&fleet), ["changed-since-patch"]);
}

#[test]
fn out_of_order_only_where_no_later_hotfix_stands_on_it() {
    let fleet = Fleet::running(&[NAME]);
    let before = look(&fleet);
    for (name, entries) in [
        ("first.zip", vec![(START, "first\n")]),
        ("second.zip", vec![(START, "second\n"), ("EPICS/added.txt", "added\n")]),
        ("third.zip", vec![(FROZEN, "third\n")]),
    ] {
        put(&fleet, &archive(&fleet, name, &entries));
    }
    let refused = hotfix(&fleet, &["--revert", "first"]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (1, "failed"), "{}", refused.story());
    assert!(refused.stdout.contains("take second back first"), "{}", refused.story());

    for (id, start) in [("second", "first\n"), ("first", "")] {
        let back = hotfix(&fleet, &["--revert", id]);
        assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "changed"), "{}", back.story());
        assert!(start.is_empty() || read(&fleet, START) == start, "{id}");
    }
    assert_eq!(ids(&fleet), ["third"]);
    let back = hotfix(&fleet, &["--revert", "third"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "changed"), "{}", back.story());
    assert_eq!(sandbox::differences(&before, &look(&fleet)), [""; 0]);
}

#[test]
fn a_rollback_takes_back_a_hotfix_and_the_taking_back_of_one() {
    let fleet = Fleet::running(&[NAME]);
    let before = look(&fleet);
    put(&fleet, &archive(&fleet, "patch.zip", &[(START, "new\n"), ("EPICS/made/x.txt", "x")]));
    let with = look(&fleet);
    let reverted = hotfix(&fleet, &["--revert", "patch"]);
    assert_eq!(reverted.code, 0, "{}", reverted.story());
    assert_eq!(sandbox::differences(&before, &look(&fleet)), [""; 0]);

    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(sandbox::differences(&with, &look(&fleet)), [""; 0]);
    assert_eq!(ids(&fleet), ["patch"]);
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(sandbox::differences(&before, &look(&fleet)), [""; 0]);
    assert_eq!(ids(&fleet), [""; 0]);
}

#[test]
fn what_was_changed_since_the_hotfix_stops_a_rollback_of_it() {
    let fleet = Fleet::running(&[NAME]);
    put(&fleet, &archive(&fleet, "patch.zip", &[(START, "new\n")]));
    std::fs::write(at(&fleet, "EPICS/elsewhere.txt"), "not the hotfix's").expect("a file");
    std::fs::write(at(&fleet, START), "by hand\n").expect("a file");
    let refused = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.story());
    assert!(refused.stderr.contains("st.cmd") && !refused.stderr.contains("elsewhere.txt"), "{}", refused.story());
    assert_eq!(read(&fleet, START), "by hand\n");
}
