//! Workers and controllers that are killed in each phase of a release, as a power cut or a person with the task manager does it.

use crate::machines::{Machines, NEWER, OLDER, differences, wait_for};
use crate::moments::{Place, Victim};
use serde_json::Value;
use std::process::Command;

/// Where a worker is killed: while content comes, in the outage, with IBEX started and looked at, released, and on the way back.
const OF_WORKERS: [Place; 5] = [Place::Stage, Place::InSync, Place::Prove, Place::Close, Place::Rollback];
/// A controller matters before the word to apply as well.
const OF_CONTROLLERS: [Place; 5] = [Place::Stage, Place::Held, Place::Prove, Place::Close, Place::Rollback];
/// A release whose script fails, so that it is taken back.
const FAILING: &str = "26.9.1";
/// How often a place is tried again when the run was faster than the kill.
const TRIES: usize = 3;

/// `kill -9`.
fn kill(pid: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(std::process::Stdio::null()).status();
}

#[test]
fn a_killed_worker_leaves_the_new_release_or_the_old_one() {
    everywhere(Victim::Worker, &OF_WORKERS);
}

#[test]
fn a_killed_controller_leaves_the_new_release_or_the_old_one() {
    everywhere(Victim::Controller, &OF_CONTROLLERS);
}

#[test]
fn both_killed_leave_the_new_release_or_the_old_one() {
    let Some(mut site) = Site::up() else { return };
    for place in [Place::InSync, Place::Rollback] {
        site.play(Victim::Both, place, 0);
    }
}

/// Rounds on one machine until somebody was killed at each place.
fn everywhere(victim: Victim, places: &[Place]) {
    let Some(mut site) = Site::up() else { return };
    for place in places.iter().copied() {
        let hit = (0..TRIES).any(|attempt| site.play(victim, place, attempt) == place);
        assert!(hit, "{victim:?} was never killed in {place:?}");
    }
}

/// A machine, and what it has at the moment.
struct Site {
    machines: Machines,
    installed: &'static str,
}

impl Site {
    fn up() -> Option<Self> {
        let machines = Machines::up(1, "wine-ssh")?;
        add_failing_release(&machines);
        let site = Self { machines, installed: OLDER };
        site.machines.start_ibex(site.name());
        // The agent is there, so that the first round is like the others.
        site.machines.runs_well(&["check", site.name()]);
        Some(site)
    }

    fn name(&self) -> &str {
        &self.machines.names[0]
    }

    /// A release whose victim is killed `more` events after the run came to a place; the run comes to its end by itself or is resumed. Gives where it was.
    fn play(&mut self, victim: Victim, place: Place, more: usize) -> Place {
        let (machines, name) = (&self.machines, self.name());
        let wanted = match self.installed {
            _ if place == Place::Rollback => FAILING,
            OLDER => NEWER,
            _ => OLDER,
        };
        let before = machines.installed(name);
        let hit = self.kill(victim, place, wanted, more);
        let scene = format!("{victim:?} killed in {hit:?}, which should be {place:?}");
        let outcome = machines.outcome(name).unwrap_or_else(|| panic!("{scene}: no end: {}", machines.logs()));
        println!("{scene}: ended {outcome}");
        let installed = match outcome.as_str() {
            "changed" if wanted != FAILING => {
                assert_eq!(machines.unlike(name, wanted), [""; 0], "{scene}: the new release");
                wanted
            }
            "rolled_back" | "failed" | "cancelled" => {
                assert_eq!(differences(&before, &machines.installed(name)), [""; 0], "{scene}: the old release");
                self.installed
            }
            other => panic!("{scene}: it ended as {other}: {}", machines.logs()),
        };
        wait_for("IBEX runs as before", || machines.ibex(name));
        machines.is_quiet(name);
        self.installed = installed;
        hit
    }

    /// Kills when the controller has told that the run came to a place, and `more` events.
    fn kill(&self, victim: Victim, place: Place, wanted: &str, more: usize) -> Place {
        let (machines, name) = (&self.machines, self.name());
        let release = ["release", name, "--kit", wanted, "--yes", "--skip-tags", "backup"];
        let earlier = machines.journal(name);
        let mut controller = machines.start(&release);
        let of_it = |e: &Value| e["instrument"] == name;
        let _ = controller.until(|e| of_it(e) && place.begins_with(e));
        for _ in 0..more {
            let _ = controller.until(of_it);
        }
        let journal = machines.journal(name);
        // Where it is killed so early that the run has no journal yet, the newest is that of the run before.
        let hit = if journal == earlier { Place::Stage } else { Place::of(&journal) };
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
        hit
    }
}

/// The newer release with a script that fails in the outage, when files are replaced already.
fn add_failing_release(machines: &Machines) {
    let (newer, failing) = (machines.kits().join(NEWER), machines.kits().join(FAILING));
    let copied = Command::new("cp").arg("-a").args([&newer, &failing]).status().expect("cp");
    assert!(copied.success(), "{copied}");
    let script = "@echo off\r\necho half done>\"%~dp0ICP_Binaries\\isisicp.exe\"\r\necho it fails\r\nexit /b 3\r\n";
    std::fs::write(failing.join("EPICS/create_icp_binaries.bat"), script).expect("the script can be changed");
}
