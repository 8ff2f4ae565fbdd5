//! When something is killed, and where in the run that was.

pub(crate) use crate::support::dice::Dice;
pub(crate) use crate::support::moments::{Place, Victim};
use std::fmt;

impl Victim {
    pub(crate) const ALL: [Self; 3] = [Self::Controller, Self::Worker, Self::Both];
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
