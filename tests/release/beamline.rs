//! Measurements are never ended by a release: what the DAE does is asked of a real Channel Access server.

use crate::channel_access::Ioc;
use crate::support::{Ended, Fleet};
use ibexdeploy::rehearsal::KitShape;
use serde_json::Value;
use std::cell::RefCell;
use std::process::{Child, Command, Stdio};

const NAME: &str = "NDXLARMOR";
const NEWER: &str = "26.9.0";
const STATE: &str = "IN:LARMOR:DAE:RUNSTATE_STR";
const BLOCKS: &str = "IN:LARMOR:CS:BLOCKSERVER:BLOCKNAMES";

/// What an instrument shows to the world.
fn values(state: &str) -> Vec<(&str, &str)> {
    vec![
        (STATE, state),
        (BLOCKS, r#"["TEMP","FIELD"]"#),
        ("IN:LARMOR:CS:BLOCKSERVER:GROUPS", r#"[{"name":"MAGNET","blocks":["FIELD"]}]"#),
        ("IN:LARMOR:CS:BLOCKSERVER:GET_CURR_CONFIG_DETAILS", r#"{"name":"setup"}"#),
        ("IN:LARMOR:CS:SB:TEMP", "1.5"),
        ("IN:LARMOR:CS:SB:FIELD", "0"),
    ]
}

/// An instrument with IBEX running, whose `caget` asks the server; `after` are further lines of `caget`.
fn instrument(ioc: &Ioc, after: &str) -> Fleet {
    let fleet = Fleet::new(&KitShape::small().without_git());
    ioc.give_caget(&fleet, after);
    fleet.make(&[NAME]);
    fleet
}

fn with_ibex(ioc: &Ioc, after: &str) -> Fleet {
    let fleet = instrument(ioc, after);
    fleet.start_ibex(NAME);
    fleet
}

/// The release was refused, and IBEX runs as if nothing had been asked.
fn is_refused(fleet: &Fleet, ended: &Ended, server: &str, step: &str, words: &str) {
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (4, "failed"), "{}", ended.story());
    assert_eq!(fleet.ibex(NAME).as_deref(), Some(server), "the same server still runs: {}", ended.story());
    let error = &ended.last(NAME, "instrument_finished").expect("it finished")["error"];
    assert_eq!(error["step"], step, "{error}");
    assert!(error["message"].as_str().unwrap_or_default().contains(words), "{error}");
    assert!(error["next"].as_str().unwrap_or_default().contains("--even-if-measuring"), "{error}");
    assert!(ended.last(NAME, "rollback_started").is_none(), "there is nothing to take back: {}", ended.story());
}

#[test]
fn an_instrument_that_measures_is_refused_unless_it_is_wanted() {
    let Some(mut ioc) = Ioc::start(&values("RUNNING")) else { return };
    let fleet = with_ibex(&ioc, "");
    let (before, server) = (fleet.apps(NAME), fleet.ibex(NAME).expect("IBEX runs"));
    let ended = fleet.run(&["release", NAME, "--yes"]);
    is_refused(&fleet, &ended, &server, "no run is going on", "RUNSTATE_STR is RUNNING, and SETUP is wanted");
    assert!(ended.last(NAME, "outage_started").is_none(), "{}", ended.story());
    assert_eq!(fleet.apps(NAME), before);

    ioc.remove(STATE);
    let unknown = fleet.run(&["release", NAME, "--yes"]);
    is_refused(&fleet, &unknown, &server, "no run is going on", "what the DAE is doing is unknown");

    ioc.set(STATE, "PAUSED");
    let wanted = fleet.run(&["release", NAME, "--yes", "--even-if-measuring"]);
    assert_eq!((wanted.code, wanted.outcome(NAME).as_str()), (0, "changed"), "{}", wanted.story());
    assert_ne!(fleet.ibex(NAME), Some(server), "IBEX was stopped and started");
    assert_eq!(fleet.unlike(NAME, NEWER, &[]), [""; 0]);
}

#[test]
fn a_run_that_begins_between_the_question_and_the_stop_is_not_ended() {
    let Some(ioc) = Ioc::start(&values("SETUP")) else { return };
    // The scientists begin a run as soon as the DAE was asked for the first time.
    let begin = format!("case \"$*\" in *{STATE}) PUT {STATE} RUNNING >/dev/null ;; esac");
    let fleet = with_ibex(&ioc, &begin);
    let (before, server) = (fleet.apps(NAME), fleet.ibex(NAME).expect("IBEX runs"));
    let ended = fleet.run(&["release", NAME, "--yes"]);
    is_refused(&fleet, &ended, &server, "stop IBEX", "RUNSTATE_STR is RUNNING");
    let asked = ended.last(NAME, "step_finished").is_some()
        && ended
            .events
            .iter()
            .any(|e| e["event"] == "step_finished" && e["step"]["name"] == "no run is going on" && e["outcome"] == "ok");
    assert!(asked, "the first question was answered with SETUP: {}", ended.story());
    assert_eq!(fleet.apps(NAME), before);
}

#[test]
fn a_stopped_server_is_no_measurement() {
    let Some(mut ioc) = Ioc::start(&values("SETUP")) else { return };
    let fleet = instrument(&ioc, "");
    ioc.remove(STATE);
    let mut watched = fleet.start(&["release", NAME, "--yes"]);
    let gate = watched.until(|e| e["event"] == "step_finished" && e["step"]["name"] == "no run is going on");
    assert_eq!(gate.expect("the gate holds")["summary"], "IBEX is not running");
    // The server that the release starts answers again.
    ioc.set(STATE, "SETUP");
    let finished = watched.until(|e| e["event"] == "instrument_finished").expect("it finishes");
    assert_eq!(finished["outcome"], "changed", "{finished}");
    assert_eq!(fleet.unlike(NAME, NEWER, &[]), [""; 0]);
}

/// SECI, as far as it can be seen: a program of its name.
struct Seci(Child);

impl Seci {
    fn start(fleet: &Fleet) -> Self {
        let file = fleet.root(NAME).join("c/SECI/SECI.exe");
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("folders can be made");
        std::fs::copy("/bin/sleep", &file).expect("a program");
        Self(Command::new(&file).arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts"))
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().expect("its state").is_none()
    }
}

impl Drop for Seci {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn seci_is_neither_ended_nor_displaced() {
    let Some(ioc) = Ioc::start(&values("RUNNING")) else { return };
    let fleet = instrument(&ioc, "");
    let mut seci = Seci::start(&fleet);
    let ended = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert!(seci.runs(), "SECI goes on");
    assert_eq!(fleet.ibex(NAME), None, "IBEX is not started beside it");
    assert!(ended.stdout.contains("SECI was active"), "{}", ended.story());

    // Both at once is nothing that a release may decide about.
    fleet.start_ibex(NAME);
    std::fs::write(fleet.server(NAME).join("by_hand.txt"), "so that there is something to do").expect("a file");
    let server = fleet.ibex(NAME).expect("IBEX runs");
    let both = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((both.code, both.outcome(NAME).as_str()), (4, "failed"), "{}", both.story());
    assert!(both.stdout.contains("runs beside IBEX, and would be ended with it"), "{}", both.story());
    assert!(seci.runs() && fleet.ibex(NAME) == Some(server), "both go on");
}

#[test]
fn what_changed_in_the_blocks_is_told_in_words() {
    let Some(mut ioc) = Ioc::start(&values("SETUP")) else { return };
    let fleet = with_ibex(&ioc, "");
    let go = fleet.dir().join("go");
    fleet.add_to_script(NEWER, "create_icp_binaries.bat", &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
    let mut watched = fleet.start(&["release", NAME, "--yes"]);
    watched.until(|e| e["event"] == "outage_started").expect("it applies");
    ioc.set(BLOCKS, r#"["TEMP","FLUX"]"#);
    ioc.set("IN:LARMOR:CS:SB:FLUX", "7");
    ioc.set("IN:LARMOR:CS:SB:TEMP", "1.501");
    std::fs::write(&go, "").expect("a file");
    let notes = RefCell::new(Vec::new());
    let finished = watched.until(|e| {
        if e["event"] == "note" {
            notes.borrow_mut().push(e["text"].as_str().unwrap_or_default().to_owned());
        }
        e["event"] == "instrument_finished"
    });
    let notes = notes.into_inner();
    assert_eq!(finished.map(|e| e["outcome"].clone()), Some(Value::from("changed")), "{notes:?}");
    assert!(notes.iter().any(|n| n == &format!("{BLOCKS}: gone: FIELD; new: FLUX")), "{notes:?}");
    assert!(!notes.iter().any(|n| n.contains("SB:TEMP")), "a reading that drifts is no difference: {notes:?}");

    let folder = fleet.root(NAME).join("c/Instrument/Var/deployment_pv_backups");
    let mut files: Vec<String> =
        std::fs::read_dir(&folder).expect("the folder").flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    files.sort();
    assert_eq!(files.len(), 2, "before and after: {files:?}");
    let text = std::fs::read_to_string(folder.join(&files[1])).expect("the values before");
    assert!(text.contains("IN:LARMOR:CS:SB:FIELD = 0") && text.contains(r#"= ["TEMP","FIELD"]"#), "{text}");
}
