//! One round: a release, a kill, what goes on by itself or is resumed, and a look at everything.

use super::machine::{agents, differences, installed, is_free, journal, kill, outcome, staged, wait_for, workers};
use super::moments::{Dice, Moment, Place, Scene, Victim};
use super::traced::{RENAMES, traced_worker};
use crate::support::{Fleet, Watched};
use ibexdeploy::rehearsal::{KitShape, TreeShape};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Child;

/// What a round has shown.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) place: Place,
    /// The worker died after an intent was written and before the last rename of it: files of both releases were there.
    pub(crate) between_renames: bool,
    pub(crate) outcomes: Vec<String>,
}

/// A kit of which many files change, so that there are many renames between which to kill.
fn shape() -> KitShape {
    KitShape {
        server: TreeShape { files: 60, bytes: 60_000, binaries: 2 },
        client: TreeShape { files: 20, bytes: 20_000, binaries: 1 },
        python: TreeShape { files: 20, bytes: 20_000, binaries: 1 },
        changed_per_mille: 300,
        ..KitShape::small().without_git()
    }
}

/// Ends with the round, also when that failed: nothing goes on in folders that are removed.
struct Stage {
    fleet: Fleet,
    strace: Option<Child>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(strace) = &mut self.strace {
            kill(strace.id());
            let _ = strace.wait();
        }
        for name in NAMES {
            let root = self.fleet.root(name);
            for pid in workers(&root) {
                kill(pid);
            }
            let _ = std::fs::remove_file(root.join("c/Instrument/Var/ibex_server.pid"));
        }
    }
}

/// The second one keeps versions beside each other.
const NAMES: [&str; 2] = ["NDXLARMOR", "NDXZOOM"];

/// What an instrument was like before.
struct Before {
    files: BTreeMap<String, String>,
    server: bool,
}

/// Plays a scene.
///
/// # Panics
/// When an instrument is left in any state but the new release or the old one.
pub(crate) fn play(scene: Scene) -> Hit {
    let mut dice = Dice::new(scene.seed ^ 0xD1CE);
    let names = &NAMES[..if dice.one_in(3) { 2 } else { 1 }];
    play_on(scene, names, &mut dice)
}

/// Plays a scene on the instrument whose versions lie beside each other.
///
/// # Panics
/// As [`play`].
pub(crate) fn play_linked(scene: Scene) -> Hit {
    play_on(scene, &NAMES[1..], &mut Dice::new(scene.seed ^ 0xD1CE))
}

fn play_on(scene: Scene, names: &[&'static str], dice: &mut Dice) -> Hit {
    let shape = shape();
    let mut stage = Stage { fleet: Fleet::new(&shape), strace: None };
    stage.fleet.make(names);
    let mut before = BTreeMap::new();
    for name in names {
        let root = stage.fleet.root(name);
        if !dice.one_in(4) {
            stage.fleet.start_ibex(name);
        }
        // It would end by itself two seconds later, with the same as now: a socket that nobody listens on.
        workers(&root).into_iter().for_each(kill);
        wait_for("the worker of `status` ends", || workers(&root).is_empty().then_some(()));
        let _ = std::fs::remove_file(root.join(".ibexdeploy/worker.sock"));
        before.insert(*name, Before { files: installed(&stage.fleet, name), server: stage.fleet.ibex(name).is_some() });
    }
    if scene.failing {
        let lines = "echo half done >\"$here/ICP_Binaries/isisicp.exe\"\necho it fails >&2\nexit 3";
        stage.fleet.add_to_script(shape.newer(), "create_icp_binaries.bat", lines);
    }
    let hit = kill_in_the_middle(&mut stage, scene, names, &before[names[0]], dice);
    let outcomes = names.iter().map(|name| judge(&stage.fleet, scene, name, &before[name], shape.newer())).collect();
    Hit { outcomes, ..hit }
}

/// Starts the release, kills, and brings about an end.
fn kill_in_the_middle(stage: &mut Stage, scene: Scene, names: &[&str], before: &Before, dice: &mut Dice) -> Hit {
    let root = stage.fleet.root(names[0]);
    let traced = match scene.moment {
        Moment::Rename { count } => Some((RENAMES, count)),
        Moment::Flush { count } => Some(("fdatasync,fsync", count)),
        Moment::Told { .. } => None,
    };
    if let Some((calls, count)) = traced {
        stage.strace = Some(traced_worker(root.clone(), calls, None, count));
        wait_for("the worker listens", || {
            (workers(&root).len() == 1 && root.join(".ibexdeploy/worker.sock").exists()).then_some(())
        });
    }
    let watched_worker = workers(&root);
    let mut controller = stage.fleet.start(&["release", &names.join(","), "--yes"]);
    match scene.moment {
        Moment::Told { place, more } => {
            let of_first = |e: &Value| e["instrument"] == names[0];
            let _ = controller.until(|e| of_first(e) && place.begins_with(e));
            for _ in 0..more {
                let _ = controller.until(of_first);
            }
            if scene.victim != Victim::Controller {
                workers(&root).into_iter().for_each(kill);
            }
        }
        Moment::Rename { .. } | Moment::Flush { .. } => {
            wait_for("the worker dies, or the run ends", || {
                let dead = watched_worker.iter().all(|pid| !workers(&root).contains(pid));
                let seen = journal(&root);
                // Where the controller is slow to come, the worker leaves by itself: that is no kill, and no run yet.
                ((dead && !seen.is_empty()) || outcome(&seen).is_some()).then_some(())
            });
        }
    }
    if scene.victim != Victim::Worker {
        kill(controller.child.id());
    }
    let seen = journal(&root);
    let place = Place::of(&seen);
    let between_renames = matches!(scene.moment, Moment::Rename { .. })
        && seen.last().is_some_and(|e| !e["intend"].is_null() || place == Place::Rollback)
        && is_mixed(&stage.fleet, names[0], before)
        // Nobody went on with it while this was looked at.
        && journal(&root).len() == seen.len();
    finish(stage, scene, names, controller, dice);
    Hit { place, between_renames, outcomes: Vec::new() }
}

/// True when files of both releases are there.
fn is_mixed(fleet: &Fleet, name: &str, before: &Before) -> bool {
    installed(fleet, name) != before.files && !fleet.unlike(name, shape().newer(), &[]).is_empty()
}

/// Lets the run come to its end: by itself, or resumed by this or another operator.
fn finish(stage: &Stage, scene: Scene, names: &[&str], mut controller: Watched, dice: &mut Dice) {
    let fleet = &stage.fleet;
    if scene.victim == Victim::Worker {
        while controller.until(|_| true).is_some() {}
        let _ = controller.child.wait();
    } else {
        let _ = controller.child.wait();
        if dice.one_in(3) {
            fleet.run_with_state(&["runs", "resume", "--of", &names.join(",")], "other");
        }
        let ended = |name: &&str| outcome(&journal(&fleet.root(name))).is_some();
        if !names.iter().all(ended) {
            let resumed = fleet.run(&["runs", "resume", "--yes"]);
            assert!(names.iter().all(ended), "{scene}: `runs resume` did not bring it to an end: {}", resumed.story());
            for name in names.iter().filter(|name| resumed.last(name, "accepted").is_some()) {
                let written = outcome(&journal(&fleet.root(name)));
                assert_eq!(Some(resumed.outcome(name)), written, "{scene}: what is told is what is written: {}", resumed.story());
            }
        }
    }
    wait_for("workers, relays and jobs end", || {
        let left: Vec<String> = names.iter().flat_map(|name| agents(&fleet.root(name))).collect();
        left.is_empty().then_some(())
    });
}

/// Looks at everything; returns how the journal says that it ended.
fn judge(fleet: &Fleet, scene: Scene, name: &str, before: &Before, newer: &str) -> String {
    let root = fleet.root(name);
    let entries = journal(&root);
    let story = || {
        let lines: Vec<String> = entries.iter().map(|e| e.to_string().chars().take(300).collect()).collect();
        format!("{scene}, {name}\n{}", lines.join("\n"))
    };
    let Some(outcome) = outcome(&entries) else { panic!("the journal does not say how it ended: {}", story()) };
    match outcome.as_str() {
        "changed" => {
            assert!(!scene.failing, "a release that fails is not in place: {}", story());
            assert_eq!(fleet.unlike(name, newer, &[]), [""; 0], "the new release: {}", story());
            assert!(fleet.ibex(name).is_some(), "IBEX runs on the new release: {}", story());
        }
        "rolled_back" | "failed" | "cancelled" => {
            assert_eq!(differences(&before.files, &installed(fleet, name)), [""; 0], "the old release: {}", story());
            assert_eq!(fleet.ibex(name).is_some(), before.server, "IBEX runs as before: {}", story());
        }
        other => panic!("it ended as {other}: {}", story()),
    }
    assert_eq!(staged(&root), [""; 0], "staged content is left: {}", story());
    wait_for("the instrument is free", || is_free(&root).then_some(()));
    outcome
}
