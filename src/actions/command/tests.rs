use crate::actions::{Difference, UndoRecord};
use crate::error::ErrorKind;
use crate::events::Outcome;
use crate::platform::testing::Bench;
use crate::playbook::{RunAs, UndoSpec};
use secrecy::SecretString;
use serde_json::{Value, json};

const APP: &str = "C:\\Instrument\\Apps\\EPICS\\app.bat";

/// A command in the server folder, where `app.bat` holds `script`.
fn command(mut arguments: Value, script: &str) -> Bench {
    arguments["at"] = json!("server");
    let bench = Bench::of(json!({ "command": arguments }));
    bench.script(APP, script);
    bench
}

fn file(bench: &Bench, name: &str) -> Option<String> {
    std::fs::read_to_string(bench.native("C:\\Instrument\\Apps\\EPICS").join(name)).ok()
}

#[test]
fn a_line_runs_in_its_folder() {
    let bench = command(json!({"run": "app.bat one"}), "echo ran $1; pwd > where");
    let applied = bench.apply().unwrap();
    assert_eq!(applied.outcome, Outcome::Changed);
    assert_eq!(applied.result, json!({"exit_code": 0, "output": "ran one", "lines": ["ran one"]}));
    assert_eq!(file(&bench, "where").unwrap().trim(), bench.native("C:\\Instrument\\Apps\\EPICS").to_str().unwrap());
    assert_eq!(bench.probe().unwrap().difference, Difference::Unknown);
}

#[test]
fn a_program_gets_its_arguments_as_they_are() {
    let bench =
        command(json!({"program": "server\\app.bat", "args": ["a b", "$HOME"], "read_only": true}), "printf '%s|' \"$@\"");
    let applied = bench.apply().unwrap();
    assert_eq!(applied.outcome, Outcome::Ok, "it only reads");
    assert_eq!(applied.result["output"], "a b|$HOME|");
}

#[test]
fn one_of_run_and_program() {
    for arguments in [json!({}), json!({"run": "a", "program": "b"})] {
        assert_eq!(command(arguments, "").apply().unwrap_err().kind(), ErrorKind::BadInput);
    }
}

#[test]
fn a_failure_shows_code_and_last_lines() {
    let bench = command(json!({"run": "app.bat"}), "echo out; echo err >&2; exit 7");
    let error = bench.apply().unwrap_err();
    assert!(error.to_string().contains("`app.bat` ended with exit code 7"), "{error}");
    assert_eq!(error.details().output, ["out", "err"]);
    assert!(error.details().next.is_some());
    assert!(command(json!({"run": "app.bat", "exit_codes": [7, 3010]}), "exit 7").apply().is_ok());
}

#[test]
fn a_folder_that_is_missing_is_named() {
    let bench = Bench::of(json!({"command": {"run": "true", "at": "client"}}));
    let error = bench.apply().unwrap_err();
    assert!(error.to_string().contains("C:\\Instrument\\Apps\\Client_E4 does not exist"), "{error}");
}

#[test]
fn blocked_execution_says_what_to_do() {
    let not_executable = command(json!({"run": "./plain.bat"}), "");
    not_executable.write("C:\\Instrument\\Apps\\EPICS\\plain.bat", "echo never");
    let policy = command(json!({"run": "app.bat"}), "echo 'This program is blocked by group policy.'; exit 1");
    let direct = command(json!({"program": "server\\plain.bat"}), "");
    direct.write("C:\\Instrument\\Apps\\EPICS\\plain.bat", "echo never");
    for bench in [not_executable, policy, direct] {
        let error = bench.apply().unwrap_err();
        let next = error.details().next.clone().unwrap_or_default();
        assert!(next.contains("antivirus or AppLocker"), "{error}: {next}");
    }
}

#[test]
fn success_is_looked_for_in_the_output() {
    assert!(command(json!({"run": "app.bat", "success": "done"}), "echo done").apply().is_ok());
    let error = command(json!({"run": "app.bat", "success": "done"}), "echo broken").apply().unwrap_err();
    assert!(error.to_string().contains("its output does not say `done`"), "{error}");
    assert_eq!(error.details().output, ["broken"]);
}

#[test]
fn an_installer_that_returns_early_is_waited_for_by_its_log() {
    let arguments = json!({"run": "app.bat", "log": "server\\log.txt", "success": "Exit code: 0x0"});
    let bench = command(arguments, "echo working >> log.txt");
    bench.write("C:\\Instrument\\Apps\\EPICS\\log.txt", "an older run\nExit code: 0x0\n");
    let log = bench.native("C:\\Instrument\\Apps\\EPICS\\log.txt");
    // The job's own wait comes first; the log is completed at the wait for the log, which names it.
    let waited = bench.with(|cx| {
        let said = std::sync::Mutex::new(false);
        let progress = Completing { log, said: &said };
        let result = cx.step.action.performer().apply(&crate::actions::StepContext { progress: &progress, ..*cx });
        (result, *said.lock().unwrap())
    });
    assert_eq!(waited.0.unwrap().outcome, Outcome::Changed);
    assert!(waited.1, "what the log said before does not count");
}

/// Finishes the log once it is waited for.
struct Completing<'a> {
    log: std::path::PathBuf,
    said: &'a std::sync::Mutex<bool>,
}

impl crate::actions::Progress for Completing<'_> {
    fn waiting(&self, what: &str, _elapsed: std::time::Duration, _limit: std::time::Duration) {
        if what.contains("log.txt to say") && !std::mem::replace(&mut *self.said.lock().unwrap(), true) {
            let mut file = std::fs::File::options().append(true).open(&self.log).unwrap();
            std::io::Write::write_all(&mut file, b"Exit code: 0x0\n").unwrap();
        }
    }
    fn advanced(&self, _done: u64, _total: u64, _unit: crate::events::Unit) {}
    fn output(&self, _line: &str) {}
    fn note(&self, _text: &str) {}
    fn remind(&self, _text: &str) {}
    fn hand_changes(&self, _component: &str, _files: Option<u64>, _archive: Option<&str>) {}
}

#[test]
fn a_log_that_never_says_so_is_shown() {
    let mut bench =
        command(json!({"run": "app.bat", "log": "server\\log.txt", "success": "0x0"}), "echo Exit code: 0x1 > log.txt");
    bench.limit = std::time::Duration::from_millis(300);
    let error = bench.apply().unwrap_err();
    assert!(error.to_string().contains("log.txt does not say `0x0`"), "{error}");
    assert!(error.details().output.contains(&"Exit code: 0x1".to_owned()), "{error:?}");
}

#[test]
fn creates_and_unless_decide() {
    let creates = command(json!({"run": "app.bat", "creates": "server\\made"}), "echo >> runs; touch made");
    assert_eq!(creates.probe().unwrap().difference, Difference::Some);
    assert_eq!(creates.apply().unwrap().outcome, Outcome::Changed);
    assert_eq!(creates.probe().unwrap().difference, Difference::None);
    let mut unless = command(json!({"run": "app.bat", "unless": "test -f made"}), "touch made");
    assert_eq!(unless.probe().unwrap().difference, Difference::Some);
    unless.write("C:\\Instrument\\Apps\\EPICS\\made", "");
    assert_eq!(unless.probe().unwrap().difference, Difference::None);
    unless.step.undo = Some(UndoSpec::Command(Box::default()));
    assert_eq!(unless.apply().unwrap().outcome, Outcome::Ok);
    assert!(unless.told.intents.lock().unwrap().is_empty(), "nothing ran, nothing to undo");
}

#[test]
fn secrets_reach_the_program_and_nothing_else() {
    let mut bench = command(
        json!({"run": "app.bat", "env": {"PW": {"secret": "mysql_root"}, "MODE": {"value": "x"}}, "stdin_secret": "token"}),
        "test \"$PW\" = 's3cret-pw' && test \"$(cat)\" = 't0ken-value' && test $MODE = x && echo got $PW && exit 4",
    );
    bench.secrets.insert("mysql_root", SecretString::from("s3cret-pw"));
    bench.secrets.insert("token", SecretString::from("t0ken-value"));
    let error = bench.apply().unwrap_err();
    assert_eq!(error.details().output, ["got ***"], "{error}");
    let arguments = bench.job_files().into_iter().filter(|(name, _)| name.ends_with("arguments")).map(|(_, text)| text);
    let arguments: Vec<String> = arguments.collect();
    assert!(!arguments.is_empty() && arguments.iter().all(|a| !a.contains("s3cret") && !a.contains("t0ken")), "{arguments:?}");
    bench.secrets = crate::secrets::Secrets::default();
    assert_eq!(bench.apply().unwrap_err().kind(), ErrorKind::Refused, "a secret that is not at hand");
}

#[test]
fn the_instruments_account_must_be_logged_on_and_in_a_sandbox_whoever_rehearses_plays_it() {
    let mut bench = command(json!({"run": "true"}), "");
    bench.step.run_as = RunAs::Instrument;
    bench.apply().unwrap();
    let arguments = &bench.job_files()[".ibexdeploy/runs/r/jobs/apply.01.command/arguments"];
    assert!(arguments.ends_with("None"), "{arguments}");
    bench.sandbox_state(|s| s["logged_on"] = json!([]));
    bench.step.id = "apply.02.command".into();
    assert!(bench.apply().unwrap_err().to_string().contains("nobody is logged on as spudulike"));
}

#[test]
fn a_job_of_a_killed_worker_is_found_again_and_a_retry_is_a_new_one() {
    let bench = command(json!({"run": "app.bat"}), "echo x >> runs; test $(wc -l < runs) -ge 2");
    assert!(bench.apply().is_err());
    assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed, "the retry runs it again");
    assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
    assert_eq!(file(&bench, "runs").unwrap(), "x\nx\n", "the third call found the job of the second");
}

#[test]
fn a_step_that_runs_again_does_not_stop_at_what_it_made_itself() {
    let mut bench = command(json!({"run": "app.bat", "creates": "server\\made"}), "touch made; echo x >> runs");
    bench.step.undo = Some(UndoSpec::Command(Box::default()));
    bench.apply().unwrap();
    assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed, "it is this step's own work");
    assert_eq!(file(&bench, "runs").unwrap(), "x\n");
    assert_eq!(bench.told.intents.lock().unwrap().len(), 1);
}

#[test]
fn the_inverse_is_written_down_first_and_run_once() {
    let mut bench = command(json!({"run": "app.bat"}), "echo did >> log");
    let inverse = json!({"run": "echo undid >> log", "at": "server"});
    bench.step.undo = Some(UndoSpec::Command(Box::new(serde_json::from_value(inverse).unwrap())));
    bench.apply().unwrap();
    let intents = bench.told.intents.lock().unwrap().clone();
    assert!(matches!(&intents[..], [UndoRecord::Command(c)] if c.run.as_deref() == Some("echo undid >> log")), "{intents:?}");
    assert!(bench.undo()[0].left.is_empty());
    bench.told.intents.lock().unwrap().extend(intents);
    assert!(bench.undo()[0].left.is_empty(), "asked again after a crash");
    assert_eq!(file(&bench, "log").unwrap(), "did\nundid\n");
}

#[test]
fn an_inverse_that_fails_is_left_and_named() {
    let mut bench = command(json!({"run": "true"}), "");
    let inverse = json!({"run": "echo it is stuck; exit 2", "at": "server"});
    bench.step.undo = Some(UndoSpec::Command(Box::new(serde_json::from_value(inverse).unwrap())));
    bench.apply().unwrap();
    let left = &bench.undo()[0].left;
    assert!(left[0].contains("exit code 2") && left[0].contains("it is stuck"), "{left:?}");
}

#[test]
fn a_program_that_takes_too_long_is_ended() {
    let mut bench = command(json!({"run": "app.bat"}), "sleep 1000");
    bench.limit = std::time::Duration::from_millis(200);
    assert_eq!(bench.apply().unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn what_it_writes_is_put_back_after_its_inverse_ran() {
    let mut bench = command(json!({"run": "app.bat"}), "echo new > ../../Var/state; echo x > ../../Var/made");
    bench.write("C:\\Instrument\\Var\\state", "old");
    bench.step.writes = vec![crate::paths::WinPath::parse("C:\\Instrument\\Var").unwrap()];
    let inverse = json!({"run": "cat ../../Var/state >> seen; echo scribble > ../../Var/state", "at": "server"});
    bench.step.undo = Some(UndoSpec::Command(Box::new(serde_json::from_value(inverse).unwrap())));
    let needs = bench.with(|cx| cx.step.action.performer().space(cx)).unwrap();
    assert_eq!(needs.iter().map(|n| n.bytes).sum::<u64>(), 3);
    bench.with(|cx| cx.step.action.performer().stage(cx)).unwrap();
    bench.apply().unwrap();
    let left: Vec<String> = bench.undo().into_iter().flat_map(|u| u.left).collect();
    assert_eq!(left, [""; 0]);
    assert_eq!(file(&bench, "seen").unwrap(), "new\n");
    assert_eq!(std::fs::read_to_string(bench.native("C:\\Instrument\\Var\\state")).unwrap(), "old");
    assert!(!bench.native("C:\\Instrument\\Var\\made").exists());
}

#[test]
fn a_gate_is_looked_at_before_the_program_is_started() {
    let gate = json!({"file": {"path": "server\\go.txt"}});
    let bench = Bench::of(json!({"command": {"run": "echo ran >>\"$IBEX_ROOT/ran\"", "gate": gate}}));
    let error = bench.apply().unwrap_err();
    assert!(error.to_string().contains("go.txt does not exist"), "{error}");
    assert!(!bench.root.join("ran").exists() && bench.told.intents.lock().unwrap().is_empty());
    bench.write("C:\\Instrument\\Apps\\EPICS\\go.txt", "");
    bench.apply().unwrap();
    // After a crash, what was started is found again, and is not asked for once more.
    std::fs::remove_file(bench.native("C:\\Instrument\\Apps\\EPICS\\go.txt")).unwrap();
    bench.apply().unwrap();
    assert_eq!(std::fs::read_to_string(bench.root.join("ran")).unwrap(), "ran\n");
}
