//! The end of a run: versions, what is installed now, and the last word.

use super::guard::{AFTER, compare, index_all, newest_indexes, windows_paths};
use super::{Bench, Driver, Guarded, Halt};
use crate::actions::restore::Restore;
use crate::actions::{Action, sync, volumes};
use crate::agent::journal::Body;
use crate::agent::machine::Machine;
use crate::error::{Error, IoContext, Result};
use crate::events::{EventKind, Outcome, VersionChange};
use crate::files::{self, read_json, write_json};
use crate::locks::locked;
use crate::paths::WinPath;
use crate::plan::PlanStep;
use crate::platform::facts::version_in;
use crate::playbook::ENDED_NAME;
use crate::protocol::InstalledComponent;
use crate::units::millis;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;

/// Steps of the outage that the report names.
const LONGEST: usize = 3;

/// What is installed, by component; `installed.json`.
pub(crate) type Installed = BTreeMap<String, InstalledComponent>;

/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn installed(home: &Path) -> Result<Installed> {
    Ok(read_json(&home.join("installed.json"))?.unwrap_or_default())
}

impl Driver {
    /// The versions in the targets of the plan's `sync` steps, by component.
    pub(super) fn versions(&self) -> BTreeMap<String, String> {
        let guarded = self.guarded(&self.known_steps()).unwrap_or_default();
        let version = |g: &Guarded| {
            let native = self.machine.drives.native(&g.folder).ok()?;
            version_in(&native).ok().flatten()
        };
        guarded.iter().filter_map(|g| Some((g.component.clone()?, version(g)?))).collect()
    }

    /// Remembers the versions before the first change.
    pub(super) fn note_versions(&mut self) {
        if self.resume.versions_before.is_some() {
            return;
        }
        let before = self.versions();
        if let Err(error) = self.run.note_down(Body::Versions { before: before.clone() }) {
            tracing::warn!(%error, "the versions are not in the journal");
        }
        self.resume.versions_before = Some(before);
    }

    /// Writes down what is installed now: for the next release, for hand-made changes, and for a later rollback.
    pub(super) fn keep_state(&self) -> Result<()> {
        let steps = self.known_steps();
        let mut all = installed(self.machine.home.folder())?;
        let (mut synced, mut kept) = (false, Ok(()));
        for step in &steps {
            let Action::Sync(sync) = &step.action else { continue };
            if step.skip.is_some()
                || self.resume.steps.get(&step.id).is_none_or(|s| !s.outcome.is_good() || s.outcome == Outcome::Skipped)
            {
                continue;
            }
            synced = true;
            let previous = self.keep_previous(&sync.component, all.get(&sync.component));
            let now = previous.and_then(|()| self.keep_component(step, sync, &mut all));
            if now.is_err() {
                // By the one of before, the release's own files would be changes made by hand.
                files::remove(&self.machine.home.folder().join("index").join(baseline_of(&sync.component)))?;
                kept = kept.and(now);
            }
        }
        for step in steps.iter().filter(|step| self.went_well(step)) {
            if let Action::Restore(restore) = &step.action {
                synced |= self.keep_restored(step, restore, &mut all)?;
            }
        }
        if synced {
            write_json(&self.machine.home.folder().join("installed.json"), &all)?;
        }
        kept?;
        self.keep_hotfixes(&steps)?;
        if self.resume.quiet.is_some() {
            index_all(&self.machine, &self.guarded(&steps)?, &self.run.dir.join(AFTER))?;
        }
        Ok(())
    }

    fn keep_component(&self, step: &PlanStep, sync: &sync::Sync, all: &mut Installed) -> Result<()> {
        let deadline = self.run.deadline(step.timeout.0);
        let bench = Bench::new(self, self.source(), step, "close".to_owned(), deadline);
        sync::write_baseline(&bench.context(), sync)?;
        let component = self.run.plan.component(&sync.component)?;
        all.insert(
            sync.component.clone(),
            InstalledComponent {
                version: component.version.clone(),
                manifest: component.manifest,
                run: self.run.id().clone(),
                at: Timestamp::now(),
                to: sync.to.resolve(&self.run.plan.places)?,
            },
        );
        Ok(())
    }

    /// What a backup has put there of another version is what is installed now, and nobody's work by hand. A backup of the
    /// version that is known leaves that as it is: what was changed by hand before it was made still is.
    fn keep_restored(&self, step: &PlanStep, restore: &Restore, all: &mut Installed) -> Result<bool> {
        let bench = Bench::new(self, self.source(), step, "close".to_owned(), self.run.deadline(step.timeout.0));
        let folders = restore.whole_folders(&bench.context())?;
        let mut changed = false;
        for (component, known) in all.iter_mut().filter(|(_, known)| folders.contains(&known.to)) {
            let native = self.machine.drives.native(&known.to)?;
            let Some(version) = version_in(&native)?.filter(|version| *version != known.version) else { continue };
            self.keep_previous(component, Some(&*known))?;
            let content = sync::hand::write_baseline_anew(self.machine.home.folder(), component, &native)?;
            *known = InstalledComponent {
                version,
                manifest: content,
                run: self.run.id().clone(),
                at: Timestamp::now(),
                to: known.to.clone(),
            };
            changed = true;
        }
        Ok(changed)
    }

    /// Ends a run that found everything as the kit has it, so that IBEX was left alone.
    pub(super) fn end_without_outage(&mut self) -> Outcome {
        self.note_versions();
        self.run.emit(EventKind::Note { text: "everything is as wanted already: nothing was stopped or changed".to_owned() });
        if let Err(error) = self.adopt() {
            self.run.emit(EventKind::Reminder { text: format!("what is installed was not written down: {error}") });
        }
        self.finish(Outcome::Ok, None)
    }

    /// Writes down what is installed of components that were put there without us. What an earlier run wrote stays:
    /// that is the run to take back.
    fn adopt(&self) -> Result<()> {
        let mut all = installed(self.machine.home.folder())?;
        let known = all.len();
        for step in self.known_steps().iter().filter(|s| s.skip.is_none()) {
            if let Action::Sync(sync) = &step.action
                && !all.contains_key(&sync.component)
            {
                self.keep_component(step, sync, &mut all)?;
            }
        }
        if all.len() > known { write_json(&self.machine.home.folder().join("installed.json"), &all) } else { Ok(()) }
    }

    /// Keeps what was known of a component before this run, for its rollback.
    fn keep_previous(&self, component: &str, before: Option<&InstalledComponent>) -> Result<()> {
        let folder = self.run.dir.join("previous");
        let file = folder.join(format!("{component}.json"));
        if file.exists() || before.is_some_and(|b| b.run == *self.run.id()) {
            return Ok(());
        }
        std::fs::create_dir_all(&folder).cannot(|| format!("make the folder {}", folder.display()))?;
        let baseline = baseline_of(component);
        if let Some(known) = read_json::<serde_json::Value>(&self.machine.home.folder().join("index").join(&baseline))? {
            write_json(&folder.join(&baseline), &known)?;
        }
        write_json(&file, &before)
    }

    /// A step with `on_failure: stop` failed: everything stays as it is.
    pub(super) fn end_as_is(&mut self, error: Error) -> Outcome {
        self.end_outage();
        if self.resume.quiet.is_some() {
            let kept = self
                .guarded(&self.known_steps())
                .and_then(|folders| index_all(&self.machine, &folders, &self.run.dir.join(AFTER)));
            if let Err(error) = kept {
                tracing::warn!(%error, "what the folders hold is not kept");
            }
        }
        self.finish(Outcome::Failed, Some(error))
    }

    /// Sends what the playbook has for an instrument that did not end well.
    fn tell_of_failure(&mut self, outcome: Outcome, error: Option<&Error>) {
        let to_tell = |s: &PlanStep| s.skip.is_none() && matches!(&s.action, Action::Notify(notify) if notify.if_failed);
        let steps: Vec<PlanStep> = self.run.plan.steps.iter().filter(|s| to_tell(s)).cloned().collect();
        if steps.is_empty() || !matches!(outcome, Outcome::Failed | Outcome::RolledBack | Outcome::RollbackFailed) {
            return;
        }
        let why = error.map_or_else(|| format!("{} asked for it", self.run.plan.operator), Error::to_string);
        let ended = serde_json::json!({ "outcome": outcome.word(), "error": why });
        self.registered.insert(ENDED_NAME.to_owned(), self.run.clean_value(ended));
        for step in steps {
            if let Err(Halt::Undo(error) | Halt::Stop(error)) = self.take_step(&step) {
                let text = format!("nobody was told that the instrument ended as {outcome}: {error}");
                self.run.emit(EventKind::Reminder { text });
            }
        }
    }

    /// Says the last word and ends the run.
    pub(super) fn finish(&mut self, outcome: Outcome, error: Option<Error>) -> Outcome {
        self.tell_of_failure(outcome, error.as_ref());
        let keeps_stage = self.run.plan.hold == crate::plan::Hold::AfterStage && outcome.is_good();
        if !keeps_stage && let Err(error) = volumes::remove_areas(&self.run.dir, false) {
            self.run.emit(EventKind::Reminder { text: format!("staged content was not removed: {error}") });
        }
        let mut longest = std::mem::take(&mut self.longest);
        longest.sort_by_key(|step| std::cmp::Reverse(step.ms));
        let outage_ms = locked(&self.outage).ms();
        longest.truncate(if outage_ms > 0 { LONGEST } else { 0 });
        let ms = match self.resume.accepted {
            Some(at) => u64::try_from(Timestamp::now().duration_since(at).as_millis()).unwrap_or(0),
            None => millis(self.begun.elapsed()),
        };
        self.run.emit(EventKind::InstrumentFinished { outcome, versions: self.version_changes(), outage_ms, longest, ms, error });
        outcome
    }

    fn version_changes(&self) -> BTreeMap<String, VersionChange> {
        let Some(before) = &self.resume.versions_before else { return BTreeMap::new() };
        let mut now = self.versions();
        let names: std::collections::BTreeSet<String> = before.keys().chain(now.keys()).cloned().collect();
        names
            .into_iter()
            .map(|name| {
                let change = VersionChange { from: before.get(&name).cloned(), to: now.remove(&name) };
                (name, change)
            })
            .collect()
    }
}

/// The file of an index folder that says what a component was when it was installed.
fn baseline_of(component: &str) -> String {
    format!("{component}.baseline.json")
}

/// Files of a finished run's folders that changed since, by folder.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn changed_since(machine: &Machine, run_dir: &Path) -> Result<Vec<(Guarded, Vec<WinPath>)>> {
    let all = compare(machine, &newest_indexes(run_dir))?;
    Ok(all.into_iter().map(|(guarded, difference)| (guarded.clone(), windows_paths(&guarded, &difference))).collect())
}

/// Files in a finished run's folders that were made since.
///
/// # Errors
/// When the folders cannot be read.
pub(crate) fn added_since(machine: &Machine, run_dir: &Path) -> Result<Vec<WinPath>> {
    let all = compare(machine, &newest_indexes(run_dir))?;
    Ok(all.iter().flat_map(|(guarded, difference)| difference.added.iter().map(|path| guarded.folder.join(path))).collect())
}

/// For the undoing of finished runs.
impl Driver {
    /// True when the rollback had begun before the worker came back.
    pub(crate) fn resumes_rollback(&self) -> bool {
        if self.resume.came_back {
            self.run.emit(EventKind::Recovered { how: "the rollback goes on".to_owned() });
        }
        self.resume.rollback.is_some()
    }

    /// What this run has taken back of another one.
    pub(crate) fn undone_of(&self, run: &crate::events::RunId) -> BTreeMap<u64, Vec<String>> {
        let of_run = self.resume.undone_of.iter().filter(|((r, _), _)| r == run.as_str());
        of_run.map(|((_, n), left)| (*n, left.clone())).collect()
    }

    /// What was known of the components that an undone run had installed is known again.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn restore_state(&self, run: &crate::events::RunId) -> Result<()> {
        let home = self.machine.home.folder();
        let previous = self.machine.home.run(run)?.join("previous");
        let mut all = installed(home)?;
        let undone: Vec<String> = all.iter().filter(|(_, c)| c.run == *run).map(|(name, _)| name.clone()).collect();
        for component in undone {
            let before: Option<InstalledComponent> = read_json(&previous.join(format!("{component}.json")))?.flatten();
            match before {
                Some(before) => all.insert(component.clone(), before),
                None => all.remove(&component),
            };
            let baseline = baseline_of(&component);
            match read_json::<serde_json::Value>(&previous.join(&baseline))? {
                Some(before) => write_json(&home.join("index").join(&baseline), &before)?,
                None => files::remove(&home.join("index").join(&baseline))?,
            }
            write_json(&home.join("installed.json"), &all)?;
        }
        self.restore_hotfixes(run)
    }

    /// The last word of a rollback of finished runs.
    pub(crate) fn finish_rollback(mut self, left: Vec<String>) -> Outcome {
        if left.is_empty() {
            return self.finish(Outcome::RolledBack, None);
        }
        let error = Error::step_failed(format!("{} things could not be put back, the first: {}", left.len(), left[0]))
            .on_host(&self.run.plan.instrument)
            .next("look at what is named, and restore a backup where it matters");
        self.finish(Outcome::RollbackFailed, Some(error))
    }
}
