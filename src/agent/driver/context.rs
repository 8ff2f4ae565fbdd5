//! What an action gets to work with, for one attempt of one step.

use super::Driver;
use crate::actions::{AskOperator, Content, Deadline, Progress, StepContext, UndoLog, UndoRecord};
use crate::agent::content::RunContent;
use crate::agent::jobs::RunJobs;
use crate::agent::run::Run;
use crate::content::ContentHash;
use crate::error::Result;
use crate::events::{BackedUp, EventKind, StepRef, Unit};
use crate::locks::locked;
use crate::plan::{InstrumentPlan, PlanStep};
use crate::secrets::Secrets;
use crate::units::millis;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Progress is passed on at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// A plan with the folder of its data: the run itself, or a finished one that is being undone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) plan: &'a InstrumentPlan,
    pub(crate) dir: &'a Path,
}

/// The parts of a [`StepContext`], owned for as long as the attempt lasts.
pub(crate) struct Bench<'a> {
    driver: &'a Driver,
    source: Source<'a>,
    step: &'a PlanStep,
    progress: StepProgress<'a>,
    undo_log: StepUndoLog<'a>,
    content: RunContent<'a>,
    jobs: RunJobs,
    secrets: Arc<Secrets>,
    deadline: Deadline,
    /// Where the registered facts are.
    facts: &'a BTreeMap<String, serde_json::Value>,
}

impl std::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("step", &self.step.id).finish_non_exhaustive()
    }
}

impl<'a> Bench<'a> {
    /// `scope` tells the jobs of this attempt from those of others.
    pub(crate) fn new(driver: &'a Driver, source: Source<'a>, step: &'a PlanStep, scope: String, deadline: Deadline) -> Self {
        let run: &Run = &driver.run;
        Self {
            driver,
            source,
            step,
            progress: StepProgress::new(run, step.to_ref()),
            undo_log: StepUndoLog { run, step: &step.id },
            content: RunContent { desk: &run.desk, shelf: driver.shelf.clone(), announce: &driver.announce },
            jobs: RunJobs::new(&run.dir, &driver.machine.executable, scope),
            secrets: run.secrets(),
            deadline,
            facts: &driver.facts,
        }
    }

    pub(crate) fn context(&self) -> StepContext<'_> {
        StepContext {
            plan: self.source.plan,
            step: self.step,
            drives: &self.driver.machine.drives,
            platform: &*self.driver.machine.platform,
            undo_log: &self.undo_log,
            progress: &self.progress,
            content: &self.content as &dyn Content,
            jobs: &self.jobs,
            operator: self,
            secrets: &self.secrets,
            deadline: &self.deadline,
            home: self.driver.machine.home.folder(),
            run_dir: self.source.dir,
            facts: self.facts,
        }
    }
}

impl AskOperator for Bench<'_> {
    fn ask(&self, question: &str, deadline: &Deadline) -> Result<bool> {
        let run = &self.driver.run;
        let id = format!("{}-{}", self.step.id, ContentHash::of(question.as_bytes()).short());
        if let Some(yes) = run.answer_to(&id) {
            return Ok(yes);
        }
        run.emit(EventKind::Question { id: id.clone(), text: question.to_owned() });
        deadline.unless_stopping().wait_for("the operator's answer", &self.progress, || Ok(run.answer_to(&id)))
    }
}

struct StepUndoLog<'a> {
    run: &'a Run,
    step: &'a str,
}

impl UndoLog for StepUndoLog<'_> {
    fn intend(&self, record: UndoRecord) -> Result<()> {
        self.run.intend(self.step, record).map(|_| ())
    }
}

/// Turns an action's progress into events.
struct StepProgress<'a> {
    run: &'a Run,
    step: StepRef,
    last: Mutex<Option<Instant>>,
    /// The total whose end was told: an end is told once, whatever the pace.
    ended: Mutex<Option<u64>>,
}

impl<'a> StepProgress<'a> {
    fn new(run: &'a Run, step: StepRef) -> Self {
        Self { run, step, last: Mutex::default(), ended: Mutex::default() }
    }

    fn is_due(&self) -> bool {
        let mut last = locked(&self.last);
        let due = last.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl Progress for StepProgress<'_> {
    fn waiting(&self, what: &str, elapsed: Duration, limit: Duration) {
        if self.is_due() {
            let (elapsed_ms, limit_ms) = (millis(elapsed), millis(limit));
            self.run.emit_live(EventKind::StepWaiting { step: self.step.clone(), what: what.to_owned(), elapsed_ms, limit_ms });
        }
    }
    fn advanced(&self, done: u64, total: u64, unit: Unit) {
        let ends = done == total && locked(&self.ended).replace(total) != Some(total);
        if self.is_due() || ends {
            self.run.emit_live(EventKind::StepProgress { step: self.step.clone(), done, total, unit });
        }
    }
    fn output(&self, line: &str) {
        self.run.emit_live(EventKind::StepOutput { step: self.step.clone(), line: line.to_owned() });
    }
    fn note(&self, text: &str) {
        self.run.emit(EventKind::Note { text: text.to_owned() });
    }
    fn remind(&self, text: &str) {
        self.run.emit(EventKind::Reminder { text: text.to_owned() });
    }
    fn hand_changes(&self, component: &str, files: Option<u64>, archive: Option<&str>) {
        self.run.emit(EventKind::HandChanges { component: component.to_owned(), files, archive: archive.map(str::to_owned) });
    }
    fn backed_up(&self, backup: &BackedUp) {
        self.run.emit(EventKind::BackedUp(backup.clone()));
    }
}
