//! The end of a run, as its exit code says it.

use super::schedule::Stopped;
use crate::error::ErrorKind;
use crate::events::Outcome;
use std::collections::BTreeMap;

/// How an instrument ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub outcome: Outcome,
    /// As the operator wanted it.
    pub good: bool,
    /// The agent did not take the run: locked, not idle, not this host.
    pub refused: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// As `docs/operating.md` documents it.
    pub exit_code: u8,
    /// Why instruments were not started.
    pub stopped: Option<String>,
    /// By instrument.
    pub ended: BTreeMap<String, Ended>,
}

impl RunSummary {
    pub(super) fn new(ended: BTreeMap<String, Ended>, stopped: Option<&Stopped>) -> Self {
        let withheld = ended.values().any(|e| e.outcome == Outcome::Cancelled);
        // An operator's word that came when all was changed and proven has stopped nothing.
        let given_up = ended.values().any(|e| !e.good);
        let stopped = stopped.filter(|why| withheld || (**why == Stopped::Operator && given_up));
        Self { exit_code: exit_code(&ended, stopped), stopped: stopped.map(ToString::to_string), ended }
    }
}

/// The exit codes of runs; those of commands that end otherwise are in `cli/`.
mod code {
    pub(super) const OK: u8 = 0;
    pub(super) const SOME_FAILED: u8 = 1;
    pub(super) const STOPPED: u8 = 3;
    pub(super) const REFUSED: u8 = 4;
    pub(super) const NEEDS_PERSON: u8 = 5;
    pub(super) const CANCELLED: u8 = 130;
}

/// The worst decides: a failed rollback before a cancel before a limit before failures; only refusals are a refusal.
fn exit_code(ended: &BTreeMap<String, Ended>, stopped: Option<&Stopped>) -> u8 {
    let bad: Vec<&Ended> = ended.values().filter(|e| !e.good).collect();
    if bad.iter().any(|e| e.outcome == Outcome::RollbackFailed) {
        return code::NEEDS_PERSON;
    }
    match stopped {
        Some(Stopped::Operator) => code::CANCELLED,
        Some(_) => code::STOPPED,
        None if bad.is_empty() => code::OK,
        None if bad.iter().all(|e| e.refused) => code::REFUSED,
        None => code::SOME_FAILED,
    }
}

/// True for errors that say no on purpose.
pub(super) fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(outcomes: &[(Outcome, bool)], stopped: Option<&Stopped>) -> RunSummary {
        let ended = outcomes.iter().enumerate().map(|(i, (outcome, refused))| {
            (format!("NDX{i}"), Ended { outcome: *outcome, good: outcome.is_good(), refused: *refused })
        });
        RunSummary::new(ended.collect(), stopped)
    }

    #[test]
    fn the_worst_decides_the_exit_code() {
        use Outcome::{Cancelled, Changed, Failed, Ok, RollbackFailed, RolledBack, Unreachable};
        let limit = Stopped::Limit { failed: 1 };
        for (outcomes, stopped, code) in [
            (&[(Ok, false), (Changed, false)][..], None, 0),
            (&[(Ok, false), (RolledBack, false)], None, 1),
            (&[(Unreachable, false), (Failed, true)], None, 1),
            (&[(Ok, false), (Failed, true)], None, 4),
            (&[(Failed, false), (Cancelled, false)], Some(&limit), 3),
            (&[(Failed, false), (Changed, false)], Some(&limit), 1),
            (&[(RollbackFailed, false), (Cancelled, false)], Some(&limit), 5),
            (&[(Changed, false)], Some(&Stopped::Operator), 0),
            (&[(Changed, false), (Cancelled, false)], Some(&Stopped::Operator), 130),
            (&[(Changed, false), (RolledBack, false)], Some(&Stopped::Operator), 130),
            (&[(RollbackFailed, false)], Some(&Stopped::Operator), 5),
        ] {
            assert_eq!(summary(outcomes, stopped).exit_code, code, "{outcomes:?} {stopped:?}");
        }
    }

    #[test]
    fn a_limit_that_withheld_nothing_stopped_nothing() {
        assert_eq!(summary(&[(Outcome::Failed, false)], Some(&Stopped::Deadline)).stopped, None);
        assert!(summary(&[(Outcome::Cancelled, false)], Some(&Stopped::Deadline)).stopped.is_some());
    }
}
