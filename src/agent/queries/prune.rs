//! Removing the data of old runs.

use super::super::journal;
use super::super::resume::Resume;
use super::super::worker::Worker;
use crate::actions::volumes;
use crate::error::{IoContext, Result};
use std::path::Path;

/// Removes all but the newest `keep` finished runs, with what they kept for their undo. Says what it did.
///
/// # Errors
/// When a folder cannot be removed; those before it are gone.
pub(super) fn prune(worker: &Worker, keep: u32) -> Result<String> {
    let active = worker.active().map(|run| run.dir.clone());
    let mut finished = 0;
    let mut removed = 0;
    for dir in worker.run_dirs()?.into_iter().rev() {
        if active.as_ref() == Some(&dir) || !is_finished(&dir) {
            continue;
        }
        finished += 1;
        if finished > keep {
            remove(&dir)?;
            removed += 1;
        }
    }
    Ok(format!("{removed} runs removed, {} kept", finished - removed))
}

/// A run whose journal cannot be read is nobody's to remove unasked.
fn is_finished(dir: &Path) -> bool {
    journal::read(&dir.join("journal.jsonl")).is_ok_and(|loaded| Resume::from_journal(&loaded).finished.is_some())
}

fn remove(dir: &Path) -> Result<()> {
    volumes::remove_areas(dir, true)?;
    std::fs::remove_dir_all(dir).cannot(|| format!("remove {}", dir.display()))
}
