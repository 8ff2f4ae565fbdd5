//! The state of a run, made from its events: one fold for every reporter and for the stored runs.

use super::{BackedUp, Event, EventKind, LongStep, Outcome, RunId, StepRef, Unit, VersionChange};
use crate::error::Error;
use crate::playbook::Phase;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many of the last lines of a step's output are kept.
const TAIL: usize = 10;

/// A run, as far as its events tell.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunState {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    pub playbook: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kit: Option<String>,
    /// user@host.
    pub operator: String,
    /// The plan's digest as hex.
    pub plan: String,
    pub rehearsal: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// Nothing while the run goes on, or when its controller was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<RunEnd>,
    /// Reminders and notes that belong to no instrument.
    pub reminders: Vec<String>,
    /// In the order of the plan.
    pub instruments: Vec<InstrumentState>,
    #[serde(skip)]
    places: BTreeMap<String, usize>,
}

/// How the run as a whole ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunEnd {
    pub at: Timestamp,
    pub exit_code: u8,
    pub ms: u64,
    /// Why instruments were not started, when something stopped the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// What an instrument is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing is known of it yet.
    #[default]
    Planned,
    Queued {
        why: String,
    },
    Connecting {
        attempt: u32,
    },
    /// The agent is being brought there.
    Bringing,
    /// A link stands, or its plan is being carried out.
    Working,
    Held {
        why: String,
    },
    RollingBack {
        because: String,
    },
    Finished,
}

/// The step that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenStep {
    pub step: StepRef,
    pub attempt: u32,
    pub since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<StepProgress>,
    /// The last lines that its program wrote.
    pub tail: VecDeque<String>,
}

/// What a step waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    pub what: String,
    pub elapsed_ms: u64,
    pub limit_ms: u64,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StepProgress {
    pub done: u64,
    pub total: u64,
    pub unit: Unit,
}

/// Content that an instrument needs and got, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Staging {
    pub need_files: u64,
    pub need_bytes: u64,
    /// So far, never more than needed.
    pub staged_bytes: u64,
    pub fetched_bytes: u64,
    pub copied_bytes: u64,
    pub finished: bool,
    /// What each step has staged so far.
    #[serde(skip)]
    by_step: BTreeMap<String, u64>,
}

/// The time without IBEX.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// Set while it lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    pub ms: u64,
    /// Its longest steps, the longest first.
    pub longest: Vec<LongStep>,
}

/// Taking back what was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rollback {
    pub because: String,
    pub undone: u32,
    /// Nothing while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// What could not be put back.
    pub left: Vec<String>,
}

/// Changes made by hand that were found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HandChange {
    pub component: String,
    /// Nothing: unknown, there is no baseline yet.
    pub files: Option<u64>,
    pub archive: Option<String>,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedStep {
    pub step: StepRef,
    pub summary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// The last lines that its program wrote, when the events had them.
    pub output: Vec<String>,
}

/// One instrument of a run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct InstrumentState {
    pub name: String,
    pub standing: Standing,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How long each finished phase took, in milliseconds.
    pub phases: BTreeMap<Phase, u64>,
    pub steps: u32,
    pub steps_done: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenStep>,
    /// Why the link is down, when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_lost: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// By component.
    pub versions: BTreeMap<String, VersionChange>,
    pub outage: Outage,
    pub staging: Staging,
    /// Bytes over the link, compressed.
    pub sent: u64,
    /// From accepting the plan to its end.
    pub ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    pub failed_steps: Vec<FailedStep>,
    /// Why the instrument did not end well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    pub reminders: Vec<String>,
    pub hand_changes: Vec<HandChange>,
    pub backups: Vec<BackedUp>,
    pub notes: Vec<String>,
    /// How its worker came back after it was killed, each time.
    pub recoveries: Vec<String>,
    /// The question that waits for an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<String>,
    /// The first and the last sign of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// Journal numbers seen: after a lost link the same events may come again.
    #[serde(skip)]
    seen: BTreeSet<u64>,
}

impl RunState {
    /// The state after all these events.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut state = Self::default();
        for event in events {
            state.apply(event);
        }
        state
    }

    /// Takes in one more event. Events may come in any order and more than once.
    ///
    /// Returns false when the event was known already, so that nobody shows it twice.
    pub fn apply(&mut self, event: &Event) -> bool {
        self.run.get_or_insert_with(|| event.run.clone());
        let Some(name) = &event.instrument else {
            self.apply_to_run(event);
            return true;
        };
        let instrument = self.entry(name);
        if event.n > 0 && !instrument.seen.insert(event.n) {
            return false;
        }
        instrument.apply(event);
        true
    }

    /// True when the instrument's journal gave this event before: after a lost link the same ones may come again.
    pub fn knows(&self, event: &Event) -> bool {
        let instrument = event.instrument.as_deref().and_then(|name| self.instrument(name));
        event.n > 0 && instrument.is_some_and(|i| i.seen.contains(&event.n))
    }

    /// The instrument of this name, when an event named it.
    pub fn instrument(&self, name: &str) -> Option<&InstrumentState> {
        self.places.get(name).and_then(|&at| self.instruments.get(at))
    }

    /// How many instruments ended in which way. Those that did not end are in no count.
    pub fn counts(&self) -> BTreeMap<Outcome, usize> {
        let mut counts = BTreeMap::new();
        for outcome in self.instruments.iter().filter_map(|i| i.outcome) {
            *counts.entry(outcome).or_default() += 1;
        }
        counts
    }

    /// Instruments without an end.
    pub fn open_instruments(&self) -> usize {
        self.instruments.iter().filter(|i| i.outcome.is_none()).count()
    }

    fn entry(&mut self, name: &str) -> &mut InstrumentState {
        let at = match self.places.get(name) {
            Some(&at) => at,
            None => {
                self.instruments.push(InstrumentState { name: name.to_owned(), ..InstrumentState::default() });
                self.places.insert(name.to_owned(), self.instruments.len() - 1);
                self.instruments.len() - 1
            }
        };
        &mut self.instruments[at]
    }

    fn apply_to_run(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RunStarted { playbook, kit, operator, instruments, rehearsal, plan } => {
                self.playbook.clone_from(playbook);
                self.kit.clone_from(kit);
                self.operator.clone_from(operator);
                self.plan.clone_from(plan);
                self.rehearsal = *rehearsal;
                // A resumed run starts a second time; when it began is when it first did.
                self.started.get_or_insert(event.at);
                self.finished = None;
                for name in instruments {
                    self.entry(name);
                }
            }
            EventKind::RunFinished { exit_code, ms, stopped } => {
                self.finished = Some(RunEnd { at: event.at, exit_code: *exit_code, ms: *ms, stopped: stopped.clone() });
            }
            EventKind::Reminder { text } | EventKind::Note { text } => self.reminders.push(text.clone()),
            _ => {}
        }
    }
}

impl InstrumentState {
    /// True when the instrument has come to its end.
    pub fn is_finished(&self) -> bool {
        self.outcome.is_some()
    }

    /// How long the open step has been going on, in milliseconds, by the instrument's own clock.
    pub fn open_ms(&self) -> u64 {
        let Some(open) = &self.open else { return 0 };
        let by_clock = self.last.map_or(0, |last| millis_between(open.since, last));
        open.waiting.as_ref().map_or(by_clock, |w| w.elapsed_ms.max(by_clock))
    }

    fn apply(&mut self, event: &Event) {
        self.first.get_or_insert(event.at);
        self.last = Some(self.last.map_or(event.at, |last| last.max(event.at)));
        match &event.kind {
            EventKind::Queued { .. }
            | EventKind::Connecting { .. }
            | EventKind::Bringing
            | EventKind::Connected { .. }
            | EventKind::LinkLost { .. }
            | EventKind::Sent { .. } => self.apply_link(&event.kind),
            EventKind::StepStarted { .. }
            | EventKind::StepWaiting { .. }
            | EventKind::StepProgress { .. }
            | EventKind::StepOutput { .. }
            | EventKind::StepFinished { .. } => self.apply_step(event),
            EventKind::StagingNeeds { .. } | EventKind::Staged { .. } => self.apply_staging(&event.kind),
            EventKind::RollbackStarted { .. } | EventKind::StepUndone { .. } | EventKind::RollbackFinished { .. } => {
                self.apply_rollback(&event.kind);
            }
            EventKind::InstrumentFinished { .. } => self.apply_end(&event.kind),
            _ => self.apply_course(event),
        }
    }

    /// What the controller sees of the link.
    fn apply_link(&mut self, kind: &EventKind) {
        match kind {
            EventKind::Queued { why } => self.reopen(Standing::Queued { why: why.clone() }),
            EventKind::Connecting { attempt } if self.phase.is_none() || self.is_finished() => {
                self.reopen(Standing::Connecting { attempt: *attempt });
            }
            EventKind::Bringing if matches!(self.standing, Standing::Connecting { .. }) => self.standing = Standing::Bringing,
            EventKind::Connected { .. } => {
                self.link_lost = None;
                if matches!(
                    self.standing,
                    Standing::Planned | Standing::Queued { .. } | Standing::Connecting { .. } | Standing::Bringing
                ) {
                    self.standing = Standing::Working;
                }
            }
            EventKind::LinkLost { why, .. } if !self.is_finished() => self.link_lost = Some(why.clone()),
            // What an earlier message said may arrive after a later one.
            EventKind::Sent { bytes } => self.sent = self.sent.max(*bytes),
            _ => {}
        }
    }

    /// A finished instrument is taken up again when the run is resumed.
    fn reopen(&mut self, standing: Standing) {
        self.outcome = None;
        self.error = None;
        self.standing = standing;
    }

    fn apply_step(&mut self, event: &Event) {
        match &event.kind {
            EventKind::StepStarted { step, attempt } => {
                self.open_step(step, event.at).attempt = *attempt;
            }
            EventKind::StepWaiting { step, what, elapsed_ms, limit_ms } => {
                let waiting = Waiting { what: what.clone(), elapsed_ms: *elapsed_ms, limit_ms: *limit_ms };
                self.open_step(step, event.at).waiting = Some(waiting);
            }
            EventKind::StepProgress { step, done, total, unit } => {
                let open = self.open_step(step, event.at);
                open.progress = Some(StepProgress { done: *done, total: *total, unit: *unit });
                open.waiting = None;
                self.count_staged(step, *done, *unit);
            }
            EventKind::StepOutput { step, line } => {
                let open = self.open_step(step, event.at);
                if open.tail.len() == TAIL {
                    open.tail.pop_front();
                }
                open.tail.push_back(line.clone());
            }
            EventKind::StepFinished { step, outcome, summary, error, .. } => {
                self.steps_done = self.steps_done.saturating_add(1);
                let open = self.open.take_if(|open| open.step.id == step.id);
                if !outcome.is_good() {
                    let output = open.map(|o| o.tail.into()).unwrap_or_default();
                    let (step, summary) = (step.clone(), summary.clone());
                    self.failed_steps.push(FailedStep { step, summary, error: error.clone(), output });
                }
            }
            _ => {}
        }
    }

    /// The open step, made when its start was not seen (a reporter may come in the middle).
    fn open_step(&mut self, step: &StepRef, at: Timestamp) -> &mut OpenStep {
        if self.open.as_ref().is_some_and(|open| open.step.id != step.id) {
            self.open = None;
        }
        self.open.get_or_insert_with(|| OpenStep {
            step: step.clone(),
            attempt: 1,
            since: at,
            waiting: None,
            progress: None,
            tail: VecDeque::new(),
        })
    }

    /// Bytes that steps bring while staging are what the overall bar counts; other steps of the phase (backups) are not.
    fn count_staged(&mut self, step: &StepRef, done: u64, unit: Unit) {
        let staging = &mut self.staging;
        if unit == Unit::Bytes && staging.need_bytes > 0 && !staging.finished {
            staging.by_step.insert(step.id.clone(), done);
            let sum = staging.by_step.values().fold(0u64, |a, b| a.saturating_add(*b));
            staging.staged_bytes = sum.min(staging.need_bytes);
        }
    }

    fn apply_staging(&mut self, kind: &EventKind) {
        let staging = &mut self.staging;
        match kind {
            EventKind::StagingNeeds { files, bytes } => {
                *staging = Staging { need_files: *files, need_bytes: *bytes, ..Staging::default() };
            }
            EventKind::Staged { fetched_bytes, copied_bytes, .. } => {
                staging.fetched_bytes = *fetched_bytes;
                staging.copied_bytes = *copied_bytes;
                staging.staged_bytes = staging.need_bytes;
                staging.finished = true;
                staging.by_step.clear();
                self.open = None;
            }
            _ => {}
        }
    }

    fn apply_rollback(&mut self, kind: &EventKind) {
        match kind {
            EventKind::RollbackStarted { because } => {
                self.standing = Standing::RollingBack { because: because.clone() };
                self.open = None;
                self.rollback.get_or_insert_default().because.clone_from(because);
            }
            EventKind::StepUndone { .. } => {
                let rollback = self.rollback.get_or_insert_default();
                rollback.undone = rollback.undone.saturating_add(1);
            }
            EventKind::RollbackFinished { ok, left } => {
                let rollback = self.rollback.get_or_insert_default();
                rollback.ok = Some(*ok);
                rollback.left.clone_from(left);
            }
            _ => {}
        }
        self.settle();
    }

    fn apply_end(&mut self, kind: &EventKind) {
        let EventKind::InstrumentFinished { outcome, versions, outage_ms, longest, ms, error } = kind else { return };
        self.outcome = Some(*outcome);
        self.versions.clone_from(versions);
        self.outage = Outage { since: None, ms: *outage_ms, longest: longest.clone() };
        self.ms = *ms;
        self.error.clone_from(error);
        self.open = None;
        self.link_lost = None;
        self.question = None;
        self.settle();
    }

    /// Whatever comes late: an instrument with an outcome is finished.
    fn settle(&mut self) {
        if self.outcome.is_some() {
            self.standing = Standing::Finished;
        }
    }

    /// The course of the plan at the instrument.
    fn apply_course(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Accepted { steps, .. } => {
                self.steps = *steps;
                self.standing = Standing::Working;
            }
            EventKind::PhaseStarted { phase } => {
                self.phase = Some(*phase);
                self.standing = Standing::Working;
            }
            EventKind::PhaseFinished { phase, ms } => {
                self.phases.insert(*phase, *ms);
                self.open = None;
            }
            EventKind::Held { why } => self.standing = Standing::Held { why: why.clone() },
            EventKind::Released => self.standing = Standing::Working,
            EventKind::OutageStarted => self.outage.since = Some(event.at),
            EventKind::OutageEnded { ms } => {
                self.outage.since = None;
                self.outage.ms = *ms;
            }
            EventKind::Reminder { text } => self.reminders.push(text.clone()),
            EventKind::HandChanges { component, files, archive } => {
                let change = HandChange { component: component.clone(), files: *files, archive: archive.clone() };
                self.hand_changes.push(change);
            }
            // A step that was interrupted at its very end tells it again.
            EventKind::BackedUp(backup) if !self.backups.contains(backup) => self.backups.push(backup.clone()),
            EventKind::Question { text, .. } => self.question = Some(text.clone()),
            EventKind::Recovered { how } => self.recoveries.push(how.clone()),
            EventKind::Note { text } => self.notes.push(text.clone()),
            _ => {}
        }
        if !matches!(event.kind, EventKind::Question { .. } | EventKind::Note { .. } | EventKind::Reminder { .. }) {
            self.question = None;
        }
        self.settle();
    }
}

/// From one time to another; nothing when the clock went back.
fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0)
}

/// A finished run in a few numbers: what `summary.json` holds and `runs list` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub run: RunId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    pub playbook: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kit: Option<String>,
    pub operator: String,
    pub rehearsal: bool,
    pub instruments: usize,
    /// Instruments by how they ended.
    pub outcomes: BTreeMap<Outcome, usize>,
    /// Instruments without an end.
    pub open: usize,
    /// Nothing while the run is not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
}

impl RunState {
    /// The run in a few numbers; `run` names it when no event did.
    pub fn summary(&self, run: &RunId) -> Summary {
        Summary {
            run: self.run.clone().unwrap_or_else(|| run.clone()),
            started: self.started,
            playbook: self.playbook.clone(),
            kit: self.kit.clone(),
            operator: self.operator.clone(),
            rehearsal: self.rehearsal,
            instruments: self.instruments.len(),
            outcomes: self.counts(),
            open: self.open_instruments(),
            exit_code: self.finished.as_ref().map(|f| f.exit_code),
            ms: self.finished.as_ref().map(|f| f.ms),
        }
    }
}

#[cfg(test)]
mod tests;
