//! `backup`: folders to plain zip files.

pub mod catalogue;
pub mod listing;
pub(crate) mod read;
mod work;
pub mod write;
mod zip_format;

use super::moves::{make_folder, rename, shown};
use super::sync::counted;
use super::volumes::{OWN_FOLDER, resolved, target_key};
use super::{Applied, Difference, Perform, Probe, SpaceNeed, StepContext};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result, first_named};
use crate::events::{BackedUp, Outcome};
use crate::files;
use crate::paths::{PathPatterns, Place, RelPath, WinPath};
use crate::units::Size;
use catalogue::{CATALOGUE, Catalogue, FORMAT, PREFIX, SavedPlace, read_catalogue};
use jiff::{Timestamp, Zoned};
use listing::{Listing, Unreadable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use write::{Alive, Written, counting};

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
    /// What to do about files that cannot be read, even when they are tried again after all others.
    #[serde(default)]
    pub unreadable: IfUnreadable,
}

/// What a backup does about files that cannot be read: a program keeps them to itself, or the agent may not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfUnreadable {
    /// The step fails, and names them.
    #[default]
    Fail,
    /// The backup is made without them; they are named in the report and in the catalogue.
    Name,
}

/// A place that is to be backed up.
struct Source {
    name: String,
    folder: WinPath,
    native: PathBuf,
    zip: String,
    excluded: Vec<String>,
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
            let mut excluded = self.exclude.clone();
            excluded.extend(self.exclude_in.get(place.as_str()).into_iter().flatten().cloned());
            let mut skip = excluded.clone();
            skip.push(OWN_FOLDER.to_owned());
            let listing = Listing::of(&native, &PathPatterns::new(&skip)?)?;
            if self.if_exists && listing.is_empty() {
                continue;
            }
            let plain = folder.file_name().unwrap_or("drive");
            let taken = |zip: &str| sources.iter().any(|s: &Source| s.zip.eq_ignore_ascii_case(zip));
            let zip = (1..)
                .map(|n| if n == 1 { format!("{plain}.zip") } else { format!("{plain}_{n}.zip") })
                .find(|zip| !taken(zip))
                .unwrap_or_default();
            sources.push(Source { name: place.as_str().to_owned(), folder, native, zip, excluded, listing });
        }
        Ok(sources)
    }

    /// Writes and verifies all zips in `part`, one after the other, each with several threads.
    fn write_all(&self, cx: &StepContext<'_>, sources: &[Source], part: &Path) -> Result<BTreeMap<String, SavedPlace>> {
        // Every byte counts twice: it is written, and read back.
        let total: u64 = 2 * sources.iter().map(|s| s.listing.bytes()).sum::<u64>();
        let done = AtomicU64::new(0);
        let alive = counting(cx, total, &done);
        let mut saved = BTreeMap::new();
        for source in sources {
            let zip = part.join(&source.zip);
            let (mut written, file) = write::write(&source.native, &source.listing, &zip, &alive)?;
            self.check_unreadable(source, &written.unreadable)?;
            self.check_must_hold(source, &written)?;
            written.hash = verify_and_keep(&zip, file, &source.listing, &written, &alive)?.to_string();
            let place = SavedPlace {
                folder: source.folder.clone(),
                zip: source.zip.clone(),
                version: files::first_word(&source.native.join("VERSION.txt")),
                excluded: source.excluded.clone(),
                written,
            };
            saved.insert(source.name.clone(), place);
        }
        Ok(saved)
    }

    fn check_unreadable(&self, source: &Source, unreadable: &[Unreadable]) -> Result<()> {
        if unreadable.is_empty() || self.unreadable == IfUnreadable::Name {
            return Ok(());
        }
        let number = counted(unreadable.len(), "file");
        Err(Error::step_failed(format!("{number} of {} cannot be read, also not when tried again", source.folder))
            .with_output(first_named(unreadable))
            .next("close the program that holds them, exclude them, or set `unreadable: name`"))
    }

    fn check_must_hold(&self, source: &Source, written: &Written) -> Result<()> {
        for must in self.must_hold.get(&source.name).into_iter().flatten() {
            let path = RelPath::parse(must)?;
            let key = path.case_key();
            let held = source.listing.files.keys().any(|p| p.case_key() == key && written.holds(p));
            if !held {
                return Err(Error::step_failed(format!("the backup of {} does not hold {must}", source.folder)).next(format!(
                    "look at the folder: what is installed there is incomplete without it; to save it as it is, take {must} \
                        out of `must_hold`"
                )));
            }
        }
        Ok(())
    }

    /// Writes everything into a folder that counts for nothing, and gives it its name once it is verified.
    fn make(&self, cx: &StepContext<'_>, to: &Path, sources: &[Source], note: &Path) -> Result<PathBuf> {
        let part = to.join(format!(".{}-{}{PART}", cx.plan.run, cx.step.id));
        std::fs::create_dir(&part).cannot(|| format!("make the folder {}", shown(cx, &part)))?;
        let finish = || -> Result<PathBuf> {
            let made = Timestamp::now();
            let catalogue = Catalogue {
                format: FORMAT,
                instrument: cx.plan.instrument.clone(),
                run: cx.plan.run.as_str().to_owned(),
                made,
                places: self.write_all(cx, sources, &part)?,
                verified: Some(Timestamp::now()),
                damage: None,
            };
            files::write_pretty_json(&part.join(CATALOGUE), &catalogue)?;
            let folder = free_folder(cx, to)?;
            // First the name, then the folder: a crash between the two leaves a name of nothing, and it is done again.
            files::write_json(note, &folder)?;
            rename(cx, &part, &folder)?;
            files::sync_folder(to)?;
            Ok(folder)
        };
        finish().map_err(|error| {
            // What is incomplete is no backup, and takes space.
            let error = match files::remove_folder(&part) {
                Ok(()) => error,
                Err(left) => error.because(left),
            };
            if error.kind() == ErrorKind::OutOfSpace { told_of_room(cx, to, sources, error) } else { error }
        })
    }
}

/// Reads a zip back while the disk takes it; its hash.
fn verify_and_keep(zip: &Path, file: File, listing: &Listing, written: &Written, alive: Alive<'_>) -> Result<ContentHash> {
    std::thread::scope(|scope| {
        let kept = scope.spawn(move || {
            file.sync_all().cannot(|| format!("write {}", zip.display()))?;
            ContentHash::of_file(zip)
        });
        let verified = read::verify(zip, listing, written, alive);
        let kept = kept.join().map_err(|_| Error::internal("a thread that hashes a zip ended early"))?;
        verified.and(kept)
    })
}

/// The end of the name of a backup folder that is being made.
const PART: &str = ".part";

/// Removes backups that were half made or half removed when a worker was killed. Only one run is open at a time.
pub(in crate::actions) fn remove_half_backups(cx: &StepContext<'_>, to: &Path) -> Result<()> {
    let listing = || format!("list {}", shown(cx, to));
    for entry in std::fs::read_dir(to).cannot(listing)? {
        let entry = entry.cannot(listing)?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(PART)) {
            files::remove_folder(&entry.path())?;
        }
    }
    Ok(())
}

/// `ibex_backup_YYYY_MM_DD` by the instrument's own date. A further one of the day gets the number behind the highest that
/// is there: the name of one that was moved to the share does not come again.
fn free_folder(cx: &StepContext<'_>, to: &Path) -> Result<PathBuf> {
    let day = Zoned::now().strftime(&format!("{PREFIX}%Y_%m_%d")).to_string();
    let listing = || format!("list {}", shown(cx, to));
    let mut highest = 0;
    for entry in std::fs::read_dir(to).cannot(listing)? {
        let name = entry.cannot(listing)?.file_name().to_string_lossy().to_lowercase();
        let number = match name.strip_prefix(&day) {
            Some("") => Some(1),
            Some(rest) => rest.strip_prefix('_').and_then(|n| n.parse::<u64>().ok()),
            None => None,
        };
        highest = highest.max(number.unwrap_or(0));
    }
    Ok(to.join(if highest == 0 { day } else { format!("{day}_{}", highest.saturating_add(1)) }))
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

    fn space(&self, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
        let on = cx.path(&self.to())?;
        let need = |s: Source| SpaceNeed { on: on.clone(), bytes: s.listing.room(), what: format!("the backup of {}", s.name) };
        Ok(self.sources(cx)?.into_iter().map(need).collect())
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let to = cx.native(&self.to())?;
        // A step that runs for several items makes a backup for each.
        let note = cx.data_file(&format!("{}.backup.json", target_key(Path::new(&self.describe()))));
        if let Some(folder) = files::read_json::<PathBuf>(&note)?
            && let Some(catalogue) = read_catalogue(&folder)?
        {
            return Ok(done(cx, &folder, &catalogue));
        }
        let sources = self.sources(cx)?;
        if sources.is_empty() {
            return Ok(Applied { outcome: Outcome::Skipped, ..Applied::ok("nothing of it is there") });
        }
        for source in &sources {
            self.check_unreadable(source, &source.listing.unreadable)?;
        }
        make_folder(cx, &to)?;
        remove_half_backups(cx, &to)?;
        enough_space(cx, &to, &sources)?;
        let folder = self.make(cx, &to, &sources, &note)?;
        let catalogue = read_catalogue(&folder)?
            .ok_or_else(|| Error::new(ErrorKind::Integrity, format!("{} has lost its catalogue", shown(cx, &folder))))?;
        Ok(done(cx, &folder, &catalogue))
    }
}

/// Tells what was made, and what is not in it.
fn done(cx: &StepContext<'_>, folder: &Path, catalogue: &Catalogue) -> Applied {
    let at = shown(cx, folder);
    let (mut files, mut bytes, mut unreadable) = (0, 0, 0);
    for (name, place) in &catalogue.places {
        let Written { vanished, changed, unreadable: lost, .. } = &place.written;
        (files, bytes) = (files + place.written.files, bytes + place.written.zip_bytes);
        unreadable += lost.len() as u64;
        tell(cx, name, "was gone when its turn came", vanished);
        tell(cx, name, "was written to while it was read", changed);
        if let Some(first) = lost.first() {
            let more = if lost.len() > 1 { format!(" and {} more", lost.len() - 1) } else { String::new() };
            cx.progress.remind(&format!(
                "the backup of {name} lacks what could not be read: {first}{more}; all are named in {at}\\{CATALOGUE}"
            ));
        }
    }
    cx.progress.backed_up(&BackedUp { folder: at.clone(), zips: catalogue.places.len() as u64, files, bytes, unreadable });
    Applied::changed(format!("{} in {at}, {}, read back", counted(files as usize, "file"), Size(bytes)))
        .with_result(serde_json::json!({"folder": at, "files": files, "bytes": bytes, "unreadable": unreadable}))
}

/// Notes of the first few files, and how many more there are.
fn tell(cx: &StepContext<'_>, place: &str, what: &str, paths: &[RelPath]) {
    const TOLD: usize = 5;
    for path in paths.iter().take(TOLD) {
        cx.progress.note(&format!("{place}: {path} {what}"));
    }
    if paths.len() > TOLD {
        cx.progress.note(&format!("{place}: and so were {} more, all named in {CATALOGUE}", paths.len() - TOLD));
    }
}

/// What helps when there is no room.
const MAKE_ROOM: &str = "move old backups away, or exclude what need not be kept";

fn enough_space(cx: &StepContext<'_>, to: &Path, sources: &[Source]) -> Result<()> {
    let (need, free) = (room(sources), cx.platform.free_space(to)?);
    if need <= free {
        return Ok(());
    }
    Err(Error::new(ErrorKind::OutOfSpace, needed_and_free(cx, to, need, free)).next(MAKE_ROOM))
}

/// The error of a disk that something else has filled since there was room, with what is needed and what is free.
fn told_of_room(cx: &StepContext<'_>, to: &Path, sources: &[Source], error: Error) -> Error {
    match cx.platform.free_space(to) {
        Ok(free) => error.because(needed_and_free(cx, to, room(sources), free)).next(MAKE_ROOM),
        Err(unknown) => error.because(unknown),
    }
}

fn room(sources: &[Source]) -> u64 {
    sources.iter().map(|s| s.listing.room()).sum()
}

fn needed_and_free(cx: &StepContext<'_>, to: &Path, need: u64, free: u64) -> String {
    format!("the backup may take {}, and {} has {} free", Size(need), shown(cx, to), Size(free))
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
