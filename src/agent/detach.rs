//! Processes that outlive the one that starts them.

use std::process::Command;

/// Gives the process a session of its own with no inherited handle, so that it does not end with whoever starts it.
#[cfg(unix)]
pub(crate) fn own_session(command: &mut Command) {
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

/// Gives the process a group of its own, detached from the console.
#[cfg(windows)]
pub(crate) fn own_session(command: &mut Command) {
    use std::os::windows::process::CommandExt;
    const DETACHED_PROCESS: u32 = 0x8;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    command.creation_flags(DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP);
}

/// Asks all processes of a session that [`own_session`] made to end; with `at_once` they are ended.
#[cfg(unix)]
pub(crate) fn end_session(leader: i32, at_once: bool) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(pid) = Pid::from_raw(leader) {
        // They may have ended by themselves.
        let _ = kill_process_group(pid, if at_once { Signal::KILL } else { Signal::TERM });
    }
}

/// True when there is a process of this number.
#[cfg(unix)]
pub(crate) fn is_alive(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// True when there is a process of this number.
#[cfg(windows)]
pub(crate) fn is_alive(pid: i32) -> bool {
    let filter = format!("PID eq {pid}");
    let listed = Command::new("tasklist").args(["/NH", "/FI", &filter]).output();
    listed.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(&pid.to_string()))
}

/// Ends a process and those it started.
#[cfg(windows)]
pub(crate) fn end_session(leader: i32, at_once: bool) {
    let mut command = Command::new("taskkill");
    command.args(["/T", "/PID", &leader.to_string()]);
    if at_once {
        command.arg("/F");
    }
    // It may have ended by itself.
    let _ = command.output();
}
