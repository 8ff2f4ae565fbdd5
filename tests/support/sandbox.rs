//! What other programs say about a sandbox: files with their modes, the journal, the lock, the server.

use super::command::wait_within;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// No wait of these tests takes longer than this unless something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// Asks again until there is an answer.
///
/// # Panics
/// With `what` when the limit is over.
pub(crate) fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait_within(LIMIT, what, ask)
}

/// Files and folders of what is installed, with type, mode, owner and content.
pub(crate) fn installed(root: &Path) -> BTreeMap<String, String> {
    let folder = root.join("c/Instrument/Apps");
    let mut all = super::command::tree(&folder);
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
    let paths: BTreeSet<_> = a.keys().chain(b.keys()).collect();
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

/// Starts the server of a sandbox.
pub(crate) fn start_ibex(root: &Path) {
    let started = Command::new("sh")
        .arg("start_ibex_server.bat")
        .env("IBEX_ROOT", root)
        .current_dir(root.join("c/Instrument/Apps/EPICS"))
        .stdout(Stdio::null())
        .status()
        .expect("a shell");
    assert!(started.success(), "{}", root.display());
}

/// The process of the server, while it runs.
pub(crate) fn ibex(root: &Path) -> Option<String> {
    let pid = std::fs::read_to_string(root.join("c/Instrument/Var/ibex_server.pid")).ok()?.trim().to_owned();
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&line).contains("server_loop").then_some(pid)
}
