//! When and how a link is cut, as a seed gives it.

use crate::dice::Dice;
use crate::support::Way;
use serde_json::Value;
use std::fmt;

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Connect,
    Bring,
    Stage,
    Hold,
    Apply,
    Prove,
    Close,
    Rollback,
    /// The cut came too late.
    Ended,
}

impl Phase {
    /// Those that the suite must hit.
    pub(crate) const ALL: [Self; 8] =
        [Self::Connect, Self::Bring, Self::Stage, Self::Hold, Self::Apply, Self::Prove, Self::Close, Self::Rollback];

    /// The word in names of gates.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Bring => "bring",
            Self::Stage => "stage",
            Self::Hold => "hold",
            Self::Apply => "apply",
            Self::Prove => "prove",
            Self::Close => "close",
            Self::Rollback => "rollback",
            Self::Ended => "ended",
        }
    }

    /// The phase after these entries of a journal; nothing before the run was accepted.
    pub(crate) fn of(journal: &[Value]) -> Option<Self> {
        journal.iter().filter_map(|entry| Self::begun_by(&entry["event"])).fold(None, |before, now| match (before, now) {
            // Phases of a run that is being undone are no phases of it any more.
            (Some(Self::Rollback), now) if now != Self::Ended => before,
            _ => Some(now),
        })
    }

    /// The phase that an event says has begun.
    pub(crate) fn begun_by(event: &Value) -> Option<Self> {
        match (event["event"].as_str()?, event["phase"].as_str().unwrap_or_default()) {
            ("accepted", _) | ("phase_started", "stage") => Some(Self::Stage),
            ("held", _) => Some(Self::Hold),
            ("phase_started", "apply") => Some(Self::Apply),
            ("phase_started", "prove") => Some(Self::Prove),
            ("phase_started", "close") => Some(Self::Close),
            ("rollback_started", _) => Some(Self::Rollback),
            ("instrument_finished", _) => Some(Self::Ended),
            _ => None,
        }
    }
}

/// How a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// RST.
    Reset,
    /// FIN.
    Close,
    /// Half open: sockets stay, nothing goes through them. New connections are served.
    Freeze,
    /// RST, and new connections are refused for a while.
    Refuse,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Reset, Self::Close, Self::Freeze, Self::Refuse];
}

/// When the cut comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before anything.
    First,
    /// After so many bytes.
    Byte { way: Way, count: u64 },
    /// When the controller has told that the phase began, and so many more events, or the end of the phase is near.
    Told { more: u64 },
}

/// One round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) seed: u64,
    pub(crate) phase: Phase,
    pub(crate) kind: Kind,
    pub(crate) moment: Moment,
    /// The instrument goes on only once the controller is back.
    pub(crate) waits: bool,
    /// So many attempts are refused.
    pub(crate) refusals: usize,
    /// IBEX ran before.
    pub(crate) runs: bool,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits = if self.waits { ", which waits for the controller" } else { "" };
        write!(f, "seed {}: {:?} in {:?} at {:?}{waits}", self.seed, self.kind, self.phase, self.moment)
    }
}

impl Scene {
    /// Any 32 seeds in a row are every kind of cut in every phase.
    pub(crate) fn of(seed: u64) -> Self {
        let place = |of: u64, count: usize| usize::try_from(of).expect("a small number") % count;
        let phase = Phase::ALL[place(seed % 8, 8)];
        let kind = Kind::ALL[place(seed / 8 % 4, 4)];
        let mut dice = Dice::new(seed ^ 0xC075);
        let moment = match phase {
            Phase::Connect if kind == Kind::Refuse => Moment::First,
            // As long as keys are agreed on and the account is logged on to.
            Phase::Connect => Moment::Byte { way: dice.pick(&[Way::ToServer, Way::ToClient]), count: dice.below(1_800) },
            // A build has more than this in any case, and finding out that it is missing takes less.
            Phase::Bring => Moment::Byte { way: Way::ToServer, count: 100_000 + dice.below(20_000_000) },
            // The plan, then content.
            Phase::Stage if dice.one_in(2) => Moment::Byte { way: Way::ToServer, count: 6_000 + dice.below(24_000) },
            Phase::Hold | Phase::Rollback => Moment::Told { more: 0 },
            _ => Moment::Told { more: dice.below(12) },
        };
        let waits = matches!(moment, Moment::Told { .. }) && phase != Phase::Hold && dice.one_in(2);
        Self { seed, phase, kind, moment, waits, refusals: dice.pick(&[1, 2]), runs: !dice.one_in(4) }
    }

    /// A script of the release fails there, so that it is rolled back.
    pub(crate) fn fails(&self) -> bool {
        self.phase == Phase::Rollback
    }

    /// The phase cannot end before the cut.
    pub(crate) fn has_gate(&self) -> bool {
        matches!(self.moment, Moment::Told { .. }) && self.phase != Phase::Hold
    }
}
