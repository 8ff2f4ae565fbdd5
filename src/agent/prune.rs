//! Making room: the data of runs that nobody will take back any more.

use super::home::Home;
use super::journal;
use super::resume::Resume;
use super::rollback::RollbackOrder;
use super::worker::Worker;
use crate::actions::hotfix::installed;
use crate::actions::sync::linked;
use crate::actions::{UndoRecord, volumes};
use crate::error::{Error, IoContext, Result};
use crate::events::Outcome;
use crate::files::{self, read_json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Releases whose undo data stays when a release is closed: its own, and that of the one before.
const KEPT_RELEASES: usize = 2;

/// In the folder of a run whose undo data went.
const PRUNED: &str = "pruned";

/// True when what the run kept for its undo is gone, or half gone.
pub(super) fn is_pruned(dir: &Path) -> bool {
    dir.join(PRUNED).exists()
}

/// Removes what runs before the newest two releases kept for their undo; the run in `closing` counts as finished. Their
/// journals stay. Gives how many runs it concerned.
///
/// # Errors
/// When the runs cannot be listed, or after all were tried the first that could not be pruned.
pub(super) fn prune_undo_data(home: &Home, closing: &Path) -> Result<usize> {
    let needed = needed(home, Some(closing))?;
    let (mut releases, mut pruned, mut failed) = (0, 0, None);
    for dir in home.run_dirs()?.into_iter().rev() {
        let Some(resume) = undoable(&dir, dir == closing) else { continue };
        if releases >= KEPT_RELEASES && !needed.contains(&dir) {
            match remove_undo_data(&dir) {
                Ok(true) => pruned += 1,
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        releases += usize::from(resume.intents.iter().any(|i| matches!(i.record, UndoRecord::Sync(_))));
    }
    failed.map_or(Ok(pruned), Err)
}

/// What the journal says of a run that is over and could still be taken back. A run whose rollback failed is none: its
/// data may be all that a person has to put things right. Neither is one that was undone: what is left of its data are
/// files that were made since.
fn undoable(dir: &Path, closing: bool) -> Option<Resume> {
    let resume = Resume::from_journal(&journal::read(&dir.join("journal.jsonl")).ok()?);
    let over = match resume.finished {
        None => closing,
        Some(outcome) => !matches!(outcome, Outcome::RolledBack | Outcome::RollbackFailed),
    };
    (over && resume.undone_by.is_none() && resume.damage.is_empty()).then_some(resume)
}

/// The mark comes first: a rollback must not begin with half of the data. False when there was nothing left.
fn remove_undo_data(dir: &Path) -> Result<bool> {
    let there = volumes::areas_of_run(dir)?.iter().any(|area| area.exists());
    if there && !is_pruned(dir) {
        files::write(&dir.join(PRUNED), b"")?;
    }
    volumes::remove_areas(dir, true)?;
    linked::remove_retired(dir)?;
    for index in ["before", "after", "half-undone"].map(|name| dir.join(name)).into_iter().filter(|index| index.exists()) {
        std::fs::remove_dir_all(&index).cannot(|| format!("remove {}", index.display()))?;
    }
    Ok(there)
}

/// Folders of runs that are not over, of those that an unfinished rollback is taking back, and of those that put a hotfix in
/// place which can still be reverted.
///
/// # Errors
/// When it is not known what an unfinished rollback takes back.
fn needed(home: &Home, closing: Option<&Path>) -> Result<BTreeSet<PathBuf>> {
    let mut needed = BTreeSet::new();
    for dir in home.run_dirs()? {
        if closing == Some(&dir) || is_over(&dir) {
            continue;
        }
        let order: Option<RollbackOrder> = read_json(&dir.join("rollback.json"))
            .map_err(|e: Error| e.context(format!("what the rollback in {} still needs is not known", dir.display())))?;
        for run in order.iter().flat_map(RollbackOrder::runs) {
            needed.insert(home.run(run)?);
        }
        needed.insert(dir);
    }
    // What a hotfix replaced is with the run that put it in place.
    for hotfix in installed::read(home.folder())? {
        needed.insert(home.run(&hotfix.run)?);
    }
    Ok(needed)
}

/// A run whose journal cannot be read is nobody's to remove unasked.
fn is_over(dir: &Path) -> bool {
    journal::read(&dir.join("journal.jsonl")).is_ok_and(|loaded| Resume::from_journal(&loaded).finished.is_some())
}

/// Removes all but the newest `keep` finished runs, with everything they kept. Says what it did.
///
/// # Errors
/// When a folder cannot be removed; those before it are gone.
pub(super) fn prune(worker: &Worker, keep: u32) -> Result<String> {
    let home = &worker.machine.home;
    let needed = needed(home, None)?;
    let (mut finished, mut removed) = (0, 0);
    for dir in home.run_dirs()?.into_iter().rev().filter(|dir| !needed.contains(dir)) {
        finished += 1;
        if finished > keep {
            volumes::remove_areas(&dir, true)?;
            linked::remove_retired(&dir)?;
            std::fs::remove_dir_all(&dir).cannot(|| format!("remove {}", dir.display()))?;
            removed += 1;
        }
    }
    Ok(format!("{removed} runs removed, {} kept", finished - removed))
}
