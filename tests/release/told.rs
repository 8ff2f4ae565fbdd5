//! Who is told of a release that fails or is taken back.

use crate::support::{Ended, Fleet};
use serde_json::Value;

const NAME: &str = "NDXLARMOR";
const MAIL: [&str; 4] = ["--set", "mail_relay=relay.example.org", "--set", "mail_to=scientist@example.org"];

/// The mail of the step in a run's folder; a rehearsal writes it there and sends nothing.
fn mail(fleet: &Fleet, run: &str, subject: &str) -> Option<Value> {
    let folder = std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/runs").join(run)).expect("the run's folder");
    let files = folder.flatten().map(|e| e.path()).filter(|p| p.to_string_lossy().ends_with("notification.json"));
    let mails = files.map(|p| serde_json::from_slice::<Value>(&std::fs::read(p).expect("a file")).expect("JSON"));
    mails.into_iter().map(|m| m["mail"].clone()).find(|m| m["subject"].as_str().is_some_and(|s| s.contains(subject)))
}

fn run_of(ended: &Ended) -> String {
    ended.last(NAME, "instrument_finished").expect("it finished")["run"].as_str().expect("a run").to_owned()
}

#[test]
fn scientists_hear_of_a_release_that_is_not_there() {
    let fleet = Fleet::running(&[NAME]);
    let arguments = [&["release", NAME, "--yes", "--skip-tags", "backup"][..], &MAIL].concat();
    let script = fleet.kits().join("26.9.0/EPICS/create_icp_binaries.bat");
    let whole = std::fs::read_to_string(&script).expect("a script of the kit");
    fleet.add_to_script("26.9.0", "create_icp_binaries.bat", "exit 7");
    let failed = fleet.run(&arguments);
    assert_eq!((failed.code, failed.outcome(NAME).as_str()), (1, "rolled_back"), "{}", failed.story());
    let told = mail(&fleet, &run_of(&failed), "26.9.0 is not on NDXLARMOR").expect("a mail");
    let text = told["text"].as_str().expect("its text");
    assert!(text.contains("rolled_back") && text.contains("exit code 7") && text.contains("version of before"), "{text}");
    assert!(mail(&fleet, &run_of(&failed), "IBEX 26.9.0 on").is_none(), "nobody is told that it is there");

    std::fs::write(&script, whole).expect("a script of the kit");
    let good = fleet.run(&arguments);
    assert_eq!((good.code, good.outcome(NAME).as_str()), (0, "changed"), "{}", good.story());
    assert!(mail(&fleet, &run_of(&good), "IBEX 26.9.0 on").is_some());
    assert!(mail(&fleet, &run_of(&good), "is not on").is_none());

    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    let told = mail(&fleet, &run_of(&back), "is not on NDXLARMOR").expect("a mail");
    assert!(told["text"].as_str().is_some_and(|t| t.contains("asked for it")), "{told}");
}
