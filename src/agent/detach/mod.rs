//! Processes that outlive the one that starts them.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

#[cfg(windows)]
pub use system::log_to_home;
pub(super) use system::start_worker;

use super::home::Home;
use crate::error::{IoContext, Result};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::process::{Child, Command};
use std::str::FromStr;

/// A worker's log is begun anew when it is larger than this.
const LOG_LIMIT: u64 = 4 << 20;

/// Opens the log of a home's worker, to go on with it.
fn open_log(home: &Home) -> Result<File> {
    let path = home.worker_log();
    let large = std::fs::metadata(&path).is_ok_and(|m| m.len() > LOG_LIMIT);
    let mut options = OpenOptions::new();
    options.create(true).write(true).append(!large).truncate(large);
    options.open(&path).cannot(|| format!("write {}", path.display()))
}

/// A process that leads what it started: [`own_session`] made it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leader {
    pid: u32,
    /// When it began, where the system gives numbers of processes away again soon.
    begun: Option<u64>,
}

impl Leader {
    pub(super) fn of(child: &Child) -> Self {
        Self::now(child.id())
    }

    /// The process that has this number now.
    pub(super) fn now(pid: u32) -> Self {
        Self { pid, begun: system::begun(pid) }
    }

    /// True while the process is there.
    pub(super) fn is_alive(self) -> bool {
        system::is_alive(self.pid) && (self.begun.is_none() || self.begun == system::begun(self.pid))
    }

    /// Asks the process and those it started to end; with `at_once` they are ended. Windows knows no way to ask.
    pub(super) fn end(self, at_once: bool) {
        system::end_session(self, at_once);
    }
}

/// Gives the process a session of its own with no inherited handle, so that it does not end with whoever starts it.
pub(super) fn own_session(command: &mut Command) {
    system::own_session(command);
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pid)?;
        self.begun.map_or(Ok(()), |begun| write!(f, " {begun}"))
    }
}

impl FromStr for Leader {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_whitespace();
        let pid = words.next().unwrap_or_default().parse()?;
        Ok(Self { pid, begun: words.next().map(str::parse).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_written_down_and_found_again() {
        for leader in [Leader { pid: 7, begun: None }, Leader { pid: 7, begun: Some(133_000_000_000_000_000) }] {
            assert_eq!(leader.to_string().parse(), Ok(leader));
        }
        assert!("".parse::<Leader>().is_err());
        assert!("7 x".parse::<Leader>().is_err());
    }

    #[test]
    fn another_process_of_the_same_number_is_not_taken_for_it() {
        let this = Leader::now(std::process::id());
        assert!(this.is_alive());
        let other = this.begun.map(|begun| Leader { begun: Some(begun + 1), ..this });
        assert!(other.is_none_or(|other| !other.is_alive()));
    }
}
