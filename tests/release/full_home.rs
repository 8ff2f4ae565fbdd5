//! The disk of the agent's home is full: without a journal nothing is changed, and with room again all goes on.

use crate::kill::machine::{is_free, kill, staged, wait_for, workers};
use crate::support::{Fleet, SmallDisk};
use ibexdeploy::rehearsal::KitShape;
use std::io::Write;
use std::path::{Path, PathBuf};

const NAME: &str = "NDXLARMOR";

/// A sandbox that is all on one small disk.
fn on_a_small_disk(room: u64) -> Option<(Fleet, SmallDisk)> {
    let fleet = Fleet::new(&KitShape::small().without_git());
    fleet.make(&[NAME]);
    let root = fleet.root(NAME);
    workers(&root).into_iter().for_each(kill);
    wait_for("the worker is gone", || workers(&root).is_empty().then_some(()));
    // A socket cannot be copied to another disk.
    let _ = std::fs::remove_file(root.join(".ibexdeploy/worker.sock"));
    let disk = SmallDisk::under_all(&fleet, NAME, room)?;
    Some((fleet, disk))
}

/// Writes a file until nothing more fits.
fn fill(root: &Path) -> PathBuf {
    let filler = root.join("filler");
    let mut file = std::fs::File::create(&filler).expect("a file");
    for size in [65_536, 4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    filler
}

#[test]
fn without_room_for_a_journal_nothing_is_begun_and_with_room_it_goes_well() {
    let Some((fleet, _disk)) = on_a_small_disk(16_000_000) else { return };
    fleet.start_ibex(NAME);
    let (before, server) = (fleet.apps(NAME), fleet.ibex(NAME).expect("IBEX runs"));
    let filler = fill(&fleet.root(NAME));
    let refused = fleet.run(&["release", NAME, "--yes"]);
    let error = &refused.last(NAME, "instrument_finished").expect("it is told")["error"];
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (1, "failed"), "{}", refused.story());
    assert_eq!(error["kind"], "out_of_space", "{error}");
    assert!(error["next"].as_str().is_some_and(|next| next.contains("room")), "{error}");
    assert_eq!(fleet.ibex(NAME), Some(server), "the same server still runs");
    assert_eq!(fleet.apps(NAME), before);
    assert_eq!(staged(&fleet.root(NAME)), [""; 0]);
    let asked = fleet.run(&["status", NAME]);
    assert_eq!(asked.code, 0, "it can still be asked: {}", asked.story());
    std::fs::remove_file(filler).expect("room");
    let again = fleet.run(&["release", NAME, "--yes", "--skip-tags", "backup"]);
    assert_eq!((again.code, again.outcome(NAME).as_str()), (0, "changed"), "{}", again.story());
    assert_eq!(fleet.unlike(NAME, KitShape::small().newer(), &[]), [""; 0]);
}

#[test]
fn a_home_that_fills_up_during_the_outage_ends_in_the_old_release() {
    let Some((fleet, _disk)) = on_a_small_disk(16_000_000) else { return };
    // Once IBEX is stopped, something takes all that is left.
    let stop = fleet.server(NAME).join("stop_ibex_server.bat");
    let mut script = std::fs::OpenOptions::new().append(true).open(stop).expect("the script");
    writeln!(
        script,
        "dd if=/dev/zero of=\"$var/filler\" bs=4096 2>/dev/null\ncat /dev/zero >>\"$var/filler\" 2>/dev/null\nexit 0"
    )
    .expect("a longer script");
    drop(script);
    fleet.start_ibex(NAME);
    let before = fleet.apps(NAME);
    let ended = fleet.run(&["release", NAME, "--yes", "--skip-tags", "backup"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert!(ended.stdout.contains("No space left"), "{}", ended.story());
    assert_eq!(fleet.apps(NAME), before);
    let root = fleet.root(NAME);
    wait_for("the instrument is free", || is_free(&root).then_some(()));
    let filler = root.join("c/Instrument/Var/filler");
    std::fs::remove_file(&filler).expect("room");
    let again = fleet.run(&["status", NAME]);
    assert!(again.code == 0 && !again.stdout.contains("damage\":\""), "{}", again.story());
}
