//! `restore`: folders back from a backup.

use super::backup::archive::unpack;
use super::backup::{Catalogue, SavedPlace, read_catalogue, remove_folder};
use super::moves::{Moves, MovesRecord, shown};
use super::remove::{moves_file, split};
use super::sync::counted;
use super::sync::staging::{give_file_rights, still_wanted};
use super::volumes::{areas_beside, nearest_folder, resolved};
use super::{Applied, Difference, FetchStats, Perform, Probe, SpaceNeed, StepContext, UndoRecord, Undone};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::events::Unit;
use crate::paths::Place;
use crate::units::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Puts folders back from a backup; what was there moves to the run's undo folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The backup folder; the newest below the place `backups` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Place>,
    /// Places to put back; all that the backup holds unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<Place>,
}

impl Restore {
    /// The backup folder with its catalogue.
    fn backup(&self, cx: &StepContext<'_>) -> Result<(PathBuf, Catalogue)> {
        if let Some(from) = &self.from {
            let folder = cx.native(from)?;
            let catalogue = read_catalogue(&folder)?;
            return Ok((folder, catalogue));
        }
        let all = cx.native(&Place("backups".to_owned()))?;
        let mut newest: Option<(PathBuf, Catalogue)> = None;
        for entry in std::fs::read_dir(&all).cannot(|| format!("list {}", shown(cx, &all)))? {
            let folder = entry.cannot(|| format!("list {}", shown(cx, &all)))?.path();
            let named = folder.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("ibex_backup_"));
            if !named || !folder.join("catalogue.json").is_file() {
                continue;
            }
            let catalogue = read_catalogue(&folder)?;
            // What this very run has saved before it restores is not what is meant.
            if catalogue.run == cx.plan.run.as_str() {
                continue;
            }
            if newest.as_ref().is_none_or(|(_, n)| n.made < catalogue.made) {
                newest = Some((folder, catalogue));
            }
        }
        newest.ok_or_else(|| {
            Error::new(ErrorKind::StepFailed, format!("there is no backup with a catalogue in {}", shown(cx, &all)))
                .next("name the backup's folder with `from`")
        })
    }

    /// The folder of the backup, and what of it is to be put back where.
    fn wanted(&self, cx: &StepContext<'_>) -> Result<(PathBuf, Vec<SavedPlace>)> {
        let (folder, catalogue) = self.backup(cx)?;
        if self.of.is_empty() {
            return Ok((folder, catalogue.places.into_values().collect()));
        }
        let mut places = Vec::new();
        for place in &self.of {
            let path = cx.path(place)?;
            let held = catalogue.places.values().find(|p| p.folder == path).cloned();
            places.push(held.ok_or_else(|| {
                let all: Vec<&str> = catalogue.places.values().map(|p| p.folder.as_str()).collect();
                Error::bad_input(format!("the backup {} does not hold {path}", shown(cx, &folder)))
                    .next(format!("it holds {}", all.join(", ")))
            })?);
        }
        Ok((folder, places))
    }

    /// Unpacks one place beside its target, unless that was done before.
    fn unpack_place(
        cx: &StepContext<'_>,
        folder: &Path,
        place: &SavedPlace,
        alive: &(dyn Fn(u64) -> Result<()> + Sync),
    ) -> Result<u64> {
        let target = resolved(&cx.drives.native(&place.folder)?)?;
        let areas = areas_beside(cx, &target)?;
        let (staged, done) = (areas.stage.join("tree"), areas.stage.join("tree.done"));
        if done.exists() || Moves::begun(&moves_file(cx, &target))?.is_some() {
            return Ok(0);
        }
        let zip = folder.join(&place.zip);
        if ContentHash::of_file(&zip)?.to_string() != place.written.hash {
            return Err(Error::new(ErrorKind::Integrity, format!("{} is not what was written at the backup", shown(cx, &zip)))
                .next("use another backup"));
        }
        remove_folder(&staged)?;
        std::fs::create_dir_all(&staged).cannot(|| format!("make the folder {}", staged.display()))?;
        let files = unpack(&zip, &staged, alive)?;
        if files != place.written.files {
            return Err(Error::new(ErrorKind::Integrity, format!("{} does not hold what its catalogue says", shown(cx, &zip))));
        }
        give_rights(cx, &staged, &target)?;
        std::fs::write(&done, b"").cannot(|| format!("write {}", done.display()))?;
        Ok(files)
    }
}

/// Owner and rights as of what is at the target now, or of the folder that will hold it.
fn give_rights(cx: &StepContext<'_>, staged: &Path, target: &Path) -> Result<()> {
    // From inside out: a time of a folder is not kept, but its rights are.
    for entry in walkdir::WalkDir::new(staged).contents_first(true) {
        let entry = entry.map_err(|e| Error::new(ErrorKind::Io, format!("cannot read {}", staged.display())).because(e))?;
        let below = entry.path().strip_prefix(staged).unwrap_or(Path::new(""));
        let place = if below.as_os_str().is_empty() { target.to_path_buf() } else { target.join(below) };
        if entry.file_type().is_dir() {
            cx.platform.copy_rights(&nearest_folder(&place)?, entry.path())?;
        } else {
            give_file_rights(cx, place.is_file().then_some(place.as_path()), &place, entry.path(), false)?;
        }
    }
    Ok(())
}

impl Perform for Restore {
    fn describe(&self) -> String {
        match (&self.from, self.of.is_empty()) {
            (Some(from), _) => format!("restore from {from}"),
            (None, true) => "restore the newest backup".to_owned(),
            (None, false) => format!("restore {}", self.of.iter().map(Place::as_str).collect::<Vec<_>>().join(", ")),
        }
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let (folder, places) = self.wanted(cx)?;
        let items = places.iter().map(|p| {
            let version = p.version.as_deref().map_or_else(String::new, |v| format!(", version {v}"));
            format!("~ {} {}, {}{version}", p.folder, counted(p.written.files as usize, "file"), Size(p.written.bytes))
        });
        Ok(Probe {
            difference: Difference::Some,
            summary: format!("{} from {}", counted(places.len(), "folder"), shown(cx, &folder)),
            items: items.collect(),
            fetch_bytes: 0,
        })
    }

    fn space(&self, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
        let (_, places) = self.wanted(cx)?;
        let need =
            |p: SavedPlace| SpaceNeed { bytes: p.written.bytes, what: format!("{} from the backup", p.folder), on: p.folder };
        Ok(places.into_iter().map(need).collect())
    }

    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        let (folder, places) = self.wanted(cx)?;
        let total: u64 = places.iter().map(|p| p.written.bytes).sum();
        let done = AtomicU64::new(0);
        let alive = |bytes: u64| {
            let now = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            cx.progress.advanced(now, total, Unit::Bytes);
            still_wanted(cx)
        };
        let mut stats = FetchStats::default();
        for place in &places {
            stats.files += Self::unpack_place(cx, &folder, place, &alive)?;
        }
        stats.copied_bytes = done.load(Ordering::Relaxed);
        Ok(stats)
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let (folder, places) = self.wanted(cx)?;
        self.stage(cx)?;
        for place in &places {
            let target = resolved(&cx.drives.native(&place.folder)?)?;
            let file = moves_file(cx, &target);
            let (moves, record) = match Moves::begun(&file)? {
                Some(begun) => begun,
                None => {
                    let (parent, name) = split(&target)?;
                    let mut moves = Moves::below(&parent, &areas_beside(cx, &target)?);
                    moves.take(name.clone())?;
                    moves.bring(name, "tree")?;
                    let record = moves.write(&file)?;
                    (moves, record)
                }
            };
            cx.undo_log.intend(UndoRecord::Restore(RestoreUndo { moves: record }))?;
            moves.run(cx)?;
        }
        let names: Vec<&str> = places.iter().map(|p| p.folder.as_str()).collect();
        Ok(Applied::changed(format!("{} from {}", names.join(", "), shown(cx, &folder)))
            .with_result(serde_json::json!({"folder": shown(cx, &folder), "places": names})))
    }
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreUndo {
    pub moves: MovesRecord,
}

impl RestoreUndo {
    /// Puts back the folder that was there before.
    ///
    /// # Errors
    /// When a rename is refused.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        self.moves.undo(cx)
    }
}
