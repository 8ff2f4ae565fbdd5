//! What of which backup is put back, and how.

use super::Restore;
use super::swap::{Kept, Swap};
use crate::actions::StepContext;
use crate::actions::backup::catalogue::{BackupFolder, BackupState, SavedPlace, backups_in};
use crate::actions::backup::read::{Held, contents, unpack};
use crate::actions::moves::{Moves, Stamp, shown};
use crate::actions::remove::{moves_file, split};
use crate::actions::since::Watch;
use crate::actions::sync::counted;
use crate::actions::sync::staging::give_file_rights;
use crate::actions::volumes::{Areas, OWN_FOLDER, areas_beside, nearest_folder, resolved, step_areas};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files::remove_folder;
use crate::nearest::nearest;
use crate::paths::{PathPatterns, Place, RelPath, WinPath};
use crate::platform::facts::version_in;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A backup, and what of it is wanted.
pub(super) struct Chosen {
    pub(super) folder: PathBuf,
    pub(super) parts: Vec<Part>,
}

/// A zip of a backup, or what is wanted of it.
#[derive(Debug)]
pub(super) struct Part {
    /// The folder that the zip was made of.
    pub(super) folder: WinPath,
    pub(super) zip: PathBuf,
    pub(super) version: Option<String>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Only this file or folder in it, as the zip spells it.
    only: Option<RelPath>,
    /// What the catalogue says the zip is.
    hash: Option<String>,
    /// Patterns of what the backup left out; nothing when nobody wrote that down.
    excluded: Option<Vec<String>>,
    /// The keys of what could not be read when it was made.
    unreadable: BTreeSet<String>,
}

impl Chosen {
    /// The backup that was taken `before`, the one that the step names, or the newest good one.
    ///
    /// # Errors
    /// When there is none, or it does not hold what is wanted.
    pub(super) fn by(cx: &StepContext<'_>, wanted: &Restore, before: Option<PathBuf>) -> Result<Self> {
        let backup = match (before, &wanted.from) {
            (Some(folder), _) => BackupFolder::look(&folder)?,
            (None, Some(from)) => named(cx, from)?,
            (None, None) => newest_good(cx)?,
        };
        if let (BackupState::Damaged, None) = (backup.state, &backup.catalogue) {
            let problem = backup.problem.clone().unwrap_or_default();
            return Err(Error::new(ErrorKind::Integrity, format!("{} cannot be used", shown(cx, &backup.path)))
                .because(problem)
                .next("use another backup; `ibexdeploy backup --list` shows them"));
        }
        if let Some(other) = backup.catalogue.as_ref().map(|c| &c.instrument).filter(|name| **name != cx.plan.instrument) {
            return Err(Error::new(ErrorKind::Refused, format!("{} is a backup of {other}", shown(cx, &backup.path)))
                .next("what belongs to another instrument can only be unpacked by hand"));
        }
        let parts = match &wanted.file {
            Some(file) => vec![one(cx, &backup, &cx.path(file)?)?],
            None if wanted.of.is_empty() => everything(cx, &backup)?,
            None => wanted.of.iter().map(|place| whole(cx, &backup, &cx.path(place)?)).collect::<Result<_>>()?,
        };
        parts.iter().try_for_each(|part| part.refuse_over_another_version(cx))?;
        Ok(Self { folder: backup.path, parts })
    }

    /// For summaries.
    pub(super) fn what(&self) -> String {
        match self.parts.as_slice() {
            [Part { only: Some(_), .. }] => self.parts[0].what(),
            parts => counted(parts.len(), "folder"),
        }
    }
}

fn named(cx: &StepContext<'_>, from: &Place) -> Result<BackupFolder> {
    let folder = cx.native(from)?;
    if folder.is_dir() {
        return BackupFolder::look(&folder);
    }
    let all = backups_in(folder.parent().unwrap_or(&folder))?;
    let name = folder.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let error = Error::bad_input(format!("there is no backup {}", shown(cx, &folder)));
    Err(match nearest(&name, all.iter().map(|b| b.name.as_str())) {
        Some(near) => error.next(format!("did you mean `{near}`?")),
        None if all.is_empty() => error.next("there are no backups in that folder"),
        None => {
            let names: Vec<&str> = all.iter().take(5).map(|b| b.name.as_str()).collect();
            error.next(format!("the newest ones there are {}", names.join(", ")))
        }
    })
}

fn newest_good(cx: &StepContext<'_>) -> Result<BackupFolder> {
    let place = cx.native(&Place("backups".to_owned()))?;
    let mut others = Vec::new();
    for backup in backups_in(&place)? {
        // What this very run has saved before it restores is not what is meant.
        if backup.catalogue.as_ref().is_some_and(|c| c.run == cx.plan.run.as_str()) {
            continue;
        }
        match backup.state {
            BackupState::Good => return Ok(backup),
            BackupState::Damaged => {
                let problem = backup.problem.as_deref().unwrap_or("unknown");
                cx.progress.remind(&format!("the backup {} is damaged and was passed over: {problem}", backup.name));
            }
            BackupState::Uncatalogued => others.push(backup.name),
        }
    }
    let error = Error::step_failed(format!("there is no backup with a catalogue in {}", shown(cx, &place)));
    Err(match others.first() {
        Some(other) => error.next(format!("name one that the older scripts made, for example `--backup {other}`")),
        None => error.next("name the backup's folder with `--backup`: old ones may be on the share"),
    })
}

/// What the backup holds of a folder.
fn whole(cx: &StepContext<'_>, backup: &BackupFolder, folder: &WinPath) -> Result<Part> {
    let held = match &backup.catalogue {
        Some(catalogue) => catalogue.places.values().find(|p| p.folder == *folder).map(|p| Part::of(backup, p)),
        None => zip_of(backup, folder).map(|zip| Part::uncatalogued(backup, folder, zip)),
    };
    // A folder inside one that was saved, as the instrument's own settings are.
    held.unwrap_or_else(|| one(cx, backup, folder))
}

fn not_held(cx: &StepContext<'_>, backup: &BackupFolder, path: &WinPath) -> Error {
    let all: Vec<String> = match &backup.catalogue {
        Some(catalogue) => catalogue.places.values().map(|p| p.folder.to_string()).collect(),
        None => backup.zips.keys().cloned().collect(),
    };
    let holds = if all.is_empty() { "it holds nothing".to_owned() } else { format!("it holds {}", all.join(", ")) };
    Error::bad_input(format!("the backup {} does not hold {path}", shown(cx, &backup.path))).next(holds)
}

/// The older scripts named each zip like the folder it is of.
fn zip_of<'a>(backup: &'a BackupFolder, folder: &WinPath) -> Option<&'a str> {
    let name = format!("{}.zip", folder.file_name()?);
    backup.zips.keys().find(|zip| zip.eq_ignore_ascii_case(&name)).map(String::as_str)
}

fn everything(cx: &StepContext<'_>, backup: &BackupFolder) -> Result<Vec<Part>> {
    // Two names of one folder are one folder.
    let folders: BTreeSet<&WinPath> = cx.plan.places.values().collect();
    if let Some(catalogue) = &backup.catalogue {
        if let Some(other) = catalogue.places.values().find(|place| !folders.contains(&place.folder)) {
            let message = format!("{} is in the backup {}, and no place of this instrument", other.folder, backup.name);
            return Err(Error::bad_input(message).next("add it to the inventory's places, or name what is wanted with `--of`"));
        }
        return catalogue.places.values().map(|place| Part::of(backup, place)).collect();
    }
    let mut parts = Vec::new();
    for (folder, zip) in folders.into_iter().filter_map(|f| Some((f, zip_of(backup, f)?))) {
        parts.push(Part::uncatalogued(backup, folder, zip)?);
    }
    for zip in backup.zips.keys().filter(|zip| !parts.iter().any(|p| p.zip.ends_with(zip))) {
        cx.progress.note(&format!("{zip} is like no place of this instrument, and was left alone"));
    }
    if parts.is_empty() {
        return Err(Error::bad_input(format!("{} has no zip that is like a place", shown(cx, &backup.path)))
            .next("name the folder of a backup"));
    }
    Ok(parts)
}

/// One file or folder.
fn one(cx: &StepContext<'_>, backup: &BackupFolder, path: &WinPath) -> Result<Part> {
    let folders: Vec<WinPath> = match &backup.catalogue {
        Some(catalogue) => catalogue.places.values().map(|p| p.folder.clone()).collect(),
        None => cx.plan.places.values().filter(|folder| zip_of(backup, folder).is_some()).cloned().collect(),
    };
    // The innermost of several.
    let folder = folders.iter().filter(|f| path.is_within(f)).max_by_key(|f| f.as_str().len());
    let folder = folder.ok_or_else(|| not_held(cx, backup, path))?;
    let part = whole(cx, backup, folder)?;
    if path == folder {
        return Ok(part);
    }
    let below = path.as_str()[folder.as_str().len()..].trim_start_matches('\\');
    part.only(cx, &RelPath::parse(below)?)
}

impl Part {
    fn of(backup: &BackupFolder, place: &SavedPlace) -> Result<Self> {
        if !backup.zips.contains_key(&place.zip) {
            let message = format!("the backup {} has no {} any more", backup.path.display(), place.zip);
            return Err(Error::new(ErrorKind::Integrity, message).next("use another backup"));
        }
        Ok(Self {
            folder: place.folder.clone(),
            zip: backup.path.join(&place.zip),
            version: place.version.clone(),
            files: place.written.files,
            bytes: place.written.bytes,
            only: None,
            hash: Some(place.written.hash.clone()),
            excluded: Some(place.excluded.clone()),
            unreadable: place.written.unreadable.iter().filter_map(|u| Some(RelPath::parse(&u.path).ok()?.case_key())).collect(),
        })
    }

    fn uncatalogued(backup: &BackupFolder, folder: &WinPath, zip: &str) -> Result<Self> {
        let zip = backup.path.join(zip);
        let held = contents(&zip)?;
        let files = held.iter().filter(|h| !h.folder);
        Ok(Self {
            folder: folder.clone(),
            version: None,
            files: files.clone().count() as u64,
            bytes: files.map(|h| h.size).sum(),
            only: None,
            hash: None,
            excluded: None,
            unreadable: BTreeSet::new(),
            zip,
        })
    }

    /// This part without all but one file or folder.
    fn only(mut self, cx: &StepContext<'_>, wanted: &RelPath) -> Result<Self> {
        let held = contents(&self.zip)?;
        let key = wanted.case_key();
        let within = |h: &&Held| {
            let path = h.path.case_key();
            path.strip_prefix(&key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found: Vec<&Held> = held.iter().filter(within).collect();
        let Some(first) = found.first() else {
            let error = Error::bad_input(format!("{} does not hold {wanted}", shown(cx, &self.zip)));
            let near = nearest(wanted.as_str(), held.iter().map(|h| h.path.as_str()));
            return Err(match near {
                Some(near) => error.next(format!("did you mean `{near}`?")),
                None => error.next(format!("`unzip -l {}` lists what it holds", shown(cx, &self.zip))),
            });
        };
        let spelled: Vec<&str> = first.path.names().take(wanted.names().count()).collect();
        self.only = Some(RelPath::parse(&spelled.join("/"))?);
        self.files = found.iter().filter(|h| !h.folder).count() as u64;
        self.bytes = found.iter().map(|h| h.size).sum();
        Ok(self)
    }

    /// For summaries: the path on the instrument.
    pub(super) fn what(&self) -> String {
        self.only.as_ref().map_or_else(|| self.folder.to_string(), |only| self.folder.join(only).to_string())
    }

    /// Where it goes, with links in the folder's path followed.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub(super) fn target(&self, cx: &StepContext<'_>) -> Result<PathBuf> {
        let folder = resolved(&cx.drives.native(&self.folder)?)?;
        Ok(self.only.as_ref().map_or(folder.clone(), |only| only.under(&folder)))
    }

    /// Where versions lie beside each other, each folder holds the version that it is named for, and no other.
    fn refuse_over_another_version(&self, cx: &StepContext<'_>) -> Result<()> {
        let at = cx.drives.native(&self.folder)?;
        if self.only.is_some() || Stamp::of(&at)? != Some(Stamp::Link) {
            return Ok(());
        }
        let folder = resolved(&at)?;
        let Some(there) = version_in(&folder)? else { return Ok(()) };
        let named = |name: &std::ffi::OsStr| {
            name.to_string_lossy().strip_prefix(&there).is_some_and(|s| s.is_empty() || s.starts_with('-'))
        };
        let of_version = folder.iter().any(named);
        if !of_version || self.version.as_ref() == Some(&there) {
            return Ok(());
        }
        let held = self.version.as_deref().unwrap_or("a version that nobody wrote down");
        let (link, folder) = (&self.folder, shown(cx, &folder));
        Err(Error::new(
            ErrorKind::Refused,
            format!("{link} leads to {folder}, the folder of version {there}, and the backup holds {held}"),
        )
        .next(format!(
            "`ibexdeploy rollback {name}` leads it back to the version before, and `ibexdeploy release {name} --kit VERSION` \
                 to that of a kit; one file of the backup can be put back with `--file`",
            name = cx.plan.instrument
        )))
    }

    fn areas(&self, cx: &StepContext<'_>) -> Result<Areas> {
        let target = self.target(cx)?;
        if self.only.is_some() { areas_beside(cx, &target) } else { step_areas(cx, &target) }
    }

    /// Unpacks it on the volume of its target, unless that was done before. Gives the number of files.
    ///
    /// # Errors
    /// When the zip is not what it was or cannot be read, or something cannot be written.
    pub(super) fn unpack(&self, cx: &StepContext<'_>, alive: &(dyn Fn(u64) -> Result<()> + Sync)) -> Result<u64> {
        let (target, areas) = (self.target(cx)?, self.areas(cx)?);
        let (staged, done) = (areas.stage.join(TREE), areas.stage.join("tree.done"));
        if done.exists() || Moves::begun(&moves_file(cx, &target))?.is_some() {
            return Ok(0);
        }
        if let Some(hash) = &self.hash
            && ContentHash::of_file(&self.zip)?.to_string() != *hash
        {
            let message = format!("{} is not what was written at the backup", shown(cx, &self.zip));
            return Err(Error::new(ErrorKind::Integrity, message).next("use another backup"));
        }
        let mut held = contents(&self.zip)?;
        if let Some(only) = &self.only {
            held.retain(|h| h.path.is_within(only));
        }
        if held.iter().filter(|h| !h.folder).count() as u64 != self.files {
            return Err(Error::new(
                ErrorKind::Integrity,
                format!("{} does not hold what its catalogue says", shown(cx, &self.zip)),
            ));
        }
        remove_folder(&staged)?;
        if held.iter().any(|h| self.only.as_ref() != Some(&h.path) || h.folder) || held.is_empty() {
            std::fs::create_dir_all(&staged).cannot(|| format!("make the folder {}", staged.display()))?;
        }
        unpack(&self.zip, &held, self.only.as_ref(), &staged, alive)?;
        self.give_rights(cx, &held, &staged, &target)?;
        std::fs::write(&done, b"").cannot(|| format!("write {}", done.display()))?;
        Ok(self.files)
    }

    /// Owner and rights as of what is at the target now, or of the folder that will hold it.
    fn give_rights(&self, cx: &StepContext<'_>, held: &[Held], staged: &Path, target: &Path) -> Result<()> {
        let skipped = self.only.as_ref().map_or(0, |only| only.names().count());
        let executable: BTreeSet<PathBuf> =
            held.iter().filter(|h| h.executable).map(|h| h.path.names().skip(skipped).collect()).collect();
        for entry in walkdir::WalkDir::new(staged).contents_first(true) {
            let entry = entry.map_err(|e| Error::new(ErrorKind::Io, format!("cannot read {}", staged.display())).because(e))?;
            let below = entry.path().strip_prefix(staged).unwrap_or(Path::new(""));
            let place = if below.as_os_str().is_empty() { target.to_path_buf() } else { target.join(below) };
            if entry.file_type().is_dir() {
                cx.platform.copy_rights(&nearest_folder(&place)?, entry.path())?;
            } else {
                let replaced = place.is_file().then_some(place.as_path());
                give_file_rights(cx, replaced, &place, entry.path(), executable.contains(below))?;
            }
        }
        Ok(())
    }

    /// The renames that put it in place of what is there now, and what stays because no backup holds it.
    ///
    /// # Errors
    /// When something cannot be looked at.
    pub(super) fn moves(&self, cx: &StepContext<'_>) -> Result<(Moves, Kept)> {
        let (target, areas) = (self.target(cx)?, self.areas(cx)?);
        let tree = areas.stage.join(TREE);
        if self.only.is_none() {
            let inside = Areas { stage: tree.clone(), undo: areas.undo };
            let mut moves = Moves::below(&target, &inside);
            moves.watch = Some(self.watch(cx));
            let mut swap = Swap::new(moves, target, None, tree, None);
            swap.look(self, &self.left_out()?)?;
            swap.exchange()?;
            return Ok((swap.moves, swap.kept));
        }
        let (parent, name) = split(&target)?;
        let mut moves = Moves::below(&parent, &areas);
        moves.watch = Some(self.watch(cx));
        if Stamp::of(&target)? == Some(Stamp::Folder) && tree.is_dir() {
            let mut swap = Swap::new(moves, target, Some(name.clone()), tree, Some(TREE));
            swap.look(self, &self.left_out()?)?;
            if swap.has_to_go_inside() {
                swap.exchange()?;
                return Ok((swap.moves, swap.kept));
            }
            moves = swap.moves;
        } else {
            let file = |path: &Path| Ok::<_, Error>(matches!(Stamp::of(path)?, Some(Stamp::File { .. })));
            moves.over = file(&target)? && file(&tree)?;
        }
        moves.take(name.clone())?;
        moves.bring(name, TREE)?;
        Ok((moves, Kept::default()))
    }

    /// What is changed by others, once it is in place, is somebody's work.
    fn watch(&self, cx: &StepContext<'_>) -> Watch {
        let autosave = cx.plan.places.get(AUTOSAVE).is_some_and(|folder| self.folder.is_within(folder));
        let except: &[&str] = if autosave { &["**"] } else { &PROGRAMS_WRITE };
        Watch { except: except.iter().map(|pattern| (*pattern).to_owned()).collect(), ..Watch::default() }
    }

    /// The path in the folder of what lies below what is put back.
    pub(super) fn in_folder(&self, below: &RelPath) -> RelPath {
        self.only.as_ref().map_or_else(|| below.clone(), |only| only.child(below.as_str()))
    }

    /// The keys of paths in the folder that could not be read when the backup was made.
    pub(super) fn unreadable(&self) -> &BTreeSet<String> {
        &self.unreadable
    }

    /// True when all of the folder is put back.
    pub(super) fn is_whole(&self) -> bool {
        self.only.is_none()
    }

    /// What is no part of the backup, and so stays where it is.
    fn left_out(&self) -> Result<PathPatterns> {
        let mut patterns = match &self.excluded {
            Some(patterns) => patterns.clone(),
            // The older scripts leave the git history of the server and the Pythons out.
            None => vec![".git".to_owned()],
        };
        patterns.push(OWN_FOLDER.to_owned());
        PathPatterns::new(&patterns)
    }
}

/// The name in the stage area of what was unpacked.
const TREE: &str = "tree";

/// The place whose files IBEX writes all the time.
const AUTOSAVE: &str = "autosave";

/// What programs write beside what they run from.
const PROGRAMS_WRITE: [&str; 5] = ["**/__pycache__", "**/*.pyc", "**/.venv", "**/*.log", "ICP_Binaries"];
