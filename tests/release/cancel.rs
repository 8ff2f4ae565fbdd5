//! The first Ctrl-C: what only waits is not waited for.

use crate::kill::machine::{is_free, journal, outcome, staged, wait_for};
use crate::support::{Fleet, Watched};
use ibexdeploy::rehearsal::{KitShape, TreeShape};
use std::process::Command;

const NAME: &str = "NDXLARMOR";

fn interrupt(controller: &Watched) {
    let sent = Command::new("kill").args(["-INT", &controller.child.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

/// One Ctrl-C has ended the run before anything was changed, and nothing is left of it.
fn ends_unchanged(fleet: &Fleet, mut controller: Watched) {
    let root = fleet.root(NAME);
    let before = fleet.apps(NAME);
    interrupt(&controller);
    let ended = controller.until(|e| e["event"] == "instrument_finished").expect("its end is told");
    assert_eq!(ended["outcome"], "cancelled", "{ended}");
    assert_eq!(controller.child.wait().expect("it ends").code(), Some(130));
    assert_eq!(outcome(&journal(&root)).as_deref(), Some("cancelled"));
    assert_eq!(fleet.apps(NAME), before);
    assert_eq!(staged(&root), [""; 0], "staged content is left");
    wait_for("the instrument is free", || is_free(&root).then_some(()));
}

#[test]
fn once_ends_the_wait_for_content_that_is_on_its_way() {
    let much = TreeShape { files: 200, bytes: 8_000_000, binaries: 20 };
    let fleet = Fleet::new(&KitShape { server: much, changed_per_mille: 900, ..KitShape::small().without_git() });
    fleet.make(&[NAME]);
    // So slow that it takes longer than any test may.
    let mut controller = fleet.start(&["release", NAME, "--yes", "--limit-rate", "20KB"]);
    controller.until(|e| e["event"] == "step_progress" && e["step"]["action"] == "sync" && e["done"] != 0).expect("files come");
    assert_ne!(staged(&fleet.root(NAME)), [""; 0], "something was staged");
    ends_unchanged(&fleet, controller);
}

#[test]
fn once_ends_the_wait_for_content_that_nobody_has() {
    let fleet = crate::resume::left_while_staging();
    let kit = fleet.kits().join(KitShape::small().newer());
    std::fs::rename(&kit, fleet.dir().join("aside")).expect("the release can be moved");
    let mut controller = fleet.start(&["runs", "resume", "--of", NAME]);
    controller
        .until(|e| e["event"] == "step_waiting" && e["what"].as_str().is_some_and(|w| w.contains("a controller to send")))
        .expect("it waits");
    ends_unchanged(&fleet, controller);
}

#[test]
fn what_is_not_staged_when_the_deadline_comes_is_not_stopped_either() {
    let fleet = Fleet::running(&[NAME]);
    let ibex = fleet.ibex(NAME).expect("IBEX runs");
    let before = fleet.apps(NAME);
    // So slow that nothing has come by then.
    let ended = fleet.run(&["release", NAME, "--yes", "--limit-rate", "20B", "--deadline", "1s"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (3, "cancelled"), "{}", ended.story());
    assert_eq!(fleet.ibex(NAME), Some(ibex), "the same server still runs");
    assert_eq!(fleet.apps(NAME), before);
}
