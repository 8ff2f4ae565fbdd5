//! What other programs say about a sandbox: its processes, and all that [`sandbox`] looks at.

pub(crate) use crate::support::sandbox::{LIMIT, differences, is_free, journal, outcome, staged, wait_for};
use crate::support::{Fleet, Watched, sandbox};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Command lines of the live processes of this program that have to do with a folder, by process number.
fn processes(folder: &Path) -> Vec<(u32, Vec<String>)> {
    let folder = folder.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("the table of processes").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<String> =
            line.split(|b| *b == 0).filter(|w| !w.is_empty()).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        let ours = words.first().is_some_and(|w| w == env!("CARGO_BIN_EXE_ibexdeploy"));
        if ours && words.iter().any(|w| w.starts_with(&folder)) {
            found.push((pid, words));
        }
    }
    found
}

/// Processes of the agent below a folder: relays, workers, wrappers of jobs.
pub(crate) fn agents(folder: &Path) -> Vec<String> {
    processes(folder).into_iter().map(|(pid, words)| format!("{pid} {}", words[1..].join(" "))).collect()
}

/// The workers of a sandbox. What a worker has forked, and which is about to become another program, looks like one: to
/// kill it would be to kill that program.
pub(crate) fn workers(root: &Path) -> Vec<u32> {
    let is_worker = |words: &[String]| words.get(1..3) == Some(&["agent".to_owned(), "worker".to_owned()]);
    let alike: Vec<u32> = processes(root).into_iter().filter(|(_, words)| is_worker(words)).map(|(pid, _)| pid).collect();
    alike.iter().copied().filter(|pid| parent(*pid).is_none_or(|parent| !alike.contains(&parent))).collect()
}

/// The process that started another one; nothing when that has ended.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets, and may hold anything; state and parent follow it.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// `kill -9`.
pub(crate) fn kill(pid: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(std::process::Stdio::null()).status();
}

/// Sends a signal to the workers of a sandbox; `name` as in `-STOP`.
pub(crate) fn signal(root: &Path, name: &str) {
    for pid in workers(root) {
        // It may have ended by itself.
        let _ = Command::new("kill").args([name, &pid.to_string()]).stderr(std::process::Stdio::null()).status();
    }
}

/// Kills the worker once the journal, or something beside it, is so far, and lets the run end by itself. Gives how it
/// ended; nothing when it was over before the kill.
pub(crate) fn kill_worker_when(
    root: &Path,
    mut controller: Watched,
    what: &str,
    mut reached: impl FnMut(&[Value]) -> bool,
) -> Option<String> {
    let begun = Instant::now();
    loop {
        let all = journal(root);
        if reached(&all) || outcome(&all).is_some() {
            break;
        }
        assert!(begun.elapsed() < LIMIT, "neither {what} nor the end of the run came");
        std::thread::yield_now();
    }
    workers(root).into_iter().for_each(kill);
    let hit = outcome(&journal(root)).is_none();
    while controller.until(|_| true).is_some() {}
    let ended = wait_for("the run ends", || outcome(&journal(root)));
    hit.then_some(ended)
}

/// The same as [`sandbox::installed`], by name.
pub(crate) fn installed(fleet: &Fleet, name: &str) -> BTreeMap<String, String> {
    sandbox::installed(&fleet.root(name))
}
