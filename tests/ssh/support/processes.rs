//! Processes, as `/proc` has them.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::path::Path;

/// A process that was seen: its number alone may be another's later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// The program's short name.
    pub(crate) name: String,
    parent: i32,
    started: String,
}

impl Process {
    fn look(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in brackets and may hold some itself.
        let (head, tail) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        if fields.first() == Some(&"Z") {
            // It has ended, and its parent has not noticed yet.
            return None;
        }
        Some(Self {
            pid,
            name: head.split_once('(')?.1.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            started: (*fields.get(19)?).to_owned(),
        })
    }

    /// True while it runs.
    pub(crate) fn is_alive(&self) -> bool {
        Self::look(self.pid).is_some_and(|now| now.started == self.started)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_alive()) {
            // It may end by itself meanwhile.
            let _ = kill_process(pid, signal);
        }
    }
}

/// True while a process of this number runs.
pub(crate) fn runs(pid: i32) -> bool {
    Process::look(pid).is_some()
}

/// The processes of this program that have to do with a folder: relays, workers and wrappers of jobs, by the first word
/// after `agent`.
pub(crate) fn agents(folder: &Path) -> Vec<(String, Process)> {
    let begin = folder.to_string_lossy().into_owned();
    let part = |process: &Process| {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).ok()?;
        let words: Vec<String> = line.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
        let of_folder = words.iter().any(|w| w.starts_with(&begin));
        (of_folder && words.get(1).is_some_and(|w| w == "agent")).then(|| words.get(2).cloned().unwrap_or_default())
    };
    let named = all().into_iter().filter(|p| p.name == "ibexdeploy");
    named.filter_map(|p| Some((part(&p)?, p))).collect()
}

/// The workers of a sandbox.
pub(crate) fn workers(root: &Path) -> Vec<Process> {
    agents(root).into_iter().filter(|(part, _)| part == "worker").map(|(_, process)| process).collect()
}

fn all() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").expect("/proc can be read");
    let numbers = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter_map(Process::look).collect()
}

/// The processes below one, those next to it first.
pub(crate) fn descendants(of: u32) -> Vec<Process> {
    let mut by_parent: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in all() {
        by_parent.entry(process.parent).or_default().push(process);
    }
    let mut found = by_parent.remove(&i32::try_from(of).expect("a process number")).unwrap_or_default();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let below = by_parent.remove(&process.pid).unwrap_or_default();
        found.extend(below);
        next += 1;
    }
    found
}

/// The processes of a user.
pub(crate) fn of_user(uid: u32) -> Vec<Process> {
    use std::os::unix::fs::MetadataExt;
    let owned = |p: &Process| std::fs::metadata(format!("/proc/{}", p.pid)).is_ok_and(|m| m.uid() == uid);
    all().into_iter().filter(owned).collect()
}
