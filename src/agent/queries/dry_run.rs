//! What a plan would change, asked of the real machine.

use super::super::content::{Desk, RunContent};
use super::super::driver::{items_of, names, rendered};
use super::super::jobs::RunJobs;
use super::super::stranded::is_unproven;
use super::super::worker::Worker;
use crate::actions::check::Check;
use crate::actions::{AskOperator, Deadline, Difference, Probe, Progress, StepContext, UndoLog, UndoRecord};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::events::Unit;
use crate::plan::{InstrumentPlan, PlanStep};
use crate::playbook::Phase;
use crate::protocol::{DryRunStep, QueryReply};
use crate::secrets::Secrets;
use crate::template::{self, Context};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How long one step may be looked at.
const LIMIT: Duration = Duration::from_secs(120);

/// Probes every step of a plan, and changes nothing.
///
/// # Errors
/// When the plan is not for this machine.
pub(super) fn probe_all(worker: &Worker, plan: &InstrumentPlan, desk: &Desk) -> Result<QueryReply> {
    worker.machine.check_plan(plan)?;
    let machine = &worker.machine;
    let facts = machine.facts(&plan.places);
    // Data of probes goes with the answer.
    let folder = tempfile::tempdir_in(machine.home.folder()).cannot(|| "make a folder for the dry run")?;
    let look = Look { worker, plan, desk, facts: &facts, dir: folder.path() };
    let mut steps: Vec<DryRunStep> = plan.steps.iter().map(|step| look.step(step)).collect();
    if plan.only_if_differs && !is_unproven(&machine.home, folder.path())? && !differs(plan, &steps) {
        leave_out_what_would_not_be_reached(plan, &mut steps);
    }
    Ok(QueryReply::DryRun { steps, facts })
}

/// Whether a step that decides about it has anything to change, so far as can be seen now.
fn differs(plan: &InstrumentPlan, steps: &[DryRunStep]) -> bool {
    plan.steps.iter().zip(steps).any(|(step, seen)| step.action.is_the_purpose() && seen.verdict != "skip")
}

/// The run would end after `stage`.
fn leave_out_what_would_not_be_reached(plan: &InstrumentPlan, steps: &mut [DryRunStep]) {
    let reached = |step: &PlanStep| step.phase == Phase::Stage || step.skip.is_some();
    for (_, seen) in plan.steps.iter().zip(steps).filter(|(step, _)| !reached(step)) {
        *seen = DryRunStep { summary: "not reached: no component differs".to_owned(), ..DryRunStep::skipped(&seen.id) };
    }
}

/// Whether a check holds at this moment.
///
/// # Errors
/// When it does not, or that cannot be found out.
pub(crate) fn hold(worker: &Worker, plan: &InstrumentPlan, step: &PlanStep, check: &Check) -> Result<()> {
    let machine = &worker.machine;
    let folder = tempfile::tempdir_in(machine.home.folder()).cannot(|| "make a folder for a look at the instrument")?;
    let look = Look { worker, plan, desk: &Desk::default(), facts: &Context::new(), dir: folder.path() };
    look.with(step, 0, |cx| check.hold(cx).map(|_| ()))
}

struct Look<'a> {
    worker: &'a Worker,
    plan: &'a InstrumentPlan,
    desk: &'a Desk,
    facts: &'a Context,
    dir: &'a Path,
}

impl Look<'_> {
    fn step(&self, step: &PlanStep) -> DryRunStep {
        let mut seen = DryRunStep::skipped(&step.id);
        if let Some(why) = &step.skip {
            seen.summary = why.clone();
            return seen;
        }
        match self.probes(step) {
            Ok(probes) => sum_up(&mut seen, probes),
            Err(Unseen::Skip(why)) => seen.summary = why,
            Err(Unseen::Unknown(why)) => (seen.verdict, seen.summary) = ("unknown".to_owned(), why),
            Err(Unseen::Error(error)) => {
                seen.verdict = "unknown".to_owned();
                seen.summary = error.details().message.clone();
                seen.error = Some(error.on_host(&self.plan.instrument).in_step(&step.name));
            }
        }
        seen
    }

    fn probes(&self, step: &PlanStep) -> Result<Vec<Probe>, Unseen> {
        let registered = Context::new();
        let unknown = |e: Error| Unseen::Unknown(format!("only known when it runs: {}", e.details().message));
        if let Some(when) = &step.when
            && !template::evaluate(when, &names(self.plan, self.facts, &registered, &None)).map_err(unknown)?
        {
            return Err(Unseen::Skip(format!("`{when}` is not so")));
        }
        let items = items_of(self.plan, &self.worker.machine.drives, step)?;
        if items.is_empty() {
            return Err(Unseen::Skip("there is nothing to repeat it over".to_owned()));
        }
        let mut probes = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let step = rendered(step, &names(self.plan, self.facts, &registered, item)).map_err(unknown)?;
            probes.push(self.probe(&step, index)?);
        }
        Ok(probes)
    }

    fn probe(&self, step: &PlanStep, index: usize) -> Result<Probe> {
        self.with(step, index, |cx| step.action.performer().probe(cx))
    }

    fn with<T>(&self, step: &PlanStep, index: usize, look: impl FnOnce(&StepContext<'_>) -> Result<T>) -> Result<T> {
        let machine = &self.worker.machine;
        let deadline = Deadline::after(step.timeout.0.min(LIMIT), Arc::new(AtomicBool::new(false)));
        let content = RunContent { desk: self.desk, shelf: None, announce: &|_, _| () };
        let jobs = RunJobs::new(self.dir, &machine.executable, format!("probe{index}"));
        let secrets = Secrets::default();
        let cx = StepContext {
            plan: self.plan,
            step,
            drives: &machine.drives,
            platform: &*machine.platform,
            undo_log: &Unchanged,
            progress: &Unchanged,
            content: &content,
            jobs: &jobs,
            operator: &Unchanged,
            secrets: &secrets,
            deadline: &deadline,
            home: machine.home.folder(),
            run_dir: self.dir,
            facts: self.facts,
        };
        look(&cx)
    }
}

/// Why there is no probe.
enum Unseen {
    Skip(String),
    Unknown(String),
    Error(Error),
}

impl From<Error> for Unseen {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

fn sum_up(seen: &mut DryRunStep, probes: Vec<Probe>) {
    let several = probes.len() > 1;
    let any = |d: Difference| probes.iter().any(|p| p.difference == d);
    seen.verdict = if any(Difference::Some) {
        "run"
    } else if any(Difference::Unknown) {
        "unknown"
    } else {
        "skip"
    }
    .to_owned();
    seen.summary = if several { format!("{} items", probes.len()) } else { String::new() };
    for probe in probes {
        seen.fetch_bytes += probe.fetch_bytes;
        if several {
            seen.items.push(probe.summary);
        } else {
            seen.summary = probe.summary;
        }
        seen.items.extend(probe.items);
    }
}

/// Stands where a run would listen; nothing may change.
struct Unchanged;

impl UndoLog for Unchanged {
    fn intend(&self, _record: UndoRecord) -> Result<()> {
        Err(Error::internal("a dry run was about to change something"))
    }
}

impl AskOperator for Unchanged {
    fn ask(&self, _question: &str, _deadline: &Deadline) -> Result<bool> {
        Err(Error::new(ErrorKind::Refused, "a dry run asks no questions"))
    }
}

impl Progress for Unchanged {
    fn waiting(&self, _what: &str, _elapsed: Duration, _limit: Duration) {}
    fn advanced(&self, _done: u64, _total: u64, _unit: Unit) {}
    fn output(&self, _line: &str) {}
    fn note(&self, _text: &str) {}
    fn remind(&self, _text: &str) {}
    fn hand_changes(&self, _component: &str, _files: Option<u64>, _archive: Option<&str>) {}
}
