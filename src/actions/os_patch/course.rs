//! How far the installation of updates is, kept in the run's folder: the agent may end at any moment, also because an
//! update restarts the machine.

use super::super::StepContext;
use super::super::installer::Verdict;
use crate::error::Result;
use crate::files;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What was done so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Course {
    /// Rounds that came to their end.
    pub(super) rounds: u32,
    pub(super) restarts: u32,
    /// Every update that was tried, in the order of the first attempts.
    pub(super) updates: Vec<Tried>,
    /// The one that is being installed.
    pub(super) open: Option<Open>,
    /// A restart that was asked for.
    pub(super) restarting: Option<Restarting>,
    /// A restart is needed before more can be done.
    pub(super) needs_restart: bool,
}

/// An update that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tried {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) attempts: u32,
    pub(super) end: End,
    /// What the exit code means, or why there is none.
    pub(super) words: String,
    /// What helps, when it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) next: String,
    pub(super) seconds: u64,
}

/// How the last attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    /// By an exit code.
    Said(Verdict),
    /// The agent or the machine went down with it: the next search tells what came of it.
    Interrupted,
    /// It was ended, because it took too long, or could not be started.
    Broken,
    /// It says that it is installed, and is offered again.
    OfferedAgain,
}

impl End {
    pub(super) fn is_good(self) -> bool {
        match self {
            Self::Said(verdict) => verdict.is_good(),
            Self::Interrupted | Self::Broken | Self::OfferedAgain => false,
        }
    }

    pub(super) fn has_changed(self) -> bool {
        matches!(self, Self::Said(verdict) if verdict.has_changed())
    }
}

/// An attempt that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) attempt: u32,
    /// The machine's boot id when it began.
    pub(super) boot_id: String,
    /// The system waited for a restart already.
    pub(super) pending: bool,
}

/// A restart that is to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Restarting {
    /// The boot id before it.
    pub(super) boot_id: String,
    /// An installer has asked for it, and not we.
    pub(super) by_installer: bool,
}

impl Course {
    pub(super) fn read(cx: &StepContext<'_>) -> Result<Self> {
        Ok(files::read_json(&Self::file(cx))?.unwrap_or_default())
    }

    pub(super) fn write(&self, cx: &StepContext<'_>) -> Result<()> {
        files::write_json(&Self::file(cx), self)
    }

    fn file(cx: &StepContext<'_>) -> PathBuf {
        cx.data_file("updates.json")
    }

    pub(super) fn has_begun(&self) -> bool {
        self.open.is_some() || self.restarting.is_some() || !self.updates.is_empty()
    }

    pub(super) fn tried(&self, id: &str) -> Option<&Tried> {
        self.updates.iter().find(|t| t.id == id)
    }

    pub(super) fn attempts(&self, id: &str) -> u32 {
        self.tried(id).map_or(0, |t| t.attempts)
    }

    /// Keeps how an attempt ended, in the place of the one before.
    pub(super) fn keep(&mut self, tried: Tried) {
        match self.updates.iter_mut().find(|t| t.id == tried.id) {
            Some(before) => *before = tried,
            None => self.updates.push(tried),
        }
    }

    pub(super) fn installed(&self) -> usize {
        self.updates.iter().filter(|t| t.end.has_changed()).count()
    }
}
