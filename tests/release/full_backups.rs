//! Disks that are too small, or fill up, while a backup is put back or an old one goes to the share.

use crate::backups::{expect_whole, listed, make_large, names_in, old, well_or_nothing};
use crate::disk::fill_when_stopped;
use crate::kill::machine::installed;
use crate::kill::traced::{clear, paused_at};
use crate::support::sandbox::differences;
use crate::support::{Ended, Fleet, SmallDisk};
use std::path::Path;
use std::process::Command;

const NAME: &str = "NDXLARMOR";

/// An instrument with a backup on another disk, and a file that was changed since.
fn with_backup() -> Fleet {
    let fleet = Fleet::running(&[NAME]);
    make_large(&fleet, 3_000_000);
    well_or_nothing(&fleet.run(&["backup", NAME]));
    std::fs::write(fleet.server(NAME).join("VERSION.txt"), "9.9.9\n").expect("a file");
    // The drive can be moved while nobody works there.
    let mut stop = Command::new("sh");
    stop.arg("stop_ibex_server.bat").env("IBEX_ROOT", fleet.root(NAME)).current_dir(fleet.server(NAME));
    assert!(stop.output().expect("a shell").status.success());
    clear(&fleet.root(NAME));
    fleet
}

fn expect_out_of_space(ended: &Ended, outcome: &str) {
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, outcome), "{}", ended.story());
    let error = ended.last(NAME, "instrument_finished").expect("it finished")["error"].clone();
    assert_eq!(error["kind"], "out_of_space", "{error}");
}

#[test]
fn a_restore_for_which_there_is_no_room_stops_nothing_also_when_that_shows_late() {
    let fleet = with_backup();
    let Some(disk) = SmallDisk::under(&fleet, NAME, 1_000_000) else { return };
    fleet.start_ibex(NAME);
    let (before, server) = (installed(&fleet, NAME), fleet.ibex(NAME));
    let expect_untouched = |ended: &Ended| {
        assert!(ended.last(NAME, "outage_started").is_none(), "{}", ended.story());
        assert_eq!(differences(&before, &installed(&fleet, NAME)), [""; 0], "{}", ended.story());
        assert!(server.is_some() && fleet.ibex(NAME) == server, "the same server runs");
        assert_eq!(listed(&fleet)[0]["state"], "good");
    };
    let little = fleet.run(&["restore", NAME, "--yes"]);
    expect_out_of_space(&little, "failed");
    expect_untouched(&little);

    // Something else takes the room when the first folder is unpacked.
    disk.give_room(30_000_000);
    let backup = old(&fleet).join(names_in(&old(&fleet)).swap_remove(0));
    let is_unpacked = || {
        let found = Command::new("find").arg(fleet.root(NAME)).args(["-path", "*/stage/*", "-name", "tree.done"]).output();
        (!found.expect("find runs").stdout.is_empty()).then_some(())
    };
    let at = ("read,pread64", backup.join("Client_E4.zip"), 1);
    let full = paused_at(&fleet, NAME, &["restore", NAME, "--yes"], (at.0, &at.1, at.2), is_unpacked, || disk.fill());
    expect_out_of_space(&full, "failed");
    expect_untouched(&full);
    disk.give_room(30_000_000);
    let restored = fleet.run(&["restore", NAME, "--yes"]);
    assert_eq!((restored.code, restored.outcome(NAME).as_str()), (0, "changed"), "{}", restored.story());
}

#[test]
fn a_disk_that_fills_up_during_the_outage_of_a_restore_ends_as_before_it() {
    let fleet = with_backup();
    let Some(_disk) = SmallDisk::under(&fleet, NAME, 12_000_000) else { return };
    // Once IBEX is stopped something fills the disk for good, so that nothing can start on what is put back.
    fill_when_stopped(&fleet, NAME);
    fleet.start_ibex(NAME);
    let before = fleet.apps(NAME);
    let ended = fleet.run(&["restore", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert_eq!(fleet.apps(NAME), before);
    assert!(fleet.ibex(NAME).is_some(), "what the run had kept made the room to start IBEX again");
}

/// What a run says was not moved.
fn not_moved(ended: &Ended) -> String {
    let all = ended.events.iter().filter(|e| e["event"] == "reminder").map(|e| e["text"].as_str().unwrap_or_default());
    all.filter(|text| text.contains("was not moved to")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_share_that_is_full_or_fills_up_costs_no_backup_and_fails_no_run() {
    let fleet = Fleet::running(&[NAME]);
    let large = make_large(&fleet, 5_000_000);
    well_or_nothing(&fleet.run(&["backup", NAME]));
    std::fs::remove_file(large).expect("a file less");
    for _ in 0..2 {
        well_or_nothing(&fleet.run(&["backup", NAME]));
    }
    let first = names_in(&old(&fleet)).swap_remove(0);
    let content = Fleet::tree(&old(&fleet).join(&first));
    let share = fleet.root(NAME).join("unc/isis.cclrc.ac.uk/inst$/backups$/stage-deleted").join(NAME);
    std::fs::create_dir_all(&share).expect("the share");
    let Some(disk) = SmallDisk::folder(&fleet, NAME, "unc", 1_000_000) else { return };
    let expect_all_here = |ended: &Ended, number: usize| {
        well_or_nothing(ended);
        assert_eq!(names_in(&share), [""; 0], "no half copy stays there: {}", ended.story());
        assert_eq!(names_in(&old(&fleet)).len(), number, "{}", ended.story());
        assert_eq!(Fleet::tree(&old(&fleet).join(&first)), content);
        assert!(listed(&fleet).iter().all(|b| b["state"] == "good"), "{}", ended.story());
    };
    let full = fleet.run(&["backup", NAME]);
    assert!(not_moved(&full).contains("free, and the backup takes 5."), "{}", full.story());
    assert!(not_moved(&full).contains("make room on the share"), "{}", full.story());
    expect_all_here(&full, 4);

    disk.give_room(20_000_000);
    let copy = share.join(format!(".{first}.part")).join("EPICS.zip");
    let is_being_copied = |copy: &Path| copy.metadata().is_ok_and(|m| m.len() >= 2 << 20).then_some(());
    let at = ("write", copy.as_path(), 3);
    let filled = paused_at(&fleet, NAME, &["backup", NAME], at, || is_being_copied(&copy), || disk.fill());
    assert!(not_moved(&filled).contains("No space left"), "{}", filled.story());
    expect_all_here(&filled, 5);

    disk.give_room(20_000_000);
    well_or_nothing(&fleet.run(&["backup", NAME]));
    assert_eq!(names_in(&old(&fleet)).len(), 3);
    assert_eq!((names_in(&share).len(), Fleet::tree(&share.join(&first))), (3, content), "there is room again");
    expect_whole(&share.join(&first));
}
