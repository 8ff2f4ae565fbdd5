//! `backup`: folders to plain zip files.

pub(crate) mod archive;

use super::moves::{make_folder, rename, shown};
use super::sync::counted;
use super::sync::staging::{in_parallel, still_wanted};
use super::volumes::{OWN_FOLDER, resolved};
use super::{Applied, Difference, Perform, Probe, SpaceNeed, StepContext};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::events::{Outcome, Unit};
use crate::files;
use crate::paths::{PathPatterns, Place, RelPath, WinPath};
use crate::units::Size;
use archive::{Listing, Written};
use jiff::{Timestamp, Zoned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Backs up folders, one plain `.zip` each, in `<to>\\ibex_backup_YYYY_MM_DD`; read back and verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Places to back up.
    pub of: Vec<Place>,
    /// Where the dated folder is made; the place `backups` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Place>,
    /// Patterns left out of every folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Patterns left out by place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exclude_in: BTreeMap<String, Vec<String>>,
    /// Files that each zip must hold, by place, for example `{server: [VERSION.txt]}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub must_hold: BTreeMap<String, Vec<String>>,
    /// A place that does not exist is left out instead of being an error.
    #[serde(default)]
    pub if_exists: bool,
}

/// What a backup folder holds, in `catalogue.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalogue {
    pub(crate) format: u32,
    pub(crate) instrument: String,
    pub(crate) run: String,
    pub(crate) made: Timestamp,
    /// By the playbook's word for the place.
    pub(crate) places: BTreeMap<String, SavedPlace>,
}

/// One place in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedPlace {
    pub(crate) folder: WinPath,
    pub(crate) zip: String,
    /// The first word of its `VERSION.txt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    #[serde(flatten)]
    pub(crate) written: Written,
}

/// A place that is to be backed up.
struct Source {
    name: String,
    folder: WinPath,
    native: PathBuf,
    zip: String,
    listing: Listing,
}

impl Backup {
    fn to(&self) -> Place {
        self.to.clone().unwrap_or_else(|| Place("backups".to_owned()))
    }

    fn sources(&self, cx: &StepContext<'_>) -> Result<Vec<Source>> {
        let unknown = self.exclude_in.keys().chain(self.must_hold.keys()).find(|k| !self.of.iter().any(|p| p.as_str() == *k));
        if let Some(name) = unknown {
            return Err(
                Error::bad_input(format!("`{name}` is not one of the places that are backed up")).next("write it as in `of`")
            );
        }
        let to = cx.path(&self.to())?;
        let mut sources: Vec<Source> = Vec::new();
        for place in &self.of {
            let folder = cx.path(place)?;
            let native = resolved(&cx.native(place)?)?;
            if !native.is_dir() {
                if self.if_exists {
                    continue;
                }
                return Err(Error::step_failed(format!("{folder} is not there, so it cannot be backed up"))
                    .next("set `if_exists: true` when that is all right"));
            }
            if to.is_within(&folder) {
                return Err(Error::bad_input(format!("the backup would lie inside {folder}, which it is a backup of")));
            }
            let mut skip = self.exclude.clone();
            skip.push(OWN_FOLDER.to_owned());
            skip.extend(self.exclude_in.get(place.as_str()).into_iter().flatten().cloned());
            let listing = Listing::of(&native, &PathPatterns::new(&skip)?)?;
            let plain = folder.file_name().unwrap_or("drive");
            let taken = |zip: &str| sources.iter().any(|s: &Source| s.zip.eq_ignore_ascii_case(zip));
            let zip = (1..)
                .map(|n| if n == 1 { format!("{plain}.zip") } else { format!("{plain}_{n}.zip") })
                .find(|zip| !taken(zip))
                .unwrap_or_default();
            sources.push(Source { name: place.as_str().to_owned(), folder, native, zip, listing });
        }
        Ok(sources)
    }

    /// Writes and verifies all zips in `part`, several at a time.
    fn write_all(&self, cx: &StepContext<'_>, sources: &[Source], part: &Path) -> Result<BTreeMap<String, SavedPlace>> {
        // Every byte counts twice: it is written, and read back.
        let total: u64 = 2 * sources.iter().map(|s| s.listing.bytes()).sum::<u64>();
        let done = AtomicU64::new(0);
        let alive = |bytes: u64| {
            let now = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
            cx.progress.advanced(now.min(total), total, Unit::Bytes);
            still_wanted(cx)
        };
        let saved = in_parallel(sources, |source| {
            let zip = part.join(&source.zip);
            let mut written = archive::write(&source.native, &source.listing, &zip, &alive)?;
            archive::verify(&zip, &source.listing, &written, &alive)?;
            self.check_must_hold(source, &written)?;
            written.hash = ContentHash::of_file(&zip)?.to_string();
            for path in &written.vanished {
                cx.progress.note(&format!("{}: {path} was gone before it could be read", source.name));
            }
            let version = first_word(&source.native.join("VERSION.txt"));
            Ok(SavedPlace { folder: source.folder.clone(), zip: source.zip.clone(), version, written })
        })?;
        Ok(sources.iter().map(|s| s.name.clone()).zip(saved).collect())
    }

    fn check_must_hold(&self, source: &Source, written: &Written) -> Result<()> {
        for must in self.must_hold.get(&source.name).into_iter().flatten() {
            let path = RelPath::parse(must)?;
            let key = path.case_key();
            let held = source.listing.files.keys().any(|p| p.case_key() == key && !written.vanished.contains(p));
            if !held {
                return Err(Error::step_failed(format!("the backup of {} does not hold {must}", source.folder))
                    .next("look at the folder: it may be incomplete"));
            }
        }
        Ok(())
    }
}

fn first_word(file: &Path) -> Option<String> {
    let bytes = std::fs::read(file).ok()?;
    String::from_utf8_lossy(&bytes).split_whitespace().next().map(str::to_owned)
}

/// `ibex_backup_YYYY_MM_DD` by the instrument's own date, with `_2` and so on for further ones of a day.
fn free_folder(to: &Path) -> PathBuf {
    let name = Zoned::now().strftime("ibex_backup_%Y_%m_%d").to_string();
    (2..)
        .map(|n| to.join(format!("{name}_{n}")))
        .scan(to.join(&name), |next, following| Some(std::mem::replace(next, following)))
        .find(|folder| folder.symlink_metadata().is_err())
        .unwrap_or_else(|| to.join(name))
}

impl Perform for Backup {
    fn describe(&self) -> String {
        format!("back up {}", self.of.iter().map(Place::as_str).collect::<Vec<_>>().join(", "))
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let sources = self.sources(cx)?;
        let files = sources.iter().map(|s| s.listing.files.len()).sum();
        let bytes: u64 = sources.iter().map(|s| s.listing.bytes()).sum();
        let items = sources
            .iter()
            .map(|s| format!("{} {}, {}", s.folder, counted(s.listing.files.len(), "file"), Size(s.listing.bytes())));
        Ok(Probe {
            difference: if sources.is_empty() { Difference::None } else { Difference::Some },
            summary: format!("{}, {}, {}", counted(sources.len(), "folder"), counted(files, "file"), Size(bytes)),
            items: items.collect(),
            fetch_bytes: 0,
        })
    }

    /// As if nothing could be compressed.
    fn space(&self, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
        let on = cx.path(&self.to())?;
        let need = |s: Source| SpaceNeed { on: on.clone(), bytes: s.listing.bytes(), what: format!("the backup of {}", s.name) };
        Ok(self.sources(cx)?.into_iter().map(need).collect())
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let to = cx.native(&self.to())?;
        let note = cx.data_file("backup.json");
        if let Ok(folder) = std::fs::read(&note).map(|b| serde_json::from_slice::<PathBuf>(&b).unwrap_or_default())
            && folder.join("catalogue.json").is_file()
        {
            return Ok(done(cx, &folder));
        }
        let sources = self.sources(cx)?;
        if sources.is_empty() {
            return Ok(Applied { outcome: Outcome::Skipped, ..Applied::ok("nothing of it is there") });
        }
        enough_space(cx, &to, &sources)?;
        make_folder(cx, &to)?;
        let part = to.join(format!(".{}-{}.part", cx.plan.run, cx.step.id));
        remove_folder(&part)?;
        std::fs::create_dir(&part).cannot(|| format!("make the folder {}", shown(cx, &part)))?;
        let finish = || -> Result<PathBuf> {
            let places = self.write_all(cx, &sources, &part)?;
            let catalogue = Catalogue {
                format: 1,
                instrument: cx.plan.instrument.clone(),
                run: cx.plan.run.as_str().to_owned(),
                made: Timestamp::now(),
                places,
            };
            files::write_pretty_json(&part.join("catalogue.json"), &catalogue)?;
            let folder = free_folder(&to);
            // First the name, then the folder: a crash between the two leaves a name of nothing, and it is done again.
            files::write_json(&note, &folder)?;
            rename(cx, &part, &folder)?;
            Ok(folder)
        };
        match finish() {
            Ok(folder) => Ok(done(cx, &folder)),
            Err(error) => {
                // What is incomplete is no backup, and takes space.
                remove_folder(&part)?;
                Err(error)
            }
        }
    }
}

fn done(cx: &StepContext<'_>, folder: &Path) -> Applied {
    let read = read_catalogue(folder).ok();
    let (files, bytes) =
        read.iter().flat_map(|c| c.places.values()).fold((0, 0), |(f, b), p| (f + p.written.files, b + p.written.zip_bytes));
    let at = shown(cx, folder);
    Applied::changed(format!("{} in {at}, {}, read back", counted(files as usize, "file"), Size(bytes)))
        .with_result(serde_json::json!({"folder": at, "files": files, "bytes": bytes}))
}

/// The catalogue of a backup folder.
///
/// # Errors
/// When there is none, or it is damaged.
pub(crate) fn read_catalogue(folder: &Path) -> Result<Catalogue> {
    let file = folder.join("catalogue.json");
    let bytes = std::fs::read(&file).cannot(|| format!("read {}", file.display()))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::new(ErrorKind::Integrity, format!("{} is damaged", file.display())).because(e))
}

fn enough_space(cx: &StepContext<'_>, to: &Path, sources: &[Source]) -> Result<()> {
    let (need, free) = (sources.iter().map(|s| s.listing.bytes()).sum::<u64>(), cx.platform.free_space(to)?);
    if need <= free {
        return Ok(());
    }
    let message = format!("the backup may take {}, and {} has {} free", Size(need), shown(cx, to), Size(free));
    Err(Error::new(ErrorKind::OutOfSpace, message).next("move old backups away, or exclude what need not be kept"))
}

/// Removes a folder with all that is in it; one that is not there is no error.
///
/// # Errors
/// When the system refuses.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(format!("remove {}", folder.display()), &e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
