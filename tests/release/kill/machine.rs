//! What other programs say about a sandbox: processes, files with their modes, the lock, the journal.

use crate::support::Fleet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// No wait of these tests takes longer than this unless something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// Asks again until there is an answer.
///
/// # Panics
/// With `what` when the limit is over.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: not within {} s", LIMIT.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

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

/// The workers of a sandbox.
pub(crate) fn workers(root: &Path) -> Vec<u32> {
    let is_worker = |words: &[String]| words.get(1..3) == Some(&["agent".to_owned(), "worker".to_owned()]);
    processes(root).into_iter().filter(|(_, words)| is_worker(words)).map(|(pid, _)| pid).collect()
}

/// `kill -9`.
pub(crate) fn kill(pid: u32) {
    // It may have ended by itself.
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(std::process::Stdio::null()).status();
}

/// Files and folders of what is installed, with type, mode, owner and content.
pub(crate) fn installed(fleet: &Fleet, name: &str) -> BTreeMap<String, String> {
    let mut all = fleet.apps(name);
    let folder = fleet.root(name).join("c/Instrument/Apps");
    let listed =
        Command::new("find").args([".", "-printf", "%y %m %u %g  %P\n"]).current_dir(folder).output().expect("find runs");
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let (form, path) = line.split_once("  ").expect("two columns");
        all.entry(path.to_owned()).or_default().push_str(&format!(" {form}"));
    }
    all
}

/// Paths that are not the same in both.
pub(crate) fn differences(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    paths.into_iter().filter(|p| a.get(*p) != b.get(*p)).map(|p| format!("{p}: {:?} / {:?}", a.get(p), b.get(p))).collect()
}

/// Entries of the journal of the newest run of a sandbox; those of a torn last line are not there.
pub(crate) fn journal(root: &Path) -> Vec<Value> {
    let Ok(runs) = std::fs::read_dir(root.join(".ibexdeploy/runs")) else { return Vec::new() };
    let mut files: Vec<PathBuf> = runs.flatten().map(|e| e.path().join("journal.jsonl")).filter(|p| p.exists()).collect();
    files.sort();
    let Some(newest) = files.pop() else { return Vec::new() };
    let text = std::fs::read_to_string(newest).unwrap_or_default();
    text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).map(|v| v["e"].clone()).collect()
}

/// How the journal says that the run ended.
pub(crate) fn outcome(journal: &[Value]) -> Option<String> {
    let last = journal.iter().rev().find(|e| e["event"]["event"] == "instrument_finished")?;
    Some(last["event"]["outcome"].as_str().unwrap_or_default().to_owned())
}

/// Folders of staged content that are still there.
pub(crate) fn staged(root: &Path) -> Vec<String> {
    let listed = Command::new("find").arg(root).args(["-type", "d", "-path", "*/.ibexdeploy/*/stage"]).output().expect("find");
    String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
}

/// True when no process holds the sandbox.
pub(crate) fn is_free(root: &Path) -> bool {
    let home = root.join(".ibexdeploy");
    let lock = std::fs::File::open(home.join("lock")).expect("the lock's file");
    !home.join("lock.json").exists() && lock.try_lock().is_ok()
}
