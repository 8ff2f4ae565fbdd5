//! Rehearsals on the operator's own PC, where the instruments are folders and their programs are Windows programs.

use crate::command::{Watched, unlike};
use crate::operator::{Operator, run, wait_for};
use ibexdeploy::rehearsal::{KitShape, make_kits};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Instruments whose folders are no links: Wine has no junctions.
const NAMES: [&str; 2] = ["NDXLARMOR", "NDXLOQ"];
/// Comes behind every command: the sandboxes, and a small kit instead of one of realistic shape.
const REHEARSED: [&str; 3] = ["--rehearse", "--kits", "kits"];
const OLDER: &str = "26.8.0";
const NEWER: &str = "26.9.0";

/// The programs of a sandbox on Windows, which are batch files of one text.
const LAUNCHER: &str = include_str!("../../src/rehearsal/scripts/launcher.bat");
const PROGRAMS: [&str; 5] = [
    "start_ibex_server.bat",
    "stop_ibex_server.bat",
    "create_icp_binaries.bat",
    "ioc_tools/caget.bat",
    "ioc_tools/server_loop.bat",
];
/// What a kit that was made on Linux has besides.
const OF_LINUX: [&str; 3] = ["crtl/vc_redist.x64.exe", "ioc_tools/sandbox.sh", "ioc_tools/server_loop.sh"];

/// A PC with two small releases as it would make them itself.
fn operator() -> Option<Operator> {
    let operator = Operator::new()?;
    let kits = operator.repository().join("kits");
    make_kits(&kits, &KitShape::small().without_git()).expect("kits can be made");
    for server in [OLDER, NEWER].map(|version| kits.join(version).join("EPICS")) {
        PROGRAMS.iter().for_each(|program| std::fs::write(server.join(program), LAUNCHER).expect("written"));
        OF_LINUX.iter().for_each(|file| std::fs::remove_file(server.join(file)).expect("removed"));
    }
    Some(operator)
}

fn rehearsed<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [words, &REHEARSED].concat()
}

/// True while the server of a sandbox runs: it ends when this file goes.
fn server_runs(operator: &Operator, name: &str) -> bool {
    operator.sandbox(name).join("c/Instrument/Var/ibex_server.pid").exists()
}

fn differences(operator: &Operator, name: &str, version: &str) -> Vec<String> {
    unlike(&operator.sandbox(name), &operator.repository().join("kits").join(version), &["ICP_Binaries"])
}

#[test]
fn a_release_is_rehearsed_repeated_and_taken_back() {
    let Some(operator) = operator() else { return };
    let names = NAMES.join(",");
    let release = rehearsed(&["release", names.as_str(), "--yes"]);
    let first = operator.runs_well(&release);
    for name in NAMES {
        assert_eq!(first.outcome(name), "changed", "{}", first.story());
        assert_eq!(differences(&operator, name, NEWER), [""; 0], "{name}");
        assert!(server_runs(&operator, name), "{name}: {}", first.story());
    }
    let again = operator.runs_well(&release);
    NAMES.iter().for_each(|name| assert_eq!(again.outcome(name), "ok", "{}", again.story()));

    let status = operator.run(&rehearsed(&["status", &names]));
    assert!(status.code == 0 && status.stdout.contains(NEWER), "{}", status.story());

    let back = operator.runs_well(&rehearsed(&["rollback", &names, "--yes"]));
    for name in NAMES {
        assert_eq!(back.outcome(name), "rolled_back", "{}", back.story());
        assert_eq!(differences(&operator, name, OLDER), [""; 0], "{name}");
    }
    let listed = operator.run(&["runs", "list"]);
    assert!(
        listed.stdout.contains("release (rehearsal)") && listed.stdout.contains("rollback (rehearsal)"),
        "{}",
        listed.story()
    );
}

#[test]
fn a_failed_proof_takes_all_back_and_a_measuring_instrument_is_left_alone() {
    let Some(operator) = operator() else { return };
    operator.runs_well(&rehearsed(&["release", "NDXLARMOR,NDXLOQ", "--yes", "--tags", "client"]));
    let var = |name: &str| operator.sandbox(name).join("c/Instrument/Var");
    std::fs::write(var("NDXLARMOR").join("sandbox_pvs.txt"), "IN:LARMOR:DAE:RUNSTATE_STR=RUNNING\r\n").expect("written");
    // A kit whose server says another version than it is.
    let version = operator.repository().join("kits").join(NEWER).join("EPICS/start_ibex_server.bat");
    let text = std::fs::read_to_string(&version).expect("a script");
    std::fs::write(&version, format!("{text}echo 0.0.0>VERSION.txt\r\n")).expect("written");
    let ended = operator.run(&rehearsed(&["release", "NDXLARMOR,NDXLOQ", "--yes", "--output", "json"]));
    assert_eq!(ended.code, 1, "{}", ended.story());
    assert_eq!(ended.outcome("NDXLARMOR"), "failed", "{}", ended.story());
    assert!(ended.stdout.contains("the instrument is measuring"), "{}", ended.story());
    assert_eq!(ended.outcome("NDXLOQ"), "rolled_back", "{}", ended.story());
    assert_eq!(differences(&operator, "NDXLOQ", OLDER).iter().filter(|path| path.starts_with("EPICS")).count(), 0);
}

/// A sandbox with IBEX running, whose stop waits for the file `C:\go`, and makes the file `C:\waiting` before.
fn with_a_stop_that_waits(operator: &Operator) {
    operator.runs_well(&rehearsed(&["status", "NDXLOQ"]));
    let stop = operator.sandbox("NDXLOQ").join("c/Instrument/Apps/EPICS/stop_ibex_server.bat");
    let text = std::fs::read_to_string(&stop).expect("a script");
    let waits = format!("{text}echo waiting>C:\\waiting\r\n:again\r\nif not exist C:\\go goto again\r\n");
    std::fs::write(&stop, waits).expect("written");
    let mut start = operator.command(&["agent", "stand-in"]);
    start.arg(stop.with_file_name("start_ibex_server.bat"));
    let started = operator.ended(start);
    assert!(started.code == 0 && server_runs(operator, "NDXLOQ"), "{}", started.story());
}

fn wait_for_the_stop(operator: &Operator) {
    wait_for("the stop of IBEX", || operator.drive().join("waiting").exists().then_some(()));
}

fn let_go(operator: &Operator) {
    std::fs::write(operator.drive().join("go"), "").expect("written");
}

#[test]
fn ctrl_c_finishes_what_is_open_and_takes_it_back() {
    let Some(operator) = operator() else { return };
    with_a_stop_that_waits(&operator);
    let mut command = operator.command(&rehearsed(&["release", "NDXLOQ", "--yes"]));
    let mut child = command.stdout(Stdio::null()).spawn().expect("it starts");
    let mut said = BufReader::new(child.stderr.take().expect("standard error")).lines();
    wait_for_the_stop(&operator);
    // Wine makes a Ctrl-C of it.
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let heard = said.by_ref().map_while(Result::ok).find(|line| line.starts_with("Stopping:"));
    let_go(&operator);
    assert!(heard.is_some(), "it says what it does now");
    // The rest is not read: the server that is started again keeps the pipe open in Wine.
    assert_eq!(child.wait().expect("its end").code(), Some(130));
    assert_eq!(differences(&operator, "NDXLOQ", OLDER), ["EPICS/stop_ibex_server.bat"]);
    assert!(server_runs(&operator, "NDXLOQ"), "IBEX runs again");
}

#[test]
fn a_run_is_led_by_one_controller_and_an_instrument_has_one_run() {
    let Some(operator) = operator() else { return };
    with_a_stop_that_waits(&operator);
    let mut first = Watched::start(&mut operator.command(&rehearsed(&["release", "NDXLOQ", "--yes", "--output", "json"])));
    wait_for_the_stop(&operator);
    let resumed = operator.run(&["runs", "resume"]);
    assert!(resumed.code == 4 && resumed.stderr.contains("is led by another"), "{}", resumed.story());
    let second = operator.run(&rehearsed(&["release", "NDXLOQ", "--yes"]));
    assert!(second.code != 0 && second.stdout.contains("has NDXLOQ"), "{}", second.story());
    let_go(&operator);
    let ended = first.until(|event| event["event"] == "instrument_finished").expect("it ends");
    assert_eq!(ended["outcome"], "changed", "{ended}");
    assert_eq!(first.child.wait().expect("its end").code(), Some(0));
}
