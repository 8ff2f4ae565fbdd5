//! The programs of a sandbox: real processes, found by what they run and where they stand.

use crate::error::Result;
use crate::platform::ProcessInfo;
use crate::platform::sandbox::serves;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Programs that run a script named as their first argument.
const INTERPRETERS: [&str; 8] = ["sh", "bash", "dash", "zsh", "ksh", "python", "perl", "busybox"];

/// The programs whose executable, script or working folder lies below `root` (a resolved path), without the agent's.
pub(in super::super) fn programs_below(root: &Path) -> Result<Vec<ProcessInfo>> {
    let own = OwnPrograms::new(root);
    let Ok(entries) = std::fs::read_dir("/proc") else { return Ok(Vec::new()) };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    // A process may end at any moment of the scan; then it is simply not among the running ones.
    let found = pids.filter_map(|pid| {
        let process = Process::read(pid)?;
        if own.covers(&process) {
            return None;
        }
        let info = process.info();
        let paths = info.executable.iter().chain(&info.scripts).chain(&info.folder);
        paths.into_iter().any(|p| p.starts_with(root)).then_some(info)
    });
    Ok(found.collect())
}

/// The agent's other processes that serve the sandbox below `root` (a resolved path): relays, workers, wrappers of jobs.
pub(in super::super) fn agents(root: &Path) -> Result<Vec<u32>> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Ok(Vec::new()) };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let others = pids.filter(|pid| *pid != std::process::id() && Process::read(*pid).is_some_and(|p| serves(&p.arguments, root)));
    Ok(others.collect())
}

/// The process and everything that started it.
pub(in super::super) fn ancestors(pid: u32) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next.filter(|p| *p > 0 && !found.contains(p)) {
        found.insert(pid);
        next = status(pid).map(|s| s.parent);
    }
    Ok(found)
}

/// Whether a process runs; one that ended and was not collected by its parent does not.
pub(in super::super) fn is_running(pid: u32) -> bool {
    status(pid).is_some_and(|s| !s.ended)
}

struct Status {
    parent: u32,
    ended: bool,
}

/// State and parent out of `/proc/<pid>/stat`, see proc_pid_stat(5): the name in parentheses may hold anything.
fn status(pid: u32) -> Option<Status> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Status { parent, ended: matches!(state, "Z" | "X" | "x") })
}

/// What the system tells of one process.
struct Process {
    pid: u32,
    parent: u32,
    executable: Option<PathBuf>,
    folder: Option<PathBuf>,
    arguments: Vec<String>,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let Status { parent, ended } = status(pid)?;
        if ended {
            return None;
        }
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments = line
            .strip_suffix(&[0])
            .unwrap_or(&line)
            .split(|b| *b == 0)
            .map(|a| String::from_utf8_lossy(a).into_owned())
            .collect();
        Some(Self { pid, parent, executable: target(pid, "exe"), folder: target(pid, "cwd"), arguments })
    }

    fn info(&self) -> ProcessInfo {
        let (script, inline) = match self.interpreted() {
            Interpreted::Script(script) => (Some(script), false),
            Interpreted::Inline => (None, true),
            Interpreted::Nothing => (None, false),
        };
        let named = script.as_deref().or(self.executable.as_deref()).and_then(Path::file_name);
        let mut name = named.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if inline {
            // Told apart from a prompt, which runs nothing.
            name.push_str(" -c");
        }
        let scripts = script.into_iter().collect();
        ProcessInfo {
            pid: self.pid,
            parent: self.parent,
            name,
            executable: self.executable.clone(),
            scripts,
            folder: self.folder.clone(),
        }
    }

    /// What an interpreter runs.
    fn interpreted(&self) -> Interpreted {
        let interpreter = self.executable.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
        let version = |rest: &str| !rest.starts_with(char::is_alphabetic);
        if !interpreter.is_some_and(|name| INTERPRETERS.iter().any(|i| name.strip_prefix(i).is_some_and(version))) {
            return Interpreted::Nothing;
        }
        match self.arguments.iter().skip(1).find(|a| !a.starts_with('-') || inline(a)) {
            None => Interpreted::Nothing,
            Some(option) if inline(option) => Interpreted::Inline,
            Some(script) => {
                let path = self.folder.as_deref().unwrap_or(Path::new("/")).join(script);
                // `/dev/fd/3` is a file of that process; asked for here, it would be one of ours.
                let passing = path.starts_with("/dev") || path.starts_with("/proc");
                let resolved = if passing { None } else { path.canonicalize().ok() };
                Interpreted::Script(resolved.unwrap_or(path))
            }
        }
    }
}

/// What an interpreter runs.
enum Interpreted {
    /// The script, resolved.
    Script(PathBuf),
    /// Text on the command line, or a module.
    Inline,
    /// It waits for input, or is no interpreter.
    Nothing,
}

/// An option after which no script file follows: `-c` (alone or among others, as in `-ec`) and Python's `-m`.
fn inline(argument: &str) -> bool {
    argument.starts_with('-') && !argument.starts_with("--") && argument.ends_with(['c', 'm'])
}

/// Where a link of `/proc/<pid>` leads; the kernel marks a file or folder that is gone.
fn target(pid: u32, link: &str) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/{pid}/{link}")).ok()?;
    match path.to_str().and_then(|p| p.strip_suffix(" (deleted)")) {
        Some(gone) => Some(PathBuf::from(gone)),
        None => Some(path),
    }
}

/// How the agent's own programs are told from the instrument's.
struct OwnPrograms {
    executable: Option<PathBuf>,
    builds: PathBuf,
}

impl OwnPrograms {
    fn new(root: &Path) -> Self {
        Self { executable: target(std::process::id(), "exe"), builds: root.join(".ibexdeploy").join("bin") }
    }

    /// This process, another one of the same build, or one of a build in the agent's home. A running worker of some
    /// other build shows by its arguments.
    fn covers(&self, process: &Process) -> bool {
        let Some(executable) = &process.executable else { return false };
        let role = process.arguments.get(2).map_or("", String::as_str);
        let agent =
            process.arguments.get(1).is_some_and(|a| a == "agent") && matches!(role, "attach" | "worker" | "job" | "updates");
        let ours = executable.file_name().is_some_and(|n| n.to_string_lossy().starts_with("ibexdeploy"));
        process.pid == std::process::id()
            || Some(executable) == self.executable.as_ref()
            || executable.starts_with(&self.builds)
            || (agent && ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_script_that_comes_through_a_descriptor_is_no_file_of_ours() {
        let ours = tempfile::NamedTempFile::new().unwrap();
        let script = PathBuf::from(format!("/dev/fd/{}", ours.as_file().as_raw_fd()));
        assert_eq!(script.canonicalize().unwrap(), ours.path());
        let shell = Process {
            pid: 1,
            parent: 0,
            executable: Some("/bin/sh".into()),
            folder: Some("/".into()),
            arguments: vec!["sh".to_owned(), script.display().to_string()],
        };
        assert_eq!(shell.info().scripts, [script]);
    }
}
