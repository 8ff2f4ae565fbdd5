//! Backups and restores, as operators meet them: made beside the running IBEX, listed, put back whole or in part, taken
//! back again; killed in the middle; damaged.

use crate::kill::machine::{is_free, kill, wait_for, workers};
use crate::support::{Ended, Fleet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "NDXLARMOR";

fn old(fleet: &Fleet) -> PathBuf {
    fleet.root(NAME).join("c/data/old")
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(all) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = all.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The one backup folder that is there, whose zips `unzip` finds whole.
fn only_backup(fleet: &Fleet) -> PathBuf {
    let names = names_in(&old(fleet));
    assert_eq!(names.len(), 1, "{names:?}");
    let folder = old(fleet).join(&names[0]);
    for zip in names_in(&folder).iter().filter(|n| n.ends_with(".zip")) {
        let tested = Command::new("unzip").arg("-tq").arg(folder.join(zip)).output().expect("unzip runs");
        let said = String::from_utf8_lossy(&[tested.stdout, tested.stderr].concat()).into_owned();
        assert!(tested.status.success(), "{zip}: {said}");
    }
    folder
}

fn well(ended: &Ended) {
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
}

/// What `backup --list` says of the instrument.
fn listed(fleet: &Fleet) -> Vec<serde_json::Value> {
    let asked = Ended::of(fleet.command(&["backup", NAME, "--list"]).args(["--output", "json"]));
    assert_eq!(asked.code, 0, "{}", asked.story());
    let rows: serde_json::Value = serde_json::from_str(&asked.stdout).expect("a document");
    rows[0]["backups"].as_array().expect("a list").clone()
}

#[test]
fn a_backup_beside_the_running_ibex_is_told_listed_and_restored_with_tar() {
    let fleet = Fleet::running(&[NAME]);
    let server = fleet.ibex(NAME);
    let odd = fleet.server(NAME).join(std::ffi::OsStr::from_bytes(b"odd\xff.txt"));
    std::fs::write(odd, "x").expect("a file with an odd name");
    std::fs::create_dir_all(old(&fleet).join("ibex_backup_2025_03_02")).expect("a folder");
    std::fs::write(old(&fleet).join("ibex_backup_2025_03_02/EPICS.zip"), "by a script").expect("a file");
    let made = fleet.command(&["backup", NAME, "--output", "plain"]).output().expect("the binary starts");
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    assert_eq!(made.status.code(), Some(0), "{text}");
    let name = names_in(&old(&fleet)).pop().expect("a backup");
    assert!(text.contains("Backups, on the instruments:"), "{text}");
    assert!(text.contains(&format!("NDXLARMOR: C:\\data\\old\\{name}: ")), "{text}");
    assert!(text.contains("without 1 file that could not be read"), "{text}");
    assert!(text.contains("the backup of server lacks what could not be read: odd"), "{text}");
    assert_eq!(fleet.ibex(NAME), server, "the same server still runs");

    let all = listed(&fleet);
    let states: Vec<_> = all.iter().map(|b| (b["name"].as_str().unwrap_or(""), b["state"].as_str().unwrap_or(""))).collect();
    assert_eq!(states, [(name.as_str(), "good"), ("ibex_backup_2025_03_02", "uncatalogued")]);
    let of_server = all[0]["zips"].as_array().and_then(|z| z.iter().find(|z| z["place"] == "server")).expect("the server's zip");
    assert_eq!((of_server["version"].as_str(), of_server["unreadable"].as_u64()), (Some("26.8.0"), Some(1)));
    let table = fleet.command(&["backup", NAME, "--list"]).output().expect("the binary starts");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.lines().any(|l| l.contains(&name) && l.contains("good") && l.contains("26.8.0")), "{table}");

    let out = fleet.dir().join("out");
    std::fs::create_dir(&out).expect("a folder");
    let zip = old(&fleet).join(&name).join("Client_E4.zip");
    assert!(Command::new("bsdtar").arg("-xf").arg(zip).arg("-C").arg(&out).status().expect("tar runs").success());
    assert_eq!(Fleet::tree(&out), Fleet::tree(&fleet.root(NAME).join("c/Instrument/Apps/Client_E4")));
}

#[test]
fn a_restore_is_whole_or_a_part_and_a_rollback_takes_it_back() {
    let fleet = Fleet::running(&[NAME]);
    well_or_nothing(&fleet.run(&["backup", NAME]));
    let before = fleet.apps(NAME);
    let server = fleet.server(NAME);
    std::fs::write(server.join("VERSION.txt"), "9.9.9\n").expect("a file");
    std::fs::write(server.join("ioc/made_since.txt"), "x").expect("a file");
    let client = fleet.root(NAME).join("c/Instrument/Apps/Client_E4/VERSION.txt");
    std::fs::write(&client, "9.9.9\n").expect("a file");
    let changed = fleet.apps(NAME);

    let restored = fleet.run(&["restore", NAME, "--yes"]);
    well(&restored);
    assert_eq!(fleet.apps(NAME), before);
    assert!(fleet.ibex(NAME).is_some(), "IBEX runs");
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(fleet.apps(NAME), changed, "a restore can be taken back");

    well(&fleet.run(&["restore", NAME, "--yes", "--of", "client"]));
    assert_ne!(std::fs::read_to_string(&client).expect("a file"), "9.9.9\n");
    assert_eq!(std::fs::read_to_string(server.join("VERSION.txt")).expect("a file"), "9.9.9\n");

    let name = names_in(&old(&fleet)).pop().expect("a backup");
    well(&fleet.run(&["restore", NAME, "--yes", "--file", "server\\version.txt", "--backup", &name]));
    assert_ne!(std::fs::read_to_string(server.join("VERSION.txt")).expect("a file"), "9.9.9\n");
    assert!(server.join("ioc/made_since.txt").exists(), "only that file was asked for");
}

/// A backup changes nothing that is installed.
fn well_or_nothing(ended: &Ended) {
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "ok"), "{}", ended.story());
}

#[test]
fn a_damaged_zip_stops_nothing_and_mistakes_are_named() {
    let fleet = Fleet::running(&[NAME]);
    well_or_nothing(&fleet.run(&["backup", NAME]));
    let (before, server) = (fleet.apps(NAME), fleet.ibex(NAME));
    let folder = only_backup(&fleet);
    let zip = folder.join("EPICS.zip");
    let mut bytes = std::fs::read(&zip).expect("a zip");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&zip, bytes).expect("a zip");
    let failed = fleet.run(&["restore", NAME, "--yes"]);
    assert_eq!((failed.code, failed.outcome(NAME).as_str()), (1, "failed"), "{}", failed.story());
    let error = &failed.last(NAME, "instrument_finished").expect("it is told")["error"];
    assert!(error["message"].as_str().is_some_and(|m| m.contains("EPICS.zip is not what was written at the backup")), "{error}");
    for (arguments, told) in [
        (["--of", "sever"], "there is no place named `sever`"),
        (["--backup", "ibex_backup_1999_01_01"], "there is no backup C:\\\\data\\\\old\\\\ibex_backup_1999_01_01"),
        (["--file", "server\\nothing.txt"], "does not hold nothing.txt"),
    ] {
        let failed = fleet.run(&[&["restore", NAME, "--yes"][..], &arguments].concat());
        assert!(failed.code != 0 && failed.story().contains(told), "{told}: {}", failed.story());
    }
    assert_eq!(fleet.apps(NAME), before);
    assert_eq!(fleet.ibex(NAME), server, "the same server runs all the time");
}

#[test]
fn a_backup_whose_worker_is_killed_in_the_middle_is_made_again() {
    let fleet = Fleet::running(&[NAME]);
    // Enough for a while.
    for n in 0..12_u8 {
        let bytes: Vec<u8> = (0..4_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ n).collect();
        std::fs::write(fleet.server(NAME).join(format!("ioc/{n}.bin")), bytes).expect("a file");
    }
    let root = fleet.root(NAME);
    let mut watched = fleet.start(&["backup", NAME]);
    let started = watched.until(|e| e["event"] == "step_started" && e["step"]["action"] == "backup");
    assert!(started.is_some());
    wait_for("the first zip is being written, or all are there", || (!names_in(&old(&fleet)).is_empty()).then_some(()));
    workers(&root).into_iter().for_each(kill);
    watched.until(|e| e["event"] == "run_finished").expect("the controller goes on with a new worker");
    wait_for("the instrument is free", || is_free(&root).then_some(()));
    let folder = only_backup(&fleet);
    let all = listed(&fleet);
    assert_eq!(all[0]["state"], "good", "{all:?}");
    assert!(folder.join("catalogue.json").is_file());
}

#[test]
fn old_backups_move_to_the_share_and_a_release_does_not_mind_when_they_cannot() {
    let fleet = Fleet::running(&[NAME]);
    for _ in 0..4 {
        well_or_nothing(&fleet.run(&["backup", NAME]));
    }
    let share = fleet.root(NAME).join("unc/isis.cclrc.ac.uk/inst$/backups$/stage-deleted").join(NAME);
    let (here, there) = (names_in(&old(&fleet)), names_in(&share));
    assert_eq!((here.len(), there.len()), (3, 1), "{here:?} {there:?}");
    assert!(!here.contains(&there[0]));
    // The share is not there any more.
    std::fs::remove_dir_all(fleet.root(NAME).join("unc")).expect("removed");
    std::fs::write(fleet.root(NAME).join("unc"), "").expect("a file in its place");
    let released = fleet.run(&["release", NAME, "--yes"]);
    well(&released);
    assert_eq!(names_in(&old(&fleet)).len(), 4, "nothing is lost");
    let told = released.events.iter().find(|e| e["event"] == "reminder" && e["text"].to_string().contains("was not moved to"));
    assert!(told.is_some(), "{}", released.story());
}
