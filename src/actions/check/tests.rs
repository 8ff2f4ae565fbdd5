use crate::actions::{Applied, Difference};
use crate::error::{ErrorKind, Result};
use crate::platform::testing::{Bench, Running};
use crate::playbook::Phase;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::Ordering;

const SERVER: &str = "C:\\Instrument\\Apps\\EPICS";

fn check(kind: Value) -> Bench {
    let bench = Bench::of(json!({ "check": kind }));
    std::fs::create_dir_all(bench.native(SERVER)).unwrap();
    bench
}

/// The check's kind again on the same instrument.
fn again(bench: &mut Bench, kind: Value) -> Result<Applied> {
    bench.set(json!({ "check": kind }));
    bench.apply()
}

fn fails(result: Result<Applied>, parts: &[&str]) {
    let error = result.unwrap_err();
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} in {error}");
    }
    assert!(error.details().next.is_some(), "what to do: {error}");
}

#[test]
fn exactly_one_kind() {
    assert_eq!(check(json!({})).apply().unwrap_err().kind(), ErrorKind::BadInput);
    let two = json!({"port": {"port": 1}, "memory": {"at_least": "1GB"}});
    assert_eq!(check(two).apply().unwrap_err().kind(), ErrorKind::BadInput);
}

#[test]
fn disk_and_memory() {
    let mut bench = check(json!({"disk": {"place": "server", "free": "1B"}}));
    assert!(bench.apply().unwrap().result["free"].as_u64().is_some());
    let error = again(&mut bench, json!({"disk": {"place": "server", "free": "999999TB"}})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfSpace);
    assert!(error.to_string().contains(SERVER), "{error}");
    assert!(again(&mut bench, json!({"disk": {"place": "server", "free": "auto"}})).is_ok());
    assert!(again(&mut bench, json!({"memory": {"at_least": "13GB"}})).is_ok());
    fails(again(&mut bench, json!({"memory": {"at_least": "64GB"}})), &["17.2 GB of memory", "64.0 GB are wanted"]);
}

#[test]
fn version() {
    let mut bench = check(json!({"version": {"at": "server", "is": "26.8.0"}}));
    fails(bench.apply(), &["there is no VERSION.txt in C:\\Instrument\\Apps\\EPICS", "26.8.0 is wanted"]);
    bench.write("C:\\Instrument\\Apps\\EPICS\\VERSION.txt", "26.8.0 (Aug)\n");
    assert_eq!(bench.apply().unwrap().result, json!("26.8.0"));
    fails(again(&mut bench, json!({"version": {"at": "server", "is": "26.9.0"}})), &["is version 26.8.0", "26.9.0 is wanted"]);
}

#[test]
fn service_and_session() {
    let mut bench = check(json!({"service": {"name": "MYSQL80", "is": "running"}}));
    assert!(bench.apply().is_ok());
    fails(again(&mut bench, json!({"service": {"name": "MYSQL80", "is": "stopped"}})), &["is running, and stopped is wanted"]);
    assert!(again(&mut bench, json!({"service": {"name": "NONE", "is": "stopped"}})).is_ok());
    fails(again(&mut bench, json!({"service": {"name": "NONE", "is": "running"}})), &["NONE is absent"]);
    assert!(again(&mut bench, json!({"session": {"account": "instrument"}})).is_ok());
    bench.sandbox_state(|s| s["logged_on"] = json!(["CLRC\\Spudulike"]));
    assert!(bench.apply().is_ok(), "a domain in front and case do not count");
    bench.sandbox_state(|s| s["logged_on"] = json!(["gamekeeper"]));
    fails(bench.apply(), &["nobody is logged on as spudulike", "gamekeeper"]);
    let error = again(&mut bench, json!({"session": {"account": "instrumnt"}})).unwrap_err();
    assert_eq!(error.details().next.as_deref(), Some("did you mean `instrument`?"));
}

#[test]
fn port() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let bench = check(json!({"port": {"port": port}}));
    assert!(bench.apply().is_ok());
    drop(listener);
    fails(bench.apply(), &[&format!("nothing answers on port {port}")]);
}

#[test]
fn file() {
    let mut bench = check(json!({"file": {"path": "server\\a.txt"}}));
    fails(bench.apply(), &["C:\\Instrument\\Apps\\EPICS\\a.txt does not exist"]);
    assert!(again(&mut bench, json!({"file": {"path": "server\\a.txt", "absent": true}})).is_ok());
    bench.write("C:\\Instrument\\Apps\\EPICS\\a.txt", "all good\n");
    fails(bench.apply(), &["exists, and should not"]);
    assert!(again(&mut bench, json!({"file": {"path": "server\\a.txt", "contains": "good"}})).is_ok());
    fails(again(&mut bench, json!({"file": {"path": "server\\a.txt", "contains": "bad"}})), &["does not contain `bad`"]);
}

#[test]
fn within_waits_for_it_under_its_name() {
    let bench = check(json!({"within": "20s", "file": {"path": "server\\a.txt"}}));
    let path = bench.native("C:\\Instrument\\Apps\\EPICS\\a.txt");
    *bench.told.at_first_wait.lock().unwrap() = Some(Box::new(move || std::fs::write(path, "").unwrap()));
    assert!(bench.apply().is_ok());
    assert_eq!(bench.told.waits.lock().unwrap()[0], "server\\a.txt to exist");
}

#[test]
fn within_ends_with_what_was_found_last() {
    let bench = check(json!({"within": "10ms", "file": {"path": "server\\a.txt"}}));
    let error = bench.apply().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StepFailed);
    let text = error.to_string();
    assert!(text.contains("does not exist") && text.contains("gave up waiting for server\\a.txt to exist"), "{text}");
}

#[test]
fn a_cancel_ends_the_wait() {
    let bench = check(json!({"within": "1h", "file": {"path": "server\\a.txt"}}));
    bench.cancelled.store(true, Ordering::SeqCst);
    assert_eq!(bench.apply().unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_gate_that_does_not_hold_fails_its_probe_and_a_proof_does_not() {
    let mut bench = check(json!({"file": {"path": "server\\a.txt"}}));
    let probe = bench.probe().unwrap();
    assert_eq!(probe.difference, Difference::Unknown);
    assert!(probe.summary.starts_with("not so now: "), "{}", probe.summary);
    bench.step.phase = Phase::Stage;
    assert!(bench.probe().is_err());
}

#[test]
fn processes() {
    let mut bench = check(json!({"process": {"under": ["server"], "is": "none"}}));
    assert!(bench.apply().is_ok());
    let program = bench.program("C:\\Instrument\\Apps\\EPICS\\ioc.exe");
    fails(bench.apply(), &[&format!("ioc.exe (pid {}) still running", program.pid())]);
    assert!(again(&mut bench, json!({"process": {"named": ["ioc.exe"], "is": "running"}})).is_ok());
    fails(again(&mut bench, json!({"process": {"under": ["client"], "is": "running"}})), &["no programs under client running"]);
}

#[test]
fn output() {
    let mut bench = check(json!({"output": {"at": "server", "run": "echo all well", "contains": "well"}}));
    assert_eq!(bench.apply().unwrap().result, json!({"exit_code": 0, "output": "all well"}));
    fails(again(&mut bench, json!({"output": {"run": "echo no", "contains": "well"}})), &["`echo no` does not say `well`"]);
    fails(again(&mut bench, json!({"output": {"run": "echo why >&2; exit 3"}})), &["ended with exit code 3"]);
    assert_eq!(bench.apply().unwrap_err().details().output, ["why"]);
    assert!(again(&mut bench, json!({"output": {"run": "exit 3", "exit_codes": [3]}})).is_ok());
    assert!(bench.job_files().is_empty(), "looks leave nothing behind: {:?}", bench.job_files());
    assert_eq!(bench.probe().unwrap().difference, Difference::Unknown);
}

/// `caget` of a sandbox: prints the file named like the variable.
fn caget(bench: &Bench) {
    let script = "for name; do :; done\nif [ -f \"pv/$name\" ]; then echo \"$name $(cat pv/$name)\"; else echo \"Channel connect timed out: '$name' not found.\"; exit 1; fi";
    bench.script("C:\\Instrument\\Apps\\EPICS\\caget", script);
}

#[test]
fn a_plain_variable() {
    let mut bench = check(json!({"pv": {"name": "IN:TEST:DAE:RUNSTATE_STR", "is": "SETUP"}}));
    caget(&bench);
    fails(bench.apply(), &["IN:TEST:DAE:RUNSTATE_STR cannot be read", "Channel connect timed out"]);
    std::fs::create_dir_all(bench.native("C:\\Instrument\\Apps\\EPICS\\pv")).unwrap();
    let set = |bench: &Bench, value: &str| {
        std::fs::write(bench.native(SERVER).join("pv/IN:TEST:DAE:RUNSTATE_STR"), value).unwrap();
    };
    set(&bench, "RUNNING");
    fails(bench.apply(), &["RUNSTATE_STR is RUNNING, and SETUP is wanted"]);
    set(&bench, "SETUP");
    assert_eq!(bench.apply().unwrap().result, json!("SETUP"));
    fails(again(&mut bench, json!({"pv": {"name": "IN:TEST:DAE:RUNSTATE_STR", "contains": "RUN"}})), &["something with `RUN`"]);
}

#[test]
fn what_an_unreadable_variable_means() {
    let mut bench = check(json!({"pv": {"name": "X", "is": "SETUP", "unreadable": "accept"}}));
    caget(&bench);
    assert!(bench.apply().is_ok());
    let down = json!({"pv": {"name": "X", "is": "SETUP", "unreadable": "server_down"}});
    assert!(again(&mut bench, down).unwrap().summary.contains("the server is not running"));
    let _ioc = bench.program("C:\\Instrument\\Apps\\EPICS\\ioc.exe");
    fails(bench.apply(), &["X cannot be read", "the server runs: ioc.exe"]);
}

#[test]
fn without_any_caget_a_variable_is_unreadable() {
    let mut bench = check(json!({"pv": {"name": "X", "unreadable": "refuse"}}));
    bench.plan.places.insert("caget".into(), crate::paths::WinPath::parse("C:\\none\\caget.exe").unwrap());
    fails(bench.apply(), &["X cannot be read"]);
}

#[test]
fn a_compressed_variable() {
    let mut bench = check(json!({"pv": {"name": "B", "format": "hex_zlib_json", "contains": "TEMP"}}));
    caget(&bench);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut zlib, br#"["TEMP", "FIELD"]"#).unwrap();
    let hex: String = zlib.finish().unwrap().iter().map(|b| format!("{b:02x}")).collect();
    bench.write("C:\\Instrument\\Apps\\EPICS\\pv\\B", &hex);
    assert!(bench.apply().is_ok());
    let wanted = json!({"pv": {"name": "B", "format": "hex_zlib_json", "is": "[\"TEMP\",\"FIELD\"]"}});
    assert!(again(&mut bench, wanted).is_ok(), "JSON is compared by what it means");
    fails(again(&mut bench, json!({"pv": {"name": "B", "format": "hex_zlib_json", "is": "[]"}})), &["and [] is wanted"]);
    bench.write("C:\\Instrument\\Apps\\EPICS\\pv\\B", "zz");
    fails(bench.apply(), &["hexadecimal"]);
    bench.write("C:\\Instrument\\Apps\\EPICS\\pv\\B", "00ff");
    fails(bench.apply(), &["zlib"]);
}

fn git(bench: &Bench, args: &[&str]) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]).args(args);
    assert!(command.current_dir(bench.native(SERVER)).output().unwrap().status.success(), "git {args:?}");
}

#[test]
fn a_git_work_tree() {
    let mut bench = check(json!({"git": {"at": "server", "branch": "main", "clean": true}}));
    fails(bench.apply(), &["git cannot tell the state of C:\\Instrument\\Apps\\EPICS"]);
    git(&bench, &["init", "-q"]);
    bench.write("C:\\Instrument\\Apps\\EPICS\\a b.txt", "x");
    git(&bench, &["add", "."]);
    git(&bench, &["commit", "-qm", "one"]);
    assert_eq!(bench.apply().unwrap().result, json!({"branch": "main", "changes": []}));
    bench.write("C:\\Instrument\\Apps\\EPICS\\a b.txt", "y");
    bench.write("C:\\Instrument\\Apps\\EPICS\\new.txt", "z");
    let error = bench.apply().unwrap_err();
    assert!(error.to_string().contains("2 uncommitted changes"), "{error}");
    assert_eq!(error.details().output, ["  a b.txt", "  new.txt"]);
    fails(
        again(&mut bench, json!({"git": {"at": "server", "branch": "NDXTEST"}})),
        &["is on branch main, and NDXTEST is wanted"],
    );
    bench.step.id = "stage.01".into();
    assert!(again(&mut bench, json!({"git": {"at": "server"}})).is_ok());
}

#[test]
fn a_check_as_the_instrument_needs_its_session() {
    let mut bench = check(json!({"output": {"run": "true"}}));
    bench.step.run_as = crate::playbook::RunAs::Instrument;
    assert!(bench.apply().is_ok());
    bench.sandbox_state(|s| s["logged_on"] = json!([]));
    fails(bench.apply(), &["nobody is logged on as spudulike"]);
    bench.plan.accounts.clear();
    fails(bench.apply(), &["no account `instrument`"]);
}

#[test]
fn space_of_later_steps_is_counted_for_auto() {
    let mut bench = check(json!({"disk": {"place": "server", "free": "auto"}}));
    bench.write("C:\\Instrument\\Var\\state", "12345");
    let mut later = bench.step.clone();
    later.id = "apply.02.command".into();
    later.action = serde_json::from_value(json!({"command": {"run": "true"}})).unwrap();
    later.writes = vec![crate::paths::WinPath::parse("C:\\Instrument\\Var").unwrap()];
    bench.plan.steps = vec![bench.step.clone(), later];
    assert_eq!(bench.apply().unwrap().result["wanted"], json!(5));
}

#[test]
fn a_prompt_is_no_program_that_runs() {
    let bench = check(json!({"process": {"under": ["server"], "is": "running"}}));
    let mut prompt = Command::new("sh").stdin(std::process::Stdio::piped()).current_dir(bench.native(SERVER)).spawn().unwrap();
    let result = bench.apply();
    drop(prompt.stdin.take());
    prompt.wait().unwrap();
    fails(result, &["no programs under server running"]);
    let _ioc: Running = bench.program("C:\\Instrument\\Apps\\EPICS\\ioc.exe");
    assert!(bench.apply().is_ok());
}

const RUNSTATE: &str = "IN:TEST:DAE:RUNSTATE_STR";

/// A check whether IBEX may be stopped, on an instrument whose DAE is in the state.
fn idle(state: Option<&str>) -> Bench {
    let mut bench = check(json!({"idle": {"pv": RUNSTATE}}));
    caget(&bench);
    bench.step.phase = Phase::Apply;
    std::fs::create_dir_all(bench.native(SERVER).join("pv")).unwrap();
    if let Some(state) = state {
        bench.write(&format!("{SERVER}\\pv\\{RUNSTATE}"), state);
    }
    bench
}

fn refuses(result: Result<Applied>, parts: &[&str]) {
    assert_eq!(result.as_ref().unwrap_err().kind(), ErrorKind::Refused);
    fails(result, parts);
}

#[test]
fn only_a_dae_in_setup_may_be_stopped() {
    let bench = idle(Some("RUNNING"));
    assert_eq!(bench.apply().unwrap().summary, "IBEX is not running");
    let _ioc = bench.program("C:\\Instrument\\Apps\\EPICS\\ioc.exe");
    refuses(bench.apply(), &["the instrument is measuring: IN:TEST:DAE:RUNSTATE_STR is RUNNING, and SETUP is wanted"]);
    bench.write(&format!("{SERVER}\\pv\\{RUNSTATE}"), "SETUP");
    assert_eq!(bench.apply().unwrap().result, json!("SETUP"));
    std::fs::remove_file(bench.native(SERVER).join("pv").join(RUNSTATE)).unwrap();
    refuses(bench.apply(), &["what the DAE is doing is unknown", "the server runs: ioc.exe"]);
}

#[test]
fn seci_is_left_alone_and_never_ended_by_surprise() {
    let mut bench = idle(Some("SETUP"));
    let _seci = bench.program("C:\\SECI\\SECI.exe");
    assert!(bench.apply().unwrap().summary.starts_with("SECI is running (SECI.exe"));
    // The run began when SECI was not there, and would go on to stop and start IBEX.
    bench.found("active_system", json!("none"));
    refuses(bench.apply(), &["SECI (SECI.exe", "has been started since this run looked first"]);
    bench.found("active_system", json!("seci"));
    assert!(bench.apply().is_ok());
    let _ioc = bench.program("C:\\Instrument\\Apps\\EPICS\\ioc.exe");
    refuses(bench.apply(), &["IBEX (ioc.exe", "has been started since this run looked first"]);
    bench.found("active_system", json!("ibex"));
    refuses(bench.apply(), &["SECI (SECI.exe", "runs beside IBEX, and would be ended with it"]);
    // In mini mode the site's script leaves SECI alone.
    bench.write("C:\\Instrument\\Settings\\config\\NDXTEST\\configurations\\startup.txt", "GALIL_01\n");
    assert!(bench.apply().is_ok());
}

#[test]
fn an_unreadable_variable_of_a_stopped_server_is_refused_under_seci() {
    let bench = check(json!({"pv": {"name": "X", "is": "SETUP", "unreadable": "server_down"}}));
    caget(&bench);
    assert!(bench.apply().is_ok());
    let _seci = bench.program("C:\\SECI\\SECI.exe");
    fails(bench.apply(), &["X cannot be read", "SECI runs: SECI.exe"]);
}
