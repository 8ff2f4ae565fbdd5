//! What happens in a run, as data: one versioned event type for journals, reporters and other programs.

mod fold;
mod kinds;
mod log;
#[cfg(test)]
pub(crate) mod made_up;
mod outcome;
mod redact;
mod run_folder;

pub use fold::{
    FailedStep, HandChange, InstrumentState, OpenStep, Outage, Rollback, RunEnd, RunState, Staging, Standing, StepProgress,
    Summary, Waiting,
};
pub use kinds::{BackedUp, EventKind, LongStep, StepRef, Unit, VersionChange};
pub use log::{Damage, EventLog, EventWriter};
pub use outcome::Outcome;
#[cfg(windows)]
pub use run_folder::own_state_folder;
pub use run_folder::{RunFolder, check_state_folder, state_folder};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of [`Event`]; it grows when a reader of the old form would misread the new one.
pub const EVENT_VERSION: u16 = 1;

/// The name of a run: the UTC second it was asked for and six random letters, so that names sort by time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl RunId {
    /// A new name; the letters come from `entropy`, so that two operators in one second do not collide.
    pub fn new(at: Timestamp, entropy: u64) -> Self {
        let stamp = at.strftime("%Y%m%d-%H%M%S");
        let mut letters = String::with_capacity(6);
        let mut rest = entropy;
        for _ in 0..6 {
            letters.push(char::from(b'a' + (rest % 26) as u8));
            rest /= 26;
        }
        Self(format!("{stamp}-{letters}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// [`EVENT_VERSION`] of the writer.
    pub v: u16,
    pub run: RunId,
    /// The instrument it happened on, or nothing for the run as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<String>,
    /// The number in the instrument's journal; 0 when it is not kept there (progress, waiting, link state).
    #[serde(default)]
    pub n: u64,
    /// UTC, by the clock of the machine where it happened.
    pub at: Timestamp,
    #[serde(flatten)]
    pub kind: EventKind,
}
