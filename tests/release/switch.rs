//! IBEX and SECI on one machine: never both, never neither when something fails, and what they share is left alone.

use crate::kill::machine::kill_worker_when;
use crate::support::Fleet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A hybrid of the shipped inventory.
const NAME: &str = "NDXLARMOR";

fn seci_folder(fleet: &Fleet) -> PathBuf {
    fleet.root(NAME).join("c/Program Files (x86)/STFC ISIS Facility/SECI")
}

/// The process of SECI, while it runs.
fn seci(fleet: &Fleet) -> Option<String> {
    let pid = std::fs::read_to_string(fleet.root(NAME).join("c/Instrument/Var/seci.pid")).ok()?.trim().to_owned();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&line).contains("SeciUserInterface").then_some(pid)
}

/// Runs a program of SECI as a person would.
fn by_hand(fleet: &Fleet, program: &str, arguments: &[&str]) {
    let folder = seci_folder(fleet);
    let mut command = Command::new(folder.join(program));
    let ended = command.args(arguments).current_dir(&folder).env("IBEX_ROOT", fleet.root(NAME)).stdout(Stdio::null()).status();
    assert!(ended.expect("it starts").success(), "{program}");
}

fn start_seci(fleet: &Fleet) {
    by_hand(fleet, "start", &["SECI", "SeciUserInterface.exe"]);
}

fn stop_ibex(fleet: &Fleet) {
    let server = fleet.server(NAME);
    let stop = Command::new("sh").arg("stop_ibex_server.bat").env("IBEX_ROOT", fleet.root(NAME)).current_dir(server).output();
    assert!(stop.expect("a shell").status.success());
}

/// ISISICP's settings and the number of the run.
fn shared(fleet: &Fleet) -> BTreeMap<String, String> {
    Fleet::tree(&fleet.root(NAME).join("c/LabVIEW Modules/dae"))
}

/// Which systems run: IBEX, SECI.
fn running(fleet: &Fleet) -> (bool, bool) {
    (fleet.ibex(NAME).is_some(), seci(fleet).is_some())
}

const IBEX: (bool, bool) = (true, false);
const SECI: (bool, bool) = (false, true);

fn marker(fleet: &Fleet) -> bool {
    fleet.root(NAME).join("c/Instrument/Var/tmp/ibex_running.txt").exists()
}

/// Puts other lines in the place of a script.
fn script(path: PathBuf, lines: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{lines}\n")).expect("a script");
}

#[test]
fn a_hybrid_goes_to_seci_and_back_and_what_both_share_stays() {
    let fleet = Fleet::running(&[NAME]);
    let before = shared(&fleet);
    assert!(before.contains_key("run_number.txt"), "{before:?}");
    let there = fleet.run(&["switch", NAME, "seci", "--yes"]);
    assert_eq!((there.code, there.outcome(NAME).as_str()), (0, "changed"), "{}", there.story());
    assert_eq!(running(&fleet), SECI, "{}", there.story());
    assert!(!marker(&fleet), "a restart must not start IBEX");
    let status = fleet.run(&["status", NAME]);
    let rows: Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(rows[0]["status"]["facts"]["active_system"], "seci", "{}", status.story());

    let again = fleet.run(&["switch", NAME, "seci", "--yes"]);
    assert_eq!((again.code, again.outcome(NAME).as_str()), (0, "ok"), "{}", again.story());
    let back = fleet.run(&["switch", NAME, "ibex", "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "changed"), "{}", back.story());
    assert_eq!(running(&fleet), IBEX, "{}", back.story());
    assert!(marker(&fleet));
    assert_eq!(shared(&fleet), before);

    let undone = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((undone.code, undone.outcome(NAME).as_str()), (0, "rolled_back"), "{}", undone.story());
    assert_eq!(running(&fleet), SECI, "{}", undone.story());
}

#[test]
fn what_ran_runs_again_when_the_other_does_not_start() {
    let fleet = Fleet::running(&[NAME]);
    let start = seci_folder(&fleet).join("start");
    let good = std::fs::read_to_string(&start).expect("a script");
    script(start.clone(), "echo 'no licence' >&2; exit 3");
    let failed = fleet.run(&["switch", NAME, "seci", "--yes"]);
    assert_eq!((failed.code, failed.outcome(NAME).as_str()), (1, "rolled_back"), "{}", failed.story());
    assert!(failed.stdout.contains("no licence"), "{}", failed.story());
    assert_eq!((running(&fleet), marker(&fleet)), (IBEX, true), "{}", failed.story());

    std::fs::write(&start, good).expect("the script");
    assert_eq!(fleet.run(&["switch", NAME, "seci", "--yes"]).code, 0);
    script(fleet.server(NAME).join("start_ibex_server.bat"), "echo 'no database' >&2; exit 3");
    let failed = fleet.run(&["switch", NAME, "ibex", "--yes"]);
    assert_eq!((failed.code, failed.outcome(NAME).as_str()), (1, "rolled_back"), "{}", failed.story());
    assert_eq!(running(&fleet), SECI, "{}", failed.story());
}

#[test]
fn a_start_that_changes_what_both_share_is_taken_back() {
    let fleet = Fleet::running(&[NAME]);
    let start = seci_folder(&fleet).join("start");
    let text = std::fs::read_to_string(&start).expect("a script");
    std::fs::write(&start, text + "echo 00012346 >\"$root/c/LabVIEW Modules/dae/run_number.txt\"\n").expect("a script");
    let failed = fleet.run(&["switch", NAME, "seci", "--yes"]);
    assert_eq!((failed.code, failed.outcome(NAME).as_str()), (1, "rolled_back"), "{}", failed.story());
    assert!(failed.stdout.contains("run_number.txt"), "{}", failed.story());
    assert_eq!(running(&fleet), IBEX, "{}", failed.story());
}

#[test]
fn never_into_a_run_and_never_where_both_run() {
    let fleet = Fleet::running(&[NAME]);
    let server = fleet.ibex(NAME);
    let pvs = fleet.root(NAME).join("c/Instrument/Var/sandbox_pvs.txt");
    std::fs::write(&pvs, "IN:LARMOR:DAE:RUNSTATE_STR=RUNNING\n").expect("a PV");
    let run = fleet.run(&["switch", NAME, "seci", "--yes"]);
    assert_eq!((run.code, run.outcome(NAME).as_str()), (1, "failed"), "{}", run.story());
    assert!(run.last(NAME, "outage_started").is_none(), "{}", run.story());
    std::fs::remove_file(&pvs).expect("a file");
    start_seci(&fleet);
    let both = fleet.run(&["switch", NAME, "ibex", "--yes"]);
    assert_eq!((both.code, both.outcome(NAME).as_str()), (1, "failed"), "{}", both.story());
    assert!(both.stdout.contains("IBEX and SECI run both"), "{}", both.story());
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(release.code, 4, "{}", release.story());
    assert_eq!((fleet.ibex(NAME), seci(&fleet).is_some()), (server, true), "nothing was stopped");
}

#[test]
fn a_rollback_of_a_switch_never_ends_a_measurement_unless_it_is_wanted() {
    let fleet = Fleet::running(&[NAME]);
    stop_ibex(&fleet);
    start_seci(&fleet);
    let switched = fleet.run(&["switch", NAME, "ibex", "--yes"]);
    assert_eq!(switched.code, 0, "{}", switched.story());
    let server = fleet.ibex(NAME);
    let pvs = fleet.root(NAME).join("c/Instrument/Var/sandbox_pvs.txt");
    std::fs::write(&pvs, "IN:LARMOR:DAE:RUNSTATE_STR=RUNNING\n").expect("a PV");
    for arguments in [&["rollback", NAME, "--dry-run"][..], &["rollback", NAME, "--yes", "--discard-newer"]] {
        let refused = fleet.run(arguments);
        assert_eq!(refused.code, 4, "{}", refused.story());
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("RUNSTATE_STR is RUNNING") && said.contains("--even-if-measuring"), "{}", refused.story());
        assert!(running(&fleet) == IBEX && fleet.ibex(NAME) == server, "nothing was stopped");
    }
    let back = fleet.run(&["rollback", NAME, "--yes", "--even-if-measuring"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(running(&fleet), SECI, "{}", back.story());
}

#[test]
fn seci_is_asked_by_its_own_program_whether_it_is_idle() {
    let fleet = Fleet::running(&[NAME]);
    stop_ibex(&fleet);
    start_seci(&fleet);
    let idle = seci_folder(&fleet).join("busy");
    script(idle.clone(), "echo 'run 12345 goes on'; exit 1");
    let made = Command::new("chmod").arg("+x").arg(&idle).status().expect("chmod");
    assert!(made.success());
    let busy = fleet.run(&["switch", NAME, "ibex", "--yes", "--set", "seci_idle=busy"]);
    assert_eq!((busy.code, busy.outcome(NAME).as_str()), (1, "failed"), "{}", busy.story());
    assert!(busy.stdout.contains("run 12345 goes on"), "{}", busy.story());
    assert_eq!(running(&fleet), SECI);
}

#[test]
fn machines_without_seci_are_refused_by_name_and_line() {
    let fleet = Fleet::empty();
    let refused = |arguments: &[&str]| {
        let output = fleet.command(arguments).args(["--output", "plain"]).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        // Where in the inventory it stands may change.
        text.lines()
            .map(|l| if l.trim_start().starts_with("-->") { "  --> (its place)" } else { l })
            .fold(String::new(), |all, line| if line.contains(" | ") { all } else { all + line + "\n" })
    };
    insta::assert_snapshot!(refused(&["switch", "NDXEMU,NDXLARMOR", "seci"]), @r"
    error: NDXEMU has IBEX only: there is no SECI to switch to or from
      --> (its place)
      next: choose hybrids alone, for example with `--only hybrid`; a hybrid has `seci:` in the inventory
    ");
    insta::assert_snapshot!(refused(&["switch", "NDXLARMOR"]), @r"
    error: which system to switch to is not said: it is `ibex` or `seci`
      next: write it last, as in `ibexdeploy switch NDXLARMOR seci`
    ");
    assert!(!fleet.root("NDXEMU").exists(), "no sandbox was made for it");
    let untold = fleet.run(&["run", "switch", NAME, "--yes"]);
    let said = format!("{}{}", untold.stdout, untold.stderr);
    assert!(untold.code == 2 && said.contains("`to` is not defined") && said.contains("switch.yaml"), "{}", untold.story());
}

#[test]
fn a_release_under_seci_stops_and_starts_nothing_and_its_rollback_heeds_who_runs() {
    let fleet = Fleet::running(&[NAME]);
    stop_ibex(&fleet);
    start_seci(&fleet);
    let (program, before) = (seci(&fleet), fleet.apps(NAME));
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((release.code, release.outcome(NAME).as_str()), (0, "changed"), "{}", release.story());
    assert_eq!(fleet.unlike(NAME, "26.9.0", &[]), [""; 0]);
    assert_eq!((fleet.ibex(NAME), seci(&fleet)), (None, program.clone()), "SECI was left alone");

    by_hand(&fleet, "KillSECI", &[]);
    fleet.start_ibex(NAME);
    let refused = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.story());
    assert!(format!("{}{}", refused.stdout, refused.stderr).contains("while SECI was active"), "{}", refused.story());
    stop_ibex(&fleet);
    start_seci(&fleet);
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!((fleet.apps(NAME), running(&fleet)), (before, SECI));
}

#[test]
fn what_seci_has_running_out_of_the_servers_folder_is_named_and_never_ended() {
    let fleet = Fleet::running(&[NAME]);
    stop_ibex(&fleet);
    start_seci(&fleet);
    let icp = fleet.server(NAME).join("ICP_Binaries/isisicp.exe");
    std::fs::copy("/bin/sleep", &icp).expect("a program");
    let mut program = Command::new(&icp).arg("1000").stdout(Stdio::null()).spawn().expect("it starts");
    let (before, seci_before) = (fleet.apps(NAME), seci(&fleet));
    let release = fleet.run(&["release", NAME, "--yes"]);
    let lives = program.try_wait().expect("a child").is_none();
    program.kill().expect("it can be ended");
    program.wait().expect("it ends");
    assert_eq!((release.code, release.outcome(NAME).as_str()), (1, "rolled_back"), "{}", release.story());
    assert!(release.stdout.contains("isisicp.exe (pid"), "{}", release.story());
    assert!(lives, "it was not ended");
    assert_eq!((fleet.apps(NAME), seci(&fleet), fleet.ibex(NAME)), (before, seci_before, None), "{}", release.story());
}

#[test]
fn a_release_that_is_taken_back_under_seci_leaves_seci_running() {
    let fleet = Fleet::running(&[NAME]);
    let before = fleet.apps(NAME);
    assert_eq!(fleet.run(&["release", NAME, "--yes"]).code, 0);
    stop_ibex(&fleet);
    start_seci(&fleet);
    let program = seci(&fleet);
    std::fs::write(fleet.root(NAME).join("c/Instrument/Var/tmp/ibex_running.txt"), "running\n").expect("a file");
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(fleet.apps(NAME), before);
    assert_eq!((fleet.ibex(NAME), seci(&fleet)), (None, program), "{}", back.story());
    let said = |e: &Value| e["event"] == "reminder" && e["text"].as_str().is_some_and(|t| t.contains("ibex_running.txt"));
    assert!(back.events.iter().any(said), "{}", back.story());
}

/// Switches to a system, and kills the worker once it has begun the step; a run that was faster than the kill is tried again.
fn switch_killed_in(made: impl Fn() -> Fleet, to: &str, step: &str) -> (Fleet, String) {
    let begun = |all: &[Value]| all.iter().any(|e| e["event"]["event"] == "step_started" && e["event"]["step"]["name"] == step);
    let killed = (0..5).find_map(|_| {
        let fleet = made();
        let controller = fleet.start(&["switch", NAME, to, "--yes"]);
        let ended = kill_worker_when(&fleet.root(NAME), controller, step, begun)?;
        Some((fleet, ended))
    });
    killed.unwrap_or_else(|| panic!("no run was killed in {step}"))
}

#[test]
fn a_worker_killed_in_any_step_ends_with_seci_and_without_ibex() {
    let before = shared(&Fleet::running(&[NAME]));
    for step in ["stop IBEX", "IBEX has ended", "start SECI", "SECI is active"] {
        let (fleet, ended) = switch_killed_in(|| Fleet::running(&[NAME]), "seci", step);
        assert_eq!((ended.as_str(), running(&fleet)), ("changed", SECI), "killed in {step}");
        assert_eq!(shared(&fleet), before, "killed in {step}");
    }
}

/// An instrument with SECI running.
fn with_seci() -> Fleet {
    let fleet = Fleet::running(&[NAME]);
    stop_ibex(&fleet);
    start_seci(&fleet);
    fleet
}

#[test]
fn a_worker_killed_in_any_step_ends_with_ibex_and_without_seci() {
    let before = shared(&with_seci());
    for step in ["stop SECI", "SECI has ended", "start IBEX", "IBEX is active"] {
        let (fleet, ended) = switch_killed_in(with_seci, "ibex", step);
        assert_eq!((ended.as_str(), running(&fleet)), ("changed", IBEX), "killed in {step}");
        assert_eq!(shared(&fleet), before, "killed in {step}");
        assert!(marker(&fleet), "killed in {step}: a restart of the machine starts IBEX");
    }
}

/// The tasks of the sandbox's scheduler, by name.
pub(crate) fn tasks(fleet: &Fleet) -> BTreeMap<String, Value> {
    let state = std::fs::read_to_string(fleet.root(NAME).join(".ibexdeploy/sandbox.json")).expect("the state");
    let state: Value = serde_json::from_str(&state).expect("JSON");
    let tasks = state["tasks"].as_array().cloned().unwrap_or_default();
    tasks.into_iter().map(|task| (task["name"].as_str().unwrap_or_default().to_owned(), task)).collect()
}

/// Starts a task as the scheduler does, and waits for its end.
fn start_task(task: &Value) -> Option<i32> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let arguments = task["args"].as_array().cloned().unwrap_or_default();
    let mut command = Command::new(text(&task["program"]));
    let ended = command.args(arguments.iter().map(text)).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ended.expect("the task starts").code()
}

#[test]
fn scientists_switch_by_tasks_that_need_no_controller() {
    let fleet = Fleet::running(&[NAME]);
    let made = fleet.run(&["run", "switching", NAME, "--yes"]);
    assert_eq!((made.code, made.outcome(NAME).as_str()), (0, "changed"), "{}", made.story());
    let again = fleet.run(&["run", "switching", NAME, "--yes"]);
    assert_eq!((again.code, again.outcome(NAME).as_str()), (0, "ok"), "{}", again.story());
    let tasks_now = tasks(&fleet);
    let (to_seci, to_ibex) = (&tasks_now["ibexdeploy\\switch to SECI"], &tasks_now["ibexdeploy\\switch to IBEX"]);
    assert_eq!((&to_seci["startable_by"], &to_ibex["startable_by"]), (&"spudulike".into(), &"spudulike".into()));
    let desktop = fleet.root(NAME).join("c/Users/Public/Desktop");
    let shortcut = std::fs::read_to_string(desktop.join("Switch to SECI.cmd")).expect("a shortcut");
    assert!(shortcut.contains("schtasks /run /tn \"ibexdeploy\\switch to SECI\""), "{shortcut}");

    // Not into a run: the task refuses as the command does, and says so where the scientist looks.
    let pvs = fleet.root(NAME).join("c/Instrument/Var/sandbox_pvs.txt");
    std::fs::write(&pvs, "IN:LARMOR:DAE:RUNSTATE_STR=RUNNING\n").expect("a PV");
    assert_eq!((start_task(to_seci), running(&fleet)), (Some(1), IBEX));
    let report = desktop.join("Switch to SECI.txt");
    assert!(std::fs::read_to_string(&report).expect("a report").contains("RUNNING"));
    std::fs::remove_file(&pvs).expect("a file");
    assert_eq!((start_task(to_seci), running(&fleet)), (Some(0), SECI));
    assert!(std::fs::read_to_string(&report).expect("a report").contains("changed"));
    assert_eq!((start_task(to_ibex), running(&fleet)), (Some(0), IBEX));

    // The controller knows these runs, and takes everything back in order.
    for expected in [SECI, IBEX] {
        let back = fleet.run(&["rollback", NAME, "--yes"]);
        assert_eq!((back.code, running(&fleet)), (0, expected), "{}", back.story());
    }
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!(back.code, 0, "{}", back.story());
    assert!(tasks(&fleet).is_empty() && !desktop.join("Switch to SECI.cmd").exists(), "{}", back.story());
    let stored = fleet.root(NAME).join(".ibexdeploy/tasks");
    let plans = std::fs::read_dir(stored).expect("a folder").flatten().filter(|e| e.path().is_file()).count();
    assert_eq!(plans, 0);
}

#[test]
fn status_tells_when_the_day_of_retirement_has_passed() {
    let fleet = Fleet::empty();
    let shipped = std::fs::read_to_string("inventory/ndx.yaml").expect("the inventory");
    let file = fleet.dir().join("site.yaml");
    let line = "NDXLARMOR: {groups: [ts2, winter, hybrid], seci: {retire: ";
    let past = shipped.replace(&format!("{line}2027-03-31"), &format!("{line}2020-03-31"));
    assert_ne!(past, shipped);
    std::fs::write(&file, past).expect("an inventory");
    let site = file.display().to_string();
    let output = fleet.command(&["status", NAME, "--inventory", &site, "--output", "plain"]).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let warning = "NDXLARMOR: SECI's retirement date 2020-03-31 has passed: agree a new date with its scientists";
    assert!(text.contains(warning) && text.contains("SECI UNTIL"), "{text}");
    let rows: Value = serde_json::from_str(&fleet.run(&["status", NAME, "--inventory", &site]).stdout).expect("JSON");
    assert_eq!(rows[0]["seci_retired"], true);
}
