//! Windows: a service where the agent works on the machine itself, a process outside of the caller's job where not.

use super::{Leader, open_log};
use crate::agent::home::Home;
use crate::agent::{builds, service};
use crate::error::{IoContext, Result};
use crate::platform::windows::{launch, processes};
use std::os::windows::io::IntoRawHandle;
use std::os::windows::process::CommandExt;
use std::path::Path;
use std::process::Command;
use windows_sys::Win32::System::Console::{STD_ERROR_HANDLE, SetStdHandle};
use windows_sys::Win32::System::Threading::{CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW};

/// Starts the worker of a home, which outlives this process and the session that it runs in. As a service it is nobody's
/// child, has the system's rights, and may run programs in the session of whoever is logged on. An account that may not
/// start services starts it as a process, outside of the job that ends with a session of OpenSSH.
pub(in crate::agent) fn start_worker(home: &Home) -> Result<()> {
    let executable = builds::for_worker(home)?;
    let Some(root) = home.root() else {
        return service::start(&executable).or_else(|refused| {
            tracing::info!(error = %refused, "the worker does not run as a service");
            launch::detached(&executable, &["agent", "worker"].map(str::to_owned)).map(drop)
        });
    };
    let args = ["agent".to_owned(), "worker".to_owned(), "--root".to_owned(), root.display().to_string()];
    launch::detached(&executable, &args).map(drop)
}

/// Makes the log of the home below `root` this process's standard error: who starts a worker hands no handle over.
///
/// # Errors
/// When it cannot be written.
pub fn log_to_home(root: Option<&Path>) -> Result<()> {
    let home = Home::open(root)?;
    let log = open_log(&home)?;
    // SAFETY: the handle is open and given away: it is the standard error from here to the end of the process.
    if unsafe { SetStdHandle(STD_ERROR_HANDLE, log.into_raw_handle()) } == 0 {
        return Err(std::io::Error::last_os_error()).cannot(|| format!("log to {}", home.worker_log().display()));
    }
    Ok(())
}

/// A console of its own that nobody sees, and no signals from the one of whoever started it.
pub(super) fn own_session(command: &mut Command) {
    command.creation_flags(CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP);
}

/// Ends a process and those it started.
pub(super) fn end_session(leader: Leader, _at_once: bool) {
    if !leader.is_alive() {
        // Its job ended with it, and its number may be somebody else's.
        return;
    }
    let started = processes::descendants(leader.pid).unwrap_or_default();
    for pid in [leader.pid].into_iter().chain(started) {
        if let Err(error) = processes::end(pid) {
            tracing::warn!(%error, "a program goes on");
        }
    }
}

pub(super) fn is_alive(pid: u32) -> bool {
    processes::is_running(pid)
}

pub(super) fn begun(pid: u32) -> Option<u64> {
    processes::begun(pid)
}
