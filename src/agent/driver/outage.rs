//! The outage: from the step that stops IBEX to the end of the steps that start it, or to the end of the way back.

use super::Driver;
use super::context::Bench;
use super::late::rendered;
use crate::actions::check::Check;
use crate::actions::process::ProcessState;
use crate::actions::{Action, Deadline, UndoRecord};
use crate::agent::resume::Resume;
use crate::events::{EventKind, Outcome};
use crate::locks::locked;
use crate::plan::{InstrumentPlan, PlanStep};
use crate::platform::facts::Systems;
use crate::platform::systems::ActiveSystem;
use crate::playbook::Phase;
use crate::template;
use crate::units::millis;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long IBEX may take to be back after it was started again. A longer wait of the playbook's own is cut to this: the
/// way back must come to its end.
const BACK_WITHIN: Duration = Duration::from_secs(300);

/// The time in which IBEX is stopped.
#[derive(Debug, Default)]
pub(super) struct Outage {
    started: Option<Started>,
    /// A step that may stop IBEX has begun, and nobody has looked yet whether it did.
    presumed: bool,
    ended_ms: Option<u64>,
}

#[derive(Debug)]
enum Started {
    /// In this life of the worker.
    Here(Instant),
    /// Before the worker came back: only the clock on the wall tells.
    Before(Timestamp),
}

impl Outage {
    /// As the journal has it: of steps that may have stopped IBEX and are over, somebody has looked.
    pub(super) fn of(resume: &Resume, plan: &InstrumentPlan) -> Self {
        let over = |step: &PlanStep| resume.steps.get(&step.id).is_some_and(|end| end.outcome != Outcome::Skipped);
        let looked = plan.steps.iter().any(|step| step.phase == Phase::Apply && may_stop(&step.action) && over(step));
        let not_begun = resume.outage_ms == Some(0);
        Self {
            started: resume.outage_started.filter(|_| !not_begun).map(Started::Before),
            presumed: !looked,
            ended_ms: resume.outage_ms.filter(|_| !not_begun),
        }
    }

    /// Milliseconds; 0 where nothing was stopped.
    pub(super) fn ms(&self) -> u64 {
        self.ended_ms.unwrap_or(0)
    }

    pub(super) fn is_open(&self) -> bool {
        self.started.is_some() && self.ended_ms.is_none()
    }
}

/// True for a step that can end programs.
fn may_stop(action: &Action) -> bool {
    match action {
        Action::Command(command) => !command.read_only,
        Action::Process(process) => process.state == ProcessState::None && process.kill,
        Action::Mysql(_) | Action::OsPatch(_) | Action::Package(_) | Action::Reboot(_) | Action::Service(_) => true,
        _ => false,
    }
}

/// The same for taking something back.
fn may_stop_again(record: &UndoRecord) -> bool {
    matches!(record, UndoRecord::Command(_) | UndoRecord::Service(_) | UndoRecord::Mysql(_))
}

/// True for a check that holds when IBEX is back, whatever release it is of.
fn holds_with_any_release(check: &Check) -> bool {
    let ibex = check.system.as_ref().is_some_and(|system| system.is.iter().any(|is| is.is_ibex()));
    let any_value = check.pv.as_ref().is_some_and(|pv| pv.is.is_none() && pv.contains.is_none());
    ibex || any_value
}

impl Driver {
    /// Before a step does anything.
    pub(super) fn outage_before(&self, step: &PlanStep) {
        if step.phase == Phase::Apply && may_stop(&step.action) {
            self.presume_outage();
        }
    }

    /// After it has ended, well or not.
    pub(super) fn outage_after(&self, step: &PlanStep) {
        if step.phase == Phase::Apply && may_stop(&step.action) {
            self.confirm_outage();
        }
    }

    /// The same around the taking back of something.
    pub(super) fn around_undo<T>(&self, record: &UndoRecord, undo: impl FnOnce() -> T) -> T {
        let may_stop = may_stop_again(record);
        if may_stop {
            self.presume_outage();
        }
        let outcome = undo();
        if may_stop {
            self.confirm_outage();
        }
        outcome
    }

    /// An outage may begin, where IBEX ran when the run began.
    fn presume_outage(&self) {
        let ran = ActiveSystem::in_facts(&self.facts).is_some_and(ActiveSystem::is_ibex);
        let mut outage = locked(&self.outage);
        if ran && outage.started.is_none() {
            *outage = Outage { started: Some(Started::Here(Instant::now())), presumed: true, ended_ms: None };
            self.run.emit(EventKind::OutageStarted);
        }
    }

    /// Where IBEX still runs, nothing was stopped: there is no outage yet.
    fn confirm_outage(&self) {
        let mut outage = locked(&self.outage);
        if !outage.presumed || outage.started.is_none() {
            return;
        }
        outage.presumed = false;
        let now = Systems::now(&*self.machine.platform, &self.machine.drives, &self.run.plan.places);
        if now.is_ok_and(|found| found.active().is_ibex()) {
            *outage = Outage::default();
            self.run.emit(EventKind::OutageEnded { ms: 0 });
        }
    }

    /// IBEX runs again, as far as the run knows.
    pub(crate) fn end_outage(&self) {
        let mut outage = locked(&self.outage);
        let ms = match (&outage.started, outage.ended_ms) {
            (Some(Started::Here(at)), None) => millis(at.elapsed()),
            (Some(Started::Before(at)), None) => u64::try_from(Timestamp::now().duration_since(*at).as_millis()).unwrap_or(0),
            _ => return,
        };
        outage.ended_ms = Some(ms);
        self.run.emit(EventKind::OutageEnded { ms });
    }

    /// IBEX is stopped once more, or for longer than it seemed: what follows is the same outage.
    pub(super) fn go_on_with_outage(&self) {
        locked(&self.outage).ended_ms = None;
    }

    /// After a way back that stopped IBEX: waits until it is back, by the playbook's own proofs of that, and says where it
    /// is not. The outage lasts until then.
    pub(crate) fn prove_back(&self) {
        if !locked(&self.outage).is_open() {
            return;
        }
        let deadline = Deadline::after(BACK_WITHIN, Arc::new(AtomicBool::new(false)));
        for step in self.run.plan.steps.iter().filter(|s| s.phase == Phase::Prove && s.skip.is_none()) {
            let Action::Check(check) = &step.action else { continue };
            let names = self.names(&None);
            let applies = step.when.as_ref().is_none_or(|when| template::evaluate(when, &names).unwrap_or(false));
            if !applies || !holds_with_any_release(check) {
                continue;
            }
            let Ok(step) = rendered(step, &names) else { continue };
            let bench = Bench::new(self, self.source(), &step, "back".to_owned(), deadline.clone());
            if let Err(error) = step.action.performer().apply(&bench.context()) {
                let text =
                    format!("IBEX was started again after the way back, and is not as it should be: {}: {error}", step.name);
                self.run.emit(EventKind::Reminder { text });
            }
        }
        self.end_outage();
    }
}
