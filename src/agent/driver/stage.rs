//! The phase `stage`: its steps, then everything that must be so before IBEX may be stopped.

use super::late::{items_of, rendered};
use super::{Bench, Driver, Halt, Source};
use crate::actions::{Action, Difference, FetchStats, SpaceNeed, volumes};
use crate::agent::pull::Shelf;
use crate::agent::run::cancelled;
use crate::agent::stranded::is_unproven;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{EventKind, Outcome};
use crate::plan::PlanStep;
use crate::platform::is_logged_on;
use crate::playbook::{Phase, RunAs};
use crate::template;
use crate::units::{Size, millis};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

impl Driver {
    /// The steps of `stage`, the checks before the outage, and all content that the later phases need.
    pub(super) fn stage_phase(&mut self) -> Result<(), Halt> {
        if self.resume.phases_done.contains(&Phase::Stage) {
            return Ok(());
        }
        let begun = Instant::now();
        self.run.emit(EventKind::PhaseStarted { phase: Phase::Stage });
        for step in self.steps_of(Phase::Stage) {
            self.take_step(&step)?;
        }
        self.prepare().map_err(Halt::Undo)?;
        self.run.emit(EventKind::PhaseFinished { phase: Phase::Stage, ms: millis(begun.elapsed()) });
        Ok(())
    }

    fn prepare(&mut self) -> Result<()> {
        let later: Vec<PlanStep> =
            self.run.plan.steps.iter().filter(|s| s.phase > Phase::Stage && s.skip.is_none()).cloned().collect();
        self.open_shelf(&later)?;
        self.check_sessions(&later)?;
        self.check_space(&later)?;
        let begun = Instant::now();
        let mut total = FetchStats::default();
        for step in &later {
            if self.run.is_cancelled() {
                return Err(cancelled());
            }
            total += self.stage_step(step).map_err(|e| self.named(e, step))?;
        }
        self.warm_guard()?;
        self.flush()?;
        self.changed |= self.run.plan.hold == crate::plan::Hold::AfterStage && total.files > 0;
        self.run.emit(EventKind::Staged {
            files: total.files,
            fetched_bytes: total.fetched_bytes,
            copied_bytes: total.copied_bytes,
            ms: millis(begun.elapsed()),
        });
        Ok(())
    }

    /// The step with what is known now, once for each item; nothing when only a later phase can tell.
    fn foreseen(&self, step: &PlanStep) -> Result<Vec<PlanStep>> {
        if step.late.is_empty() {
            return Ok(vec![step.clone()]);
        }
        let items = items_of(&self.run.plan, &self.machine.drives, step)?;
        Ok(items.iter().filter_map(|item| rendered(step, &self.names(item)).ok()).collect())
    }

    /// Opens the folder of releases; a worker that came back waits for the controller that has the password first.
    fn open_shelf(&mut self, later: &[PlanStep]) -> Result<()> {
        // Opened when the run began. A second connection to a share would end with the first.
        if self.shelf.is_some() {
            return Ok(());
        }
        let secret = self.run.plan.pull.as_ref().and_then(|pull| pull.password.as_deref());
        let reader = later.iter().find(|step| matches!(step.action, Action::Sync(_))).or(later.first());
        if let (Some(secret), Some(step)) = (secret, reader) {
            let deadline = self.run.deadline(step.timeout.0).unless_stopping();
            self.wait_for_named(&[secret], step, &deadline).map_err(|e| self.named(e, step))?;
        }
        self.shelf = Shelf::open(&self.run.plan, &self.machine, &self.run.secrets())?.map(Arc::new);
        Ok(())
    }

    fn stage_step(&self, step: &PlanStep) -> Result<FetchStats> {
        let mut total = FetchStats::default();
        for step in self.foreseen(step)? {
            // Content that is half there serves nobody.
            let deadline = self.run.deadline(step.timeout.0).unless_stopping();
            if matches!(step.action, Action::Mysql(_)) {
                self.wait_for_secrets(&step, &deadline)?;
            }
            let bench = Bench::new(self, self.source(), &step, "stage".to_owned(), deadline);
            total += step.action.performer().stage(&bench.context())?;
        }
        Ok(total)
    }

    pub(super) fn source(&self) -> Source<'_> {
        Source { plan: &self.run.plan, dir: &self.run.dir }
    }

    /// Steps of a logged-on account need somebody logged on under it.
    fn check_sessions(&self, later: &[PlanStep]) -> Result<()> {
        let needs = |s: &&PlanStep| s.run_as == RunAs::Instrument && matches!(s.action, Action::Command(_) | Action::Git(_));
        // What only a later step can tell counts as needed.
        let runs = |s: &&PlanStep| s.when.as_ref().is_none_or(|w| template::evaluate(w, &self.names(&None)).unwrap_or(true));
        let Some(step) = later.iter().filter(needs).find(runs) else { return Ok(()) };
        let Some(account) = self.run.plan.accounts.get("instrument").filter(|a| a.logged_on) else { return Ok(()) };
        let present = self.machine.platform.logged_on()?;
        if is_logged_on(&present, &account.user) {
            return Ok(());
        }
        let error = Error::new(
            ErrorKind::Refused,
            format!("nobody is logged on as {}, and `{}` runs in that session", account.user, step.name),
        );
        Err(self.named(error.next(format!("log on as {} at the instrument, then run it again", account.user)), step))
    }

    /// What all later steps take together must be free on each volume before anything is stopped.
    fn check_space(&self, later: &[PlanStep]) -> Result<()> {
        let mut by_volume: BTreeMap<u64, Vec<SpaceNeed>> = BTreeMap::new();
        for step in later {
            for step in self.foreseen(step)? {
                let deadline = self.run.deadline(step.timeout.0);
                let bench = Bench::new(self, self.source(), &step, "space".to_owned(), deadline);
                for need in step.action.performer().space(&bench.context()).map_err(|e| self.named(e, &step))? {
                    let volume = self.machine.platform.volume_of(&self.machine.drives.native(&need.on)?)?;
                    by_volume.entry(volume).or_default().push(need);
                }
            }
        }
        for needs in by_volume.values() {
            self.check_volume(needs)?;
        }
        Ok(())
    }

    fn check_volume(&self, needs: &[SpaceNeed]) -> Result<()> {
        let Some(first) = needs.first() else { return Ok(()) };
        let wanted: u64 = needs.iter().map(|n| n.bytes).sum();
        let free = self.machine.platform.free_space(&self.machine.drives.native(&first.on)?)?;
        if wanted <= free {
            return Ok(());
        }
        let parts: Vec<String> = needs.iter().map(|n| format!("{} {}", Size(n.bytes), n.what)).collect();
        Err(Error::new(
            ErrorKind::OutOfSpace,
            format!(
                "the volume of {} has {} free, and the run takes {}: {}",
                first.on,
                Size(free),
                Size(wanted),
                parts.join(", ")
            ),
        )
        .on_host(&self.run.plan.instrument)
        .next("make room (old backups, data that nobody needs), then run it again"))
    }

    /// True when the playbook stops nothing for nothing, and no step that it is made for has anything to change.
    pub(super) fn nothing_differs(&self) -> Result<bool> {
        // Once it was stopped, IBEX has to be started again, whatever the folders hold by now.
        if !self.run.plan.only_if_differs || !self.has_only_looked() {
            return Ok(false);
        }
        if is_unproven(&self.machine.home, &self.run.dir)? {
            return Ok(false);
        }
        for step in self.run.plan.steps.iter().filter(|s| s.skip.is_none() && s.action.is_the_purpose()) {
            if let Some(when) = &step.when
                && !template::evaluate(when, &self.names(&None)).unwrap_or(true)
            {
                continue;
            }
            for step in self.foreseen(step)? {
                let bench = Bench::new(self, self.source(), &step, "differs".to_owned(), self.run.deadline(step.timeout.0));
                let found = step.action.performer().probe(&bench.context()).map_err(|e| self.named(e, &step))?;
                if found.difference != Difference::None {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// What was staged is on disk before anything is stopped.
    fn flush(&self) -> Result<()> {
        for area in volumes::areas_of_run(&self.run.dir)? {
            if area.is_dir() {
                self.machine.platform.flush_volume(&area)?;
            }
        }
        Ok(())
    }

    /// Ends a run that changed nothing.
    pub(super) fn end_unchanged(&mut self, error: Error) -> Outcome {
        let outcome = match error.kind() {
            ErrorKind::Cancelled => Outcome::Cancelled,
            ErrorKind::TimedOut if self.resume.phases_done.contains(&Phase::Stage) => Outcome::Cancelled,
            _ => Outcome::Failed,
        };
        if let Err(error) = volumes::remove_areas(&self.run.dir, true) {
            self.run.emit(EventKind::Reminder { text: format!("staged content was not removed: {error}") });
        }
        self.finish(outcome, Some(error))
    }
}
