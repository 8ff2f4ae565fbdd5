//! The guarded folders: what they held before the first change, and whether they hold it again after a rollback.

use super::Driver;
use super::late::rendered;
use crate::actions::Action;
use crate::agent::journal::Body;
use crate::agent::machine::Machine;
use crate::content::{TreeDifference, TreeIndex};
use crate::error::{Error, IoContext, Result};
use crate::files::{read_json, write_json};
use crate::paths::{PathPatterns, RelPath, WinPath};
use crate::plan::{InstrumentPlan, PlanStep};
use crate::playbook::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Names that a report shows of one folder before it says how many more there are.
const NAMED: usize = 20;

/// In the folder of a run: what the guarded folders held before its first change, when it was over, and after a
/// rollback of it that did not put everything right.
pub(super) const BEFORE: &str = "before";
pub(super) const AFTER: &str = "after";
const HALF_UNDONE: &str = "half-undone";

/// A folder that a run may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Guarded {
    pub(crate) folder: WinPath,
    /// The component that a `sync` puts there.
    pub(crate) component: Option<String>,
    /// Paths inside that may change at any time.
    pub(crate) except: Vec<String>,
    /// The only files that count; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) only: Option<BTreeSet<RelPath>>,
}

impl Guarded {
    /// Some files of a folder in which programs may run and write others.
    pub(super) fn files(folder: WinPath, component: &str, files: impl IntoIterator<Item = RelPath>) -> Self {
        Self { folder, component: Some(component.to_owned()), except: Vec::new(), only: Some(files.into_iter().collect()) }
    }

    /// Takes in what else is guarded of the same folder.
    fn join(&mut self, other: Self) {
        match (&mut self.only, other.only) {
            (Some(own), Some(only)) => own.extend(only),
            (None, Some(_)) => {}
            (own, None) => {
                *own = None;
                self.except.extend(other.except);
            }
        }
    }

    /// True when a file in the folder counts.
    pub(crate) fn covers(&self, path: &WinPath) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|below| self.folder.join(below) == *path))
    }
}

/// A guarded folder with what it held.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    guarded: Guarded,
    index: TreeIndex,
}

/// Targets of the plan's `sync`, `migrate` and `mysql` steps and everything that its programs say they write to. What a
/// `restore`, a `copy` or a `file` puts in place is known by its moves, file by file: see [`crate::actions::since`].
///
/// # Errors
/// When a place of a step is none.
fn guarded_folders(plan: &InstrumentPlan, steps: &[PlanStep]) -> Result<Vec<Guarded>> {
    let mut all: Vec<Guarded> = Vec::new();
    for step in steps.iter().filter(|s| s.skip.is_none()) {
        if let Action::Sync(sync) = &step.action {
            let except = sync.keep.iter().chain(&sync.generated).cloned().collect();
            all.push(Guarded {
                folder: sync.to.resolve(&plan.places)?,
                component: Some(sync.component.clone()),
                except,
                only: None,
            });
        }
        if let Action::Migrate(migrate) = &step.action {
            // What git keeps in it is looked at by the migration itself.
            let folder = migrate.at.resolve(&plan.places)?;
            all.push(Guarded { folder, component: None, except: vec![".git".to_owned()], only: None });
        }
        if let Action::Mysql(mysql) = &step.action {
            // The data folder is the server's own, and is judged by its rows.
            let folder = mysql.to.resolve(&plan.places)?;
            all.push(Guarded { folder, component: None, except: Vec::new(), only: None });
        }
        for folder in &step.writes {
            all.push(Guarded { folder: folder.clone(), component: None, except: Vec::new(), only: None });
        }
    }
    Ok(all)
}

/// Indexes the folders into files `0.json`, `1.json`, ... of `into`, which must not be half there before.
///
/// # Errors
/// When a folder cannot be read or its index cannot be written.
pub(crate) fn index_all(machine: &Machine, folders: &[Guarded], into: &Path) -> Result<()> {
    std::fs::create_dir_all(into).cannot(|| format!("make the folder {}", into.display()))?;
    for (number, guarded) in folders.iter().enumerate() {
        let index = index_of(machine, guarded)?;
        write_json(&into.join(format!("{number}.json")), &Kept { guarded: guarded.clone(), index })?;
    }
    // Only a cache: without it the next index takes longer.
    if let Err(error) = machine.hashes.save() {
        tracing::warn!(%error, "the hash cache is not saved");
    }
    Ok(())
}

fn index_of(machine: &Machine, guarded: &Guarded) -> Result<TreeIndex> {
    let native = machine.drives.native(&guarded.folder)?;
    if let Some(only) = &guarded.only {
        return TreeIndex::of_paths(&native, only);
    }
    TreeIndex::build(&native, &machine.hashes, &PathPatterns::new(&guarded.except)?)
}

/// The indexes in a folder.
///
/// # Errors
/// When one cannot be read.
fn kept_in(folder: &Path) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    while let Some(kept) = read_json(&folder.join(format!("{}.json", all.len())))? {
        all.push(kept);
    }
    Ok(all)
}

/// What differs now from the indexes in a folder.
///
/// # Errors
/// When an index or a folder cannot be read.
pub(crate) fn compare(machine: &Machine, folder: &Path) -> Result<Vec<(Guarded, TreeDifference)>> {
    let difference = |Kept { guarded, index }: Kept| {
        let now = index_of(machine, &guarded)?;
        Ok((guarded, index.compare(&now)))
    };
    kept_in(folder)?.into_iter().map(difference).collect()
}

/// The paths of a difference as the operator knows them.
pub(crate) fn windows_paths(guarded: &Guarded, difference: &TreeDifference) -> Vec<WinPath> {
    difference.paths().into_iter().map(|path| guarded.folder.join(path)).collect()
}

/// The first paths that a report names, with a last line that says how many more there are.
pub(super) fn named(guarded: &Guarded, paths: &[WinPath]) -> Vec<String> {
    let mut named: Vec<String> = paths.iter().take(NAMED).map(WinPath::to_string).collect();
    if paths.len() > NAMED {
        named.push(format!("{} and {} more files", guarded.folder, paths.len() - NAMED));
    }
    named
}

/// Where the newest indexes of a run that is over are: what differs from them was changed by somebody else.
pub(super) fn newest_indexes(run_dir: &Path) -> PathBuf {
    let half_undone = run_dir.join(HALF_UNDONE);
    if half_undone.is_dir() { half_undone } else { run_dir.join(AFTER) }
}

/// Indexes the folders of a run once more, whose rollback has left something.
///
/// # Errors
/// When a folder cannot be read or an index cannot be written.
pub(crate) fn index_half_undone(machine: &Machine, run_dir: &Path) -> Result<()> {
    let folders: Vec<Guarded> = kept_in(&run_dir.join(BEFORE))?.into_iter().map(|kept| kept.guarded).collect();
    if folders.is_empty() {
        return Ok(());
    }
    index_all(machine, &folders, &run_dir.join(HALF_UNDONE))
}

/// Files that are not as before a run, although it left them (or its undo put them back) as they were: whoever changed
/// them did so later, and there is no older copy.
///
/// # Errors
/// When an index or a folder cannot be read.
pub(crate) fn changed_by_others(machine: &Machine, run_dir: &Path) -> Result<Vec<WinPath>> {
    let later = [kept_in(&run_dir.join(AFTER))?, kept_in(&run_dir.join(HALF_UNDONE))?].concat();
    let mut found = Vec::new();
    for Kept { guarded, index: before } in kept_in(&run_dir.join(BEFORE))? {
        let left_alone = |path: &RelPath, later: &Kept| match (before.entries.get(path), later.index.entries.get(path)) {
            (Some(before), Some(later)) => before.same_as(later),
            (before, later) => before.is_none() && later.is_none(),
        };
        let later: Vec<&Kept> = later.iter().filter(|kept| kept.guarded.folder == guarded.folder).collect();
        let now = before.compare(&index_of(machine, &guarded)?);
        let theirs = now.paths().into_iter().filter(|path| later.iter().any(|kept| left_alone(path, kept)));
        found.extend(theirs.map(|path| guarded.folder.join(path)));
    }
    Ok(found)
}

/// True for a step that changes files in ways a rollback has to answer for.
pub(crate) fn changes_files(step: &PlanStep) -> bool {
    let by_itself = matches!(
        step.action,
        Action::Sync(_)
            | Action::File(_)
            | Action::Copy(_)
            | Action::Remove(_)
            | Action::Link(_)
            | Action::Migrate(_)
            | Action::Mysql(_)
            | Action::Restore(_)
            | Action::Git(_)
            | Action::Clone(_)
    ) || matches!(&step.action, Action::Hotfix(hotfix) if hotfix.changes_files());
    step.skip.is_none() && step.phase == Phase::Apply && (by_itself || !step.writes.is_empty())
}

impl Driver {
    /// All steps as far as their templates can be filled in at this moment.
    pub(super) fn known_steps(&self) -> Vec<PlanStep> {
        let known = self.names(&None);
        self.run.plan.steps.iter().filter_map(|s| rendered(s, &known).ok()).collect()
    }

    /// Everything that the steps may change, each folder once.
    pub(super) fn guarded(&self, steps: &[PlanStep]) -> Result<Vec<Guarded>> {
        let mut all: Vec<Guarded> = Vec::new();
        for guarded in [guarded_folders(&self.run.plan, steps)?, self.guarded_hotfixes(steps)?].concat() {
            match all.iter_mut().find(|g| g.folder == guarded.folder) {
                Some(known) => known.join(guarded),
                None => all.push(guarded),
            }
        }
        Ok(all)
    }

    /// Just before the first change of files: what do the guarded folders hold?
    pub(super) fn be_quiet_before(&mut self, step: &PlanStep) -> Result<()> {
        if self.resume.quiet.is_some() || !changes_files(step) {
            return Ok(());
        }
        let folders = self.guarded(&self.known_steps())?;
        index_all(&self.machine, &folders, &self.run.dir.join(BEFORE))?;
        self.run.note_down(Body::Quiet { step: step.id.clone() })?;
        self.resume.quiet = Some(step.id.clone());
        Ok(())
    }

    /// Reads the guarded folders' files during `stage`, so that only what changed is read during the outage.
    pub(super) fn warm_guard(&self) -> Result<()> {
        if !self.run.plan.steps.iter().any(changes_files) {
            return Ok(());
        }
        for guarded in self.guarded(&self.known_steps())? {
            index_of(&self.machine, &guarded)?;
        }
        self.machine.hashes.save().or_else(|error: Error| {
            tracing::warn!(%error, "the hash cache is not saved");
            Ok(())
        })
    }
}
