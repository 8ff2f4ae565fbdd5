//! Bad days: slow links, servers and controllers that go away in the outage, clocks, restarts.

use crate::command::Watched;
use crate::dice::Dice;
use crate::sandbox::{ibex, installed, journal, outcome, start_ibex, wait_for};
use crate::support::{Cut, Links, NEWER, Sshd, agents, workers};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const NAME: &str = "NDXLARMOR";

/// A release that waits in the outage until a file is there.
struct Gate(PathBuf);

impl Gate {
    fn of(links: &Links) -> Self {
        let go = links.fleet.dir().join("go");
        links.fleet.add_to_script("create_icp_binaries.bat", &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
        Self(go)
    }

    fn open(&self) {
        std::fs::write(&self.0, "").expect("a file");
    }
}

/// An instrument that waits in the outage, and the controller that began it.
fn in_the_outage(links: &Links) -> Watched {
    let mut controller = links.fleet.start(&["release", NAME, "--yes"]);
    let at_gate = |e: &Value| e["event"] == "step_started" && e["step"]["name"] == "ISISICP of the server";
    controller.until(at_gate).expect("it comes to the script that waits");
    controller
}

fn is_in_place(links: &Links, what: &str) {
    let line = &links.lines[0];
    assert_eq!(outcome(&journal(&line.root)).as_deref(), Some("changed"));
    assert_eq!(links.fleet.unlike(NAME, NEWER, &[]), [""; 0]);
    assert!(ibex(&line.root).is_some(), "IBEX runs");
    line.ends_clean(what);
}

#[test]
fn a_slow_link_ends_well() {
    let links = Links::one(NAME);
    // What does not get smaller when it is packed.
    let mut dice = Dice::new(7);
    let noise: Vec<u8> = (0..600_000).map(|_| u8::try_from(dice.below(256)).expect("a byte")).collect();
    std::fs::write(links.fleet.kits().join(NEWER).join("EPICS/noise.bin"), &noise).expect("a file");
    let proxy = &links.lines[0].proxy;
    proxy.delay(Duration::from_millis(20));
    proxy.limit_rate(Some(200_000));
    let released = links.fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((released.code, released.outcome(NAME).as_str()), (0, "changed"), "{}", released.story());
    assert!(released.last(NAME, "link_lost").is_none(), "{}", released.story());
    assert!(proxy.counts().to_server > 600_000, "{:?}", proxy.counts());
    assert_eq!(std::fs::read(links.lines[0].root.join("c/Instrument/Apps/EPICS/noise.bin")).expect("the file"), noise);
    is_in_place(&links, "a slow link");
}

#[test]
fn a_server_that_stops_in_the_outage_holds_up_nothing() {
    let mut links = Links::one(NAME);
    let gate = Gate::of(&links);
    let root = links.lines[0].root.clone();
    let mut command = links.fleet.command(&["release", NAME, "--yes", "--output", "plain"]);
    let mut controller = command.stderr(Stdio::null()).spawn().expect("the binary starts");
    let applies = |e: &Value| e["event"]["event"] == "phase_started" && e["event"]["phase"] == "apply";
    wait_for("the outage", || journal(&root).iter().any(applies).then_some(()));
    links.lines[0].sshd.stop();
    gate.open();
    wait_for("the end of the run at the instrument", || outcome(&journal(&root)));
    assert!(controller.try_wait().expect("its state").is_none(), "the controller tries again");
    links.lines[0].sshd.start_again();
    let mut told = String::new();
    controller.stdout.take().expect("its output").read_to_string(&mut told).expect("text");
    assert_eq!(controller.wait().expect("its end").code(), Some(0), "{told}");
    assert!(told.contains(&format!("{NAME} link-lost: ")), "{told}");
    let table = told.split_once("INSTRUMENT ").expect("the table").1;
    let row: Vec<&str> = table.lines().find(|l| l.starts_with(NAME)).expect("a row").split_whitespace().take(5).collect();
    assert_eq!(row, [NAME, "changed", "26.8.0", "->", NEWER], "{told}");
    is_in_place(&links, "a server that stopped");
}

#[test]
fn a_controller_killed_in_the_outage_is_followed_by_another() {
    let links = Links::one(NAME);
    let gate = Gate::of(&links);
    let mut controller = in_the_outage(&links);
    controller.child.kill().expect("it is there");
    controller.child.wait().expect("it is gone");
    wait_for("its connection's end", || (!links.lines[0].sshd.is_in_use()).then_some(()));
    let worker = workers(&links.lines[0].root);
    assert_eq!(worker.len(), 1, "the instrument goes on");

    let mut resumed = links.fleet.start(&["runs", "resume", "--yes"]);
    resumed.until(|e| e["event"] == "connected").expect("it follows");
    gate.open();
    let finished = resumed.until(|e| e["event"] == "instrument_finished").expect("its end is told");
    assert_eq!(finished["outcome"], "changed");
    while resumed.until(|_| true).is_some() {}
    assert_eq!(resumed.child.wait().expect("its end").code(), Some(0));
    is_in_place(&links, "a controller that was killed");
}

/// The library of `faketime`, where it is installed.
fn faketime() -> Option<PathBuf> {
    let places = ["x86_64-linux-gnu/faketime", "faketime", "aarch64-linux-gnu/faketime"];
    let found = places.iter().map(|p| Path::new("/usr/lib").join(p).join("libfaketimeMT.so.1")).find(|p| p.exists());
    if found.is_none() {
        eprintln!("skipped: libfaketime is not here (Debian package faketime)");
    }
    found
}

#[test]
fn clocks_that_are_years_off_stand_in_nobodys_way() {
    let Some(library) = faketime() else { return };
    for (offset, way) in [("-1500d", "behind"), ("+1500d", "ahead")] {
        let shown = library.display();
        let all = format!("LD_PRELOAD={shown} FAKETIME={offset} FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1");
        let links = Links::through(&[NAME], || {
            Sshd::builder().force_command(&format!("{all} exec sh -c \"$SSH_ORIGINAL_COMMAND\"")).start()
        });
        links.fleet.put_agents(&[NAME]);
        start_ibex(&links.lines[0].root);
        let begun = jiff::Timestamp::now();
        let released = links.fleet.run(&["release", NAME, "--yes"]);
        assert_eq!((released.code, released.outcome(NAME).as_str()), (0, "changed"), "{offset}: {}", released.story());
        let is_note = |e: &&Value| e["event"] == "note" && e["text"].as_str().is_some_and(|t| t.contains("its clock is"));
        let note = released.events.iter().find(is_note).expect("a note about the clock");
        assert!(note["text"].as_str().is_some_and(|t| t.contains(way)), "{note}");
        let at = |e: &Value| e["at"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
        // By the controller's clock, which comparing may have read a moment off.
        let margin = jiff::SignedDuration::from_secs(60);
        let (first, last) = (begun - margin, jiff::Timestamp::now() + margin);
        for event in &released.events {
            assert!((first..=last).contains(&at(event)), "{offset}: {event}");
        }
        let finished = released.last(NAME, "instrument_finished").expect("it finished");
        assert!(finished["ms"].as_u64().expect("a number") < 600_000, "{finished}");
        let entries = journal(&links.lines[0].root);
        assert!(!(first..=last).contains(&at(&entries[0])), "{offset}: the clock there was not off");
        is_in_place(&links, "a clock that is off");
    }
}

/// What the sandbox simulates.
fn state(root: &Path) -> Value {
    let file = root.join(".ibexdeploy/sandbox.json");
    serde_json::from_slice(&std::fs::read(file).expect("the state")).expect("JSON")
}

#[test]
fn a_machine_that_restarts_is_seen_to_come_back() {
    let mut links = Links::one(NAME);
    let root = links.lines[0].root.clone();
    // Which also has the sandbox's state written down.
    assert_eq!(links.fleet.run(&["status", NAME]).code, 0);
    let mut machine = state(&root);
    machine["restart_ends_agent"] = json!(true);
    std::fs::write(root.join(".ibexdeploy/sandbox.json"), machine.to_string()).expect("the state");
    let playbooks = links.fleet.dir().join("playbooks");
    std::fs::create_dir(&playbooks).expect("a folder");
    let text = "playbook: patches\ndescription: As after patches of the system\napply:\n\
                \x20 - command: {run: 'echo before >>\"$IBEX_ROOT/said\"'}\n    undo: none\n\
                \x20 - reboot: {reason: patches}\n    undo: none\n\
                \x20 - command: {run: 'echo after >>\"$IBEX_ROOT/said\"'}\n    undo: none\n";
    std::fs::write(playbooks.join("patches.yaml"), text).expect("a playbook");
    let (boot_id, files) = (machine["boot_id"].clone(), installed(&root));
    assert!(boot_id.is_string() && ibex(&root).is_some(), "{machine}");

    let folder = playbooks.display().to_string();
    let mut controller = links.fleet.start(&["run", "patches", NAME, "--yes", "--playbooks", &folder]);
    let connected = controller.until(|e| e["event"] == "connected").expect("it connects");
    let first = wait_for("the worker", || workers(&root).pop());
    wait_for("the machine goes down", || (state(&root)["boot_id"] != boot_id).then_some(()));
    links.lines[0].proxy.refuse();
    links.lines[0].sshd.stop();
    links.lines[0].proxy.cut_now(Cut::Reset);
    wait_for("the worker's end", || (!first.is_alive()).then_some(()));
    assert_eq!(outcome(&journal(&root)), None, "nobody is there to go on");
    assert!(ibex(&root).is_none(), "the programs of the machine have ended");
    let is_refused = |e: &Value| e["event"] == "link_lost" && e["why"].as_str().is_some_and(|w| w.contains("no SSH server"));
    controller.until(is_refused).expect("the machine is away");
    assert!(agents(&root).is_empty(), "{:?}", agents(&root));
    links.lines[0].sshd.start_again();
    links.lines[0].proxy.accept();

    let again = controller.until(|e| e["event"] == "connected").expect("it connects again");
    assert_eq!(again["host"], connected["host"]);
    let step = controller.until(|e| e["event"] == "step_finished" && e["step"]["action"] == "reboot").expect("the step ends");
    assert_eq!((step["outcome"].as_str(), step["summary"].as_str()), (Some("changed"), Some("the machine has restarted")));
    let finished = controller.until(|e| e["event"] == "instrument_finished").expect("its end is told");
    assert_eq!(finished["outcome"], "changed", "{finished}");
    while controller.until(|_| true).is_some() {}
    assert_eq!(controller.child.wait().expect("its end").code(), Some(0));
    assert_eq!(std::fs::read_to_string(root.join("said")).expect("a file"), "before\nafter\n");
    assert!(journal(&root).iter().any(|e| e["event"]["event"] == "recovered"), "the journal went on");
    assert_eq!(installed(&root), files);
    links.lines[0].ends_clean("a restart");
}
