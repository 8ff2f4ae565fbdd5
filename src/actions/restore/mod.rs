//! `restore`: folders, or one file, back from a backup.

mod part;
mod swap;
#[cfg(test)]
#[cfg(unix)]
mod tests;

use super::backup::catalogue::{PREFIX, note_damage};
use super::backup::write::counting;
use super::moves::{Moves, MovesRecord, shown};
use super::remove::moves_file;
use super::sync::counted;
use super::{Applied, Difference, FetchStats, Perform, Probe, SpaceNeed, StepContext, UndoRecord, Undone};
use crate::error::{ErrorKind, Result};
use crate::files;
use crate::paths::{Place, WinPath};
use crate::units::Size;
use part::{Chosen, Part};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// Puts folders back from a backup; what was there moves to the run's undo folder. What no backup holds stays as it is: links,
/// what it leaves out (`.git` of the server), and what could not be read when it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The backup's folder, or its name alone: `ibex_backup_2026_11_02`. The newest good one below the place `backups`
    /// unless said, also when it is empty.
    #[serde(default, deserialize_with = "backup_folder", skip_serializing_if = "Option::is_none")]
    pub from: Option<Place>,
    /// Places to put back; all that the backup holds unless said. One text may name several with commas between, so that a
    /// variable can hold them; `all` is all.
    #[serde(default, deserialize_with = "several", skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<Place>,
    /// Only this file or folder, for example `settings\globals.txt`: then `of` does not count. Empty is none.
    #[serde(default, deserialize_with = "not_empty", skip_serializing_if = "Option::is_none")]
    pub file: Option<Place>,
}

/// Everything that a backup holds.
const ALL: &str = "all";

fn not_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Place>, D::Error> {
    Ok(Option::<Place>::deserialize(from)?.filter(|place| !place.as_str().trim().is_empty()))
}

/// A name alone is that of a folder below the place `backups`.
fn backup_folder<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Place>, D::Error> {
    let place = not_empty(from)?;
    Ok(place.map(|p| if p.as_str().starts_with(PREFIX) { Place(format!("backups\\{p}")) } else { p }))
}

fn several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Place>, D::Error> {
    let written = Vec::<Place>::deserialize(from)?;
    let names = written.iter().flat_map(|place| place.as_str().split(',')).map(str::trim).filter(|name| !name.is_empty());
    let places: Vec<Place> = names.map(|name| Place(name.to_owned())).collect();
    Ok(if places.iter().any(|p| p.as_str() == ALL) { Vec::new() } else { places })
}

impl Restore {
    /// The folders that are put back as a whole.
    ///
    /// # Errors
    /// When the backup cannot be read any more.
    pub(crate) fn whole_folders(&self, cx: &StepContext<'_>) -> Result<Vec<WinPath>> {
        Ok(self.choose(cx)?.parts.into_iter().filter(Part::is_whole).map(|part| part.folder).collect())
    }

    /// Where the backup that was chosen is written down, so that `apply` takes the one that `stage` took.
    fn note(&self, cx: &StepContext<'_>) -> PathBuf {
        let key = super::volumes::target_key(std::path::Path::new(&self.describe()));
        cx.data_file(&format!("{key}.chosen.json"))
    }

    fn choose(&self, cx: &StepContext<'_>) -> Result<Chosen> {
        let before = files::read_json::<PathBuf>(&self.note(cx))?;
        Chosen::by(cx, self, before)
    }
}

impl Perform for Restore {
    fn describe(&self) -> String {
        let names = || self.of.iter().map(Place::as_str).collect::<Vec<_>>().join(", ");
        let what = match (&self.file, self.of.is_empty()) {
            (Some(file), _) => format!("restore {file}"),
            (None, true) => "restore all".to_owned(),
            (None, false) => format!("restore {}", names()),
        };
        self.from.as_ref().map_or_else(|| format!("{what} from the newest backup"), |from| format!("{what} from {from}"))
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let chosen = self.choose(cx)?;
        let items = chosen.parts.iter().map(|part| {
            let version = part.version.as_deref().map_or_else(String::new, |v| format!(", version {v}"));
            format!("~ {}, {}, {}{version}", part.what(), counted(part.files as usize, "file"), Size(part.bytes))
        });
        Ok(Probe {
            difference: Difference::Some,
            summary: format!("{} from {}", chosen.what(), shown(cx, &chosen.folder)),
            items: items.collect(),
            fetch_bytes: 0,
        })
    }

    fn space(&self, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
        let need = |p: Part| SpaceNeed { bytes: p.bytes, what: format!("{} from the backup", p.what()), on: p.folder };
        Ok(self.choose(cx)?.parts.into_iter().map(need).collect())
    }

    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        let chosen = self.choose(cx)?;
        files::write_json(&self.note(cx), &chosen.folder)?;
        let total: u64 = chosen.parts.iter().map(|p| p.bytes).sum();
        let done = AtomicU64::new(0);
        let alive = counting(cx, total, &done);
        let mut stats = FetchStats::default();
        for part in &chosen.parts {
            let unpacked = part.unpack(cx, &alive).inspect_err(|error| {
                if error.kind() == ErrorKind::Integrity {
                    // On a share that cannot be written to, the next restore finds it out again.
                    let _ = note_damage(&chosen.folder, &error.to_string());
                }
            });
            stats.files += unpacked?;
        }
        stats.copied_bytes = done.load(Ordering::Relaxed);
        Ok(stats)
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let unpacked = self.stage(cx)?;
        let chosen = self.choose(cx)?;
        for part in &chosen.parts {
            let target = part.target(cx)?;
            if unpacked.files > 0 {
                cx.platform.flush_volume(&target)?;
            }
            let file = moves_file(cx, &target);
            let (moves, record) = match Moves::begun(&file)? {
                Some(begun) => begun,
                None => {
                    let (mut moves, kept) = part.moves(cx)?;
                    let record = moves.write(&file)?;
                    kept.tell(cx);
                    (moves, record)
                }
            };
            cx.undo_log.intend(UndoRecord::Restore(RestoreUndo { moves: record }))?;
            moves.run(cx)?;
        }
        let folder = shown(cx, &chosen.folder);
        let names: Vec<String> = chosen.parts.iter().map(Part::what).collect();
        Ok(Applied::changed(format!("{} from {folder}", names.join(", ")))
            .with_result(serde_json::json!({"folder": folder, "places": names})))
    }
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreUndo {
    pub moves: MovesRecord,
}

impl RestoreUndo {
    /// Puts back what was there before.
    ///
    /// # Errors
    /// When a rename is refused.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        self.moves.undo(cx)
    }
}
