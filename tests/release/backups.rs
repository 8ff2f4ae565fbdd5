//! Backups and restores, as operators meet them: made beside the running IBEX, listed, put back whole or in part, taken
//! back again; damaged.

use crate::support::{Ended, Fleet};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "NDXLARMOR";

pub(super) fn old(fleet: &Fleet) -> PathBuf {
    fleet.root(NAME).join("c/data/old")
}

pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(all) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> = all.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The one backup folder that is there, whose zips `unzip` finds whole.
pub(super) fn only_backup(fleet: &Fleet) -> PathBuf {
    let names = names_in(&old(fleet));
    assert_eq!(names.len(), 1, "{names:?}");
    let folder = old(fleet).join(&names[0]);
    expect_whole(&folder);
    folder
}

/// The zips of a backup are what `unzip` reads without a complaint.
pub(super) fn expect_whole(folder: &Path) {
    let zips: Vec<String> = names_in(folder).into_iter().filter(|n| n.ends_with(".zip")).collect();
    assert!(!zips.is_empty(), "{}", folder.display());
    for zip in zips {
        let tested = Command::new("unzip").arg("-tq").arg(folder.join(&zip)).output().expect("unzip runs");
        let said = String::from_utf8_lossy(&[tested.stdout, tested.stderr].concat()).into_owned();
        assert!(tested.status.success(), "{zip}: {said}");
    }
}

fn well(ended: &Ended) {
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
}

/// What `backup --list` says of the instrument.
pub(super) fn listed(fleet: &Fleet) -> Vec<serde_json::Value> {
    let asked = Ended::of(fleet.command(&["backup", NAME, "--list"]).args(["--output", "json"]));
    assert_eq!(asked.code, 0, "{}", asked.story());
    let rows: serde_json::Value = serde_json::from_str(&asked.stdout).expect("a document");
    rows[0]["backups"].as_array().expect("a list").clone()
}

/// A file of the server that nothing can make smaller.
pub(crate) fn make_large(fleet: &Fleet, bytes: u64) -> PathBuf {
    let file = fleet.server(NAME).join("ioc/large.bin");
    let mut random = std::fs::File::open("/dev/urandom").expect("random bytes").take(bytes);
    std::io::copy(&mut random, &mut std::fs::File::create(&file).expect("a file")).expect("a large file");
    file
}

#[test]
fn a_damaged_server_is_not_said_to_be_backed_up() {
    let fleet = Fleet::running(&[NAME]);
    std::fs::remove_file(fleet.server(NAME).join("VERSION.txt")).expect("the version of the server");
    let ended = fleet.run(&["backup", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "failed"), "{}", ended.story());
    let story = ended.story();
    assert!(story.contains("the backup of C:\\\\Instrument\\\\Apps\\\\EPICS does not hold VERSION.txt"), "{story}");
    assert!(story.contains("take VERSION.txt out of `must_hold`"), "{story}");
    assert_eq!(names_in(&old(&fleet)), [""; 0], "half a backup is none");
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
pub(super) fn well_or_nothing(ended: &Ended) {
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
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    for (arguments, told) in [
        (&["--of", "sever"][..], "there is no place named `sever`"),
        (&["--backup", "ibex_backup_1999_01_01"], "there is no backup C:\\\\data\\\\old\\\\ibex_backup_1999_01_01"),
        (&["--file", "server\\nothing.txt", "--backup", &name], "does not hold nothing.txt"),
        // What was found out once is known from then on.
        (&[], "is damaged and was passed over"),
    ] {
        let failed = fleet.run(&[&["restore", NAME, "--yes"][..], arguments].concat());
        assert!(failed.code != 0 && failed.story().contains(told), "{told}: {}", failed.story());
    }
    assert_eq!(fleet.apps(NAME), before);
    assert_eq!(fleet.ibex(NAME), server, "the same server runs all the time");
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

/// Runs git in a folder.
fn git(folder: &Path, arguments: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(folder).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments);
    assert!(git.output().expect("git runs").status.success(), "git {arguments:?}");
}

#[test]
fn what_was_done_since_a_restore_is_told_before_a_rollback_and_saved_by_it() {
    let fleet = Fleet::running(&[NAME]);
    let settings = fleet.root(NAME).join("c/Instrument/Settings/config").join(NAME);
    std::fs::create_dir_all(settings.join("configurations")).expect("folders");
    std::fs::write(settings.join("configurations/a.xml"), "<a/>").expect("a file");
    git(&settings, &["init", "-q"]);
    git(&settings, &["add", "."]);
    git(&settings, &["commit", "-qm", "first"]);
    well_or_nothing(&fleet.run(&["backup", NAME]));
    std::fs::write(settings.join("configurations/b.xml"), "<b/>").expect("a file");
    let instrument = fleet.root(NAME).join("c/Instrument");
    let before = Fleet::tree(&instrument.join("Settings"));
    well(&fleet.run(&["restore", NAME, "--yes", "--of", "all"]));
    assert!(!settings.join("configurations/b.xml").exists(), "it was made after the backup");

    std::fs::write(settings.join("configurations/x.xml"), "precious").expect("a file");
    git(&settings, &["add", "."]);
    git(&settings, &["commit", "-qm", "precious"]);
    std::fs::write(fleet.server(NAME).join("ioc/NEW.txt"), "new").expect("a file");
    let changed = Fleet::tree(&instrument.join("Settings"));
    let refused = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!(refused.code, 4, "{}", refused.story());
    for told in ["NEW.txt", "x.xml", "NDXLARMOR (commits made since)"] {
        assert!(refused.stderr.contains(told), "{told}: {}", refused.story());
    }
    assert!(!refused.stderr.contains("objects"), "{}", refused.story());
    assert_eq!(Fleet::tree(&instrument.join("Settings")), changed, "nothing was touched");

    let back = fleet.run(&["rollback", NAME, "--yes", "--discard-newer"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(Fleet::tree(&instrument.join("Settings")), before);
    assert!(!fleet.server(NAME).join("ioc/NEW.txt").exists());
    let saved = fleet.root(NAME).join(".ibexdeploy/hand-changes");
    let all: String = names_in(&saved)
        .iter()
        .map(|zip| Command::new("unzip").arg("-l").arg(saved.join(zip)).output().expect("unzip runs"))
        .map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned())
        .collect();
    for kept in ["ioc/NEW.txt", "configurations/x.xml", ".git/objects/", ".git/refs/heads/"] {
        assert!(all.contains(kept), "{kept}: {all}");
    }
}

#[test]
fn after_a_restore_of_another_version_that_is_what_is_installed() {
    let fleet = Fleet::running(&[NAME]);
    well(&fleet.run(&["release", NAME, "--yes"]));
    let backup = names_in(&old(&fleet)).pop().expect("the release made one");
    let patch = fleet.dir().join("patch.zip");
    std::fs::create_dir_all(fleet.dir().join("patch/EPICS/ioc")).expect("folders");
    std::fs::write(fleet.dir().join("patch/EPICS/ioc/patched.txt"), "x").expect("a file");
    let mut tar = Command::new("bsdtar");
    tar.args(["--format", "zip", "-cf"]).arg(&patch).arg("-C").arg(fleet.dir().join("patch")).arg("EPICS");
    let zipped = tar.status().expect("tar runs");
    assert!(zipped.success());
    let put = fleet.run(&["hotfix", NAME, &patch.display().to_string(), "--yes"]);
    well(&put);
    let installed = |fleet: &Fleet| {
        let asked = Ended::of(fleet.command(&["status", NAME]).args(["--output", "json"]));
        let rows: serde_json::Value = serde_json::from_str(&asked.stdout).unwrap_or_else(|_| panic!("{}", asked.story()));
        let status = rows[0]["status"].clone();
        let by_hand = status["hand_changes"]["EPICS"].as_array().map(Vec::len);
        let hotfixes = status["hotfixes"].as_array().map(Vec::len);
        (status["installed"]["EPICS"]["version"].as_str().map(str::to_owned), by_hand, hotfixes)
    };
    let patched = (Some("26.9.0".to_owned()), Some(0), Some(1));
    assert_eq!(installed(&fleet), patched);

    let restored = fleet.run(&["restore", NAME, "--yes", "--backup", &backup]);
    well(&restored);
    assert_eq!(installed(&fleet), (Some("26.8.0".to_owned()), Some(0), Some(0)), "{}", restored.story());
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(installed(&fleet), patched, "as before the restore");
}

#[test]
fn the_instruments_own_settings_can_be_named() {
    let fleet = Fleet::running(&[NAME]);
    let config = fleet.root(NAME).join("c/Instrument/Settings/config");
    std::fs::create_dir_all(config.join(NAME)).expect("folders");
    std::fs::create_dir_all(config.join("common")).expect("folders");
    let (own, common) = (config.join(NAME).join("a.xml"), config.join("common/c.xml"));
    [&own, &common].into_iter().for_each(|file| std::fs::write(file, "then").expect("a file"));
    well_or_nothing(&fleet.run(&["backup", NAME]));
    [&own, &common].into_iter().for_each(|file| std::fs::write(file, "now").expect("a file"));
    well(&fleet.run(&["restore", NAME, "--yes", "--of", "settings"]));
    let read = |file: &Path| std::fs::read_to_string(file).expect("a file");
    assert_eq!((read(&own).as_str(), read(&common).as_str()), ("then", "now"));
}
