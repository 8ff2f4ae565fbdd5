//! Workers and controllers that are killed, as a power cut or a person with the task manager does it, at moments that a seed chooses.

use crate::dice::Dice;
use crate::machines::{Machines, NEWER, OLDER, differences, wait_for};
use serde_json::Value;
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Worker,
    Controller,
    Both,
}

/// Each victim once, then whom the seed chooses.
const ROUNDS: u64 = 6;
const VICTIMS: [Victim; 3] = [Victim::Worker, Victim::Controller, Victim::Both];

/// `kill -9`.
fn kill(pid: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(std::process::Stdio::null()).status();
}

#[test]
fn whoever_is_killed_the_machine_has_the_new_release_or_the_old_one() {
    let Some(machines) = Machines::up(1, "wine-ssh") else { return };
    let name = machines.names[0].as_str();
    machines.start_ibex(name);
    // The agent is there, so that the first round is like the others.
    machines.runs_well(&["check", name]);
    let mut installed = OLDER;
    let mut hits = 0;
    for seed in 1..=ROUNDS {
        let mut dice = Dice::new(seed);
        let first = usize::try_from(seed - 1).ok().and_then(|round| VICTIMS.get(round).copied());
        let victim = first.unwrap_or_else(|| dice.pick(&VICTIMS));
        // A release has some 120 events; most of the outage's are the later ones.
        let moment = if dice.one_in(3) { 4 + dice.below(40) } else { 44 + dice.below(60) };
        let wanted = if installed == OLDER { NEWER } else { OLDER };
        let before = machines.installed(name);
        let hit = round(&machines, wanted, victim, moment);
        let outcome = machines.outcome(name).unwrap_or_else(|| panic!("seed {seed}: no end: {}", machines.logs()));
        println!("seed {seed}: {victim:?} killed after event {moment}, hit: {hit}, ended {outcome}");
        hits += u64::from(hit);
        match outcome.as_str() {
            "changed" => {
                assert_eq!(machines.unlike(name, wanted), [""; 0], "seed {seed}: the new release");
                installed = wanted;
            }
            "rolled_back" | "failed" | "cancelled" => {
                assert_eq!(differences(&before, &machines.installed(name)), [""; 0], "seed {seed}: the old release");
            }
            other => panic!("seed {seed}: it ended as {other}: {}", machines.logs()),
        }
        assert!(machines.ibex(name).is_some(), "seed {seed}: IBEX runs as before");
        machines.is_quiet(name);
    }
    assert!(hits >= ROUNDS / 2, "the runs were faster than the kills: {hits} of {ROUNDS} hit");
}

/// A release whose victim is killed when the controller has told so many events of the instrument; the run comes to its end by itself
/// or is resumed. True when it was not over before.
fn round(machines: &Machines, version: &str, victim: Victim, moment: u64) -> bool {
    let name = machines.names[0].as_str();
    let mut controller = machines.start(&["release", name, "--kit", version, "--yes"]);
    let of_it = |e: &Value| e["instrument"] == name;
    for _ in 0..moment {
        if controller.until(of_it).is_none() {
            return false;
        }
    }
    let over = machines.outcome(name);
    if victim != Victim::Controller {
        machines.workers(name).into_iter().for_each(kill);
    }
    if victim != Victim::Worker {
        kill(controller.child.id());
    }
    while controller.until(|_| true).is_some() {}
    let _ = controller.child.wait();
    if victim != Victim::Worker {
        let resumed = machines.run(&["runs", "resume", "--yes"]);
        wait_for("the run comes to an end", || machines.outcome(name).or_else(|| panic!("{}", resumed.story())));
    }
    over.is_none()
}
