//! A rehearsal as a newcomer starts it: one command, no kits named, and a real database server on each sandbox.

use crate::kill::machine::{is_free, journal, kill, outcome, wait_for, workers};
use crate::mysql::servers;
use crate::support::{Ended, Fleet, Watched};
use ibexdeploy::rehearsal::mysql;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const NAMES: [&str; 2] = ["NDXLARMOR", "NDXEMU"];

/// A rehearsal in a folder of its own. No server outlives it.
struct Rehearsal {
    fleet: Fleet,
    inventory: PathBuf,
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        for name in NAMES {
            workers(&self.fleet.root(name)).into_iter().for_each(kill);
        }
        servers(self.fleet.dir()).into_iter().for_each(kill);
    }
}

impl Rehearsal {
    /// Nothing, with a line that says so, where there is no MariaDB.
    fn new() -> Option<Self> {
        if !mysql::is_there() {
            eprintln!("skipped: there is no MariaDB here; scripts/test installs it");
            return None;
        }
        Some(Self { fleet: Fleet::empty(), inventory: PathBuf::from("inventory/ndx.yaml") })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"));
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .arg(format!("--rehearse={}", self.fleet.dir().display()))
            .arg("--state")
            .arg(self.fleet.dir().join("state"))
            .arg("--inventory")
            .arg(&self.inventory)
            .args(["--output", "json"])
            .env_remove("IBEXDEPLOY_KITS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&mut self.command(arguments))
    }

    fn release(&self) -> Ended {
        self.run(&["release", &NAMES.join(","), "--yes"])
    }

    /// The version that the server of a sandbox is, by its service.
    fn version(&self, name: &str) -> &'static str {
        let state = std::fs::read_to_string(self.fleet.root(name).join(".ibexdeploy/sandbox.json")).expect("the state");
        let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
        match (&state["services"]["MYSQL84"], &state["services"]["MYSQL80"]) {
            (new, serde_json::Value::Null) if new["program"].is_string() => "8.4",
            (serde_json::Value::Null, old) if old["program"].is_string() => "8.0",
            _ => panic!("{}", state["services"]),
        }
    }
}

/// What the step of MySQL says of an instrument.
fn upgrade(ended: &Ended, name: &str) -> String {
    let done = |e: &&serde_json::Value| {
        let of_step = e["event"] == "step_finished" && e["step"]["action"] == "mysql";
        of_step && e["instrument"] == name && e["outcome"] != "skipped"
    };
    ended.events.iter().find(done).map_or_else(String::new, |e| e["summary"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn every_sandbox_has_a_server_that_is_upgraded_and_none_is_left_running() {
    let Some(rehearsal) = Rehearsal::new() else { return };
    let ended = rehearsal.release();
    assert_eq!(ended.code, 0, "{}", ended.story());
    for name in NAMES {
        let said = upgrade(&ended, name);
        assert!(said.starts_with("MySQL 8.0.36 to 8.4.3, by a dump that is read into new data: 10"), "{said}: {}", ended.story());
        assert!(said.ends_with("tables as before"), "{said}");
        assert_eq!(rehearsal.version(name), "8.4");
    }
    assert_eq!(servers(rehearsal.fleet.dir()), [0; 0], "{}", ended.story());

    // It goes on with what is there: nothing is left to do, and the way back needs the servers as well.
    let again = rehearsal.release();
    assert_eq!((again.code, again.outcome(NAMES[0]).as_str()), (0, "ok"), "{}", again.story());
    assert_eq!(servers(rehearsal.fleet.dir()), [0; 0]);
    let back = rehearsal.run(&["rollback", NAMES[0], "--yes", "--discard-newer"]);
    assert_eq!((back.code, back.outcome(NAMES[0]).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!((rehearsal.version(NAMES[0]), rehearsal.version(NAMES[1])), ("8.0", "8.4"));
    assert_eq!(servers(rehearsal.fleet.dir()), [0; 0], "{}", back.story());

    let afresh = rehearsal.run(&["release", NAMES[1], "--yes", "--fresh"]);
    assert!(upgrade(&afresh, NAMES[1]).starts_with("MySQL 8.0.36 to 8.4.3"), "{}", afresh.story());
    assert_eq!(servers(rehearsal.fleet.dir()), [0; 0]);
}

#[test]
fn a_rehearsal_that_was_killed_and_is_repeated_leaves_no_server_running() {
    let Some(rehearsal) = Rehearsal::new() else { return };
    let root = rehearsal.fleet.root(NAMES[0]);
    let release = ["release", NAMES[0], "--yes"];
    let in_step = |controller: &mut Watched, event: &str| {
        controller.until(|e| e["event"] == event && e["step"]["action"] == "mysql").expect("MySQL is being replaced");
    };

    // The controller alone: its worker goes on, and has the server for itself.
    let mut controller = Watched::start(&mut rehearsal.command(&release));
    in_step(&mut controller, "step_started");
    kill(controller.child.id());
    wait_for("the run ends", || outcome(&journal(&root)));
    wait_for("the instrument is free", || is_free(&root).then_some(()));
    assert_eq!(servers(rehearsal.fleet.dir()).len(), 1, "nobody was there to stop it");
    let again = rehearsal.run(&release);
    assert_eq!((again.code, again.outcome(NAMES[0]).as_str()), (0, "ok"), "{}", again.story());
    assert_eq!(servers(rehearsal.fleet.dir()), [0; 0]);

    // Everything at once, as when the machine goes down in the middle.
    let back = rehearsal.run(&["rollback", NAMES[0], "--yes", "--discard-newer"]);
    assert_eq!(back.outcome(NAMES[0]), "rolled_back", "{}", back.story());
    let mut controller = Watched::start(&mut rehearsal.command(&release));
    in_step(&mut controller, "step_started");
    kill(controller.child.id());
    workers(&root).into_iter().for_each(kill);
    servers(rehearsal.fleet.dir()).into_iter().for_each(kill);
    let resumed = rehearsal.run(&["runs", "resume", "--yes"]);
    let ended = outcome(&journal(&root)).expect("it ended");
    assert!(["changed", "rolled_back"].contains(&ended.as_str()), "{ended}: {}", resumed.story());
    assert_eq!(servers(rehearsal.fleet.dir()), [0; 0], "{}", resumed.story());
    let last = rehearsal.run(&release);
    assert_eq!(last.code, 0, "{}", last.story());
    assert_eq!(rehearsal.version(NAMES[0]), "8.4");
    assert_eq!(servers(rehearsal.fleet.dir()), [0; 0]);
}

#[test]
fn a_new_instrument_gets_a_new_server() {
    let Some(rehearsal) = Rehearsal::new() else { return };
    let ended = rehearsal.run(&["install", NAMES[1], "--profile", "new", "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAMES[1]).as_str()), (0, "changed"), "{}", ended.story());
    assert_eq!(upgrade(&ended, NAMES[1]), "MySQL 8.4.3 as the service MYSQL84");
    assert!(ended.stdout.contains("the new MySQL has no databases yet"), "{}", ended.story());
    assert_eq!(rehearsal.version(NAMES[1]), "8.4");
    assert_eq!(servers(rehearsal.fleet.dir()), [0; 0]);
}

#[test]
fn what_stands_in_the_way_of_mysql_is_said_in_a_line_and_the_rest_is_rehearsed() {
    let Some(mut rehearsal) = Rehearsal::new() else { return };
    let text = std::fs::read_to_string("inventory/ndx.yaml").expect("the shipped inventory");
    let secret = "    mysql_root: {command: [keeper, get, ibex/mysql_root]}\n";
    assert!(text.contains(secret));
    rehearsal.inventory = rehearsal.fleet.dir().join("ndx.yaml");
    std::fs::write(&rehearsal.inventory, text.replace(&format!("  secrets:\n{secret}"), "")).expect("an inventory");
    let ended = rehearsal.run(&["release", NAMES[0], "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAMES[0]).as_str()), (0, "changed"), "{}", ended.story());
    let line = "rehearsal: MySQL is left out: NDXLARMOR has no secret `mysql_root` in the inventory";
    assert_eq!(ended.stderr.lines().filter(|l| *l == line).count(), 1, "{}", ended.story());
    assert_eq!(rehearsal.version(NAMES[0]), "8.0");

    // A release from the share has programs for Windows.
    let kits = rehearsal.fleet.kits();
    std::fs::remove_file(kits.join("26.9.0/.rehearsal-kit")).expect("a mark");
    rehearsal.inventory = PathBuf::from("inventory/ndx.yaml");
    let ended = rehearsal.run(&["release", NAMES[1], "--yes", "--kits", &kits.display().to_string()]);
    assert_eq!((ended.code, ended.outcome(NAMES[1]).as_str()), (0, "changed"), "{}", ended.story());
    assert!(ended.stderr.contains("rehearsal: MySQL is left out: the programs in "), "{}", ended.story());
    assert_eq!(servers(rehearsal.fleet.dir()), [0; 0]);
}
