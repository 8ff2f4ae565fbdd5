//! `remove`: a file or folder goes.

use super::moves::{Moves, MovesRecord, Stamp};
use super::{Applied, Difference, Perform, Probe, StepContext, UndoRecord, Undone, volumes};
use crate::error::{Error, Result};
use crate::paths::{Place, RelPath};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Removes files or folders; they move to the run's undo folder, so that undo is exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// Files and folders; one that is not there is well.
    pub paths: Vec<Place>,
}

impl Remove {
    fn there(&self, cx: &StepContext<'_>) -> Result<Vec<&Place>> {
        let mut found = Vec::new();
        for place in &self.paths {
            if Stamp::of(&cx.native(place)?)?.is_some() {
                found.push(place);
            }
        }
        Ok(found)
    }
}

impl Perform for Remove {
    fn describe(&self) -> String {
        format!("remove {}", self.paths.iter().map(Place::as_str).collect::<Vec<_>>().join(", "))
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let there = self.there(cx)?;
        let items = there.iter().map(|p| format!("- {p}")).collect();
        Ok(if there.is_empty() {
            Probe { difference: Difference::None, summary: "already gone".to_owned(), ..Probe::default() }
        } else {
            Probe { difference: Difference::Some, summary: format!("{} to remove", there.len()), items, fetch_bytes: 0 }
        })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let mut removed = 0;
        for place in &self.paths {
            let native = cx.native(place)?;
            let (folder, name) = split(&native)?;
            let file = moves_file(cx, &native);
            let (moves, record) = match Moves::begun(&file)? {
                Some(begun) => begun,
                None if Stamp::of(&native)?.is_none() => continue,
                None => {
                    let mut moves = Moves::below(&folder, &volumes::areas_beside(cx, &native)?);
                    moves.take(name)?;
                    let record = moves.write(&file)?;
                    (moves, record)
                }
            };
            cx.undo_log.intend(UndoRecord::Remove(RemoveUndo { moves: record }))?;
            moves.run(cx)?;
            removed += 1;
        }
        Ok(if removed == 0 { Applied::ok("already gone") } else { Applied::changed(format!("{removed} removed")) })
    }
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveUndo {
    pub moves: MovesRecord,
}

impl RemoveUndo {
    /// Moves it back.
    ///
    /// # Errors
    /// When the rename is refused.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        self.moves.undo(cx)
    }
}

/// The file that holds the moves of this step for one of its targets.
pub(super) fn moves_file(cx: &StepContext<'_>, target: &Path) -> PathBuf {
    moves_file_of(cx, &cx.step.id, target)
}

/// The same of another step.
pub(super) fn moves_file_of(cx: &StepContext<'_>, step: &str, target: &Path) -> PathBuf {
    cx.data_file_of(step, &format!("{}.moves.json", volumes::target_key(target)))
}

/// The resolved folder of a path, and its name there; a link at the end of the path is not followed.
///
/// # Errors
/// When the path is the root of a drive.
pub(super) fn split(native: &Path) -> Result<(PathBuf, RelPath)> {
    let whole = || Error::bad_input(format!("{} is a whole drive", native.display()));
    let folder = native.parent().ok_or_else(whole)?;
    let name = native.file_name().and_then(|n| n.to_str()).ok_or_else(whole)?;
    Ok((volumes::resolved(folder)?, RelPath::parse(name)?))
}
