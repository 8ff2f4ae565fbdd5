//! What the journal says about how far a run is.

use super::journal::{Body, Loaded};
use crate::actions::UndoRecord;
use crate::error::Error;
use crate::events::{EventKind, Outcome};
use crate::playbook::Phase;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// An intention, as it is undone.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(crate) n: u64,
    pub(crate) step: String,
    pub(crate) record: UndoRecord,
}

/// How far a run is; of a new one everything is empty.
#[derive(Debug, Default)]
pub(crate) struct Resume {
    /// Entries were there: the worker came back.
    pub(crate) came_back: bool,
    pub(crate) accepted: Option<Timestamp>,
    pub(crate) facts: Option<BTreeMap<String, serde_json::Value>>,
    pub(crate) phases_done: BTreeSet<Phase>,
    /// Steps that are over, with how they ended and the milliseconds they took.
    pub(crate) steps: BTreeMap<String, StepEnd>,
    /// The attempt that was open, by step.
    pub(crate) attempts: BTreeMap<String, u32>,
    pub(crate) registered: BTreeMap<String, serde_json::Value>,
    pub(crate) staged: bool,
    pub(crate) held: bool,
    pub(crate) released: bool,
    pub(crate) quiet: Option<String>,
    pub(crate) versions_before: Option<BTreeMap<String, String>>,
    pub(crate) outage_started: Option<Timestamp>,
    pub(crate) outage_ms: Option<u64>,
    /// Why a rollback has begun.
    pub(crate) rollback: Option<String>,
    pub(crate) intents: Vec<Intent>,
    /// Intentions of this run that were taken back, with what was left.
    pub(crate) undone: BTreeMap<u64, Vec<String>>,
    /// The same for intentions of runs that this run undoes.
    pub(crate) undone_of: BTreeMap<(String, u64), Vec<String>>,
    pub(crate) finished: Option<Outcome>,
    pub(crate) undone_by: Option<crate::events::RunId>,
    pub(crate) damage: Vec<String>,
}

/// How a step ended.
#[derive(Debug, Clone)]
pub(crate) struct StepEnd {
    pub(crate) outcome: Outcome,
    pub(crate) ms: u64,
    pub(crate) error: Option<Error>,
}

impl Resume {
    pub(crate) fn from_journal(loaded: &Loaded) -> Self {
        let mut resume = Self { came_back: !loaded.entries.is_empty(), damage: loaded.damage.clone(), ..Self::default() };
        for entry in &loaded.entries {
            match entry.body.clone() {
                Body::Event(kind) => resume.event(entry.at, kind),
                Body::Intend { step, record } => resume.intents.push(Intent { n: entry.n, step, record }),
                Body::Undone { of, run: None, left } => {
                    resume.undone.insert(of, left);
                }
                Body::Undone { of, run: Some(run), left } => {
                    resume.undone_of.insert((run.0, of), left);
                }
                Body::Registered { name, value } => {
                    resume.registered.insert(name, value);
                }
                Body::Quiet { step } => resume.quiet = Some(step),
                Body::UndoneBy { run } => resume.undone_by = Some(run),
                Body::Versions { before } => resume.versions_before = Some(before),
                Body::Cancel { .. } | Body::AnswerYes => {}
            }
        }
        resume
    }

    fn event(&mut self, at: Timestamp, kind: EventKind) {
        match kind {
            EventKind::Accepted { .. } => self.accepted = Some(at),
            EventKind::Facts { facts } => self.facts = Some(facts),
            EventKind::PhaseFinished { phase, .. } => {
                self.phases_done.insert(phase);
            }
            EventKind::Held { .. } => self.held = true,
            EventKind::Released => self.released = true,
            EventKind::Staged { .. } => self.staged = true,
            EventKind::StepStarted { step, attempt } => {
                self.attempts.insert(step.id, attempt);
            }
            EventKind::StepFinished { step, outcome, ms, error, .. } => {
                self.steps.insert(step.id, StepEnd { outcome, ms, error });
            }
            EventKind::OutageStarted => (self.outage_started, self.outage_ms) = (Some(at), None),
            EventKind::OutageEnded { ms } => self.outage_ms = Some(ms),
            EventKind::RollbackStarted { because } => self.rollback = Some(because),
            EventKind::InstrumentFinished { outcome, .. } => self.finished = Some(outcome),
            _ => {}
        }
    }

    /// The intentions that no undo has taken back completely: one that left something can be tried again.
    pub(crate) fn open_intents(&self) -> impl Iterator<Item = &Intent> {
        self.intents.iter().filter(|i| self.undone.get(&i.n).is_none_or(|left| !left.is_empty()))
    }

    /// In a few words, for the people who wonder.
    pub(crate) fn describe(&self) -> String {
        if self.rollback.is_some() {
            return "the rollback goes on".to_owned();
        }
        let open = Phase::ALL.into_iter().find(|p| !self.phases_done.contains(p)).unwrap_or(Phase::Close);
        if self.held && !self.released && open == Phase::Apply {
            return "it waits again for the word to apply".to_owned();
        }
        format!("it goes on in the phase {open}")
    }
}
