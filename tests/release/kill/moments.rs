//! When something is killed, and where in the run that was.

pub(crate) use crate::support::dice::Dice;
use serde_json::Value;
use std::fmt;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    Controller,
    Worker,
    Both,
}

impl Victim {
    pub(crate) const ALL: [Self; 3] = [Self::Controller, Self::Worker, Self::Both];
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
    /// Those that the suite must hit.
    pub(crate) const ALL: [Self; 9] = [
        Self::Stage,
        Self::Held,
        Self::BeforeSync,
        Self::InSync,
        Self::AfterSync,
        Self::Start,
        Self::Prove,
        Self::Close,
        Self::Rollback,
    ];

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

/// When the kill comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// When the controller has told that the run came to a place, and so many more events.
    Told { place: Place, more: u64 },
    /// The worker at its so many-th rename.
    Rename { count: u64 },
    /// The worker when it flushes for the so many-th time, which it does for every entry of its journal.
    Flush { count: u64 },
}

/// One round, as a seed gives it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) seed: u64,
    pub(crate) victim: Victim,
    pub(crate) moment: Moment,
    /// A script of the release fails, so that it is rolled back.
    pub(crate) failing: bool,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fails = if self.failing { ", a release that fails" } else { "" };
        write!(f, "seed {}: {:?} at {:?}{fails}", self.seed, self.victim, self.moment)
    }
}

impl Scene {
    /// Any scene.
    pub(crate) fn any(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let victim = dice.pick(&Victim::ALL);
        let failing = dice.one_in(3);
        let place = dice.pick(&Place::ALL);
        let moment = match dice.below(4) {
            0 if victim != Victim::Controller => Moment::Rename { count: 2 + dice.below(if failing { 240 } else { 120 }) },
            1 if victim != Victim::Controller => Moment::Flush { count: 2 + dice.below(75) },
            _ => return Self::told(victim, place, seed),
        };
        Self { seed, victim, moment, failing }
    }

    /// When the controller tells that the run is somewhere.
    pub(crate) fn told(victim: Victim, place: Place, seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5EED);
        let more = dice.below(3);
        Self { seed, victim, moment: Moment::Told { place, more }, failing: place == Place::Rollback }
    }
}
