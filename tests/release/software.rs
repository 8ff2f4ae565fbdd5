//! Software that IBEX needs, installed by `run software` while IBEX is stopped.

use crate::support::{Ended, Fleet};
use std::os::unix::fs::PermissionsExt;

const NAME: &str = "NDXLARMOR";

/// What the system says is installed; with the version.
fn set_installed(fleet: &Fleet, program: &str, version: &str) {
    let folder = fleet.root(NAME).join(".ibexdeploy/programs");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(program), version).expect("a program");
}

fn installed(fleet: &Fleet, program: &str) -> Option<String> {
    std::fs::read_to_string(fleet.root(NAME).join(".ibexdeploy/programs").join(program)).ok().map(|v| v.trim().to_owned())
}

/// An installer that writes down how it was called, and whether IBEX runs meanwhile.
fn installer(fleet: &Fleet, name: &str, lines: &str) -> String {
    let folder = fleet.root(NAME).join("c/data/kits");
    std::fs::create_dir_all(&folder).expect("a folder");
    let text = format!(
        "#!/bin/sh\npid=$(cat \"$IBEX_ROOT/c/Instrument/Var/ibex_server.pid\" 2>/dev/null); server=stopped; [ -n \"$pid\" ] && [ -e /proc/$pid ] && server=runs\n\
         echo \"{name} $* $server\" >>\"$IBEX_ROOT/ran\"\nprograms=$IBEX_ROOT/.ibexdeploy/programs; mkdir -p \"$programs\"\n{lines}\n"
    );
    let file = folder.join(name);
    std::fs::write(&file, text).expect("an installer");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("a program");
    format!("C:\\data\\kits\\{name}")
}

fn ran(fleet: &Fleet) -> String {
    std::fs::read_to_string(fleet.root(NAME).join("ran")).unwrap_or_default()
}

fn software(fleet: &Fleet, set: &[(&str, &str)]) -> Ended {
    let set: Vec<String> = set.iter().map(|(name, value)| format!("--set={name}={value}")).collect();
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    fleet.run(&[&["run", "software", NAME, "--yes"][..], &set].concat())
}

#[test]
fn what_is_missing_or_older_is_installed_while_ibex_is_stopped_and_once() {
    let fleet = Fleet::running(&[NAME]);
    let (apps, server) = (fleet.apps(NAME), fleet.ibex(NAME));
    set_installed(&fleet, "Git version", "2.30.1");
    let git = installer(&fleet, "Git-2.47.1-64-bit.exe", "echo 2.47.1 >\"$programs/Git version\"");
    let jdk = installer(&fleet, "jdk-21.exe", "echo 21.0.5 >\"$programs/Eclipse Temurin JDK 21\"");
    let wanted = [("git_installer", git.as_str()), ("git_version", "2.47.1"), ("jdk_installer", &jdk), ("jdk_version", "21")];
    let ended = software(&fleet, &wanted);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    let calls = "Git-2.47.1-64-bit.exe /VERYSILENT /NORESTART /NOCANCEL /SP- /SUPPRESSMSGBOXES stopped\njdk-21.exe  stopped\n";
    assert_eq!(ran(&fleet), calls);
    assert_eq!(installed(&fleet, "Git version").as_deref(), Some("2.47.1"));
    assert!(fleet.ibex(NAME).is_some_and(|now| Some(now) != server), "IBEX was stopped, and runs again");
    assert_eq!(fleet.apps(NAME), apps);

    let server = fleet.ibex(NAME);
    for wanted in [&wanted[..], &[]] {
        let again = software(&fleet, wanted);
        assert_eq!((again.code, again.outcome(NAME).as_str()), (0, "ok"), "{}", again.story());
        assert_eq!((ran(&fleet).as_str(), fleet.ibex(NAME)), (calls, server.clone()), "nothing was run or stopped");
    }
    let newer = [("git_installer", git.as_str()), ("git_version", "2.48")];
    let failed = software(&fleet, &newer);
    assert_eq!(failed.outcome(NAME), "rolled_back", "the same installer does not bring a newer one: {}", failed.story());
}

#[test]
fn an_installer_that_fails_or_lies_is_named_and_ibex_runs_again() {
    let fleet = Fleet::running(&[NAME]);
    let (apps, script) = (fleet.apps(NAME), "Git-2.47.1-64-bit.exe");
    for (lines, told) in [("exit 3", "(3)"), ("exit 0", "`Git*` in version 2.47.1 or later is not installed")] {
        let git = installer(&fleet, script, lines);
        let ended = software(&fleet, &[("git_installer", &git), ("git_version", "2.47.1")]);
        assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
        let error = ended.last(NAME, "instrument_finished").expect("it ended")["error"].to_string();
        assert!(error.contains(script) && error.contains(told), "{told}: {error}");
        let left =
            |e: &serde_json::Value| e["event"] == "reminder" && e["text"].to_string().contains("may be installed: install Git");
        assert!(ended.events.iter().any(left), "what cannot be taken back is told: {}", ended.story());
        assert!(fleet.ibex(NAME).is_some(), "IBEX runs again: {}", ended.story());
        assert_eq!(fleet.apps(NAME), apps);
    }
}

#[test]
fn a_measurement_is_not_ended_for_software() {
    let fleet = Fleet::running(&[NAME]);
    let pvs = fleet.root(NAME).join("c/Instrument/Var/sandbox_pvs.txt");
    std::fs::write(&pvs, "IN:LARMOR:DAE:RUNSTATE_STR=RUNNING\n").expect("PVs can be set");
    let server = fleet.ibex(NAME);
    let git = installer(&fleet, "git.exe", "exit 0");
    let refused = software(&fleet, &[("git_installer", &git)]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (4, "failed"), "{}", refused.story());
    assert_eq!((ran(&fleet), fleet.ibex(NAME)), (String::new(), server));
}
