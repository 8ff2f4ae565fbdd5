//! First install, update, nothing to do, rollback.

use crate::support::Fleet;
use ibexdeploy::rehearsal::{KitShape, make_kits};

/// Moves a release out of the folder of kits, to bring it back later.
fn set_aside(fleet: &Fleet, version: &str) -> std::path::PathBuf {
    let aside = fleet.dir().join(version);
    std::fs::rename(fleet.kits().join(version), &aside).expect("a release can be moved");
    aside
}

#[test]
fn thirty_first_installs_and_a_small_update_leave_the_kit_everywhere() {
    let fleet = Fleet::empty();
    let shape = KitShape::small();
    make_kits(&fleet.kits(), &shape).expect("kits can be made");
    let newer = set_aside(&fleet, shape.newer());

    let first = fleet.run(&["release", "--all", "--yes"]);
    assert_eq!(first.code, 0, "{}", first.story());
    let names: Vec<String> = first
        .events
        .iter()
        .filter(|e| e["event"] == "instrument_finished")
        .map(|e| e["instrument"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(names.len(), 30, "{}", first.story());
    for name in &names {
        assert_eq!(first.outcome(name), "changed", "{name}");
        assert_eq!(fleet.unlike(name, shape.older(), &[]), [""; 0], "{name}");
    }

    std::fs::rename(newer, fleet.kits().join(shape.newer())).expect("a release can be moved back");
    let (old, new) = (Fleet::tree(&fleet.kits().join(shape.older())), Fleet::tree(&fleet.kits().join(shape.newer())));
    let changed: u64 = new
        .iter()
        .filter(|(path, hash)| old.get(*path) != Some(*hash))
        .map(|(path, _)| fleet.kits().join(shape.newer()).join(path).metadata().expect("a file of the kit").len())
        .sum();
    let update = fleet.run(&["release", "--all", "--yes"]);
    assert_eq!(update.code, 0, "{}", update.story());
    for name in &names {
        assert_eq!(fleet.unlike(name, shape.newer(), &[]), [""; 0], "{name}");
        let staged = update.last(name, "staged").expect("it staged files");
        let fetched = staged["fetched_bytes"].as_u64().expect("a number");
        assert!(fetched > 0 && fetched * 10 <= changed * 11, "{name} fetched {fetched} bytes for {changed} changed ones");
        let finished = update.last(name, "instrument_finished").expect("it finished");
        assert_eq!(finished["versions"]["EPICS"]["from"], shape.older());
        assert_eq!(finished["versions"]["EPICS"]["to"], shape.newer());
    }
}

#[test]
fn what_was_staged_before_is_not_brought_again() {
    let shape = KitShape::small();
    let fleet = Fleet::new(&shape);
    let staged = fleet.run(&["stage", "NDXLARMOR", "--yes"]);
    assert_eq!(staged.code, 0, "{}", staged.story());
    assert!(staged.last("NDXLARMOR", "staged").expect("it staged")["fetched_bytes"].as_u64() > Some(0));
    assert_eq!(fleet.unlike("NDXLARMOR", shape.older(), &[]), [""; 0]);

    let released = fleet.run(&["release", "NDXLARMOR", "--yes"]);
    assert_eq!(released.code, 0, "{}", released.story());
    assert_eq!(released.last("NDXLARMOR", "staged").expect("it staged")["fetched_bytes"], 0);
    assert_eq!(fleet.unlike("NDXLARMOR", shape.newer(), &[]), [""; 0]);
}

#[test]
fn what_never_stops_measuring_is_left_alone_at_the_deadline() {
    let fleet = Fleet::empty();
    let shape = KitShape::small();
    make_kits(&fleet.kits(), &shape).expect("kits can be made");
    let newer = set_aside(&fleet, shape.newer());
    let first = fleet.run(&["release", "LARMOR", "--yes"]);
    assert_eq!(first.code, 0, "{}", first.story());
    std::fs::rename(newer, fleet.kits().join(shape.newer())).expect("a release can be moved back");

    let pvs = fleet.root("NDXLARMOR").join("c/Instrument/Var/sandbox_pvs.txt");
    std::fs::write(&pvs, "IN:LARMOR:DAE:RUNSTATE_STR=RUNNING\n").expect("PVs can be set");
    let waited = fleet.run(&["release", "LARMOR", "--yes", "--when-idle", "--deadline", "8s"]);
    assert_eq!(waited.code, 3, "{}", waited.story());
    assert_eq!(waited.outcome("NDXLARMOR"), "cancelled", "{}", waited.story());
    assert!(waited.last("NDXLARMOR", "outage_started").is_none(), "{}", waited.story());
    assert_eq!(fleet.unlike("NDXLARMOR", shape.older(), &[]), [""; 0]);

    std::fs::write(&pvs, "IN:LARMOR:DAE:RUNSTATE_STR=SETUP\n").expect("PVs can be set");
    let idle = fleet.run(&["release", "LARMOR", "--yes", "--when-idle", "--deadline", "5m"]);
    assert_eq!(idle.code, 0, "{}", idle.story());
    assert_eq!(fleet.unlike("NDXLARMOR", shape.newer(), &[]), [""; 0]);
}
