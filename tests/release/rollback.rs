//! `rollback` after good releases: exact, newest first, never over newer changes unless told.

use crate::support::Fleet;
use ibexdeploy::rehearsal::KitShape;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

const NAME: &str = "NDXLARMOR";

/// Path to owner and mode of all files below a folder.
fn rights(folder: &Path) -> BTreeMap<String, (u32, u32)> {
    let files = walkdir::WalkDir::new(folder).into_iter().filter_map(|e| e.ok()).filter(|e| e.file_type().is_file());
    files
        .map(|e| {
            let meta = e.metadata().expect("a file");
            (e.path().display().to_string(), (meta.uid(), meta.mode() & 0o7777))
        })
        .collect()
}

#[test]
fn a_rollback_refuses_over_newer_changes_and_saves_them_when_told() {
    let fleet = Fleet::running(&[NAME]);
    let (before, rights_before) = (fleet.apps(NAME), rights(&fleet.server(NAME)));
    let release = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(release.code, 0, "{}", release.story());
    let run = release.last(NAME, "instrument_finished").expect("it finished")["run"].as_str().unwrap_or_default().to_owned();
    std::fs::write(fleet.server(NAME).join("VERSION.txt"), "26.9.0 by hand\n").expect("a file");
    std::fs::write(fleet.server(NAME).join("ioc/added.txt"), "mine\n").expect("a file");
    let changed = fleet.apps(NAME);

    let refused = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.story());
    assert!(refused.stderr.contains("VERSION.txt") && refused.stderr.contains("added.txt"), "{}", refused.story());
    assert_eq!(fleet.apps(NAME), changed, "nothing was touched");

    let back = fleet.run(&["rollback", NAME, "--yes", "--discard-newer"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(fleet.apps(NAME), before);
    assert_eq!(rights(&fleet.server(NAME)), rights_before);
    assert!(fleet.ibex(NAME).is_some(), "IBEX runs the old version");
    let saved = std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/hand-changes")).expect("an archive was made");
    let saved: Vec<_> = saved.filter_map(|e| e.ok()).map(|e| e.path()).collect();
    assert_eq!(saved.len(), 1, "{saved:?}");
    let text = std::process::Command::new("unzip").arg("-p").arg(&saved[0]).arg("EPICS/ioc/added.txt").output().expect("unzip");
    assert_eq!(String::from_utf8_lossy(&text.stdout), "mine\n");

    let again = fleet.run(&["rollback", NAME, "--yes", "--run", &run]);
    assert_eq!(again.code, 4, "{}", again.story());
    assert!(format!("{}{}", again.stdout, again.stderr).contains("undone"), "{}", again.story());
    assert_eq!(fleet.apps(NAME), before);
}

#[test]
fn two_releases_are_taken_back_the_newest_first() {
    let fleet = Fleet::running(&[NAME]);
    let before = fleet.apps(NAME);
    assert_eq!(fleet.run(&["release", NAME, "--yes"]).code, 0);
    let between = fleet.apps(NAME);
    another_release(&fleet, "26.10.0");
    let second = fleet.run(&["release", NAME, "--yes", "--kit", "26.10.0"]);
    assert_eq!(second.code, 0, "{}", second.story());

    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(fleet.apps(NAME), between);
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(fleet.apps(NAME), before);
    assert!(fleet.ibex(NAME).is_some());
    let none = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!(none.code, 4, "{}", none.story());
}

#[test]
fn owner_and_mode_of_a_file_are_kept() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let fleet = Fleet::running(&[NAME]);
    let file = fleet.server(NAME).join("VERSION.txt");
    std::os::unix::fs::chown(&file, Some(12_345), None).expect("root may");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).expect("root may");
    let before = rights(&fleet.server(NAME));
    let look = || {
        let meta = std::fs::metadata(&file).expect("the file");
        (meta.uid(), meta.mode() & 0o7777)
    };
    assert_eq!(fleet.run(&["release", NAME, "--yes"]).code, 0);
    assert_eq!(look(), (12_345, 0o640), "the new file is as the old one was");
    assert!(std::fs::read_to_string(&file).expect("text").starts_with("26.9.0"));
    assert_eq!(fleet.run(&["rollback", NAME, "--yes"]).code, 0);
    assert_eq!(look(), (12_345, 0o640));
    assert_eq!(rights(&fleet.server(NAME)), before);
}

#[test]
fn a_file_that_the_release_never_touched_stays_as_it_was_changed_by_hand() {
    let fleet = Fleet::running(&[NAME]);
    let before = fleet.apps(NAME);
    assert_eq!(fleet.run(&["release", NAME, "--yes"]).code, 0);
    let after = fleet.apps(NAME);
    let untouched = before.iter().find(|(path, hash)| path.starts_with("EPICS/ioc/") && after.get(*path) == Some(hash));
    let untouched = untouched.expect("a file that both releases have").0.clone();
    let removed = before.iter().rfind(|(path, hash)| path.starts_with("EPICS/ioc/") && after.get(*path) == Some(hash));
    let removed = removed.expect("another one").0.clone();
    let apps = fleet.root(NAME).join("c/Instrument/Apps");
    std::fs::write(apps.join(&untouched), "by hand\n").expect("a file");
    std::fs::remove_file(apps.join(&removed)).expect("a file less");

    let back = fleet.run(&["rollback", NAME, "--yes", "--discard-newer"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(std::fs::read_to_string(apps.join(&untouched)).expect("the file"), "by hand\n");
    let mut now = fleet.apps(NAME);
    now.insert(untouched.clone(), before[&untouched].clone());
    now.insert(removed.clone(), before[&removed].clone());
    assert_eq!(now, before, "everything else is as it was");
    let name = |path: &str| path.replace('/', "\\");
    let named =
        |e: &&serde_json::Value| e["event"] == "reminder" && e["text"].as_str().is_some_and(|t| t.contains("stay as they are"));
    let kept = back.events.iter().find(named).expect("what was kept is named")["text"].to_string().replace("\\\\", "\\");
    assert!(kept.contains(&name(&untouched)) && kept.contains(&name(&removed)), "{kept}");
    let archive = std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/hand-changes")).expect("an archive").flatten().next();
    let text =
        std::process::Command::new("unzip").arg("-p").arg(archive.expect("one").path()).arg(&untouched).output().expect("unzip");
    assert_eq!(String::from_utf8_lossy(&text.stdout), "by hand\n");
}

/// Makes a further release of the kit's newest one.
fn another_release(fleet: &Fleet, version: &str) {
    let folder = fleet.kits().join(version);
    let copied = std::process::Command::new("cp").arg("-a").arg(fleet.kits().join("26.9.0")).arg(&folder).status().expect("cp");
    assert!(copied.success());
    for component in ["EPICS", "Client/Client", "genie_python_3"] {
        std::fs::write(folder.join(component).join("VERSION.txt"), format!("{version}\r\n")).expect("a version");
    }
}

/// Runs that have undo data.
fn with_undo_data(fleet: &Fleet) -> BTreeSet<String> {
    let listed = std::fs::read_dir(fleet.root(NAME).join(".ibexdeploy/volumes")).expect("the data of runs");
    listed.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Releases one version after the other; gives their runs.
fn release_each(fleet: &Fleet, versions: &[&str]) -> Vec<String> {
    let mut runs = Vec::new();
    for version in versions {
        let ended = fleet.run(&["release", NAME, "--yes", "--kit", version, "--skip-tags", "backup"]);
        assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
        runs.push(ended.events[0]["run"].as_str().expect("a name").to_owned());
    }
    runs
}

#[test]
fn the_newest_two_releases_can_be_taken_back_and_the_data_of_older_ones_goes() {
    let fleet = Fleet::running(&[NAME]);
    ["26.10.0", "26.11.0"].into_iter().for_each(|version| another_release(&fleet, version));
    let first = release_each(&fleet, &["26.9.0", "26.10.0"]);
    assert_eq!(with_undo_data(&fleet), first.iter().cloned().collect());
    let third = release_each(&fleet, &["26.11.0"]);
    assert_eq!(with_undo_data(&fleet), BTreeSet::from([first[1].clone(), third[0].clone()]));
    for _ in 0..2 {
        let back = fleet.run(&["rollback", NAME, "--yes"]);
        assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    }
    assert_eq!(fleet.unlike(NAME, "26.9.0", &[]), [""; 0]);
    let before = fleet.apps(NAME);
    let refused = fleet.run(&["rollback", NAME, "--yes"]);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(refused.code == 4 && said.contains("pruned") && said.contains("restore a backup"), "{}", refused.story());
    assert_eq!(fleet.apps(NAME), before);
}

#[test]
fn old_data_that_cannot_be_removed_is_reported_and_fails_no_release() {
    let fleet = Fleet::running(&[NAME]);
    ["26.10.0", "26.11.0"].into_iter().for_each(|version| another_release(&fleet, version));
    let first = release_each(&fleet, &["26.9.0", "26.10.0"]);
    // Where the data of the first one lies cannot be read.
    let note = fleet.root(NAME).join(".ibexdeploy/runs").join(&first[0]).join("areas.jsonl");
    std::fs::remove_file(&note).and_then(|()| std::fs::create_dir(&note)).expect("a folder in its place");
    let third = fleet.run(&["release", NAME, "--yes", "--kit", "26.11.0"]);
    assert_eq!((third.code, third.outcome(NAME).as_str()), (0, "changed"), "{}", third.story());
    let said =
        third.events.iter().any(|e| e["event"] == "reminder" && e["text"].as_str().is_some_and(|t| t.contains("not removed")));
    assert!(said, "{}", third.story());
}

/// What the sandbox's `caget` tells of the DAE.
fn dae(fleet: &Fleet, lines: &str) {
    std::fs::write(fleet.root(NAME).join("c/Instrument/Var/sandbox_pvs.txt"), lines).expect("a PV");
}

const RUNNING: &str = "IN:LARMOR:DAE:RUNSTATE_STR=RUNNING\n";

/// A rollback is refused while the instrument measures, touches nothing, and is done when that is wanted.
fn only_when_wanted_while_it_measures(fleet: &Fleet) {
    let (changed, server) = (fleet.apps(NAME), fleet.ibex(NAME));
    assert!(server.is_some(), "IBEX runs");
    dae(fleet, RUNNING);
    for arguments in [&["rollback", NAME, "--dry-run"][..], &["rollback", NAME, "--yes", "--discard-newer"]] {
        let refused = fleet.run(arguments);
        assert_eq!(refused.code, 4, "{}", refused.story());
        let said = format!("{}{}", refused.stdout, refused.stderr);
        assert!(said.contains("RUNSTATE_STR is RUNNING") && said.contains("--even-if-measuring"), "{}", refused.story());
        assert_eq!((fleet.apps(NAME), fleet.ibex(NAME)), (changed.clone(), server.clone()), "nothing was touched");
    }
    let back = fleet.run(&["rollback", NAME, "--yes", "--even-if-measuring"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
}

#[test]
fn a_rollback_never_ends_a_measurement_unless_it_is_wanted() {
    let fleet = Fleet::running(&[NAME]);
    let before = fleet.apps(NAME);
    assert_eq!(fleet.run(&["release", NAME, "--yes"]).code, 0);
    only_when_wanted_while_it_measures(&fleet);
    assert_eq!(fleet.apps(NAME), before);
    assert!(fleet.ibex(NAME).is_some(), "IBEX ran before, and runs again");

    // A release that did not ask is no reason for its rollback not to.
    assert_eq!(fleet.run(&["release", NAME, "--yes", "--even-if-measuring"]).code, 0);
    let refused = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.story());
    assert!(refused.story().contains("RUNSTATE_STR is RUNNING"), "{}", refused.story());

    // A state that nobody can read may be a measurement.
    std::fs::write(fleet.server(NAME).join("ioc_tools/caget.bat"), "#!/bin/sh\nexit 1\n").expect("a program that fails");
    let unknown = fleet.run(&["rollback", NAME, "--yes", "--discard-newer"]);
    assert_eq!(unknown.code, 4, "{}", unknown.story());
}

#[test]
fn a_rollback_of_a_restore_never_ends_a_measurement() {
    let fleet = Fleet::running(&[NAME]);
    assert_eq!(fleet.run(&["backup", NAME]).code, 0);
    std::fs::write(fleet.server(NAME).join("ioc/made_since.txt"), "x").expect("a file");
    let before = fleet.apps(NAME);
    assert_eq!(fleet.run(&["restore", NAME, "--yes"]).code, 0);
    only_when_wanted_while_it_measures(&fleet);
    assert_eq!(fleet.apps(NAME), before);
}

/// An archive with one file, put in place.
fn hotfix(fleet: &Fleet, name: &str, entries: &[(&str, &str)]) {
    let zip = fleet.dir().join(name);
    let mut writer = zip::ZipWriter::new(std::fs::File::create(&zip).expect("an archive"));
    for (entry, text) in entries {
        writer.start_file(*entry, zip::write::SimpleFileOptions::default()).expect("an entry");
        std::io::Write::write_all(&mut writer, text.as_bytes()).expect("its content");
    }
    writer.finish().expect("a whole archive");
    let put = fleet.run(&["hotfix", NAME, &zip.display().to_string(), "--yes"]);
    assert_eq!((put.code, put.outcome(NAME).as_str()), (0, "changed"), "{}", put.story());
}

#[test]
fn a_rollback_of_a_hotfix_ends_no_measurement_where_that_restarts_the_server() {
    let fleet = Fleet::running(&[NAME]);
    let before = fleet.apps(NAME);
    hotfix(&fleet, "quiet.zip", &[("EPICS/quiet.txt", "x")]);
    let server = fleet.ibex(NAME);
    dae(&fleet, RUNNING);
    // This one restarts nothing, whatever is measured.
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!((fleet.apps(NAME), fleet.ibex(NAME)), (before.clone(), server.clone()), "the same server runs");

    dae(&fleet, "IN:LARMOR:DAE:RUNSTATE_STR=SETUP\n");
    hotfix(&fleet, "patch.zip", &[("hotfix.yaml", "restart: server\n"), ("EPICS/patch.txt", "x")]);
    assert_ne!(fleet.ibex(NAME), server, "it was restarted");
    only_when_wanted_while_it_measures(&fleet);
    assert_eq!(fleet.apps(NAME), before);
    assert!(fleet.ibex(NAME).is_some(), "IBEX runs again");
}

#[test]
fn ibex_that_a_release_started_is_stopped_again_and_that_is_said() {
    let fleet = Fleet::new(&KitShape::small().without_git());
    fleet.make(&[NAME]);
    let before = fleet.apps(NAME);
    assert_eq!(fleet.run(&["release", NAME, "--yes"]).code, 0);
    assert!(fleet.ibex(NAME).is_some(), "the release started it");
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!((fleet.apps(NAME), fleet.ibex(NAME)), (before, None));
    let said = |e: &serde_json::Value| e["event"] == "reminder" && e["text"].to_string().contains("IBEX is stopped again");
    assert!(back.events.iter().any(said), "{}", back.story());
}
