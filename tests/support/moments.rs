//! Who is killed, and where in a release that is.

use serde_json::Value;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    Controller,
    Worker,
    Both,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Stage,
    /// Everything is staged, nothing is stopped.
    Held,
    /// The outage has begun, no file was changed.
    BeforeSync,
    /// A sync has begun and is not over.
    InSync,
    AfterSync,
    Start,
    Prove,
    Close,
    Rollback,
    /// The kill came too late.
    Ended,
}

impl Place {
    /// The place after these entries of a journal.
    pub(crate) fn of(journal: &[Value]) -> Self {
        let mut place = Self::Stage;
        for entry in journal {
            place = place.after(&entry["event"]);
        }
        place
    }

    fn after(self, event: &Value) -> Self {
        if self == Self::Rollback && event["event"] != "instrument_finished" {
            return self;
        }
        let step = event["step"]["id"].as_str().unwrap_or_default();
        let phase = event["phase"].as_str().unwrap_or_default();
        match (event["event"].as_str().unwrap_or_default(), phase) {
            ("staged", _) | ("phase_finished", "stage") => Self::Held,
            ("phase_started", "apply") => Self::BeforeSync,
            ("step_started", _) if step.starts_with("apply") && step.ends_with("sync") => Self::InSync,
            // The last of the three; between two of them the next one begins at once.
            ("step_finished", _) if step.ends_with("sync") && event["step"]["name"] == "genie_python" => Self::AfterSync,
            ("step_started", _) if event["step"]["name"] == "start IBEX" => Self::Start,
            ("phase_started", "prove") => Self::Prove,
            ("phase_finished", "prove") => Self::Close,
            ("rollback_started", _) => Self::Rollback,
            ("instrument_finished", _) => Self::Ended,
            _ => self,
        }
    }

    /// True for an event that says that the run has come here.
    pub(crate) fn begins_with(self, event: &Value) -> bool {
        // From a place that no event but the right one leads to.
        let from = if self == Self::Stage { Self::Ended } else { Self::Stage };
        match self {
            Self::Stage => event["event"] == "phase_started" && event["phase"] == "stage",
            _ => from.after(event) == self,
        }
    }
}
