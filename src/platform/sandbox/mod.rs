//! A sandbox: an instrument whose drives are folders. Files and programs are real; services, sessions and restarts
//! are simulated in a state file.

mod disks;
#[cfg(target_os = "linux")]
mod linux;
mod services;
mod state;
#[cfg(all(test, target_os = "linux"))]
mod tests;
mod updates;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(all(test, target_os = "linux"))]
pub(crate) use linux::{copy_file_rights, copy_rights};
#[cfg(windows)]
use windows as system;

use super::disks::{DiskFile, VirtualDisk};
use super::updates::{Program, Update};
use super::{Platform, ProcessInfo, ScheduledTask, ServiceControl, ServiceDefinition, ServiceStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::paths::{Drives, WinPath};
use serde::Deserialize;
use state::StateFile;
use std::any::Any;
use std::path::{Path, PathBuf};

/// An instrument below a folder.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// Resolved, as the system names the executables and folders of processes.
    root: PathBuf,
    drives: Drives,
    state: StateFile,
}

/// `identity.json` in the agent's home: the instrument that the sandbox stands for.
#[derive(Debug, Deserialize)]
struct Identity {
    name: String,
    #[serde(default)]
    host: Option<String>,
}

impl Sandbox {
    pub(super) fn open(root: &Path) -> Result<Self> {
        let root = root.canonicalize().map_err(|e| {
            Error::io(format!("open the sandbox {}", root.display()), &e).next("make the folder, or let `--rehearse` make it")
        })?;
        let state = StateFile::new(root.join(".ibexdeploy"));
        Ok(Self { drives: Drives::Sandbox { root: system::as_given_to_programs(&root) }, state, root })
    }

    /// The programs that a restart ends: all but people's shells that stand in a folder, and what this process
    /// was started by.
    fn programs_of_the_machine(&self) -> Result<Vec<ProcessInfo>> {
        let spared = system::ancestors(std::process::id())?;
        let mut found = system::programs_below(&self.root)?;
        found.retain(|p| !spared.contains(&p.pid) && !p.is_shell_standing());
        Ok(found)
    }
}

/// Whether a command line is that of an agent of the sandbox below `root` (a resolved path): a relay, a worker, a wrapper of a job.
fn serves(words: &[String], root: &Path) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let resolved = |folder: &str| Path::new(folder).canonicalize().ok();
    match words[..] {
        [_, "agent", "attach" | "worker" | "updates", "--root", folder, ..] => resolved(folder).is_some_and(|f| f == root),
        [_, "agent", "job", folder] => resolved(folder).is_some_and(|f| f.starts_with(root)),
        _ => false,
    }
}

impl Platform for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn host_name(&self) -> String {
        let text = std::fs::read_to_string(self.root.join(".ibexdeploy").join("identity.json")).unwrap_or_default();
        match serde_json::from_str::<Identity>(&text) {
            Ok(identity) => identity.host.unwrap_or(identity.name),
            Err(_) => self.root.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        }
    }

    fn boot_id(&self) -> Result<String> {
        Ok(self.state.read()?.boot_id)
    }

    fn reboot(&self, reason: &str) -> Result<()> {
        tracing::info!(reason, root = %self.root.display(), "the sandbox restarts");
        // Programs may start others while they are being ended.
        for _ in 0..10 {
            let programs = self.programs_of_the_machine()?;
            if programs.is_empty() {
                break;
            }
            for program in programs {
                self.kill(program.pid)?;
            }
        }
        let (mut ends_agent, mut started) = (false, Vec::new());
        self.state.change(|state| {
            ends_agent = state.restart_ends_agent;
            state.boot_id = state::new_boot_id();
            state.pending_reboot = None;
            state.updates.iter_mut().for_each(|update| update.waits_for_restart = false);
            for (name, service) in &mut state.services {
                service.stopping = false;
                service.pid = None;
                service.running = service.automatic && service.broken.is_none();
                if service.running {
                    let begun = self.run_service(name, service)?;
                    service.pid = begun.as_ref().map(|begun| begun.pid);
                    started.extend(begun);
                }
            }
            Ok(())
        })?;
        started.into_iter().try_for_each(system::Begun::go_on)?;
        if ends_agent {
            // This process comes last, in the middle of whatever it is at.
            for pid in system::agents(&self.root)? {
                system::kill(pid)?;
            }
            system::kill(std::process::id())?;
        }
        Ok(())
    }

    fn pending_reboot(&self) -> Result<Option<String>> {
        Ok(self.state.read()?.pending_reboot)
    }

    fn service(&self, name: &str) -> Result<Option<ServiceStatus>> {
        Ok(services::find(&self.state.read()?.services, name).map(|(_, service)| services::status(service)))
    }

    fn control_service(&self, name: &str, control: ServiceControl) -> Result<()> {
        self.control(name, control)
    }

    fn service_definition(&self, name: &str) -> Result<Option<ServiceDefinition>> {
        Ok(services::find(&self.state.read()?.services, name).and_then(|(name, service)| services::definition(name, service)))
    }

    fn register_service(&self, definition: &ServiceDefinition) -> Result<()> {
        self.register(definition)
    }

    fn remove_service(&self, name: &str) -> Result<()> {
        self.unregister(name)
    }

    fn service_process(&self, name: &str) -> Result<Option<u32>> {
        let state = self.state.read()?;
        Ok(services::find(&state.services, name).and_then(|(_, s)| s.pid).filter(|pid| system::is_running(*pid)))
    }

    fn processes(&self) -> Result<Vec<ProcessInfo>> {
        system::programs_below(&self.root)
    }

    fn kill(&self, pid: u32) -> Result<()> {
        system::kill(pid)
    }

    fn task(&self, name: &str) -> Result<Option<ScheduledTask>> {
        Ok(self.state.read()?.tasks.into_iter().find(|t| t.name.eq_ignore_ascii_case(name)))
    }

    fn register_task(&self, task: &ScheduledTask) -> Result<()> {
        self.state.change(|state| {
            state.tasks.retain(|t| !t.name.eq_ignore_ascii_case(&task.name));
            state.tasks.push(task.clone());
            Ok(())
        })
    }

    fn remove_task(&self, name: &str) -> Result<()> {
        self.state.change(|state| {
            state.tasks.retain(|t| !t.name.eq_ignore_ascii_case(name));
            Ok(())
        })
    }

    fn logged_on(&self) -> Result<Vec<String>> {
        Ok(self.state.read()?.logged_on)
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        system::free_space(path)
    }

    fn volume_of(&self, path: &Path) -> Result<u64> {
        system::volume_of(path)
    }

    fn memory(&self) -> Result<u64> {
        Ok(self.state.read()?.memory)
    }

    /// A share without accounts lets everybody in.
    fn connect_share(&self, share: &WinPath, user: &str, password: &str) -> Result<Box<dyn Any + Send + Sync>> {
        let accounts = self.state.read()?.share_accounts;
        if accounts.is_empty() || accounts.get(user).is_some_and(|known| known == password) {
            return Ok(Box::new(()));
        }
        Err(Error::new(ErrorKind::Refused, format!("the share {share} does not let {user} in")))
    }

    fn make_link(&self, at: &Path, to: &Path) -> Result<()> {
        system::make_link(at, to)
    }

    fn virtual_disk(&self, file: &DiskFile) -> Result<VirtualDisk> {
        self.disk(file)
    }

    fn attach_disk(&self, file: &DiskFile, at: Option<&Path>) -> Result<()> {
        self.attach(file, at)
    }

    fn detach_disk(&self, file: &DiskFile) -> Result<()> {
        self.detach(file)
    }

    fn copy_rights(&self, like: &Path, path: &Path) -> Result<()> {
        system::copy_rights(like, path)
    }

    fn copy_file_rights(&self, like: &Path, file: &Path, executable: bool) -> Result<()> {
        system::copy_file_rights(like, file, executable)
    }

    fn flush_volume(&self, path: &Path) -> Result<()> {
        system::flush_volume(path)
    }

    fn offered_updates(&self) -> Result<Vec<Update>> {
        self.updates_offered()
    }

    fn install_update(&self, id: &str) -> Result<i32> {
        self.update_install(id)
    }

    fn installed_programs(&self) -> Result<Vec<Program>> {
        self.programs_installed()
    }

    fn shell_line(&self, line: &str) -> (String, Vec<String>) {
        system::shell_line(line)
    }

    /// Where the drives are, and what the system's programs need besides.
    fn environment(&self) -> Vec<(String, String)> {
        let root = system::as_given_to_programs(&self.root).display().to_string();
        let mut environment = vec![("IBEX_ROOT".to_owned(), root)];
        environment.extend(system::environment());
        environment
    }

    fn background_priority(&self, on: bool) {
        system::background_priority(on);
    }

    fn windows_path(&self, native: &Path) -> Option<WinPath> {
        self.drives.windows(native)
    }
}
