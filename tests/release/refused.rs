//! Releases that may not begin: somebody else is at it, or IBEX could not be started again.

use crate::support::Fleet;

const NAME: &str = "NDXLARMOR";
const NEWER: &str = "26.9.0";

#[test]
fn a_second_controller_is_refused_and_the_first_finishes() {
    let fleet = Fleet::running(&[NAME]);
    let go = fleet.dir().join("go");
    fleet.add_to_script(NEWER, "create_icp_binaries.bat", &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
    let mut first = fleet.start(&["release", NAME, "--yes"]);
    let begun = first.until(|e| e["event"] == "outage_started").expect("the first one applies");
    let run = begun["run"].as_str().expect("a run");

    let second = fleet.run(&["release", NAME, "--yes"]);
    let said = second.story();
    assert_eq!(second.code, 4, "{said}");
    let host = begun["instrument"].as_str().expect("an instrument");
    let holder = format!("run {run}");
    assert!(said.contains(&holder) && said.contains("since") && said.contains(host), "{said}");
    let unlock = fleet.run(&["unlock", NAME, "--yes"]);
    assert!(unlock.code == 4 && unlock.stdout.contains(run), "{}", unlock.story());

    std::fs::write(&go, "").expect("a file");
    let finished = first.until(|e| e["event"] == "instrument_finished").expect("the first one finishes");
    assert_eq!(finished["outcome"], "changed");
    assert!(first.until(|_| false).is_none());
    assert!(first.child.wait().expect("its end").success());
    assert_eq!(fleet.unlike(NAME, NEWER, &[]), [""; 0]);
}

#[test]
fn nobody_logged_on_is_found_out_while_ibex_runs() {
    let fleet = Fleet::running(&[NAME]);
    let file = fleet.root(NAME).join(".ibexdeploy/sandbox.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).expect("the state")).expect("JSON");
    state["logged_on"] = serde_json::json!([]);
    std::fs::write(&file, state.to_string()).expect("the state");
    let (before, server) = (fleet.apps(NAME), fleet.ibex(NAME).expect("IBEX runs"));
    let ended = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(ended.outcome(NAME), "failed", "{}", ended.story());
    assert!(ended.stdout.contains("logged on"), "{}", ended.story());
    assert!(ended.last(NAME, "outage_started").is_none(), "{}", ended.story());
    assert_eq!(fleet.ibex(NAME), Some(server), "the same server still runs");
    assert_eq!(fleet.apps(NAME), before);
}

#[test]
fn an_operator_without_a_name_in_the_environment_has_that_of_the_account() {
    let fleet = Fleet::running(&[NAME]);
    let mut command = fleet.command(&["release", NAME, "--yes", "--output", "json"]);
    ["USER", "USERNAME", "LOGNAME"].into_iter().for_each(|name| _ = command.env_remove(name));
    let ended = crate::support::Ended::of(&mut command);
    assert_eq!(ended.code, 0, "{}", ended.story());
    let account = std::process::Command::new("id").arg("-un").output().expect("id");
    let name = format!("{}@", String::from_utf8_lossy(&account.stdout).trim());
    assert!(ended.events[0]["operator"].as_str().is_some_and(|o| o.starts_with(&name)), "{}", ended.story());
}
