//! What needs no instrument gives on Windows what it gives on Linux.

use crate::command::Ended;
use crate::operator::Operator;
use ibexdeploy::rehearsal::{KitShape, make_kits};
use std::path::Path;
use std::process::{Command, Stdio};

/// The same command of the Linux build, in the repository itself.
fn on_linux(arguments: &[&str], state: &Path) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("IBEXDEPLOY_")) {
        command.env_remove(name);
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).env("XDG_STATE_HOME", state);
    Ended::of(command.env("XDG_CONFIG_HOME", state).env_remove("COLUMNS").stdin(Stdio::null()))
}

/// What was said, with one kind of slashes and without what differs by its nature.
fn said(ended: &Ended) -> String {
    let text = format!("exit code {}\n{}\n{}", ended.code, ended.stdout, ended.stderr).replace('\\', "/");
    text.replace("ibexdeploy.exe", "ibexdeploy")
}

#[test]
fn commands_without_instruments_say_what_they_say_on_linux() {
    let Some(operator) = Operator::new() else { return };
    let questions: [&[&str]; 13] = [
        &["--version"],
        &["--help"],
        &["release", "-h"],
        &["inventory", "check"],
        &["inventory", "list", "ts2,!NDXLET"],
        &["inventory", "show", "NDXLARMOR"],
        &["playbook", "check"],
        &["playbook", "list"],
        &["playbook", "show", "release"],
        &["schema", "inventory"],
        &["plan", "release", "NDXLARMR"],
        &["runs", "list"],
        &["kit", "list"],
    ];
    for question in questions {
        let (here, there) = (on_linux(question, operator.dir()), operator.run(question));
        assert_eq!(said(&there), said(&here), "{question:?}");
    }
}

#[test]
fn kits_are_read_wherever_their_folder_is() {
    let Some(operator) = Operator::new() else { return };
    let kits = operator.repository().join("Kits of October");
    make_kits(&kits, &KitShape::small().without_git()).expect("kits can be made");
    let state = operator.dir().join("state");
    let kits = kits.to_str().expect("text");
    // The folder, as each of the two names it.
    for there in ["Kits of October", "C:\\IBEX deployment\\Kits of October", "c:/IBEX deployment/Kits of October"] {
        for question in [&["kit", "verify"][..], &["kit", "list"], &["plan", "release", "NDXLARMOR"]] {
            let here = on_linux(&[question, &["--kits", kits]].concat(), &state);
            let there = operator.run(&[question, &["--kits", there]].concat());
            assert_eq!(here.code, there.code, "{question:?}: {}{}", here.story(), there.story());
            let lines = |ended: &Ended| -> Vec<String> {
                let folders = ["Kits of October", "deployment"];
                let lines = said(ended).lines().map(str::to_owned).collect::<Vec<_>>();
                lines.into_iter().filter(|line| !folders.iter().any(|folder| line.contains(folder))).collect()
            };
            assert_eq!(lines(&there), lines(&here), "{question:?}");
        }
    }
    let missing = operator.run(&["kit", "list", "--kits", "\\\\nowhere\\inst$\\Kits$"]);
    assert_eq!(missing.code, 2, "{}", missing.story());
    assert!(missing.stderr.contains("\\\\nowhere\\inst$\\Kits$"), "{}", missing.stderr);
}

#[test]
fn files_with_windows_line_ends_are_read_and_their_mistakes_found_on_the_same_line() {
    let Some(operator) = Operator::new() else { return };
    for folder in ["inventory", "playbooks", "playbooks/shared", "playbooks/migrations"] {
        for entry in std::fs::read_dir(operator.repository().join(folder)).expect("a folder").flatten() {
            if entry.path().extension().is_some_and(|e| e == "yaml") {
                let text = std::fs::read_to_string(entry.path()).expect("text");
                std::fs::write(entry.path(), text.replace('\n', "\r\n")).expect("written");
            }
        }
    }
    for question in [&["inventory", "check"][..], &["playbook", "check"]] {
        let (here, there) = (on_linux(question, operator.dir()), operator.run(question));
        assert_eq!(said(&there), said(&here), "{question:?}");
    }
    let note = "playbook: note\r\ndescription: Größe und Maß\r\nclose:\r\n  - remaind: {text: look}\r\n";
    std::fs::write(operator.repository().join("playbooks/note.yaml"), note).expect("written");
    let wrong = operator.run(&["playbook", "check", "note"]);
    assert_eq!(wrong.code, 2, "{}", wrong.story());
    let told = wrong.story();
    assert!(told.contains("note.yaml:4:5") && told.contains("`remind`"), "{told}");
}

#[test]
fn the_operators_own_settings_lie_where_windows_has_them() {
    let Some(operator) = Operator::new() else { return };
    let settings = operator.profile().join("AppData/Roaming/ibexdeploy");
    std::fs::create_dir_all(&settings).expect("a folder");
    // The home folder, a drive, and a folder beside the file.
    let inventory = operator.profile().join("my inventory");
    std::fs::rename(operator.repository().join("inventory"), &inventory).expect("moved");
    let text = "inventory: ~\\my inventory\\ndx.yaml\r\nplaybooks: 'C:\\IBEX deployment\\playbooks'\r\nstate: kept here\r\n";
    std::fs::write(settings.join("config.yaml"), text).expect("written");
    let listed = operator.run(&["inventory", "list", "NDXZOOM"]);
    assert!(listed.code == 0 && listed.stdout.contains("NDXZOOM"), "{}", listed.story());
    let refused = operator.run(&["run", "check", "NDXZOOM"]);
    assert_ne!(refused.code, 0, "{}", refused.story());
    assert!(settings.join("kept here/runs").is_dir(), "{}", refused.story());
    std::fs::write(settings.join("config.yaml"), "inventry: x\r\n").expect("written");
    let wrong = operator.run(&["inventory", "list"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("config.yaml:1:1"), "{}", wrong.story());
}
