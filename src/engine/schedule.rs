//! Which instrument may do what, and when: pure bookkeeping, no waiting.

use super::summary::Ended;
use crate::events::Outcome;
use std::fmt;

/// How a run goes over its instruments.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// How many instruments work at once; zero counts as one. Those in hold and those whose link is lost do not count.
    pub jobs: usize,
    /// Names of the instruments that apply first; the others are released when all of these are well.
    pub canary: Vec<String>,
    /// How many instruments apply at a time.
    pub batch: Option<usize>,
    /// Nothing more is started or released once this many have failed.
    pub max_fail: Option<usize>,
}

/// What the engine is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Start(usize),
    Release(usize),
}

/// Why nothing more is started or released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stopped {
    Limit { failed: usize },
    Canary { name: String, outcome: Outcome },
    Deadline,
    Operator,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit { failed: 1 } => f.write_str("1 instrument failed, which is the limit"),
            Self::Limit { failed } => write!(f, "{failed} instruments failed, which is the limit"),
            Self::Canary { name, outcome } => write!(f, "the canary {name} ended as {outcome}"),
            Self::Deadline => f.write_str("the deadline has come"),
            Self::Operator => f.write_str("the operator stopped the run"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// Connecting, staging or applying: takes a place.
    Working,
    /// Not reached for a while: takes no place, so that it holds up nobody.
    Away,
    /// In hold, and could apply.
    Ready,
    Ended {
        failed: bool,
    },
}

#[derive(Debug)]
struct Entry {
    name: String,
    canary: bool,
    state: State,
    /// Got the word to apply.
    released: bool,
}

/// The state of all instruments of a run.
#[derive(Debug)]
pub(super) struct Schedule {
    entries: Vec<Entry>,
    jobs: usize,
    batch: Option<usize>,
    max_fail: Option<usize>,
    stopped: Option<Stopped>,
}

impl Schedule {
    pub(super) fn new(names: impl IntoIterator<Item = String>, limits: &Limits) -> Self {
        let entries = names
            .into_iter()
            .map(|name| Entry { canary: limits.canary.contains(&name), name, state: State::Waiting, released: false })
            .collect();
        let batch = limits.batch.map(|n| n.max(1));
        Self { entries, jobs: limits.jobs.max(1), batch, max_fail: limits.max_fail, stopped: None }
    }

    pub(super) fn stopped(&self) -> Option<&Stopped> {
        self.stopped.as_ref()
    }

    /// Stops the run; the first reason stays, unless the operator comes.
    pub(super) fn stop(&mut self, why: Stopped) {
        if self.stopped.is_none() || why == Stopped::Operator {
            self.stopped = Some(why);
        }
    }

    /// Connected and at work.
    pub(super) fn working(&mut self, at: usize) {
        if self.entries[at].state == State::Away {
            self.entries[at].state = State::Working;
        }
    }

    /// Not reached for a while.
    pub(super) fn away(&mut self, at: usize) {
        if self.entries[at].state == State::Working {
            self.entries[at].state = State::Away;
        }
    }

    /// In hold, and could apply. One that got the word already is in hold again because its worker was restarted
    /// before it wrote the word down: it is told again by itself, and keeps its place.
    pub(super) fn ready(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        if matches!(entry.state, State::Working | State::Away) {
            entry.state = if entry.released { State::Working } else { State::Ready };
        }
    }

    pub(super) fn ended(&mut self, at: usize, end: Ended) {
        self.entries[at].state = State::Ended { failed: !end.good && end.outcome != Outcome::Cancelled };
        if self.entries[at].canary && !end.good {
            let name = self.entries[at].name.clone();
            self.stop(Stopped::Canary { name, outcome: end.outcome });
        }
        let failed = self.failed();
        if self.max_fail.is_some_and(|limit| failed >= limit.max(1)) {
            self.stop(Stopped::Limit { failed });
        }
    }

    pub(super) fn all_ended(&self) -> bool {
        self.entries.iter().all(|e| matches!(e.state, State::Ended { .. }))
    }

    /// Instruments that have not begun when the run is stopped.
    pub(super) fn waiting(&self) -> Vec<usize> {
        (0..self.entries.len()).filter(|i| self.entries[*i].state == State::Waiting).collect()
    }

    /// Why an instrument waits.
    pub(super) fn why_waiting(&self, at: usize) -> &'static str {
        if self.entries[at].canary || self.entries.iter().all(|e| !e.canary) {
            "waiting for a free place"
        } else {
            "waiting for a free place; the canaries go first"
        }
    }

    fn failed(&self) -> usize {
        self.count(|e| e.state == State::Ended { failed: true })
    }

    /// What may begin now. Releases go before starts, canaries before others, else the order is the inventory's.
    pub(super) fn orders(&mut self) -> Vec<Order> {
        if self.stopped.is_some() {
            return Vec::new();
        }
        let mut orders = Vec::new();
        let mut free = self.jobs.saturating_sub(self.count(|e| e.state == State::Working));
        let canaries_well = self.entries.iter().all(|e| !e.canary || matches!(e.state, State::Ended { .. }));
        let applying = self.count(|e| e.released && !e.canary && !matches!(e.state, State::Ended { .. }));
        let mut batch = self.batch.map_or(usize::MAX, |n| n.saturating_sub(applying));
        for canary in [true, false] {
            for (at, entry) in self.entries.iter_mut().enumerate() {
                let may = entry.canary == canary && entry.state == State::Ready && (canary || (canaries_well && batch > 0));
                if may && free > 0 {
                    entry.state = State::Working;
                    entry.released = true;
                    free -= 1;
                    batch = if canary { batch } else { batch - 1 };
                    orders.push(Order::Release(at));
                }
            }
        }
        for canary in [true, false] {
            for (at, entry) in self.entries.iter_mut().enumerate() {
                if free > 0 && entry.canary == canary && entry.state == State::Waiting {
                    entry.state = State::Working;
                    free -= 1;
                    orders.push(Order::Start(at));
                }
            }
        }
        orders
    }

    fn count(&self, which: impl Fn(&Entry) -> bool) -> usize {
        self.entries.iter().filter(|e| which(e)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(outcome: Outcome) -> Ended {
        Ended { outcome, good: outcome.is_good(), refused: false }
    }

    fn schedule(count: usize, limits: &Limits) -> Schedule {
        Schedule::new((0..count).map(|i| format!("NDX{i}")), limits)
    }

    #[test]
    fn no_more_work_than_there_are_places_and_the_lost_take_none() {
        let mut s = schedule(5, &Limits { jobs: 2, ..Limits::default() });
        assert_eq!(s.orders(), [Order::Start(0), Order::Start(1)]);
        assert_eq!(s.orders(), []);
        s.away(0);
        assert_eq!(s.orders(), [Order::Start(2)]);
        s.working(0);
        s.ended(1, end(Outcome::Changed));
        assert_eq!(s.orders(), [], "the one that came back takes the place");
        s.ended(0, end(Outcome::Changed));
        assert_eq!(s.orders(), [Order::Start(3)]);
    }

    #[test]
    fn canaries_apply_alone_while_the_others_stage() {
        let mut s = schedule(4, &Limits { jobs: 3, canary: vec!["NDX2".into()], ..Limits::default() });
        assert_eq!(s.orders(), [Order::Start(2), Order::Start(0), Order::Start(1)]);
        s.ready(0);
        s.ready(2);
        assert_eq!(s.orders(), [Order::Release(2), Order::Start(3)], "0 waits for the canary");
        s.ended(2, end(Outcome::Changed));
        assert_eq!(s.orders(), [Order::Release(0)]);
    }

    #[test]
    fn a_bad_canary_stops_the_rest() {
        let mut s = schedule(3, &Limits { jobs: 3, canary: vec!["NDX0".into()], ..Limits::default() });
        s.orders();
        s.ready(1);
        s.ended(0, end(Outcome::RolledBack));
        assert_eq!(s.orders(), []);
        assert_eq!(s.stopped(), Some(&Stopped::Canary { name: "NDX0".into(), outcome: Outcome::RolledBack }));
    }

    #[test]
    fn one_that_is_in_hold_again_after_the_word_keeps_its_place() {
        let mut s = schedule(2, &Limits { jobs: 1, batch: Some(1), ..Limits::default() });
        assert_eq!(s.orders(), [Order::Start(0)]);
        s.ready(0);
        assert_eq!(s.orders(), [Order::Release(0)]);
        s.ready(0);
        assert_eq!(s.orders(), [], "its place is not free");
        s.ended(0, end(Outcome::Changed));
        assert_eq!(s.orders(), [Order::Start(1)]);
    }

    #[test]
    fn no_more_than_a_batch_applies_at_a_time() {
        let mut s = schedule(4, &Limits { jobs: 4, batch: Some(2), ..Limits::default() });
        s.orders();
        (0..4).for_each(|i| s.ready(i));
        assert_eq!(s.orders(), [Order::Release(0), Order::Release(1)]);
        s.away(0);
        assert_eq!(s.orders(), [], "one that was lost while applying is still in the batch");
        s.ended(1, end(Outcome::Changed));
        assert_eq!(s.orders(), [Order::Release(2)]);
    }

    #[test]
    fn the_failure_limit_counts_failures_only() {
        let mut s = schedule(6, &Limits { jobs: 1, max_fail: Some(2), ..Limits::default() });
        for (at, outcome) in
            [Outcome::Changed, Outcome::Unreachable, Outcome::Cancelled, Outcome::RolledBack].into_iter().enumerate()
        {
            assert_eq!(s.orders(), [Order::Start(at)]);
            s.ended(at, end(outcome));
        }
        assert_eq!(s.orders(), []);
        assert_eq!(s.stopped(), Some(&Stopped::Limit { failed: 2 }));
        assert_eq!(s.waiting(), [4, 5]);
    }
}
