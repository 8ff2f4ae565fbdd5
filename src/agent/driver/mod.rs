//! Carries out a plan: the phases in order, the hold, the outage, and the way back.

mod context;
mod finish;
mod guard;
mod hotfixes;
mod late;
mod outage;
mod stage;
mod steps;
mod undo;

pub(crate) use context::{Bench, Source};
pub(crate) use finish::{added_since, changed_since, installed};
pub(crate) use guard::{Guarded, changed_by_others};
pub(crate) use late::{items_of, names, rendered};
pub(crate) use undo::{UndoReport, Undoing};

use super::machine::Machine;
use super::prune;
use super::pull::Shelf;
use super::resume::Resume;
use super::run::{Run, cancelled};
use crate::actions::Action;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{EventKind, LongStep, Outcome};
use crate::plan::{Hold, PlanStep};
use crate::playbook::Phase;
use crate::template::Context;
use crate::units::millis;
use late::Item;
use outage::Outage;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Carries out one plan on one thread.
pub(crate) struct Driver {
    pub(crate) run: Arc<Run>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) facts: BTreeMap<String, serde_json::Value>,
    pub(crate) registered: BTreeMap<String, serde_json::Value>,
    /// The folder of releases, when the plan pulls and it is open.
    pub(crate) shelf: Option<Arc<Shelf>>,
    pub(crate) announce: Box<dyn Fn(u64, u64) + Send + Sync>,
    resume: Resume,
    begun: Instant,
    outage: Mutex<Outage>,
    changed: bool,
    longest: Vec<LongStep>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("run", &self.run).finish_non_exhaustive()
    }
}

/// Why a phase did not come to its end.
enum Halt {
    /// It failed, or the operator cancelled: what was done is undone.
    Undo(Error),
    /// A step with `on_failure: stop` failed.
    Stop(Error),
}

impl Driver {
    pub(crate) fn new(run: Arc<Run>, machine: Arc<Machine>, mut resume: Resume) -> Self {
        let announce = announcer(Arc::clone(&run));
        let outage = Mutex::new(Outage::of(&resume, &run.plan));
        // As for a run in one piece: what is done in `stage` changes nothing that is installed.
        let of_stage = |id: &String| run.plan.steps.iter().any(|s| s.id == *id && s.phase == Phase::Stage);
        let changed = resume.steps.iter().any(|(id, end)| end.outcome == Outcome::Changed && !of_stage(id));
        Self {
            facts: resume.facts.take().unwrap_or_default(),
            registered: std::mem::take(&mut resume.registered),
            shelf: None,
            announce,
            begun: Instant::now(),
            outage,
            changed,
            longest: Vec::new(),
            resume,
            run,
            machine,
        }
    }

    /// Brings the run to its end, from wherever it is.
    pub(crate) fn drive(mut self) -> Outcome {
        if self.resume.came_back {
            let how = self.resume.describe();
            self.run.emit(EventKind::Recovered { how });
            self.recall_longest();
        }
        self.gather_facts();
        // When it is not there, `stage` says so.
        self.shelf = Shelf::open(&self.run.plan, &self.machine, &self.run.secrets()).ok().flatten().map(Arc::new);
        self.machine.platform.background_priority(true);
        let outcome = self.phases();
        self.machine.platform.background_priority(false);
        outcome
    }

    /// The first word of a run.
    pub(crate) fn accept(run: &Run) {
        let plan = &run.plan;
        run.emit(EventKind::Accepted {
            playbook: plan.playbook.clone(),
            operator: plan.operator.clone(),
            plan: plan.digest().map(|d| d.to_string()).unwrap_or_default(),
            steps: u32::try_from(plan.steps.len()).unwrap_or(u32::MAX),
        });
    }

    pub(crate) fn gather_facts(&mut self) {
        if !self.facts.is_empty() {
            return;
        }
        self.facts = self.machine.facts(&self.run.plan.places);
        self.run.emit(EventKind::Facts { facts: self.facts.clone() });
    }

    /// Before the first change: what was found out when the run began may be hours old by now, and what checks saw
    /// before a crash as well.
    fn look_again(&mut self) {
        if self.steps_of(Phase::Apply).is_empty() || !self.has_only_looked() {
            return;
        }
        for step in self.steps_of(Phase::Apply) {
            self.resume.steps.remove(&step.id);
            self.resume.attempts.remove(&step.id);
        }
        let now = crate::platform::facts::gather(&*self.machine.platform, &self.machine.drives, &self.run.plan.places);
        // Free space differs at any time.
        let same = |(name, value): (&String, &serde_json::Value)| name == "disk" || self.facts.get(name) == Some(value);
        if !now.iter().all(same) {
            self.run.emit(EventKind::Facts { facts: now.clone() });
            self.facts = now;
        }
    }

    /// True when `apply` has come to nothing yet but checks, and a program that its gate kept from running.
    fn has_only_looked(&self) -> bool {
        let looked = |s: &PlanStep| match self.resume.steps.get(&s.id) {
            Some(end) if end.outcome == Outcome::Skipped || matches!(s.action, Action::Check(_)) => true,
            Some(end) => {
                let kept_back = |c: &crate::actions::command::Command| c.gate.is_some();
                let refused = end.error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Refused);
                refused && matches!(&s.action, Action::Command(c) if kept_back(c))
            }
            None => !self.resume.attempts.contains_key(&s.id) || matches!(s.action, Action::Check(_)),
        };
        let untouched = self.own_intents().is_ok_and(|(intents, _)| intents.is_empty());
        self.resume.rollback.is_none() && untouched && self.steps_of(Phase::Apply).iter().all(looked)
    }

    fn phases(&mut self) -> Outcome {
        if let Some(because) = self.resume.rollback.clone() {
            let error = self.last_failure().unwrap_or_else(|| Error::new(ErrorKind::StepFailed, because.clone()));
            return self.roll_back(&because, error);
        }
        if let Err(halt) = self.stage_phase() {
            let (Halt::Undo(error) | Halt::Stop(error)) = halt;
            return self.end_unchanged(error);
        }
        match self.nothing_differs() {
            Ok(false) => {}
            Ok(true) => return self.end_without_outage(),
            Err(error) => return self.end_unchanged(error),
        }
        if self.run.plan.hold == Hold::AfterStage {
            return self.finish(if self.changed { Outcome::Changed } else { Outcome::Ok }, None);
        }
        if let Err(error) = self.hold() {
            return self.end_unchanged(error);
        }
        self.machine.platform.background_priority(false);
        self.note_versions();
        self.apply_prove_and_close()
    }

    fn apply_prove_and_close(&mut self) -> Outcome {
        self.look_again();
        for phase in [Phase::Apply, Phase::Prove] {
            match self.phase(phase) {
                Ok(()) => {}
                Err(Halt::Stop(error)) => return self.end_as_is(error),
                Err(Halt::Undo(error)) if error.kind() == ErrorKind::Refused && self.has_only_looked() => {
                    return self.end_unchanged(error);
                }
                Err(Halt::Undo(error)) => return self.roll_back(&error.to_string(), error),
            }
        }
        self.end_outage();
        self.close_phase();
        self.finish(if self.changed { Outcome::Changed } else { Outcome::Ok }, None)
    }

    /// The steps of a phase.
    fn phase(&mut self, phase: Phase) -> Result<(), Halt> {
        if self.resume.phases_done.contains(&phase) {
            return Ok(());
        }
        let steps = self.steps_of(phase);
        if steps.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        self.run.emit(EventKind::PhaseStarted { phase });
        for step in &steps {
            if phase == Phase::Prove {
                self.end_outage();
            }
            self.take_step(step)?;
            if self.run.is_cancelled() && phase != Phase::Close {
                return Err(Halt::Undo(cancelled()));
            }
        }
        self.run.emit(EventKind::PhaseFinished { phase, ms: millis(begun.elapsed()) });
        Ok(())
    }

    /// The names that templates can use now.
    fn names(&self, item: &Item) -> Context {
        names(&self.run.plan, &self.facts, &self.registered, item)
    }

    fn steps_of(&self, phase: Phase) -> Vec<PlanStep> {
        self.run.plan.steps.iter().filter(|s| s.phase == phase).cloned().collect()
    }

    fn close_phase(&mut self) {
        self.keep_state_or_say_so();
        if let Err(Halt::Undo(error) | Halt::Stop(error)) = self.phase(Phase::Close) {
            self.run.emit(EventKind::Reminder { text: format!("the release is in place, and closing it failed: {error}") });
        }
        // What these steps changed in installed trees is the run's as well, and no change made by hand.
        let changed = |s: &PlanStep| self.resume.steps.get(&s.id).is_some_and(|end| end.outcome == Outcome::Changed);
        if self.steps_of(Phase::Close).iter().any(|s| matches!(s.action, Action::Git(_)) && changed(s)) {
            self.keep_state_or_say_so();
        }
        self.make_room_for_the_next();
    }

    fn keep_state_or_say_so(&self) {
        if let Err(error) = self.keep_state() {
            self.run.emit(EventKind::Reminder { text: format!("the state after the release was not kept: {error}") });
        }
    }

    /// What the releases before the last ones kept for their undo goes. Nothing depends on it.
    fn make_room_for_the_next(&self) {
        let told = match prune::prune_undo_data(&self.machine.home, &self.run.dir) {
            Ok(0) => return,
            Ok(1) => EventKind::Note { text: "what an older run kept for its undo was removed".to_owned() },
            Ok(n) => EventKind::Note { text: format!("what {n} older runs kept for their undo was removed") },
            Err(e) => EventKind::Reminder { text: format!("what older runs kept for their undo was not removed: {e}") },
        };
        self.run.emit(told);
    }

    /// Waits for the word to apply.
    fn hold(&mut self) -> Result<()> {
        let Hold::UntilReleased { limit } = self.run.plan.hold else { return Ok(()) };
        if self.resume.released {
            return Ok(());
        }
        self.run.emit(EventKind::Held { why: "everything is staged; waiting for the word to apply".to_owned() });
        let deadline = self.run.deadline(limit.0);
        loop {
            if self.run.is_released() {
                self.run.emit(EventKind::Released);
                return Ok(());
            }
            if self.run.is_cancelled() {
                return Err(cancelled());
            }
            if deadline.is_over() {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    format!("the word to apply did not come within {limit}; nothing was changed"),
                )
                .next("run it again, or give it more time with `--deadline`"));
            }
            std::thread::sleep(Duration::from_millis(50).min(deadline.left()));
        }
    }

    fn recall_longest(&mut self) {
        for step in self.steps_of(Phase::Apply) {
            if let Some(end) = self.resume.steps.get(&step.id) {
                self.longest.push(LongStep { name: step.name, ms: end.ms });
            }
        }
    }

    /// The failure that the journal ends with.
    fn last_failure(&self) -> Option<Error> {
        let failed =
            |s: &PlanStep| self.resume.steps.get(&s.id).filter(|e| e.outcome == Outcome::Failed).and_then(|e| e.error.clone());
        self.run.plan.steps.iter().rev().find_map(failed)
    }
}

/// Adds up what fetches are going to bring and says so.
fn announcer(run: Arc<Run>) -> Box<dyn Fn(u64, u64) + Send + Sync> {
    let (files, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    Box::new(move |more_files, more_bytes| {
        let files = files.fetch_add(more_files, Ordering::SeqCst) + more_files;
        let bytes = bytes.fetch_add(more_bytes, Ordering::SeqCst) + more_bytes;
        run.emit(EventKind::StagingNeeds { files, bytes });
    })
}
