//! Instruments that are not as a run needs them.

use crate::support::{Ended, Fleet};
use std::process::{Command, Stdio};

const NAME: &str = "NDXLARMOR";

/// The release, which must fail before anything is stopped or changed.
fn refused(fleet: &Fleet, arguments: &[&str]) -> Ended {
    let (before, pid) = (fleet.apps(NAME), fleet.ibex(NAME).expect("IBEX runs"));
    let ended = fleet.run(&[&["release", NAME, "--yes"], arguments].concat());
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "failed"), "{}", ended.story());
    assert!(ended.last(NAME, "outage_started").is_none(), "{}", ended.story());
    assert_eq!(fleet.apps(NAME), before);
    assert_eq!(fleet.ibex(NAME), Some(pid));
    ended
}

/// Message and next move of the error that ended it.
fn told(ended: &Ended, fleet: &Fleet) -> String {
    let error = &ended.last(NAME, "instrument_finished").expect("the end")["error"];
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let causes: Vec<&str> = error["causes"].as_array().into_iter().flatten().filter_map(|c| c.as_str()).collect();
    let told = format!("{}\n{}\nnext: {}", text("message"), causes.join("\n"), text("next"));
    told.replace(&fleet.dir().display().to_string(), "DIR")
}

#[test]
fn nobody_is_logged_on() {
    let fleet = Fleet::running(&[NAME]);
    let state = fleet.root(NAME).join(".ibexdeploy/sandbox.json");
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, text.replace("spudulike", "somebody")).unwrap();
    insta::assert_snapshot!(told(&refused(&fleet, &[]), &fleet), @"
    nobody is logged on as spudulike
    logged on: somebody
    next: log on as spudulike at the instrument's console and try again
    ");
}

#[test]
fn a_shell_is_open_inside_the_server() {
    let fleet = Fleet::running(&[NAME]);
    let mut shell = Command::new("sh").current_dir(fleet.server(NAME)).stdin(Stdio::piped()).spawn().unwrap();
    let (before, pid) = (fleet.apps(NAME), shell.id().to_string());
    let ended = fleet.run(&["release", NAME, "--yes"]);
    let told = told(&ended, &fleet).replace(&pid, "PID");
    let alive = shell.try_wait().unwrap().is_none();
    drop(shell.stdin.take());
    shell.wait().unwrap();
    assert!(alive, "the shell of a person is never ended");
    assert_eq!(ended.code, 1, "{}", ended.story());
    assert_eq!(fleet.apps(NAME), before);
    assert_eq!(ended.outcome(NAME), "rolled_back", "{told}");
    assert!(told.contains("shell") && told.contains("PID") && told.contains("close it"), "{told}");
}

#[test]
fn the_path_of_a_sandbox_is_too_long_for_a_socket() {
    let fleet = Fleet::empty();
    let folder = fleet.dir().join("x".repeat(120));
    let output = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"))
        .args(["status", NAME, "--state"])
        .arg(fleet.dir().join("state"))
        .arg(format!("--rehearse={}", folder.display()))
        .arg("--kits")
        .arg(fleet.kits())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let said = String::from_utf8([output.stderr, output.stdout].concat()).unwrap();
    let said = said.replace(&fleet.dir().display().to_string(), "DIR").replace(&"x".repeat(120), "XXX");
    insta::assert_snapshot!(format!("exit {}\n{said}", output.status.code().unwrap()), @"
    exit 1
    rehearsal: making 1 of 1 sandboxes in DIR/XXX
    INSTRUMENT  SYSTEM                VERSIONS  LAST RUN  LOCK  BY HAND  FREE  REBOOT  SECI UNTIL
    NDXLARMOR   no answer, see below                                                   2027-03-31
    error: the agent does not answer
      on NDXLARMOR
      because: `agent attach` ended with exit status: 2: error: the path of the sandbox DIR/XXX/NDXLARMOR is too long: its socket would take 169 bytes of the 107 the system allows |   next: choose a folder whose path is 62 bytes shorter
    ");
}
