//! What a sandbox is made of on Linux.

mod processes;

pub(super) use processes::{agents, ancestors, is_running, programs_below};

use crate::error::{Error, ErrorKind, IoContext, Result};
use rustix::process::{Pid, Signal};
use std::fs::{File, Metadata, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

/// The nice value of background work: well behind everything else, and still served on a busy machine.
const BACKGROUND_NICE: i32 = 15;
/// ioprio_set(2): the class `best effort` in its lowest level, and the usual level.
const IO_LOWEST: libc::c_int = (2 << 13) | 7;
const IO_USUAL: libc::c_int = 0;

/// A resolved path as programs are given it.
pub(super) fn as_given_to_programs(path: &Path) -> PathBuf {
    path.to_owned()
}

/// Ends a process; one that is gone is no error.
pub(super) fn kill(pid: u32) -> Result<()> {
    signal(pid, Signal::KILL)
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| Error::internal(format!("{pid} is no process id")))?;
    match rustix::process::kill_process(id, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(Error::io(format!("end the process {pid}"), &e.into())),
    }
}

/// The nearest folder or file of the path that exists.
fn existing(path: &Path) -> Result<(&Path, Metadata)> {
    for candidate in path.ancestors() {
        match std::fs::metadata(candidate) {
            Ok(metadata) => return Ok((candidate, metadata)),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(Error::io(format!("look at {}", candidate.display()), &e)),
        }
    }
    Err(Error::new(ErrorKind::Io, format!("nothing of {} exists", path.display())))
}

pub(super) fn free_space(path: &Path) -> Result<u64> {
    let (existing, _) = existing(path)?;
    let volume = rustix::fs::statvfs(existing)
        .map_err(std::io::Error::from)
        .cannot(|| format!("ask for the free space of {}", existing.display()))?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

pub(super) fn volume_of(path: &Path) -> Result<u64> {
    Ok(existing(path)?.1.dev())
}

pub(super) fn make_link(at: &Path, to: &Path) -> Result<()> {
    std::os::unix::fs::symlink(to, at).cannot(|| format!("make the link {} to {}", at.display(), to.display()))
}

pub(crate) fn copy_rights(like: &Path, path: &Path) -> Result<()> {
    copy_rights_with(like, path, |wanted| wanted.mode() & 0o7777)
}

pub(crate) fn copy_file_rights(like: &Path, file: &Path, executable: bool) -> Result<()> {
    copy_rights_with(like, file, |wanted| {
        let mode = wanted.mode() & if wanted.is_dir() { 0o666 } else { 0o7777 };
        // Who may read it may run it.
        if executable { mode | ((mode & 0o444) >> 2) } else { mode }
    })
}

fn copy_rights_with(like: &Path, path: &Path, mode: impl Fn(&Metadata) -> u32) -> Result<()> {
    let wanted = std::fs::symlink_metadata(like).cannot(|| format!("look at {}", like.display()))?;
    let present = std::fs::symlink_metadata(path).cannot(|| format!("look at {}", path.display()))?;
    // Only what differs is asked for: who is not root may not even set the owner that is there.
    let other_owner = (wanted.uid(), wanted.gid()) != (present.uid(), present.gid());
    if other_owner {
        std::os::unix::fs::lchown(path, Some(wanted.uid()), Some(wanted.gid()))
            .cannot(|| format!("give {} the owner of {}", path.display(), like.display()))?;
    }
    // A link has no mode of its own, and changing the owner may have taken bits of a file's.
    if !present.is_symlink() && !wanted.is_symlink() {
        let mode = mode(&wanted);
        if other_owner || mode != present.mode() & 0o7777 {
            std::fs::set_permissions(path, Permissions::from_mode(mode))
                .cannot(|| format!("give {} the mode of {}", path.display(), like.display()))?;
        }
    }
    Ok(())
}

pub(super) fn flush_volume(path: &Path) -> Result<()> {
    let (existing, _) = existing(path)?;
    let folder = File::open(existing).cannot(|| format!("open {}", existing.display()))?;
    rustix::fs::syncfs(&folder).map_err(std::io::Error::from).cannot(|| format!("flush the volume of {}", existing.display()))
}

pub(super) fn shell_line(line: &str) -> (String, Vec<String>) {
    ("sh".to_owned(), vec!["-c".to_owned(), line.to_owned()])
}

/// A `PATH` that finds programs in the working folder, as on Windows.
pub(super) fn environment() -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    vec![("PATH".to_owned(), format!(".:{path}"))]
}

pub(super) fn background_priority(on: bool) {
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

/// Sets the disk priority of a thread; a system that does not have it serves all alike.
fn set_io_priority(thread: i32, priority: libc::c_int) {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: ioprio_set(2) takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, thread, priority) };
    if result != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), thread, "the disk priority stays as it is");
    }
}

/// The program of a service, which waits for the word to go on; without it, it ends.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) pid: u32,
    word: Option<ChildStdin>,
}

impl Begun {
    /// Starts a program with nothing that it shares with this process; its output goes to `log`.
    pub(super) fn start(
        program: &Path,
        arguments: &[String],
        environment: Vec<(String, String)>,
        folder: &Path,
        log: &Path,
    ) -> Result<Self> {
        let output = File::create(log).cannot(|| format!("write {}", log.display()))?;
        let errors = output.try_clone().cannot(|| format!("write {}", log.display()))?;
        let mut command = Command::new("sh");
        command.args(["-c", "read go && exec \"$@\" </dev/null", "sh"]).arg(program).args(arguments);
        command.envs(environment).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(output).stderr(errors).process_group(0);
        let mut child = command.spawn().cannot(|| format!("start {}", program.display()))?;
        let begun = Self { pid: child.id(), word: child.stdin.take() };
        // Collected when it ends, so that it is not taken for running.
        std::thread::spawn(move || drop(child.wait()));
        Ok(begun)
    }

    /// Lets the program go on.
    pub(super) fn go_on(self) -> Result<()> {
        match self.word {
            Some(mut word) => word.write_all(b"go\n").cannot(|| format!("start the program {}", self.pid)),
            None => Ok(()),
        }
    }
}

/// Asks the program of a service to end.
pub(super) fn ask_to_end(pid: u32) -> Result<()> {
    signal(pid, Signal::TERM)
}
