//! The way back: every intention, the last first, judged by what is there.

use super::guard::{BEFORE, compare, index_half_undone, named, windows_paths};
use super::{Bench, Driver, Source};
use crate::actions::{Deadline, UndoRecord, Undone, volumes};
use crate::agent::journal::Body;
use crate::agent::resume::Intent;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{EventKind, Outcome, RunId};
use crate::paths::WinPath;
use crate::plan::PlanStep;
use crate::units::millis;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The least time an undo gets: putting files back must not stop half way because the step's own limit is short.
const LEAST_TIME: Duration = Duration::from_secs(600);

/// Intentions that were taken back, with what could not be put back.
pub(crate) type LeftByIntent = BTreeMap<u64, Vec<String>>;

/// The undoing of one run.
#[derive(Debug)]
pub(crate) struct Undoing<'a> {
    /// The run whose intentions are taken back.
    pub(crate) source: Source<'a>,
    pub(crate) intents: &'a [Intent],
    /// What was taken back before, with what was left then.
    pub(crate) undone: LeftByIntent,
    /// The step before which the guarded folders were indexed.
    pub(crate) quiet: Option<String>,
    /// Files that others have changed since, which the run never touched: they stay as they are.
    pub(crate) untouched: &'a BTreeSet<WinPath>,
    /// The run's name in the journal, when it is not the journal's own.
    pub(crate) of_run: Option<RunId>,
}

/// How it went.
#[derive(Debug, Default)]
pub(crate) struct UndoReport {
    /// What could not be put back.
    pub(crate) left: Vec<String>,
    /// What is not as before and never was the run's.
    pub(crate) kept: Vec<WinPath>,
    pub(crate) steps: usize,
}

impl Undoing<'_> {
    fn position(&self, step: &str) -> usize {
        self.source.plan.steps.iter().position(|s| s.id == step).unwrap_or(usize::MAX)
    }
}

/// False when taking it back needs no file that was put aside.
fn keeps_files(intent: &Intent) -> bool {
    !matches!(intent.record, UndoRecord::Command(_) | UndoRecord::Service(_))
}

impl Driver {
    /// Takes back everything this run did.
    pub(super) fn roll_back(&mut self, because: &str, error: Error) -> Outcome {
        if self.resume.rollback.is_none() {
            self.run.emit(EventKind::RollbackStarted { because: because.to_owned() });
        }
        self.go_on_with_outage();
        let report = match self.own_intents() {
            Ok((intents, undone)) => {
                let run = Arc::clone(&self.run);
                let source = Source { plan: &run.plan, dir: &run.dir };
                let (quiet, untouched) = (self.resume.quiet.clone(), &BTreeSet::new());
                let undoing = Undoing { source, intents: &intents, undone, quiet, untouched, of_run: None };
                self.undo(&undoing)
            }
            Err(error) => UndoReport { left: vec![format!("the journal cannot be read: {error}")], ..UndoReport::default() },
        };
        let mut left = report.left;
        left.extend(self.resume.damage.iter().map(|d| format!("{d}; what it said how to undo could not be undone")));
        if left.is_empty() {
            self.clear_undone(&self.run.dir);
        } else {
            self.keep_half_undone(&self.run.dir);
        }
        self.prove_back();
        self.run.emit(EventKind::RollbackFinished { ok: left.is_empty(), left: left.clone() });
        let outcome = if left.is_empty() { Outcome::RolledBack } else { Outcome::RollbackFailed };
        self.finish(outcome, Some(error))
    }

    /// Remembers how a rollback has left things, so that a second one sees what was changed in the meantime.
    pub(crate) fn keep_half_undone(&self, run_dir: &Path) {
        if let Err(error) = index_half_undone(&self.machine, run_dir) {
            let text = format!("a second rollback will not see what is changed by hand until then: {error}");
            self.run.emit(EventKind::Reminder { text });
        }
    }

    /// Removes what a run that was undone kept, and says what stays because nobody has it anywhere else.
    pub(crate) fn clear_undone(&self, run_dir: &Path) {
        let text = match volumes::remove_undone(run_dir) {
            Ok(aside) if aside.is_empty() => return,
            Ok(aside) => {
                let native = &self.machine.drives;
                let shown = |path: &PathBuf| native.windows(path).map_or_else(|| path.display().to_string(), |p| p.to_string());
                let all: Vec<String> = aside.iter().map(shown).collect();
                format!("files that were made after the change were moved aside by the undo: {}", all.join(", "))
            }
            Err(error) => format!("data of the run was not removed: {error}"),
        };
        self.run.emit(EventKind::Reminder { text });
    }

    /// From the disk, not from memory: what was never written down was never done.
    pub(super) fn own_intents(&self) -> Result<(Vec<Intent>, LeftByIntent)> {
        let loaded = crate::agent::journal::read(&self.run.dir.join("journal.jsonl"))?;
        let resume = crate::agent::resume::Resume::from_journal(&loaded);
        Ok((resume.intents, resume.undone))
    }

    /// Takes the intentions back, the last first. Every one is tried, also after one that failed.
    pub(crate) fn undo(&self, undoing: &Undoing<'_>) -> UndoReport {
        let mut report = UndoReport::default();
        let quiet_at = undoing.quiet.as_deref().map(|q| undoing.position(q));
        let mut compared = quiet_at.is_none();
        for intent in undoing.intents.iter().rev() {
            if !compared && quiet_at.is_some_and(|q| undoing.position(&intent.step) < q) {
                compared = true;
                self.compare_guarded(undoing, &mut report);
            }
            match undoing.undone.get(&intent.n) {
                Some(left) => report.left.extend(left.iter().cloned()),
                None => {
                    if compared && !keeps_files(intent) {
                        self.make_room(undoing, &report);
                    }
                    self.undo_one(undoing, intent, &mut report);
                }
            }
        }
        if !compared {
            self.compare_guarded(undoing, &mut report);
        }
        report
    }

    fn undo_one(&self, undoing: &Undoing<'_>, intent: &Intent, report: &mut UndoReport) {
        let Some(step) = undoing.source.plan.steps.iter().find(|s| s.id == intent.step) else {
            report.left.push(format!("the plan has no step {}, whose work is to be undone", intent.step));
            return;
        };
        let begun = Instant::now();
        let tried = self.around_undo(&intent.record, || match self.undo_record(undoing, intent, step) {
            // Putting things right goes before words about it.
            Err(error) if error.kind() == ErrorKind::OutOfSpace && self.run.free_reserve() => {
                self.undo_record(undoing, intent, step)
            }
            tried => tried,
        });
        let undone = tried.unwrap_or_else(|error| Undone {
            summary: error.details().message.clone(),
            left: vec![format!("{}: {error}", step.name)],
        });
        report.steps += 1;
        report.left.extend(undone.left.iter().cloned());
        let outcome = if undone.left.is_empty() { Outcome::RolledBack } else { Outcome::RollbackFailed };
        let body = Body::Undone { of: intent.n, run: undoing.of_run.clone(), left: undone.left };
        if let Err(error) = self.run.note_down(body) {
            // Undoing may be repeated: after another crash it is done once more.
            tracing::warn!(%error, "an undo is not in the journal");
        }
        self.run.emit(EventKind::StepUndone {
            step: step.to_ref(),
            outcome,
            summary: undone.summary,
            ms: millis(begun.elapsed()),
        });
    }

    /// The operator's cancel does not reach an undo: half of one helps nobody.
    fn undo_record(&self, undoing: &Undoing<'_>, intent: &Intent, step: &PlanStep) -> Result<Undone> {
        let deadline = Deadline::after(step.timeout.0.max(LEAST_TIME), Arc::new(AtomicBool::new(false)));
        let scope = match &undoing.of_run {
            Some(run) => format!("undo-{run}-{}", intent.n),
            None => format!("undo-{}", intent.n),
        };
        let bench = Bench::new(self, undoing.source, step, scope, deadline);
        intent.record.undo(&bench.context())
    }

    /// Once all files are as before, what the run kept for its undo goes: on a disk that it filled, IBEX could not start
    /// again. Judged by the journal on disk, so that a worker that comes back never looks for files that went here.
    fn make_room(&self, undoing: &Undoing<'_>, report: &UndoReport) {
        // A finished run that is undone may have to be undone again, and keeps its data until all of it is well.
        if undoing.of_run.is_some() || !report.left.is_empty() {
            return;
        }
        let Ok((intents, undone)) = self.own_intents() else { return };
        if intents.iter().any(|i| keeps_files(i) && !undone.contains_key(&i.n)) {
            return;
        }
        // What was moved aside stays, and is named at the end.
        if let Err(error) = volumes::remove_undone(undoing.source.dir) {
            tracing::warn!(%error, "what the run kept is not removed yet");
        }
    }

    /// Names every guarded file that is not as it was before the first change.
    fn compare_guarded(&self, undoing: &Undoing<'_>, report: &mut UndoReport) {
        match compare(&self.machine, &undoing.source.dir.join(BEFORE)) {
            Ok(found) => {
                for (guarded, difference) in found {
                    let all = windows_paths(&guarded, &difference).into_iter();
                    let (kept, left): (Vec<_>, Vec<_>) = all.partition(|path| undoing.untouched.contains(path));
                    report.left.extend(named(&guarded, &left));
                    report.kept.extend(kept);
                }
            }
            Err(error) => report.left.push(format!("whether the folders are as before is not known: {error}")),
        }
    }
}
