//! What counts as an outage: the time between stopping IBEX and its being back, and nothing else.

use crate::support::{Ended, Fleet};
use serde_json::Value;
use std::process::Command;

const NAME: &str = "NDXLARMOR";
const NEWER: &str = "26.9.0";

/// The outage as the instrument's end has it, and as the report's table shows it.
fn outage(fleet: &Fleet, ended: &Ended) -> (u64, bool) {
    let end = ended.last(NAME, "instrument_finished").expect("it finished");
    let mut report = fleet.command(&["runs", "report", "--output", "plain"]);
    let report = Ended::of(&mut report).stdout;
    (end["outage_ms"].as_u64().expect("a number"), report.contains("Outage:"))
}

/// Milliseconds from one event to a later one.
fn between(ended: &Ended, from: impl Fn(&Value) -> bool, to: impl Fn(&Value) -> bool) -> u64 {
    let at = |fits: &dyn Fn(&Value) -> bool| {
        let event = ended.events.iter().find(|e| fits(e)).expect("the event");
        event["at"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time")
    };
    u64::try_from(at(&to).duration_since(at(&from)).as_millis()).expect("a later time")
}

#[test]
fn the_way_back_is_part_of_the_outage_until_ibex_is_back() {
    let fleet = Fleet::running(&[NAME]);
    // IBEX is started on the new release, and is found not to be what it should: it is stopped once more.
    fleet.add_to_script(NEWER, "start_ibex_server.bat", "echo 1.2.3 >\"$here/VERSION.txt\"");
    let ended = fleet.run(&["release", NAME, "--yes", "--skip-tags", "backup"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    let (ms, shown) = outage(&fleet, &ended);
    let stopped = |e: &Value| e["event"] == "step_started" && e["step"]["name"] == "stop IBEX";
    let began_again = |e: &Value| e["event"] == "step_undone" && e["step"]["name"] == "stop IBEX";
    let least = between(&ended, stopped, began_again);
    assert!(shown && ms >= least, "{ms} ms, and at least {least}: {}", ended.story());
}

#[test]
fn a_rollback_that_is_asked_for_has_an_outage_of_its_own() {
    let fleet = Fleet::running(&[NAME]);
    let release = fleet.run(&["release", NAME, "--yes", "--skip-tags", "backup"]);
    assert_eq!(release.code, 0, "{}", release.story());
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    let (ms, shown) = outage(&fleet, &back);
    let undone = |name: &'static str| move |e: &Value| e["event"] == "step_undone" && e["step"]["name"] == name;
    let least = between(&back, undone("start IBEX"), undone("stop IBEX"));
    assert!(shown && ms > 0 && ms >= least, "{ms} ms, and at least {least}: {}", back.story());
}

#[test]
fn where_nothing_is_stopped_there_is_no_outage() {
    let fleet = Fleet::running(&[NAME]);
    let zip = fleet.dir().join("patch.zip");
    let folder = fleet.dir().join("patch/EPICS/ioc/master");
    std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join("new.txt"), "new")).expect("a file");
    let packed = Command::new("zip").args(["-qr"]).arg(&zip).arg("EPICS").current_dir(fleet.dir().join("patch")).status();
    assert!(packed.expect("zip").success());
    let hotfix = fleet.run(&["hotfix", NAME, &zip.display().to_string(), "--yes"]);
    assert_eq!((hotfix.code, hotfix.outcome(NAME).as_str()), (0, "changed"), "{}", hotfix.story());
    assert_eq!(outage(&fleet, &hotfix), (0, false), "{}", hotfix.story());

    // A program that ends nothing makes no outage either.
    let books = fleet.dir().join("books");
    let text = "playbook: t\napply:\n  - command: {at: server, run: 'sleep 0.1; echo new > changed.txt'}\n    undo: {command: {at: server, run: rm changed.txt}}\n";
    std::fs::create_dir(&books).and_then(|()| std::fs::write(books.join("t.yaml"), text)).expect("a playbook");
    let run = fleet.run(&["run", "t", NAME, "--yes", "--playbooks", &books.display().to_string()]);
    assert_eq!((run.code, run.outcome(NAME).as_str()), (0, "changed"), "{}", run.story());
    assert_eq!(outage(&fleet, &run), (0, false), "{}", run.story());
}
