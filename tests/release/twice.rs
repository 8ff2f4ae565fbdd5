//! The same release again: nothing to do, and nothing stopped for it.

use crate::support::Fleet;

#[test]
fn releasing_the_same_kit_again_stops_nothing() {
    let fleet = Fleet::running(&["NDXLARMOR"]);
    let first = fleet.run(&["release", "NDXLARMOR", "--yes"]);
    assert_eq!((first.code, first.outcome("NDXLARMOR").as_str()), (0, "changed"), "{}", first.story());
    let server = fleet.ibex("NDXLARMOR").expect("IBEX runs");

    // What would be stopped otherwise is not reached.
    let dry = fleet.run(&["release", "NDXLARMOR", "--dry-run"]);
    let dry: serde_json::Value = serde_json::from_str(&dry.stdout).expect("a document");
    let steps = dry[0]["steps"].as_array().expect("steps");
    let would_run = |s: &&serde_json::Value| s["verdict"] == "run";
    let ids: Vec<&str> = steps.iter().filter(would_run).filter_map(|s| s["id"].as_str()).collect();
    assert!(ids.iter().all(|id| id.starts_with("stage.")), "{ids:?}");
    assert!(steps.iter().any(|s| s["summary"] == "not reached: no component differs"), "{dry}");

    let second = fleet.run(&["release", "NDXLARMOR", "--yes"]);
    assert_eq!((second.code, second.outcome("NDXLARMOR").as_str()), (0, "ok"), "{}", second.story());
    assert_eq!(fleet.ibex("NDXLARMOR"), Some(server), "the same server still runs");
    assert!(second.last("NDXLARMOR", "outage_started").is_none(), "{}", second.story());
    assert_eq!(second.last("NDXLARMOR", "instrument_finished").expect("it finished")["outage_ms"], 0);

    // The run that changed something is still the one that is taken back.
    let back = fleet.run(&["rollback", "NDXLARMOR", "--yes"]);
    assert_eq!((back.code, back.outcome("NDXLARMOR").as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(fleet.unlike("NDXLARMOR", "26.8.0", &[]), [""; 0]);
    let third = fleet.run(&["release", "NDXLARMOR", "--yes"]);
    assert_eq!((third.code, third.outcome("NDXLARMOR").as_str()), (0, "changed"), "{}", third.story());
}

#[test]
fn a_file_changed_by_hand_makes_a_difference() {
    let fleet = Fleet::running(&["NDXLARMOR"]);
    assert_eq!(fleet.run(&["release", "NDXLARMOR", "--yes"]).code, 0);
    let extra = fleet.server("NDXLARMOR").join("ioc/by_hand.txt");
    std::fs::write(&extra, "mine").expect("a file");
    let again = fleet.run(&["release", "NDXLARMOR", "--yes"]);
    assert_eq!((again.code, again.outcome("NDXLARMOR").as_str()), (0, "changed"), "{}", again.story());
    assert!(!extra.exists());
}
