//! One step: whether it runs, over which items, how often it is tried, and what follows from its end.

use super::late::{Item, items_of, rendered};
use super::{Bench, Driver, Halt, Source};
use crate::actions::{Action, Applied};
use crate::agent::journal::Body;
use crate::agent::resume::StepEnd;
use crate::agent::run::cancelled;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{EventKind, LongStep, Outcome};
use crate::locks::locked;
use crate::plan::{self, PlanStep};
use crate::playbook::{ENDED_NAME, OnFailure, Phase};
use crate::template;
use crate::units::millis;
use std::time::{Duration, Instant};

/// The pause before the second attempt; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

impl Driver {
    /// Runs a step, unless it is over already or does not apply.
    pub(super) fn take_step(&mut self, step: &PlanStep) -> Result<(), Halt> {
        if let Some(end) = self.resume.steps.get(&step.id).cloned() {
            return match end.outcome {
                Outcome::Failed => self.after_failure(step, end.error.unwrap_or_else(|| Error::step_failed("it failed"))),
                _ => Ok(()),
            };
        }
        if self.run.is_cancelled() && step.phase != Phase::Close {
            return Err(Halt::Undo(cancelled()));
        }
        if let Err(error) = self.be_quiet_before(step) {
            let error = error.context("the guarded folders cannot be indexed before the first change");
            return self.end_step(step, Err(error), Duration::ZERO);
        }
        let begun = Instant::now();
        let outcome = self.try_step(step);
        self.end_step(step, outcome, begun.elapsed())
    }

    fn try_step(&mut self, step: &PlanStep) -> Result<Applied> {
        let skipped = |summary: String| Ok(Applied { outcome: Outcome::Skipped, summary, result: serde_json::Value::Null });
        if let Some(why) = &step.skip {
            return skipped(why.clone());
        }
        if matches!(&step.action, Action::Notify(notify) if notify.if_failed) && !self.registered.contains_key(ENDED_NAME) {
            return skipped("it is for instruments that fail".to_owned());
        }
        if let Some(when) = &step.when
            && !template::evaluate(when, &self.names(&None))?
        {
            return skipped(format!("`{when}` is not so"));
        }
        let items = items_of(&self.run.plan, &self.machine.drives, step)?;
        if items.is_empty() {
            return skipped("there is nothing to repeat it over".to_owned());
        }
        let first = self.resume.attempts.get(&step.id).copied().unwrap_or(1);
        let last = step.retries.saturating_add(1).max(first);
        let mut pause = FIRST_PAUSE;
        self.outage_before(step);
        for attempt in first..=last {
            self.run.emit(EventKind::StepStarted { step: step.to_ref(), attempt });
            match self.attempt(step, &items, attempt) {
                Ok(applied) => return Ok(applied),
                Err(error) if attempt == last || error.kind() == ErrorKind::Cancelled || self.run.is_cancelled() => {
                    return Err(error);
                }
                Err(error) => {
                    self.run.emit(EventKind::Note { text: format!("{}: attempt {attempt} failed: {error}", step.name) });
                    self.pause_before_retry(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        Err(Error::internal("a step was not tried"))
    }

    /// Waits, unless the operator cancels.
    fn pause_before_retry(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.run.is_cancelled() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20).min(end.saturating_duration_since(Instant::now())));
        }
    }

    fn attempt(&self, step: &PlanStep, items: &[Item], attempt: u32) -> Result<Applied> {
        let deadline = self.run.deadline(step.timeout.0);
        let mut all = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let step = rendered(step, &self.names(item))?;
            self.wait_for_secrets(&step, &deadline)?;
            let scope = if item.is_some() { format!("{attempt}.item{index}") } else { attempt.to_string() };
            let source = Source { plan: &self.run.plan, dir: &self.run.dir };
            let bench = Bench::new(self, source, &step, scope, deadline.clone());
            all.push(step.action.performer().apply(&bench.context())?);
        }
        Ok(together(all, items.iter().any(Option::is_some)))
    }

    /// A worker that came back has no secrets until a controller comes.
    pub(super) fn wait_for_secrets(&self, step: &PlanStep, deadline: &crate::actions::Deadline) -> Result<()> {
        let wanted: Vec<&str> = plan::secrets(&step.action).into_iter().map(|(_, name)| name).collect();
        if wanted.is_empty() { Ok(()) } else { self.wait_for_named(&wanted, step, deadline) }
    }

    /// The same for secrets by name; the wait is told as one of the step.
    pub(super) fn wait_for_named(&self, wanted: &[&str], step: &PlanStep, deadline: &crate::actions::Deadline) -> Result<()> {
        let source = Source { plan: &self.run.plan, dir: &self.run.dir };
        let bench = Bench::new(self, source, step, String::new(), deadline.clone());
        let what = format!("a controller that has the secret `{}`", wanted.join("`, `"));
        deadline.unless_stopping().wait_for(&what, bench.context().progress, || {
            let secrets = self.run.secrets();
            Ok(wanted.iter().all(|name| secrets.get(name).is_ok()).then_some(()))
        })
    }

    fn end_step(&mut self, step: &PlanStep, outcome: Result<Applied>, time: Duration) -> Result<(), Halt> {
        let ms = millis(time);
        self.outage_after(step);
        if step.phase == Phase::Apply && locked(&self.outage).is_open() {
            self.longest.push(LongStep { name: step.name.clone(), ms });
        }
        match outcome {
            Ok(applied) => {
                self.keep_result(step, &applied);
                self.changed |= applied.outcome == Outcome::Changed && step.phase != Phase::Stage;
                self.step_finished(step, applied.outcome, applied.summary, ms, None);
                Ok(())
            }
            Err(error) => {
                let error = self.named(error, step);
                self.step_finished(step, Outcome::Failed, error.details().message.clone(), ms, Some(error.clone()));
                self.after_failure(step, error)
            }
        }
    }

    /// The error with the instrument and the step, without secrets.
    pub(super) fn named(&self, error: Error, step: &PlanStep) -> Error {
        let error = error.on_host(&self.run.plan.instrument).in_step(&step.name);
        let Ok(value) = serde_json::to_value(&error) else { return error };
        serde_json::from_value(self.run.clean_value(value)).unwrap_or(error)
    }

    fn step_finished(&mut self, step: &PlanStep, outcome: Outcome, summary: String, ms: u64, error: Option<Error>) {
        self.resume.steps.insert(step.id.clone(), StepEnd { outcome, ms, error: error.clone() });
        self.run.emit(EventKind::StepFinished { step: step.to_ref(), outcome, summary, ms, error, items: Vec::new() });
    }

    fn after_failure(&self, step: &PlanStep, error: Error) -> Result<(), Halt> {
        match step.on_failure {
            OnFailure::Continue if error.kind() != ErrorKind::Cancelled => Ok(()),
            OnFailure::Stop => Err(Halt::Stop(error)),
            _ => Err(Halt::Undo(error)),
        }
    }

    fn keep_result(&mut self, step: &PlanStep, applied: &Applied) {
        let Some(name) = &step.register else { return };
        self.registered.insert(name.clone(), applied.result.clone());
        let value = self.run.clean_value(applied.result.clone());
        if let Err(error) = self.run.note_down(Body::Registered { name: name.clone(), value }) {
            tracing::error!(%error, "a result is not in the journal");
        }
    }
}

/// The end of all rounds: `changed` when one changed something, `skipped` when all were.
fn together(mut all: Vec<Applied>, repeated: bool) -> Applied {
    if !repeated && all.len() == 1 {
        return all.remove(0);
    }
    let outcome = if all.iter().any(|a| a.outcome == Outcome::Changed) {
        Outcome::Changed
    } else if all.iter().all(|a| a.outcome == Outcome::Skipped) {
        Outcome::Skipped
    } else {
        Outcome::Ok
    };
    let changed = all.iter().filter(|a| a.outcome == Outcome::Changed).count();
    Applied {
        outcome,
        summary: format!("{} items, {changed} changed", all.len()),
        result: all.into_iter().map(|a| a.result).collect(),
    }
}
