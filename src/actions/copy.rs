//! `copy`: a file or folder to another place on the instrument.

use super::moves::{Moves, MovesRecord, Stamp, shown};
use super::remove::{moves_file, split};
use super::since::Watch;
use super::sync::counted;
use super::sync::difference::{Arrival, Rules, SyncDifference, Wanted, WantedTree, compare};
use super::sync::staging::{Source, Staging, give_file_rights};
use super::volumes::{self, Areas};
use super::writes::copy_exactly;
use super::{Applied, Difference, Perform, Probe, SpaceNeed, StepContext, UndoRecord, Undone};
use crate::content::{ContentHash, HashCache, TreeIndex};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::paths::{PathPatterns, Place};
use crate::units::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Copies a file or a folder on the instrument.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The file or folder to copy.
    pub from: Place,
    /// The file's or folder's new path. Files of a folder that is there already are replaced, others in it stay.
    pub to: Place,
    /// Missing `from` is no error: the step is skipped.
    #[serde(default)]
    pub if_exists: bool,
}

/// A folder's copy, as one look found it.
struct Look {
    from: PathBuf,
    to: PathBuf,
    wanted: WantedTree,
    installed: TreeIndex,
    difference: SyncDifference,
}

impl Look {
    fn of(from: &Path, to: &Path) -> Result<Self> {
        let (from, to) = (volumes::resolved(from)?, volumes::resolved(to)?);
        if to.starts_with(&from) || from.starts_with(&to) {
            return Err(Error::bad_input(format!("{} and {} lie in each other", from.display(), to.display())));
        }
        let none = PathPatterns::default();
        let cache = HashCache::in_memory();
        let source = TreeIndex::build(&from, &cache, &none)?;
        let wanted = source
            .entries
            .iter()
            .filter(|(_, e)| e.link.is_none())
            .map(|(path, e)| {
                let file = Wanted { source: path.clone(), size: e.size, hash: e.hash, executable: e.executable() };
                (path.clone(), file)
            })
            .collect();
        let installed = TreeIndex::build(&to, &cache, &none)?;
        let empty_folders = BTreeSet::new();
        let rules = Rules {
            target: &to,
            kept: &none,
            generated: &none,
            units: &none,
            remove_extra: false,
            empty_folders: &empty_folders,
        };
        let difference = compare(&wanted, &installed, &rules)?;
        Ok(Self { from, to, wanted, installed, difference })
    }

    fn staging<'a>(&'a self, areas: &'a Areas) -> Staging<'a> {
        Staging {
            target: &self.to,
            here: &self.to,
            areas,
            wanted: &self.wanted,
            installed: &self.installed,
            source: Source::Folder(&self.from),
        }
    }
}

impl Copy {
    fn is_missing(&self, cx: &StepContext<'_>) -> Result<bool> {
        let from = cx.native(&self.from)?;
        if from.exists() {
            return Ok(false);
        }
        if self.if_exists {
            return Ok(true);
        }
        Err(Error::new(ErrorKind::StepFailed, format!("{} does not exist", shown(cx, &from)))
            .next("set `if_exists: true` when that is all right"))
    }

    /// The moves of a file's copy, or nothing when it is the same already.
    fn file_moves(&self, cx: &StepContext<'_>, from: &Path, to: &Path) -> Result<Option<Moves>> {
        if same_file(from, to)? {
            return Ok(None);
        }
        if to.is_dir() {
            return Err(Error::bad_input(format!("{} is a folder, and {} a file", shown(cx, to), shown(cx, from)))
                .next("write the new file's own path in `to`"));
        }
        let (folder, name) = split(to)?;
        let areas = volumes::areas_beside(cx, to)?;
        let staged = areas.stage.join("copy");
        copy_exactly(cx, from, &staged)?;
        give_file_rights(cx, to.exists().then_some(to), to, &staged, false)?;
        let mut moves = Moves::below(&folder, &areas);
        moves.over = true;
        moves.watch = Some(Watch::default());
        moves.take(name.clone())?;
        moves.bring(name, "copy")?;
        moves.result = serde_json::json!({"files": 1});
        Ok(Some(moves))
    }

    fn folder_moves(&self, cx: &StepContext<'_>, from: &Path, to: &Path) -> Result<Option<Moves>> {
        let look = Look::of(from, to)?;
        if look.difference.is_empty() {
            return Ok(None);
        }
        let areas = volumes::step_areas(cx, &look.to)?;
        let staging = look.staging(&areas);
        let arrivals: Vec<&Arrival> = look.difference.arrivals.iter().collect();
        let stats = staging.stage(cx, &arrivals)?;
        let mut moves = staging.moves(&look.difference)?;
        moves.result = serde_json::json!({"files": stats.files});
        Ok(Some(moves))
    }
}

fn same_file(from: &Path, to: &Path) -> Result<bool> {
    match (Stamp::of(from)?, Stamp::of(to)?) {
        (Some(Stamp::File { size: a, .. }), Some(Stamp::File { size: b, .. })) if a == b => {
            Ok(ContentHash::of_file(from)? == ContentHash::of_file(to)?)
        }
        _ => Ok(false),
    }
}

impl Perform for Copy {
    fn describe(&self) -> String {
        format!("copy {} to {}", self.from, self.to)
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let same = Probe { difference: Difference::None, summary: "already the same".to_owned(), ..Probe::default() };
        if self.is_missing(cx)? {
            return Ok(Probe { summary: format!("{} does not exist", self.from), ..same });
        }
        let (from, to) = (cx.native(&self.from)?, cx.native(&self.to)?);
        if from.is_file() {
            let bytes = from.metadata().cannot(|| format!("look at {}", shown(cx, &from)))?.len();
            let summary = format!("1 file, {}", Size(bytes));
            return Ok(if same_file(&from, &to)? { same } else { Probe { difference: Difference::Some, summary, ..same } });
        }
        let look = Look::of(&from, &to)?;
        if look.difference.is_empty() {
            return Ok(same);
        }
        let changed = look.difference.added.len() + look.difference.replaced.len();
        let items = look.difference.items();
        Ok(Probe { difference: Difference::Some, summary: counted(changed, "file"), items, fetch_bytes: 0 })
    }

    fn space(&self, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
        if self.is_missing(cx)? {
            return Ok(Vec::new());
        }
        let from = cx.native(&self.from)?;
        let bytes = walkdir::WalkDir::new(&from)
            .into_iter()
            .flatten()
            .filter_map(|e| e.metadata().ok())
            .filter(std::fs::Metadata::is_file)
            .map(|m| m.len())
            .sum();
        Ok(vec![SpaceNeed { on: cx.path(&self.to)?, bytes, what: format!("the copy of {}", self.from) }])
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let to = cx.native(&self.to)?;
        let file = moves_file(cx, &to);
        let (moves, record) = match Moves::begun(&file)? {
            Some(begun) => begun,
            None if self.is_missing(cx)? => {
                return Ok(Applied {
                    outcome: crate::events::Outcome::Skipped,
                    summary: format!("{} does not exist", self.from),
                    result: serde_json::Value::Null,
                });
            }
            None => {
                let from = cx.native(&self.from)?;
                let moves = if from.is_file() { self.file_moves(cx, &from, &to) } else { self.folder_moves(cx, &from, &to) };
                let Some(mut moves) = moves? else { return Ok(Applied::ok("already the same")) };
                cx.platform.flush_volume(&moves.stage)?;
                let record = moves.write(&file)?;
                (moves, record)
            }
        };
        cx.undo_log.intend(UndoRecord::Copy(CopyUndo { moves: record }))?;
        moves.run(cx)?;
        let files = moves.result.get("files").and_then(serde_json::Value::as_u64).unwrap_or(0);
        Ok(Applied::changed(format!("{} copied", counted(files as usize, "file"))).with_result(moves.result))
    }
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopyUndo {
    pub moves: MovesRecord,
}

impl CopyUndo {
    /// Puts back what was there before.
    ///
    /// # Errors
    /// When a rename is refused.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        self.moves.undo(cx)
    }
}
