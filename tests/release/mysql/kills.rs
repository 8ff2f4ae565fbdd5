//! `kill -9` of the worker in every part of an upgrade: it goes on, or the old server runs again.

use super::{Before, NAME, Site, expect_new};
use crate::kill::machine::{kill, workers};
use crate::support::Watched;
use crate::support::sandbox::{LIMIT, outcome};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a part is tried again when the run was faster than the kill.
const TRIES: u32 = 4;

/// The folder of a run.
fn folder_of(root: &Path, run: &str) -> PathBuf {
    root.join(".ibexdeploy/runs").join(run)
}

/// True when a run has a file or a job with such a name.
fn has_come_to(run: &Path, part: &str) -> bool {
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect::<Vec<String>>()
    };
    names(run).iter().chain(&names(&run.join("jobs"))).any(|name| name.contains("mysql") && name.contains(part))
}

/// The journal of a run.
fn journal(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("journal.jsonl")).unwrap_or_default();
    text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).map(|v| v["e"].clone()).collect()
}

/// Runs the upgrade, and kills its worker when `now` says so; the run's folder, and whether that hit.
fn kill_when(site: &Site, mut now: impl FnMut(&mut Watched, &Path)) -> (PathBuf, bool) {
    let root = site.root();
    let mut controller = site.fleet.start(&["run", "mysql", NAME, "--yes"]);
    let started = controller.until(|e| e["event"] == "phase_started" && e["phase"] == "apply").expect("the outage");
    let run = folder_of(&root, started["run"].as_str().expect("a run"));
    let pids = workers(&root);
    now(&mut controller, &run);
    pids.into_iter().for_each(kill);
    let hit = outcome(&journal(&run)).is_none();
    while controller.until(|_| true).is_some() {}
    (run, hit)
}

/// Waits until a run has come to something, or is over.
fn until(run: &Path, what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() && outcome(&journal(run)).is_none() {
        assert!(begun.elapsed() < LIMIT, "{what}: it did not come to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Upgrades with a kill at each of the parts, and goes back in between.
fn kill_at_each(parts: &[&str]) {
    let Some(site) = Site::new("8.0.36", "MYSQL80", "8.4.3") else { return };
    let before = Before::of(&site);
    for part in parts {
        let hit = (0..TRIES).any(|_| {
            let before = Before { dumps: site.dumps(), ..before.clone() };
            let (run, hit) = kill_when(&site, |_, run| until(run, part, || has_come_to(run, part)));
            let entries = journal(&run);
            let told = || entries.iter().map(|e| e.to_string().chars().take(300).collect::<String>() + "\n").collect::<String>();
            match outcome(&entries).as_deref() {
                Some("changed") => {
                    expect_new(&site, &before, "8.4.3", &told());
                    let rolled = site.fleet.run(&["rollback", NAME, "--yes", "--discard-newer"]);
                    assert_eq!(rolled.outcome(NAME), "rolled_back", "{}", rolled.story());
                }
                Some("rolled_back") => before.expect_again(&site, &told()),
                other => panic!("killed at {part}, it ended as {other:?}: {}", told()),
            }
            println!("killed at {part}: hit {hit}, ended {:?}", outcome(&entries));
            hit
        });
        assert!(hit, "the run was always faster than the kill at {part}");
        assert_eq!(site.version(), "8.0.36", "killed at {part}");
        assert!(site.content() == before.content, "killed at {part}");
        assert_eq!(site.programs(), before.programs, "killed at {part}");
    }
}

#[test]
fn a_kill_before_the_old_server_stops() {
    kill_at_each(&[".quiet", ".dump.", ".dumped"]);
}

#[test]
fn a_kill_while_the_servers_change_places() {
    kill_at_each(&[".replacing", ".programs.json", "mysql-ping"]);
}

#[test]
fn a_kill_while_the_new_server_is_filled() {
    kill_at_each(&["mysql-users", ".reload.", "mysql-grants", "mysql-open"]);
}

#[test]
fn a_kill_while_a_failure_is_taken_back() {
    let Some(site) = Site::new("8.0.36", "MYSQL80", "8.4.3") else { return };
    let ini = site.root().join("c/Instrument/Apps/MySQL/my.ini");
    let text = std::fs::read_to_string(&ini).expect("my.ini");
    std::fs::write(&ini, format!("{text}default_authentication_plugin=mysql_native_password\r\n")).expect("my.ini");
    let before = Before::of(&site);
    let root = site.root();
    for part in ["the new service is gone", "the rollback has begun"] {
        let hit = (0..TRIES).any(|_| {
            let (run, hit) = kill_when(&site, |controller, run| {
                if part == "the rollback has begun" {
                    let _ = controller.until(|e| e["event"] == "rollback_started");
                    return;
                }
                let mut there = false;
                until(run, part, || {
                    let state = std::fs::read_to_string(root.join(".ibexdeploy/sandbox.json")).unwrap_or_default();
                    there |= state.contains("MYSQL84");
                    there && !state.is_empty() && !state.contains("MYSQL84")
                });
            });
            assert_eq!(outcome(&journal(&run)).as_deref(), Some("rolled_back"), "{part}");
            before.expect_again(&site, part);
            hit
        });
        assert!(hit, "the run was always faster than the kill: {part}");
    }
}
