//! How a step, an instrument or a run ended.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The end of a step or of an instrument's whole plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All was already as wanted.
    Ok,
    /// Something was changed, and it is as wanted now.
    Changed,
    /// Not done, for a stated reason.
    Skipped,
    /// It failed; what was changed stands as the report says.
    Failed,
    /// It failed or was cancelled, and everything is exactly as it was before.
    RolledBack,
    /// It failed, and not everything could be put back: a person is needed.
    RollbackFailed,
    /// The instrument could not be reached.
    Unreachable,
    /// Stopped by the operator, the failure limit or the deadline before anything was touched.
    Cancelled,
}

impl Outcome {
    /// True for the ends that an operator wants.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Ok | Self::Changed | Self::Skipped)
    }

    /// The word used in reports and documents.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Changed => "changed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::RollbackFailed => "rollback_failed",
            Self::Unreachable => "unreachable",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
