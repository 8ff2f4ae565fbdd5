//! A sandbox: an instrument whose drives are folders. Files and programs are real; services, sessions and restarts
//! are simulated in a state file.

mod processes;
mod services;
mod state;
#[cfg(test)]
mod tests;
mod updates;

use super::updates::{Program, Update};
use super::{Platform, ProcessInfo, ScheduledTask, ServiceControl, ServiceDefinition, ServiceStatus};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::paths::{Drives, WinPath};
use rustix::process::{Pid, Signal};
use serde::Deserialize;
use state::StateFile;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The nice value of background work: well behind everything else, and still served on a busy machine.
const BACKGROUND_NICE: i32 = 15;
/// ioprio_set(2): the class `best effort` in its lowest level, and the usual level.
const IO_LOWEST: libc::c_int = (2 << 13) | 7;
const IO_USUAL: libc::c_int = 0;

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
        Ok(Self { drives: Drives::Sandbox { root: root.clone() }, state, root })
    }

    /// The nearest folder or file of the path that exists.
    fn existing<'a>(&self, path: &'a Path) -> Result<(&'a Path, std::fs::Metadata)> {
        for candidate in path.ancestors() {
            match std::fs::metadata(candidate) {
                Ok(metadata) => return Ok((candidate, metadata)),
                Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
                Err(e) => return Err(Error::io(format!("look at {}", candidate.display()), &e)),
            }
        }
        Err(Error::new(ErrorKind::Io, format!("nothing of {} exists", path.display())))
    }

    /// The programs that a restart ends: all but people's shells that stand in a folder, and what this process
    /// was started by.
    fn programs_of_the_machine(&self) -> Vec<ProcessInfo> {
        let spared = processes::ancestors(std::process::id());
        let mut found = processes::below(&self.root);
        found.retain(|p| !spared.contains(&p.pid) && !p.is_shell_standing());
        found
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
            let programs = self.programs_of_the_machine();
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
            state.boot_id = state::new_boot_id()?;
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
        started.into_iter().try_for_each(services::Begun::go_on)?;
        if ends_agent {
            // This process comes last, in the middle of whatever it is at.
            for pid in processes::agents(&self.root) {
                kill(pid)?;
            }
            kill(std::process::id())?;
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
        Ok(services::find(&state.services, name).and_then(|(_, s)| s.pid).filter(|pid| processes::is_running(*pid)))
    }

    fn processes(&self) -> Result<Vec<ProcessInfo>> {
        Ok(processes::below(&self.root))
    }

    fn kill(&self, pid: u32) -> Result<()> {
        kill(pid)
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
        let (existing, _) = self.existing(path)?;
        let volume = rustix::fs::statvfs(existing)
            .map_err(std::io::Error::from)
            .cannot(|| format!("ask for the free space of {}", existing.display()))?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    fn volume_of(&self, path: &Path) -> Result<u64> {
        Ok(self.existing(path)?.1.dev())
    }

    fn memory(&self) -> Result<u64> {
        Ok(self.state.read()?.memory)
    }

    fn make_link(&self, at: &Path, to: &Path) -> Result<()> {
        std::os::unix::fs::symlink(to, at).cannot(|| format!("make the link {} to {}", at.display(), to.display()))
    }

    fn copy_rights(&self, like: &Path, path: &Path) -> Result<()> {
        let wanted = std::fs::symlink_metadata(like).cannot(|| format!("look at {}", like.display()))?;
        let present = std::fs::symlink_metadata(path).cannot(|| format!("look at {}", path.display()))?;
        // Only what differs is asked for: who is not root may not even set the owner that is there.
        if (wanted.uid(), wanted.gid()) != (present.uid(), present.gid()) {
            std::os::unix::fs::lchown(path, Some(wanted.uid()), Some(wanted.gid()))
                .cannot(|| format!("give {} the owner of {}", path.display(), like.display()))?;
        }
        // A link has no mode of its own, and changing the owner may have taken bits of a file's.
        if !present.is_symlink() && !wanted.is_symlink() {
            let mode = std::fs::Permissions::from_mode(wanted.mode() & 0o7777);
            std::fs::set_permissions(path, mode).cannot(|| format!("give {} the mode of {}", path.display(), like.display()))?;
        }
        Ok(())
    }

    fn flush_volume(&self, path: &Path) -> Result<()> {
        let (existing, _) = self.existing(path)?;
        let folder = std::fs::File::open(existing).cannot(|| format!("open {}", existing.display()))?;
        rustix::fs::syncfs(&folder).map_err(std::io::Error::from).cannot(|| format!("flush the volume of {}", existing.display()))
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
        ("sh".to_owned(), vec!["-c".to_owned(), line.to_owned()])
    }

    /// Where the drives are, and a `PATH` that finds programs in the working folder, as on Windows.
    fn environment(&self) -> Vec<(String, String)> {
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
        vec![("IBEX_ROOT".to_owned(), self.root.display().to_string()), ("PATH".to_owned(), format!(".:{path}"))]
    }

    fn background_priority(&self, on: bool) {
        // Who is not root could lower the priority but never raise it again, and the outage would run slowly.
        let may_raise = rustix::process::geteuid().is_root();
        let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
        for thread in tasks.filter_map(|t| t.ok()?.file_name().to_str()?.parse::<i32>().ok()) {
            let nice = if on { BACKGROUND_NICE } else { 0 };
            if let Some(id) = Pid::from_raw(thread).filter(|_| may_raise)
                && let Err(e) = rustix::process::setpriority_process(Some(id), nice)
            {
                tracing::debug!(error = %e, thread, "the priority stays as it is");
            }
            set_io_priority(thread, if on { IO_LOWEST } else { IO_USUAL });
        }
    }

    fn windows_path(&self, native: &Path) -> Option<WinPath> {
        self.drives.windows(native)
    }
}

fn kill(pid: u32) -> Result<()> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| Error::internal(format!("{pid} is no process id")))?;
    match rustix::process::kill_process(id, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(Error::io(format!("end the process {pid}"), &e.into())),
    }
}

/// Sets the disk priority of a thread; a system that does not have it serves all alike.
fn set_io_priority(thread: i32, priority: libc::c_int) {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: ioprio_set(2) takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, thread, priority) };
    if result != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), thread, "the disk priority stays as it is");
    }
}
