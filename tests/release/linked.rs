//! Versions beside each other, with a link to the one that is used: a release makes a new folder and switches the link.

use crate::kill::machine::{differences, installed, kill_worker_when};
use crate::support::{Fleet, SmallDisk};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// Laid out so in the shipped inventory.
const NAME: &str = "NDXZOOM";

const PLACES: [(&str, &str); 3] = [("EPICS", "EPICS"), ("Client_E4", "Client"), ("Python3", "genie_python_3")];

fn versions(fleet: &Fleet) -> PathBuf {
    fleet.root(NAME).join("e/Versions")
}

/// The versions that the links lead to; nothing for a place that is a folder itself.
fn linked(fleet: &Fleet) -> Vec<Option<String>> {
    let apps = fleet.root(NAME).join("c/Instrument/Apps");
    let version = |(place, _): &(&str, &str)| {
        let to = std::fs::read_link(apps.join(place)).ok()?;
        let below = to.strip_prefix(versions(fleet).canonicalize().ok()?).ok()?.to_path_buf();
        Some(below.parent()?.display().to_string())
    };
    PLACES.iter().map(version).collect()
}

fn all_at(version: &str) -> Vec<Option<String>> {
    vec![Some(version.to_owned()); 3]
}

/// Makes a further release of the kit's newest one, with another file in it.
fn another_release(fleet: &Fleet, version: &str) {
    let folder = fleet.kits().join(version);
    let copied = Command::new("cp").arg("-a").arg(fleet.kits().join("26.9.0")).arg(&folder).status().expect("cp");
    assert!(copied.success());
    for (component, file) in [("EPICS", "VERSION.txt"), ("Client/Client", "VERSION.txt"), ("genie_python_3", "VERSION.txt")] {
        std::fs::write(folder.join(component).join(file), format!("{version}\r\n")).expect("a version");
    }
}

fn release(fleet: &Fleet, version: &str) -> crate::support::Ended {
    let ended = fleet.run(&["release", NAME, "--yes", "--kit", version, "--skip-tags", "backup"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    ended
}

fn kept_versions(fleet: &Fleet) -> BTreeSet<String> {
    let listed = std::fs::read_dir(versions(fleet)).into_iter().flatten().flatten();
    listed.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Files by their content, of all versions.
fn tree_of(fleet: &Fleet, version: &str) -> BTreeMap<String, String> {
    Fleet::tree(&versions(fleet).join(version))
}

#[test]
fn a_plain_machine_becomes_a_linked_one_and_is_as_before_after_a_rollback() {
    let fleet = Fleet::running(&[NAME]);
    std::fs::write(fleet.server(NAME).join("ioc/run.log"), "what a program wrote\n").expect("a log");
    let before = installed(&fleet, NAME);
    assert_eq!(linked(&fleet), [None, None, None]);
    let ended = release(&fleet, "26.9.0");
    assert_eq!(linked(&fleet), all_at("26.9.0"), "{}", ended.story());
    assert_eq!(fleet.unlike(NAME, "26.9.0", &["ioc/run.log"]), [""; 0]);
    let log = std::fs::read_to_string(fleet.server(NAME).join("ioc/run.log")).expect("the log came along");
    assert_eq!(log, "what a program wrote\n");
    assert!(fleet.ibex(NAME).is_some(), "{}", ended.story());
    let same = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((same.code, same.outcome(NAME).as_str()), (0, "ok"), "{}", same.story());

    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(differences(&installed(&fleet, NAME), &before), [""; 0]);
    assert!(fleet.ibex(NAME).is_some());
    assert!(!versions(&fleet).exists(), "nothing of the new version is left");
}

#[test]
fn going_back_is_switching_the_link_and_what_is_the_instruments_comes_along() {
    let fleet = Fleet::running(&[NAME]);
    release(&fleet, "26.9.0");
    let first = tree_of(&fleet, "26.9.0");
    another_release(&fleet, "26.10.0");
    release(&fleet, "26.10.0");
    assert_eq!(linked(&fleet), all_at("26.10.0"));
    assert_eq!(tree_of(&fleet, "26.9.0"), first, "the old version is as it was");
    // The console's history belongs to the instrument, whatever the version.
    let client = fleet.root(NAME).join("c/Instrument/Apps/Client_E4");
    std::fs::write(client.join("console_history.txt"), "g.begin()\n").expect("a file");
    std::fs::create_dir_all(client.join("workspace")).expect("a folder");
    std::fs::write(client.join("workspace/layout.xml"), "<mine/>\n").expect("a file");
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert_eq!(linked(&fleet), all_at("26.9.0"));
    let history = std::fs::read_to_string(client.join("console_history.txt")).expect("it came along");
    assert_eq!(history, "g.begin()\n");
    let now: BTreeMap<String, String> = tree_of(&fleet, "26.9.0");
    let own = |path: &&String| path.contains("console_history") || path.contains("workspace");
    let others: BTreeMap<_, _> = now.iter().filter(|(path, _)| !own(path)).map(|(p, h)| (p.clone(), h.clone())).collect();
    assert_eq!(others, first);
    assert!(!kept_versions(&fleet).contains("26.10.0"), "{:?}", kept_versions(&fleet));
    assert!(fleet.ibex(NAME).is_some());
}

#[test]
fn a_release_that_fails_never_leaves_the_old_version() {
    let fleet = Fleet::running(&[NAME]);
    release(&fleet, "26.9.0");
    let before = installed(&fleet, NAME);
    another_release(&fleet, "26.10.0");
    fleet.add_to_script("26.10.0", "start_ibex_server.bat", "echo 'no database' >&2\nexit 3");
    let failed = fleet.run(&["release", NAME, "--yes", "--kit", "26.10.0"]);
    assert_eq!((failed.code, failed.outcome(NAME).as_str()), (1, "rolled_back"), "{}", failed.story());
    assert_eq!(linked(&fleet), all_at("26.9.0"));
    assert_eq!(differences(&installed(&fleet, NAME), &before), [""; 0]);
    assert!(fleet.ibex(NAME).is_some(), "{}", failed.story());
    assert_eq!(kept_versions(&fleet), BTreeSet::from(["26.9.0".to_owned()]));
}

#[test]
fn old_versions_go_when_no_release_needs_them() {
    let fleet = Fleet::running(&[NAME]);
    for version in ["26.10.0", "26.11.0", "26.12.0"] {
        another_release(&fleet, version);
    }
    for version in ["26.9.0", "26.10.0", "26.11.0"] {
        release(&fleet, version);
    }
    let all = |versions: &[&str]| versions.iter().map(|v| (*v).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(kept_versions(&fleet), all(&["26.9.0", "26.10.0", "26.11.0"]));
    release(&fleet, "26.12.0");
    assert_eq!(kept_versions(&fleet), all(&["26.10.0", "26.11.0", "26.12.0"]));
    for version in ["26.11.0", "26.10.0"] {
        let back = fleet.run(&["rollback", NAME, "--yes"]);
        assert_eq!((back.code, linked(&fleet)), (0, all_at(version)), "{}", back.story());
    }
}

#[test]
fn a_version_that_is_there_already_gets_a_folder_of_another_name() {
    let fleet = Fleet::running(&[NAME]);
    let strange = versions(&fleet).join("26.9.0/EPICS");
    std::fs::create_dir_all(&strange).expect("a folder");
    std::fs::write(strange.join("mine.txt"), "not ibexdeploy's\n").expect("a file");
    release(&fleet, "26.9.0");
    assert_eq!(linked(&fleet)[0].as_deref(), Some("26.9.0-2"));
    assert!(strange.join("mine.txt").exists());
}

#[test]
fn too_little_room_for_a_whole_version_is_found_out_while_ibex_runs() {
    let fleet = Fleet::new(&ibexdeploy::rehearsal::KitShape::small().without_git());
    fleet.make(&[NAME]);
    std::fs::create_dir_all(fleet.root(NAME).join("e")).expect("a drive");
    let Some(_disk) = SmallDisk::drive(&fleet, NAME, "e", 100_000) else { return };
    fleet.start_ibex(NAME);
    let (before, server) = (fleet.apps(NAME), fleet.ibex(NAME));
    let ended = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "failed"), "{}", ended.story());
    assert_eq!(ended.last(NAME, "instrument_finished").expect("it ended")["error"]["kind"], "out_of_space", "{}", ended.story());
    assert!(ended.last(NAME, "outage_started").is_none(), "{}", ended.story());
    assert_eq!((fleet.apps(NAME), fleet.ibex(NAME)), (before, server));
}

/// Runs a release, and kills its worker once the journal has so many intents; nothing when the run was over by then.
fn killed_after(intents: usize, failing: bool) -> Option<(Fleet, String)> {
    let fleet = Fleet::running(&[NAME]);
    if failing {
        fleet.add_to_script("26.9.0", "start_ibex_server.bat", "exit 3");
    }
    let root = fleet.root(NAME);
    let controller = fleet.start(&["release", NAME, "--yes", "--skip-tags", "backup"]);
    let noted = |all: &[serde_json::Value], what: &str| all.iter().filter(|e| !e[what].is_null()).count();
    let what = if failing { "undone" } else { "intend" };
    let ended = kill_worker_when(&root, controller, &format!("{intents} of {what}"), |all| noted(all, what) >= intents)?;
    Some((fleet, ended))
}

#[test]
fn a_worker_killed_between_folder_and_link_ends_on_the_new_version() {
    let mut hits = 0;
    for intents in 3..8 {
        let Some((fleet, ended)) = killed_after(intents, false) else { continue };
        hits += 1;
        assert_eq!((ended.as_str(), linked(&fleet)), ("changed", all_at("26.9.0")), "after {intents} intents");
        assert_eq!(fleet.unlike(NAME, "26.9.0", &[]), [""; 0], "after {intents} intents");
        assert!(fleet.ibex(NAME).is_some(), "after {intents} intents");
    }
    assert!(hits > 0, "every run was over before it was killed");
}

#[test]
fn a_worker_killed_while_it_goes_back_ends_on_the_old_version() {
    let mut hits = 0;
    for undone in [1, 3, 5] {
        let Some((fleet, ended)) = killed_after(undone, true) else { continue };
        hits += 1;
        assert_eq!((ended.as_str(), linked(&fleet)), ("rolled_back", vec![None; 3]), "after {undone}");
        assert_eq!(fleet.unlike(NAME, "26.8.0", &[]), [""; 0], "after {undone}");
        assert!(fleet.ibex(NAME).is_some(), "after {undone}");
    }
    assert!(hits > 0, "every run was over before it was killed");
}

#[test]
fn labview_modules_come_by_a_list_with_the_machines_own_ini_files_over_them() {
    let fleet = Fleet::running(&[NAME]);
    let drive = fleet.root(NAME).join("c");
    let put = |path: &str, text: &str| {
        let file = drive.join(path);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, text).expect("a file");
    };
    for file in ["dae/dae.vi", "dae/dae.ini", "LVDCOM Interface/lvdcom.vi", "Eurotherm/not_wanted.vi"] {
        put(&format!("modules/{file}"), "of all machines");
    }
    put("Instrument/Settings/config/NDXZOOM/labview/dae/dae.ini", "of this machine");
    let done = fleet.run(&["run", "labview", NAME, "--yes", "--set", r"modules_from=C:\modules"]);
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    let text = |path: &str| std::fs::read_to_string(drive.join("LabVIEW Modules").join(path)).ok();
    assert_eq!(text("dae/dae.ini").as_deref(), Some("of this machine"));
    assert_eq!(text("LVDCOM Interface/lvdcom.vi").as_deref(), Some("of all machines"));
    assert_eq!(text("Eurotherm/not_wanted.vi"), None);
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, text("dae/dae.vi"), text("dae/dae.ini")), (0, None, None), "{}", back.story());
}

#[test]
fn what_was_staged_days_before_is_used_and_a_new_machine_begins_linked() {
    let fleet = Fleet::running(&[NAME]);
    let staged = fleet.run(&["stage", NAME, "--yes"]);
    assert_eq!(staged.code, 0, "{}", staged.story());
    assert!(staged.last(NAME, "staged").expect("it staged")["fetched_bytes"].as_u64() > Some(0), "{}", staged.story());
    assert_eq!(linked(&fleet), [None, None, None]);
    let later = release(&fleet, "26.9.0");
    assert_eq!(later.last(NAME, "staged").expect("it staged")["fetched_bytes"], 0, "{}", later.story());
    assert_eq!(linked(&fleet), all_at("26.9.0"));

    let fresh = Fleet::new(&ibexdeploy::rehearsal::KitShape::small().without_git());
    let done = fresh.run(&["install", NAME, "--profile", "new", "--yes"]);
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    assert_eq!(linked(&fresh), all_at("26.9.0"));
    assert!(fresh.ibex(NAME).is_some());
}

#[test]
fn a_hotfix_that_is_kept_is_in_the_new_version_and_can_be_taken_back_there() {
    let fleet = Fleet::running(&[NAME]);
    release(&fleet, "26.9.0");
    let (path, archive) = ("ioc/master/GALIL/st.cmd", fleet.dir().join("galil.zip"));
    let file = fleet.server(NAME).join(path);
    let original = std::fs::read_to_string(&file).expect("a file of the kit");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&archive).expect("an archive"));
    for (name, text) in [("hotfix.yaml", "id: galil\ndescription: slower\n"), (&*format!("EPICS/{path}"), "slower\r\n")] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("an entry");
        zip.write_all(text.as_bytes()).expect("its content");
    }
    zip.finish().expect("a whole archive");
    let put = fleet.run(&["hotfix", NAME, &archive.display().to_string(), "--yes"]);
    assert_eq!((put.code, put.outcome(NAME).as_str()), (0, "changed"), "{}", put.story());

    another_release(&fleet, "26.10.0");
    let done = fleet.run(&["release", NAME, "--yes", "--kit", "26.10.0", "--skip-tags", "backup", "--keep-hotfixes"]);
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    assert_eq!(linked(&fleet), all_at("26.10.0"));
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "slower\r\n");
    let back = fleet.run(&["hotfix", NAME, "--revert", "galil", "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "changed"), "{}", back.story());
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), original);
    assert_eq!(fleet.unlike(NAME, "26.10.0", &[]), [""; 0]);
}

#[test]
fn a_restore_puts_no_other_version_into_the_folder_of_a_version() {
    let fleet = Fleet::running(&[NAME]);
    release(&fleet, "26.9.0");
    assert_eq!(fleet.run(&["backup", NAME]).code, 0);
    std::fs::write(fleet.server(NAME).join("ioc/made_since.txt"), "x").expect("a file");
    let same = fleet.run(&["restore", NAME, "--yes"]);
    assert_eq!((same.code, same.outcome(NAME).as_str()), (0, "changed"), "{}", same.story());
    assert!(!fleet.server(NAME).join("ioc/made_since.txt").exists(), "the same version is put back");

    another_release(&fleet, "26.10.0");
    release(&fleet, "26.10.0");
    let (before, server) = (tree_of(&fleet, "26.10.0"), fleet.ibex(NAME));
    let refused = fleet.run(&["restore", NAME, "--yes"]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (1, "failed"), "{}", refused.story());
    assert!(refused.stdout.contains("26.10.0, and the backup holds 26.9.0"), "{}", refused.story());
    assert!(refused.stdout.contains("--kit VERSION"), "{}", refused.story());
    assert_eq!((tree_of(&fleet, "26.10.0"), fleet.ibex(NAME)), (before, server), "nothing was stopped or changed");
}
