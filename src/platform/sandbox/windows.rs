//! What a sandbox is made of on Windows: that of the machine, of which the sandbox is a folder.

use super::serves;
use crate::error::{Error, ErrorKind, Result};
use crate::platform::windows::{Windows, plain, processes};
use crate::platform::{Platform, ProcessInfo};
use std::path::{Path, PathBuf};

pub(super) use processes::{ancestors, end as kill, is_running};

/// A resolved path as programs are given it: most do not know `\\?\`.
pub(super) fn as_given_to_programs(path: &Path) -> PathBuf {
    plain(path)
}

/// The programs whose executable, script or working folder lies below `root` (a resolved path), without the agent's.
///
/// # Errors
/// When the system does not list its processes.
pub(super) fn programs_below(root: &Path) -> Result<Vec<ProcessInfo>> {
    let mut found = processes::programs(&root.join(".ibexdeploy").join("bin"))?;
    found.retain(|info| {
        let paths = info.executable.iter().chain(&info.scripts).chain(&info.folder);
        paths.into_iter().any(|path| path.starts_with(root))
    });
    for info in &mut found {
        // A script stands for a program.
        if let Some(name) = info.scripts.first().and_then(|script| script.file_name()) {
            info.name = name.to_string_lossy().into_owned();
        }
    }
    Ok(found)
}

/// The agent's other processes that serve the sandbox below `root` (a resolved path): relays, workers, wrappers of jobs.
///
/// # Errors
/// When the system does not list its processes.
pub(super) fn agents(root: &Path) -> Result<Vec<u32>> {
    let others = processes::snapshot()?.into_iter().map(|entry| entry.pid).filter(|pid| *pid != std::process::id());
    Ok(others.filter(|pid| serves(&processes::words(*pid), root)).collect())
}

pub(super) fn free_space(path: &Path) -> Result<u64> {
    Windows::open().free_space(path)
}

pub(super) fn volume_of(path: &Path) -> Result<u64> {
    Windows::open().volume_of(path)
}

pub(super) fn make_link(at: &Path, to: &Path) -> Result<()> {
    Windows::open().make_link(at, to)
}

pub(super) fn copy_rights(like: &Path, path: &Path) -> Result<()> {
    Windows::open().copy_rights(like, path)
}

pub(super) fn copy_file_rights(like: &Path, file: &Path, executable: bool) -> Result<()> {
    Windows::open().copy_file_rights(like, file, executable)
}

pub(super) fn flush_volume(path: &Path) -> Result<()> {
    Windows::open().flush_volume(path)
}

pub(super) fn shell_line(line: &str) -> (String, Vec<String>) {
    Windows::open().shell_line(line)
}

/// Where the rehearsal's programs find the executable that plays them.
pub(super) fn environment() -> Vec<(String, String)> {
    let this = std::env::current_exe().ok();
    this.map(|this| ("IBEXDEPLOY".to_owned(), plain(&this).display().to_string())).into_iter().collect()
}

pub(super) fn background_priority(on: bool) {
    Windows::open().background_priority(on);
}

/// The program of a service.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) pid: u32,
}

impl Begun {
    /// Services of a sandbox are only simulated here.
    ///
    /// # Errors
    /// Always.
    pub(super) fn start(program: &Path, _: &[String], _: Vec<(String, String)>, _: &Path, _: &Path) -> Result<Self> {
        Err(Error::new(ErrorKind::Refused, format!("{} cannot run as a service of a sandbox on Windows", program.display()))
            .next("rehearse on Linux what needs it, or take `program` out of the sandbox's state file: the service is simulated then"))
    }

    /// Lets the program go on.
    ///
    /// # Errors
    /// Never.
    pub(super) fn go_on(self) -> Result<()> {
        Ok(())
    }
}

/// Asks the program of a service to end.
///
/// # Errors
/// When it is not allowed.
pub(super) fn ask_to_end(pid: u32) -> Result<()> {
    kill(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::{ServiceControl, ServiceStatus};
    use std::process::{Command, Stdio};

    #[test]
    fn programs_are_those_that_run_or_stand_in_the_sandbox_and_services_are_simulated() {
        let folder = tempfile::tempdir().unwrap();
        let server = folder.path().join("c\\Instrument\\Apps\\EPICS");
        std::fs::create_dir_all(&server).unwrap();
        std::fs::write(server.join("wait.bat"), "@set /p line=\r\n").unwrap();
        let sandbox = crate::platform::open(Some(folder.path())).unwrap();
        let mut command = Command::new("cmd.exe");
        command.args(["/d", "/s", "/c", "wait.bat"]).current_dir(&server).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let seen = sandbox.processes().unwrap().into_iter().find(|p| p.pid == child.id()).unwrap();
        assert_eq!((seen.name.as_str(), seen.parent), ("wait.bat", std::process::id()));
        assert!(seen.runs_below(&server.canonicalize().unwrap()), "{seen:?}");
        assert!(sandbox.processes().unwrap().iter().all(|p| p.pid != std::process::id()), "never the agent itself");
        sandbox.kill(child.id()).unwrap();
        child.wait().unwrap();

        assert_eq!(sandbox.service("mysql80").unwrap(), Some(ServiceStatus::Running));
        sandbox.control_service("MYSQL80", ServiceControl::Stop).unwrap();
        assert_eq!(sandbox.service("MYSQL80").unwrap(), Some(ServiceStatus::Stopped));
        let before = sandbox.boot_id().unwrap();
        sandbox.reboot("a test").unwrap();
        assert_ne!(sandbox.boot_id().unwrap(), before);
        assert_eq!(sandbox.service("MYSQL80").unwrap(), Some(ServiceStatus::Running));
    }

    #[test]
    fn an_agent_is_told_by_its_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let plain = plain(&root).display().to_string();
        let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert!(serves(&words(&["ibexdeploy.exe", "agent", "worker", "--root", &plain]), &root));
        assert!(serves(&words(&["x.exe", "agent", "job", &plain]), &root));
        assert!(!serves(&words(&["ibexdeploy.exe", "agent", "worker", "--root", "C:\\"]), &root));
        assert!(!serves(&words(&["ibexdeploy.exe", "release", "--rehearse"]), &root));
    }
}
