//! `check`: a gate before, a proof after.

mod disk;
mod file;
mod git;
mod idle;
mod memory;
mod output;
mod port;
mod process;
mod pv;
mod service;
mod session;
mod system;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
mod version;

pub use disk::{DiskCheck, FreeSpace};
pub use file::FileCheck;
pub use git::GitCheck;
pub use idle::IdleCheck;
pub use memory::MemoryCheck;
pub use output::OutputCheck;
pub use port::PortCheck;
pub use process::ProcessCheck;
pub use pv::{PvCheck, PvFormat, Unreadable};
pub(super) use pv::{Reader, decode};
pub use service::ServiceCheck;
pub use session::SessionCheck;
pub use system::SystemCheck;
pub use version::VersionCheck;

use super::{Applied, Difference, Perform, Probe, StepContext};
use crate::error::{Error, ErrorKind, Result};
use crate::playbook::Phase;
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Checks that something is so; exactly one of the kinds is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Polls until it is so, at most this long; looks once unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pv: Option<PvCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleCheck>,
}

/// One kind of check.
trait Look {
    /// What is hoped for, as a wait names it: `service MYSQL80 to be running`.
    fn wish(&self) -> String;

    /// Looks once, changing nothing.
    ///
    /// # Errors
    /// When it cannot be found out at all; that it is not so is [`Finding::Fails`].
    fn look(&self, cx: &StepContext<'_>) -> Result<Finding>;

    /// True when looking runs a program of the playbook, which a dry run leaves alone.
    fn runs_a_line(&self) -> bool {
        false
    }
}

/// What a look found.
#[derive(Debug)]
enum Finding {
    /// It is so: what was found in a few words, and what `register` keeps.
    Holds(String, Value),
    /// It is not so: what was found, what was wanted, what to do.
    Fails(Error),
}

impl Finding {
    fn holds(summary: impl Into<String>) -> Self {
        Self::Holds(summary.into(), Value::Null)
    }
}

impl Check {
    /// The one kind that is set.
    fn kind(&self) -> Result<&dyn Look> {
        let kinds: [Option<&dyn Look>; 13] = [
            self.disk.as_ref().map(|k| k as &dyn Look),
            self.memory.as_ref().map(|k| k as &dyn Look),
            self.version.as_ref().map(|k| k as &dyn Look),
            self.service.as_ref().map(|k| k as &dyn Look),
            self.process.as_ref().map(|k| k as &dyn Look),
            self.session.as_ref().map(|k| k as &dyn Look),
            self.system.as_ref().map(|k| k as &dyn Look),
            self.port.as_ref().map(|k| k as &dyn Look),
            self.file.as_ref().map(|k| k as &dyn Look),
            self.output.as_ref().map(|k| k as &dyn Look),
            self.pv.as_ref().map(|k| k as &dyn Look),
            self.git.as_ref().map(|k| k as &dyn Look),
            self.idle.as_ref().map(|k| k as &dyn Look),
        ];
        let mut set = kinds.into_iter().flatten();
        match (set.next(), set.next()) {
            (Some(kind), None) => Ok(kind),
            _ => Err(Error::bad_input("a check has exactly one kind").next(
                "write one of disk, memory, version, service, process, session, system, port, file, output, pv, git, idle",
            )),
        }
    }

    /// What was found, when it is so.
    ///
    /// # Errors
    /// When it is not so, or cannot be found out.
    pub(crate) fn hold(&self, cx: &StepContext<'_>) -> Result<(String, Value)> {
        let kind = self.kind()?;
        let finding = match self.within {
            Some(within) => Self::poll(kind, cx, within)?,
            None => kind.look(cx)?,
        };
        match finding {
            Finding::Holds(summary, result) => Ok((summary, result)),
            Finding::Fails(error) => Err(error),
        }
    }

    /// # Errors
    /// When none or several kinds are set.
    pub(crate) fn expect_one_kind(&self) -> Result<()> {
        self.kind().map(|_| ())
    }

    /// Looks until it holds or the time is over; the error then is that of the last look.
    fn poll(kind: &dyn Look, cx: &StepContext<'_>, within: Span) -> Result<Finding> {
        let mut last = None;
        let held = cx.deadline.within(within.0).wait_for(&kind.wish(), cx.progress, || match kind.look(cx)? {
            Finding::Fails(error) => {
                last = Some(error);
                Ok(None)
            }
            holds @ Finding::Holds(..) => Ok(Some(holds)),
        });
        match (held, last) {
            (Err(e), Some(last)) if e.kind() == ErrorKind::TimedOut => Ok(Finding::Fails(last.because(e))),
            (held, _) => held,
        }
    }
}

impl Perform for Check {
    fn describe(&self) -> String {
        self.kind().map_or_else(|_| "check".to_owned(), |kind| format!("check {}", kind.wish()))
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let kind = self.kind()?;
        let gate = cx.step.phase == Phase::Stage;
        if kind.runs_a_line() && !gate {
            let summary = format!("would look for {}", kind.wish());
            return Ok(Probe { difference: Difference::Unknown, summary, ..Probe::default() });
        }
        match kind.look(cx)? {
            Finding::Holds(summary, _) => Ok(Probe { difference: Difference::None, summary, ..Probe::default() }),
            // What later phases check is mostly what the steps before are to bring about.
            Finding::Fails(error) if !gate || self.within.is_some() => {
                Ok(Probe { difference: Difference::Unknown, summary: format!("not so now: {error}"), ..Probe::default() })
            }
            Finding::Fails(error) => Err(error),
        }
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        self.hold(cx).map(|(summary, result)| Applied::ok(summary).with_result(result))
    }
}
