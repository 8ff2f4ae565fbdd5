//! What differs between Windows and a sandbox: services, processes, accounts, restarts.

#[cfg(any(target_os = "linux", windows))]
mod sandbox;
#[cfg(windows)]
pub mod windows;

pub mod disks;
pub mod facts;
pub mod systems;
#[cfg(test)]
#[cfg(target_os = "linux")]
pub(crate) mod testing;
pub mod updates;

use crate::error::Result;
use crate::paths::WinPath;
use disks::{DiskFile, VirtualDisk};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::path::{Path, PathBuf};
use updates::{Program, Update};

/// The machine the agent works on: the sandbox below `root`, or the machine itself.
///
/// # Errors
/// When there is no such folder, or this build has no platform of the kind asked for.
pub fn open(root: Option<&Path>) -> Result<Box<dyn Platform>> {
    match root {
        #[cfg(any(target_os = "linux", windows))]
        Some(root) => Ok(Box::new(sandbox::Sandbox::open(root)?)),
        #[cfg(not(any(target_os = "linux", windows)))]
        Some(_) => Err(crate::error::Error::usage("sandboxes need Linux or Windows").next("run the rehearsal on such a machine")),
        #[cfg(windows)]
        None => Ok(Box::new(windows::Windows::open())),
        #[cfg(not(windows))]
        None => Err(crate::error::Error::usage("this build has no platform for a real instrument")
            .next("give the instrument a `root:` folder, so that it is a sandbox")),
    }
}

/// The machine, as actions see it. File access goes through `std` and [`crate::paths::Drives`].
pub trait Platform: Send + Sync {
    /// `windows` or `sandbox`.
    fn name(&self) -> &'static str;

    /// True for a folder that stands for a machine.
    fn is_sandbox(&self) -> bool {
        self.name() == "sandbox"
    }

    /// The host name; a sandbox has the one of the instrument it stands for.
    fn host_name(&self) -> String;

    /// Changes with every start of the machine.
    ///
    /// # Errors
    /// When the system does not tell.
    fn boot_id(&self) -> Result<String>;

    /// Asks for a restart; the worker may end at any moment after this.
    ///
    /// Windows ends the worker, and what starts at boot starts it again. A sandbox ends the instrument's programs,
    /// writes the new boot id and returns, and nobody ends the worker: so that the same recovery is exercised, the
    /// worker compares [`Platform::boot_id`] with the one it began with after each step `reboot`, and executes itself
    /// anew (or simply ends, and is started by the next `attach`) when they differ.
    ///
    /// # Errors
    /// When it is refused.
    fn reboot(&self, reason: &str) -> Result<()>;

    /// Whether the system waits for a restart, and why.
    ///
    /// # Errors
    /// When the system does not tell.
    fn pending_reboot(&self) -> Result<Option<String>>;

    /// A service's state; nothing when there is no such service.
    ///
    /// # Errors
    /// When the service manager does not answer.
    fn service(&self, name: &str) -> Result<Option<ServiceStatus>>;

    /// Asks a service to start or stop; returns at once.
    ///
    /// # Errors
    /// When there is no such service or it refuses.
    fn control_service(&self, name: &str, control: ServiceControl) -> Result<()>;

    /// How a service is registered; nothing when there is no such service.
    ///
    /// # Errors
    /// When the service manager does not answer.
    fn service_definition(&self, name: &str) -> Result<Option<ServiceDefinition>>;

    /// Registers a service, or changes how one is registered; neither starts nor stops it.
    ///
    /// # Errors
    /// When it is refused.
    fn register_service(&self, definition: &ServiceDefinition) -> Result<()>;

    /// Takes a stopped service out of the list of services. One that is not there is no error.
    ///
    /// # Errors
    /// When it runs, or it is refused.
    fn remove_service(&self, name: &str) -> Result<()>;

    /// The process of a running service, when there is one that can be ended.
    ///
    /// # Errors
    /// When the service manager does not answer.
    fn service_process(&self, _name: &str) -> Result<Option<u32>> {
        Ok(None)
    }

    /// All running programs that can be seen, without the agent's own.
    ///
    /// # Errors
    /// When the system does not tell.
    fn processes(&self) -> Result<Vec<ProcessInfo>>;

    /// Ends a program at once.
    ///
    /// # Errors
    /// When it is not allowed. A program that is gone already is no error.
    fn kill(&self, pid: u32) -> Result<()>;

    /// A task of the machine's scheduler, by its whole name (`ibexdeploy\switch to SECI`); nothing when there is none.
    ///
    /// # Errors
    /// When the scheduler does not answer.
    fn task(&self, name: &str) -> Result<Option<ScheduledTask>>;

    /// Registers a task, or replaces the one of its name. Nobody but administrators and the one it names may start it,
    /// and nobody but administrators may change it.
    ///
    /// # Errors
    /// When the scheduler refuses.
    fn register_task(&self, task: &ScheduledTask) -> Result<()>;

    /// Removes a task.
    ///
    /// # Errors
    /// When the scheduler refuses. A task that is not there is no error.
    fn remove_task(&self, name: &str) -> Result<()>;

    /// The users with a session at the machine.
    ///
    /// # Errors
    /// When the system does not tell.
    fn logged_on(&self) -> Result<Vec<String>>;

    /// Free bytes on the volume that holds a native path (its nearest existing folder).
    ///
    /// # Errors
    /// When the system does not tell.
    fn free_space(&self, path: &Path) -> Result<u64>;

    /// Something that is the same for two paths on one volume: the resolved, nearest existing folder decides.
    ///
    /// # Errors
    /// When the system does not tell.
    fn volume_of(&self, path: &Path) -> Result<u64>;

    /// Installed memory in bytes.
    ///
    /// # Errors
    /// When the system does not tell.
    fn memory(&self) -> Result<u64>;

    /// Reads a share as somebody else, for as long as what is returned lives.
    ///
    /// # Errors
    /// When the share is not there, or does not let that account in.
    fn connect_share(&self, share: &WinPath, user: &str, password: &str) -> Result<Box<dyn Any + Send + Sync>>;

    /// Makes `at` a link (a junction on Windows) to the folder `to`; `at` must not exist.
    ///
    /// # Errors
    /// When it is refused.
    fn make_link(&self, at: &Path, to: &Path) -> Result<()>;

    /// What is known of a virtual disk.
    ///
    /// # Errors
    /// When the system, or the disk's host, does not tell.
    fn virtual_disk(&self, file: &DiskFile) -> Result<VirtualDisk>;

    /// Attaches a virtual disk that is not attached. `at`: an empty folder, which shows its largest volume then; only for a disk
    /// of this machine itself.
    ///
    /// # Errors
    /// When it is refused.
    fn attach_disk(&self, file: &DiskFile, at: Option<&Path>) -> Result<()>;

    /// Detaches a virtual disk. A folder that showed it is empty then.
    ///
    /// # Errors
    /// When it is not attached, or it is refused.
    fn detach_disk(&self, file: &DiskFile) -> Result<()>;

    /// Gives `path` the owner and access list (the mode) of `like`.
    ///
    /// # Errors
    /// When it is refused.
    fn copy_rights(&self, like: &Path, path: &Path) -> Result<()>;

    /// Gives a file the owner and access list (the mode) of another file, or of the folder that it will lie in without the
    /// leave to enter that. `executable` counts where the system has a right of its own to run a file.
    ///
    /// # Errors
    /// When it is refused.
    fn copy_file_rights(&self, like: &Path, file: &Path, executable: bool) -> Result<()> {
        let _ = executable;
        self.copy_rights(like, file)
    }

    /// Writes everything below a folder's volume that is still in memory to disk.
    ///
    /// # Errors
    /// When the disk refuses.
    fn flush_volume(&self, path: &Path) -> Result<()>;

    /// The programs that have a file, or one in a folder, open: `mysqld.exe (812)`. Nothing where the system does not tell,
    /// or does not mind.
    fn holders(&self, _path: &Path) -> Vec<String> {
        Vec::new()
    }

    /// The updates of the operating system that can be installed now. May take minutes.
    ///
    /// # Errors
    /// When the system does not tell.
    fn offered_updates(&self) -> Result<Vec<Update>>;

    /// Downloads and installs an update, and returns the exit code of its installer. May take an hour, and may restart
    /// the machine where that code says so (1641).
    ///
    /// # Errors
    /// When there is no such update, or its installation could not be begun.
    fn install_update(&self, id: &str) -> Result<i32>;

    /// The programs that are installed, as the system lists them.
    ///
    /// # Errors
    /// When the system does not tell.
    fn installed_programs(&self) -> Result<Vec<Program>>;

    /// How a line for the command interpreter is started: program and arguments.
    fn shell_line(&self, line: &str) -> (String, Vec<String>);

    /// Environment that programs of the instrument need (a sandbox says where its drives are).
    fn environment(&self) -> Vec<(String, String)>;

    /// Gives the process that the agent runs in the lowest priority that still makes progress, or the usual one back.
    fn background_priority(&self, on: bool);

    /// Where a Windows path lies, for messages about a native one.
    fn windows_path(&self, native: &Path) -> Option<WinPath>;
}

/// True when one of the sessions is the user's. Windows puts the name of a domain or of the machine in front, which does not
/// count, and neither does case.
pub fn is_logged_on(sessions: &[String], user: &str) -> bool {
    let plain = |name: &str| name.rsplit('\\').next().unwrap_or(name).to_lowercase();
    sessions.iter().any(|session| plain(session) == plain(user))
}

/// What a service is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceStatus {
    Running,
    Stopped,
    Starting,
    Stopping,
}

/// How a service is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDefinition {
    pub name: String,
    /// The native path of its program.
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub start: ServiceStart,
    /// The system starts it again when it ends by itself.
    pub restarts: bool,
}

/// When a service is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceStart {
    /// With the machine.
    Automatic,
    /// With the machine, after everything else.
    Delayed,
    /// When somebody asks for it.
    Manual,
}

/// What to ask of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceControl {
    Start,
    Stop,
}

/// A task of the machine's scheduler. It runs as SYSTEM, whoever starts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledTask {
    /// With the scheduler's folders: `ibexdeploy\switch to SECI`.
    pub name: String,
    pub program: std::path::PathBuf,
    /// Each passed as it is.
    pub args: Vec<String>,
    /// The user who may start it without being an administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startable_by: Option<String>,
    /// The time of the day at which it starts by itself, as `HH:MM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily: Option<String>,
}

/// A running program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    pub pid: u32,
    pub parent: u32,
    /// File name of the executable, or of the script that stands for one in a sandbox.
    pub name: String,
    /// Its executable, script arguments and working folder, as native paths, as far as the system tells.
    pub executable: Option<PathBuf>,
    pub scripts: Vec<PathBuf>,
    pub folder: Option<PathBuf>,
}

impl ServiceStatus {
    /// The word for messages and results.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
        }
    }
}

/// Command interpreters; one that only stands in a folder is a person at work.
const SHELLS: [&str; 10] = ["sh", "bash", "dash", "zsh", "ksh", "fish", "cmd.exe", "powershell.exe", "pwsh.exe", "explorer.exe"];

impl ProcessInfo {
    /// True for a shell that runs no script: somebody's prompt.
    pub fn is_shell_standing(&self) -> bool {
        let shell = SHELLS.iter().any(|s| self.name.eq_ignore_ascii_case(s));
        shell && self.scripts.is_empty()
    }

    /// True when the executable or a script lies in the folder (a resolved path), or the program works there.
    /// A shell that only stands there does not run there.
    pub fn runs_below(&self, folder: &Path) -> bool {
        let code = self.executable.iter().chain(&self.scripts).any(|p| p.starts_with(folder));
        code || (!self.is_shell_standing() && self.stands_below(folder))
    }

    /// True when the working folder is the folder (a resolved path) or lies in it.
    pub fn stands_below(&self, folder: &Path) -> bool {
        self.folder.as_deref().is_some_and(|f| f.starts_with(folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_logged_on_may_have_a_domain_in_front() {
        let sessions = ["NDXLARMOR\\Spudulike".to_owned(), "gamekeeper".to_owned()];
        assert!(is_logged_on(&sessions, "spudulike"));
        assert!(is_logged_on(&sessions, "ISIS\\gamekeeper"));
        assert!(!is_logged_on(&sessions, "spud"));
    }
}
