//! Updates of the operating system through the real binary: rounds, restarts, limits, and installers that misbehave.

use crate::kill::machine::{kill, wait_for, workers};
use crate::support::{Ended, Fleet};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const NAME: &str = "NDXLARMOR";

/// An instrument with IBEX running, to which these updates are offered. A restart ends the agent as well.
fn offered(updates: Value) -> Fleet {
    let fleet = Fleet::running(&[NAME]);
    change_state(&fleet, |state| {
        state["updates"] = updates;
        state["restart_ends_agent"] = json!(true);
    });
    fleet
}

fn state_file(fleet: &Fleet) -> PathBuf {
    fleet.root(NAME).join(".ibexdeploy/sandbox.json")
}

fn state(fleet: &Fleet) -> Value {
    serde_json::from_slice(&std::fs::read(state_file(fleet)).expect("the state")).expect("JSON")
}

fn change_state(fleet: &Fleet, change: impl FnOnce(&mut Value)) {
    let mut state = state(fleet);
    change(&mut state);
    std::fs::write(state_file(fleet), state.to_string()).expect("the state");
}

/// Updates that are installed, restart included.
fn installed(fleet: &Fleet) -> Vec<String> {
    let state = state(fleet);
    let done = |u: &&Value| u["installed"] == true && u["waits_for_restart"] != true;
    state["updates"].as_array().into_iter().flatten().filter(done).map(|u| u["id"].as_str().unwrap_or("").to_owned()).collect()
}

/// How the step that installs them ended.
fn step(ended: &Ended) -> &Value {
    let of = |e: &&Value| {
        e["event"] == "step_finished" && e["step"]["name"] == "updates of the operating system" && e["outcome"] != "skipped"
    };
    ended.events.iter().rev().find(of).unwrap_or_else(|| panic!("no updates were installed: {}", ended.story()))
}

fn reminders(ended: &Ended) -> String {
    let all = ended.events.iter().filter(|e| e["event"] == "reminder");
    all.map(|e| e["text"].as_str().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// A playbook of the test's own, for limits that are not those of every day.
fn playbook(fleet: &Fleet, os_patch: &str) -> String {
    let path = fleet.dir().join("patches.yaml");
    let text = format!(
        "playbook: patches\napply:\n  - name: updates of the operating system\n    os_patch: {os_patch}\n    undo: none\n"
    );
    std::fs::write(&path, text).expect("a playbook");
    path.display().to_string()
}

#[test]
fn rounds_and_restarts_go_on_until_nothing_is_left() {
    let fleet = offered(json!([
        {"id": "KB1", "title": "Cumulative update", "bytes": 1000, "exit_code": 3010},
        {"id": "KB2", "title": "Servicing stack", "exit_code": 0},
        {"id": "KB3", "title": "Comes after it", "after": "KB1", "exit_code": 3010},
        {"id": "KB4", "title": "Comes last", "after": "KB3", "exit_code": 2_359_302},
        {"id": "KB5", "title": "Is there", "installed": true},
    ]));
    let server = fleet.ibex(NAME).expect("IBEX runs");
    let dry = fleet.run(&["os-patch", NAME, "--dry-run"]);
    assert!(dry.stdout.contains("2 updates are offered now, 1.0 kB") && dry.stdout.contains("KB1 Cumulative"), "{}", dry.story());
    assert_eq!(installed(&fleet), ["KB5"], "a dry run installs nothing");

    let ended = fleet.run(&["os-patch", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert_eq!(step(&ended)["summary"], "3 updates installed in 3 rounds, 2 restarts and none left");
    assert_eq!(installed(&fleet), ["KB1", "KB2", "KB3", "KB5"]);
    assert!(fleet.ibex(NAME).is_some_and(|now| now != server), "IBEX was stopped, and runs again");
    let started: Vec<u64> =
        state(&fleet)["updates"].as_array().expect("a list").iter().map(|u| u["started"].as_u64().unwrap_or(0)).collect();
    assert_eq!(started, [1, 1, 1, 1, 0], "each was installed once, also over the restarts");

    change_state(&fleet, |state| state["updates"][3]["installed"] = json!(true));
    let again = fleet.run(&["os-patch", NAME, "--yes"]);
    assert_eq!(
        (again.code, step(&again)["summary"].as_str()),
        (0, Some("0 updates installed in 0 rounds, none left")),
        "{}",
        again.story()
    );
}

#[test]
fn an_installer_that_restarts_the_machine_itself_is_followed() {
    let fleet = offered(json!([
        {"id": "KB1", "title": "Restarts by itself", "exit_code": 1641},
        {"id": "KB2", "title": "Comes after it", "after": "KB1"},
    ]));
    let ended = fleet.run(&["os-patch", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert_eq!(installed(&fleet), ["KB1", "KB2"]);
    assert!(fleet.ibex(NAME).is_some());
}

#[test]
fn another_installation_is_waited_for() {
    let fleet = offered(json!([{"id": "KB1", "title": "Finds another at work", "busy": 2}]));
    let ended = fleet.run(&["os-patch", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert!(ended.stdout.contains("another installation to end"), "what was waited for is told: {}", ended.story());
    assert_eq!(installed(&fleet), ["KB1"]);

    change_state(&fleet, |state| state["updates"] = json!([{"id": "KB2", "title": "Is never free", "busy": 1000}]));
    let never = fleet.run(&["run", &playbook(&fleet, "{busy: 1s}"), NAME, "--yes"]);
    assert_eq!(never.code, 1, "{}", never.story());
    assert!(never.stdout.contains("another installation is going on (1618)"), "{}", never.story());
}

#[test]
fn what_fails_or_hangs_keeps_nothing_else_from_being_installed() {
    let fleet = offered(json!([
        {"id": "KB1", "title": "Fails", "exit_code": 1603},
        {"id": "KB2", "title": "Hangs", "hangs": true},
        {"id": "KB3", "title": "Is never satisfied", "offered_again": true},
        {"id": "KB4", "title": "Installs"},
    ]));
    let ended = fleet.run(&["run", &playbook(&fleet, "{each: 2s}"), NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    let said = step(&ended)["summary"].as_str().unwrap_or_default();
    for part in [
        "3 of 4 updates failed",
        "KB1 Fails: a fatal error during the installation (1603)",
        "KB2 Hangs: it took longer than 2s and was ended",
        "KB3 Is never satisfied: it says that it is installed, and is offered again",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let state = state(&fleet);
    let started = |n: usize| state["updates"][n]["started"].clone();
    assert_eq!((started(0), started(1), started(3)), (json!(2), json!(2), json!(1)), "what failed is tried twice");
    assert_eq!(state["updates"][3]["installed"], true);
    assert!(reminders(&ended).contains("was not taken back, and may be installed"), "{}", ended.story());
}

#[test]
fn a_limit_ends_it_and_names_what_is_left() {
    let fleet = offered(json!([
        {"id": "KB1", "title": "First"},
        {"id": "KB2", "title": "Second"},
        {"id": "KB3", "title": "Third"},
    ]));
    let ended = fleet.run(&["os-patch", NAME, "--yes", "--limit", "1"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert_eq!(installed(&fleet), ["KB1"]);
    let left = reminders(&ended);
    assert!(
        left.contains("2 updates are left, because 1 updates were installed, which is the limit: KB2 Second, KB3 Third"),
        "{left}"
    );

    let chosen = fleet.run(&["run", &playbook(&fleet, "{only: [third]}"), NAME, "--yes"]);
    assert_eq!(chosen.code, 0, "{}", chosen.story());
    assert_eq!(installed(&fleet), ["KB1", "KB3"]);
}

#[test]
fn packages_of_a_folder_survive_the_death_of_the_worker() {
    let fleet = offered(json!([]));
    let folder = fleet.root(NAME).join("c/data/patches");
    std::fs::create_dir_all(&folder).expect("a folder");
    let go = fleet.dir().join("go");
    for (name, line) in
        [("1-slow.exe", format!("until [ -e {} ]; do sleep 0.05; done", go.display())), ("2-quick.exe", String::new())]
    {
        let file = folder.join(name);
        std::fs::write(&file, format!("#!/bin/sh\necho {name} >>\"$IBEX_ROOT/ran\"\n{line}\n")).expect("a package");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("a program");
    }
    std::fs::write(folder.join("read me.txt"), "no package").expect("a file");
    let ran = || std::fs::read_to_string(fleet.root(NAME).join("ran")).unwrap_or_default();
    let mut watched = fleet.start(&["os-patch", NAME, "--yes", "--updates", "C:\\data\\patches"]);
    wait_for("the first package is being installed", || ran().contains("1-slow").then_some(()));
    workers(&fleet.root(NAME)).into_iter().for_each(kill);
    wait_for("the worker is gone", || workers(&fleet.root(NAME)).is_empty().then_some(()));
    std::fs::write(&go, "").expect("a file");
    let finished = watched.until(|e| e["event"] == "instrument_finished").expect("it goes on by itself");
    assert_eq!(finished["outcome"], "changed", "{finished}");
    assert_eq!(ran(), "1-slow.exe\n2-quick.exe\n", "each was run once, whoever died meanwhile");
    assert!(fleet.ibex(NAME).is_some(), "IBEX runs again");
}

#[test]
fn a_measurement_is_not_ended_for_an_update() {
    let fleet = offered(json!([{"id": "KB1", "title": "Waits"}]));
    let pvs = fleet.root(NAME).join("c/Instrument/Var/sandbox_pvs.txt");
    std::fs::write(&pvs, "IN:LARMOR:DAE:RUNSTATE_STR=RUNNING\n").expect("PVs can be set");
    let server = fleet.ibex(NAME);
    let ended = fleet.run(&["os-patch", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (4, "failed"), "{}", ended.story());
    assert_eq!((installed(&fleet), fleet.ibex(NAME)), (vec![], server));
}

#[test]
fn a_folder_or_an_installer_that_is_missing_is_found_while_ibex_still_runs() {
    let fleet = Fleet::running(&[NAME]);
    let server = fleet.ibex(NAME);
    for (arguments, words) in [
        (&["os-patch", NAME, "--yes", "--updates", r"C:\none"][..], "`--updates`"),
        (&["run", "software", NAME, "--yes", "--set", r"git_installer=C:\none.exe"], "there is no installer"),
    ] {
        let failed = fleet.run(arguments);
        assert_eq!((failed.code, failed.outcome(NAME).as_str()), (1, "failed"), "{}", failed.story());
        assert!(failed.stdout.contains(words), "{words}: {}", failed.story());
        assert!(failed.last(NAME, "outage_started").is_none(), "{}", failed.story());
        assert_eq!(fleet.ibex(NAME), server, "the same server runs all the time");
    }
}
