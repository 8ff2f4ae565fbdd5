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
        let stopped = stopped.filter(|why| withheld || **why == Stopped::Operator);
        Self { exit_code: exit_code(&ended, stopped), stopped: stopped.map(ToString::to_string), ended }
    }
}

/// 5 an instrument needs a person, 130 cancelled, 3 stopped by a limit, 4 only refusals, 1 some failed, 0 all well.
fn exit_code(ended: &BTreeMap<String, Ended>, stopped: Option<&Stopped>) -> u8 {
    let bad: Vec<&Ended> = ended.values().filter(|e| !e.good).collect();
    if bad.iter().any(|e| e.outcome == Outcome::RollbackFailed) {
        return 5;
    }
    match stopped {
        Some(Stopped::Operator) => 130,
        Some(_) => 3,
        None if bad.is_empty() => 0,
        None if bad.iter().all(|e| e.refused) => 4,
        None => 1,
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
            (&[(Changed, false)], Some(&Stopped::Operator), 130),
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
