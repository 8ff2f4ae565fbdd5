//! Sessions of Unix.

use super::{Leader, open_log};
use crate::agent::builds;
use crate::agent::home::Home;
use crate::error::{IoContext, Result};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
use std::process::{Command, Stdio};

/// Starts the worker of a home, which outlives this process.
pub(in crate::agent) fn start_worker(home: &Home) -> Result<()> {
    let executable = builds::for_worker(home)?;
    let log = open_log(home)?;
    let mut command = Command::new(&executable);
    command.args(["agent", "worker"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    if let Some(root) = home.root() {
        command.arg("--root").arg(root);
    }
    // Not in a folder that somebody may want to remove or unmount.
    command.current_dir("/");
    own_session(&mut command);
    // Never waited for: it outlives this process.
    command.spawn().cannot(|| format!("start {}", executable.display()))?;
    Ok(())
}

pub(super) fn own_session(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: between fork and exec only calls that are safe after a fork are made: setsid, signal, close_range.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            // Whatever a shell, sudo or sshd left open: closed when the program starts. An old kernel without this
            // call leaves it open, which only delays the end of that shell's session.
            libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            Ok(())
        });
    }
}

pub(super) fn end_session(leader: Leader, at_once: bool) {
    if let Some(pid) = id(leader.pid) {
        // They may have ended by themselves.
        let _ = kill_process_group(pid, if at_once { Signal::KILL } else { Signal::TERM });
    }
}

pub(super) fn is_alive(pid: u32) -> bool {
    id(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}

/// Numbers are given away again after a long time only.
pub(super) fn begun(_pid: u32) -> Option<u64> {
    None
}

fn id(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}
