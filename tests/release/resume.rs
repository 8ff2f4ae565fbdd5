//! Runs that another operator goes on with: who has the kit can bring what the first one did not.

use crate::kill::machine::{LIMIT, journal, kill, outcome, staged, wait_for, workers};
use crate::support::{Ended, Fleet};
use ibexdeploy::rehearsal::KitShape;
use std::io::Read;
use std::process::Stdio;
use std::time::Instant;

const NAME: &str = "NDXLARMOR";

/// A sandbox whose run was left by its controller and lost its worker while content was on its way.
pub(crate) fn left_while_staging() -> Fleet {
    let fleet = Fleet::new(&KitShape::small().without_git());
    fleet.make(&[NAME]);
    // So slow that the content cannot have come.
    let mut controller = fleet.start(&["release", NAME, "--yes", "--limit-rate", "20B"]);
    controller.until(|e| e["event"] == "step_progress").expect("it waits for the first manifest");
    kill(controller.child.id());
    controller.child.wait().expect("it is gone");
    workers(&fleet.root(NAME)).into_iter().for_each(kill);
    wait_for("the worker is gone", || workers(&fleet.root(NAME)).is_empty().then_some(()));
    assert_eq!(outcome(&journal(&fleet.root(NAME))), None, "it is not finished");
    fleet
}

#[test]
fn the_unfinished_run_is_meant_though_another_one_came_later() {
    let fleet = left_while_staging();
    // A later run, which is finished, on another instrument.
    assert_eq!(fleet.run(&["backup", "NDXZOOM", "--yes"]).code, 0);
    is_in_place(&fleet, &fleet.run(&["runs", "resume"]));
}

fn is_in_place(fleet: &Fleet, resumed: &Ended) {
    assert_eq!((resumed.code, resumed.outcome(NAME).as_str()), (0, "changed"), "{}", resumed.story());
    assert_eq!(fleet.unlike(NAME, KitShape::small().newer(), &[]), [""; 0]);
    assert_eq!(staged(&fleet.root(NAME)), [""; 0], "staged content is left");
}

#[test]
fn another_operator_brings_the_content() {
    let fleet = left_while_staging();
    let resumed = fleet.run_with_state(&["runs", "resume", "--of", NAME], "other");
    is_in_place(&fleet, &resumed);
    assert!(!resumed.stderr.contains("warning"), "{}", resumed.story());
}

#[test]
fn a_kit_that_changed_meanwhile_is_named_and_can_be_put_back() {
    let fleet = left_while_staging();
    let version = fleet.kits().join(KitShape::small().newer()).join("EPICS/VERSION.txt");
    let before = std::fs::read(&version).expect("a file of the kit");
    std::fs::write(&version, "another build\n").expect("a file of the kit");
    let mut command = fleet.command_of(&["runs", "resume", "--of", NAME, "--output", "json"], "other");
    let mut resumed = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut warning = String::new();
    let begun = Instant::now();
    while !warning.contains("resume again") {
        let mut byte = [0];
        let read = resumed.stderr.as_mut().expect("its errors").read(&mut byte).expect("they can be read");
        assert!(read == 1 && begun.elapsed() < LIMIT, "it said only: {warning}");
        warning.push(char::from(byte[0]));
    }
    kill(resumed.id());
    resumed.wait().expect("it is gone");
    for wanted in ["EPICS of 26.9.0 (manifest ", "cannot be sent to NDXLARMOR", "has changed since the plan was made"] {
        assert!(warning.contains(wanted), "{warning}");
    }
    std::fs::write(&version, before).expect("a file of the kit");
    is_in_place(&fleet, &fleet.run_with_state(&["runs", "resume", "--of", NAME], "other"));
}

#[test]
fn a_kit_that_is_not_there_stands_in_nobodys_way_once_everything_is_staged() {
    let fleet = Fleet::new(&KitShape::small().without_git());
    fleet.make(&[NAME]);
    let mut controller = fleet.start(&["release", NAME, "--yes"]);
    controller.until(|e| e["event"] == "phase_started" && e["phase"] == "apply").expect("it applies");
    kill(controller.child.id());
    controller.child.wait().expect("it is gone");
    workers(&fleet.root(NAME)).into_iter().for_each(kill);
    let (kit, aside) = (fleet.kits().join(KitShape::small().newer()), fleet.dir().join("aside"));
    std::fs::rename(&kit, &aside).expect("the release can be moved");
    let resumed = fleet.run_with_state(&["runs", "resume", "--of", NAME], "other");
    std::fs::rename(&aside, &kit).expect("the release can be moved back");
    is_in_place(&fleet, &resumed);
    assert!(resumed.stderr.contains("cannot be sent to NDXLARMOR"), "{}", resumed.story());
}
