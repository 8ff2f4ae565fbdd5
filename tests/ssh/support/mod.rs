//! SSH servers, users, and links that fail.

mod agent;
mod disks;
pub(crate) mod fleet;
mod links;
mod processes;
pub(crate) mod proxy;
mod site;
pub(crate) mod sshd;
mod strangers;
pub(crate) mod users;

pub(crate) use agent::SshAgent;
pub(crate) use disks::Disk;
pub(crate) use fleet::{Fleet, NEWER, SshSettings, agent_in};
pub(crate) use links::{Line, Links};
pub(crate) use processes::{Process, agents, descendants, runs, workers};
pub(crate) use proxy::{Cut, FaultProxy, Way};
pub(crate) use site::{BINARY, Site, give};
pub(crate) use sshd::Sshd;
pub(crate) use strangers::Stranger;
pub(crate) use users::{Home, LocalUser, Shell};

use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until there is something to see. What is waited for stands in the message when it does not come.
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    look_for(look).unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}"))
}

/// The same, for what may fail quietly.
fn look_for<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if seen.is_some() || Instant::now() > deadline {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Standard output of a program that must end well.
pub(crate) fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", told(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything about the end of a program.
pub(crate) fn told(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

/// True when this test may make users and mount disks.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
