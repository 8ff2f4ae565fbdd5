//! What operators do, over SSH to real servers: the instruments are left as the same commands leave sandboxes of this
//! machine.

use crate::command::{Ended, tree};
use crate::sandbox::{ibex, installed, is_free, journal, outcome, staged, wait_for};
use crate::support::{Fleet, Links, NEWER, workers};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const NAME: &str = "NDXLARMOR";
const OLDER: &str = "26.8.0";

/// Those that are compared with twins.
const TWINS: [&str; 2] = ["NDXLARMOR", "NDXWISH"];

/// Files on the drive, but for those that tell of times and processes; backups by what is in them.
fn drive(root: &Path) -> BTreeMap<String, String> {
    let drive = root.join("c");
    let mut files = tree(&drive);
    files.retain(|path, _| !path.ends_with(".log") && !path.ends_with(".pid") && !path.contains("/.ibexdeploy/"));
    let archives: Vec<String> = files.keys().filter(|path| path.ends_with(".zip")).cloned().collect();
    for archive in archives {
        files.remove(&archive);
        for (path, sum) in inside(&drive.join(&archive)) {
            files.insert(format!("a backup: {path}"), sum);
        }
    }
    // Its folder is named after the day and the minute, and what PVs were is named after the run.
    files.retain(|path, _| !path.starts_with("data/old/") && !path.contains("/deployment_pv_backups/"));
    files
}

/// Paths and checksums in an archive, by `unzip`.
fn inside(archive: &Path) -> BTreeMap<String, String> {
    let listed = Command::new("unzip").arg("-v").arg(archive).output().expect("unzip runs");
    // 1: there is nothing in it.
    assert!(matches!(listed.status.code(), Some(0 | 1)), "{}", archive.display());
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    // Length Method Size Cmpr Date Time CRC-32 Name
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.len() >= 8).then(|| (words[7..].join(" "), format!("{} {}", words[0], words[6])))
    };
    text.lines().skip(3).filter_map(entry).collect()
}

/// A command for all, over SSH and to the twins, ends well.
fn both(fleet: &Fleet, arguments: &[&str]) -> Ended {
    let over_ssh = fleet.run(&[&[arguments[0], "--all"], &arguments[1..]].concat());
    assert_eq!(over_ssh.code, 0, "{}", over_ssh.story());
    let rehearsed = fleet.rehearse(&[&[arguments[0], &TWINS.join(",")], &arguments[1..]].concat());
    assert_eq!(rehearsed.code, 0, "{}", rehearsed.story());
    for name in TWINS {
        let (ours, theirs) = (drive(&fleet.root(name)), drive(&fleet.dir().join("twins").join(name)));
        assert!(!ours.is_empty());
        assert_eq!(crate::sandbox::differences(&ours, &theirs), [""; 0], "{name} and its twin after {arguments:?}");
        assert_eq!(over_ssh.outcome(name), rehearsed.outcome(name), "{name}");
    }
    over_ssh
}

#[test]
fn thirty_servers_are_left_as_sandboxes_are() {
    let fleet = Fleet::up_empty(30);
    let mut names: Vec<String> = std::fs::read_dir(fleet.dir().join("sandboxes"))
        .expect("sandboxes")
        .map(|e| e.expect("a folder").file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("NDX"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 30);
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    fleet.put_agents(&all);

    let first = both(&fleet, &["release", "--yes"]);
    for name in &all {
        assert_eq!(first.outcome(name), "changed", "{name}");
        assert!(first.last(name, "bringing").is_none(), "{name} had the agent");
        assert_eq!(fleet.unlike(name, OLDER, &[]), [""; 0], "{name}");
    }

    fleet.bring_back(NEWER);
    let (old, new) = (tree(&fleet.kits().join(OLDER)), tree(&fleet.kits().join(NEWER)));
    let size = |path: &String| fleet.kits().join(NEWER).join(path).metadata().expect("a file of the kit").len();
    let changed: u64 = new.iter().filter(|(path, hash)| old.get(*path) != Some(*hash)).map(|(path, _)| size(path)).sum();
    let update = both(&fleet, &["release", "--yes"]);
    for name in &all {
        assert_eq!(fleet.unlike(name, NEWER, &[]), [""; 0], "{name}");
        let fetched = update.last(name, "staged").expect("it staged files")["fetched_bytes"].as_u64().expect("a number");
        assert!(fetched > 0 && fetched * 10 <= changed * 11, "{name} fetched {fetched} bytes for {changed} changed ones");
        let versions = &update.last(name, "instrument_finished").expect("it finished")["versions"]["EPICS"];
        assert_eq!((&versions["from"], &versions["to"]), (&OLDER.into(), &NEWER.into()), "{name}");
    }

    let status = fleet.run(&["status", "--all"]);
    assert_eq!(status.code, 0, "{}", status.story());
    let document: Value = serde_json::from_str(&status.stdout).expect("one document");
    let shown = document.as_array().expect("a list");
    assert_eq!(shown.len(), 30, "{}", status.story());
    assert!(shown.iter().all(|one| one.to_string().contains(NEWER)), "{}", status.story());

    both(&fleet, &["backup", "--yes"]);
    let back = both(&fleet, &["rollback", "--yes"]);
    for name in &all {
        assert_eq!(back.outcome(name), "rolled_back", "{name}");
        assert_eq!(fleet.unlike(name, OLDER, &[]), [""; 0], "{name}");
        wait_for("the workers end", || workers(&fleet.root(name)).is_empty().then_some(()));
        assert!(is_free(&fleet.root(name)) && ibex(&fleet.root(name)).is_some(), "{name}");
        assert_eq!(staged(&fleet.root(name)), [""; 0], "{name}");
    }
}

#[test]
fn what_was_staged_over_the_wire_is_not_sent_again() {
    let links = Links::one(NAME);
    let fleet = &links.fleet;
    let shown = fleet.run(&["inventory", "show", NAME]);
    assert!(shown.stdout.contains("push"), "files go over the link: {}", shown.story());
    let before = installed(&fleet.root(NAME));
    let at_stage = fleet.run(&["stage", NAME, "--yes"]);
    assert_eq!(at_stage.code, 0, "{}", at_stage.story());
    assert!(at_stage.last(NAME, "staged").expect("it staged")["fetched_bytes"].as_u64() > Some(0));
    assert_eq!(installed(&fleet.root(NAME)), before);

    let over_the_wire = links.lines[0].proxy.counts().to_server;
    let released = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!(released.code, 0, "{}", released.story());
    assert_eq!(released.last(NAME, "staged").expect("it staged")["fetched_bytes"], 0);
    assert!(links.lines[0].proxy.counts().to_server - over_the_wire < over_the_wire, "less went over the wire");
    assert_eq!(fleet.unlike(NAME, NEWER, &[]), [""; 0]);
    links.lines[0].ends("after the release");
    // The release has taken the files over.
    let left: Vec<_> = staged(&fleet.root(NAME)).iter().flat_map(|folder| tree(Path::new(folder))).collect();
    assert_eq!(left, [], "staged content");
}

#[test]
fn a_second_controller_is_refused_with_the_name_of_the_first() {
    let links = Links::one(NAME);
    let fleet = &links.fleet;
    let go = fleet.dir().join("go");
    fleet.add_to_script("create_icp_binaries.bat", &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
    let mut first = fleet.start(&["release", NAME, "--yes"]);
    let begun = first.until(|e| e["event"] == "phase_started" && e["phase"] == "apply").expect("the first one applies");
    let accepted = journal(&fleet.root(NAME)).into_iter().find(|e| e["event"]["event"] == "accepted").expect("an entry");
    let (run, owner) = (begun["run"].as_str().expect("a run"), accepted["event"]["operator"].as_str().expect("an operator"));

    let second = fleet.run_of(&["release", NAME, "--yes"], "other");
    let said = second.story();
    assert_eq!(second.code, 4, "{said}");
    let since = accepted["at"].as_str().expect("a time").split_once('.').expect("parts of a second").0;
    for wanted in [format!("{owner} has"), NAME.to_owned(), format!("run {run}"), format!("since {}", &since[..16])] {
        assert!(said.contains(&wanted), "{wanted}: {said}");
    }

    std::fs::write(&go, "").expect("a file");
    let finished = first.until(|e| e["event"] == "instrument_finished").expect("the first one finishes");
    assert_eq!(finished["outcome"], "changed");
    assert!(first.until(|_| false).is_none());
    assert!(first.child.wait().expect("its end").success());
    assert_eq!(fleet.unlike(NAME, NEWER, &[]), [""; 0]);
    links.lines[0].ends_clean("after the release");
}

/// An instrument whose run was left by its controller and lost its worker while content was on its way.
fn left_while_staging() -> Links {
    let links = Links::one(NAME);
    let root = links.fleet.root(NAME);
    // So slow that the content cannot have come.
    let mut controller = links.fleet.start(&["release", NAME, "--yes", "--limit-rate", "20B"]);
    controller.until(|e| e["event"] == "step_progress").expect("it waits for the first manifest");
    controller.child.kill().expect("it is there");
    controller.child.wait().expect("it is gone");
    workers(&root).iter().for_each(|worker| worker.signal(Signal::KILL));
    wait_for("the worker is gone", || workers(&root).is_empty().then_some(()));
    assert_eq!(outcome(&journal(&root)), None, "it is not finished");
    links
}

#[test]
fn the_same_operator_resumes_over_the_wire() {
    let links = left_while_staging();
    let resumed = links.fleet.run(&["runs", "resume", "--yes"]);
    assert_eq!((resumed.code, resumed.outcome(NAME).as_str()), (0, "changed"), "{}", resumed.story());
    assert_eq!(links.fleet.unlike(NAME, NEWER, &[]), [""; 0]);
    links.lines[0].ends_clean("after the release");
}

#[test]
fn another_operator_resumes_over_the_wire_and_brings_the_content() {
    let links = left_while_staging();
    let resumed = links.fleet.run_of(&["runs", "resume", "--of", NAME], "other");
    assert_eq!((resumed.code, resumed.outcome(NAME).as_str()), (0, "changed"), "{}", resumed.story());
    assert_eq!(links.fleet.unlike(NAME, NEWER, &[]), [""; 0]);
    assert!(!resumed.stderr.contains("warning"), "{}", resumed.story());
    links.lines[0].ends_clean("after the release");
}
