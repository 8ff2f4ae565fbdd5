//! Journaled renames: what is there goes to the undo area, what is staged takes its place.
//!
//! A set of moves is written to a file of the run and named by one intent record. Whoever comes later, after a crash
//! at any point, judges each entry by what exists in target, stage and undo.

use super::since::{self, Watch};
use super::volumes::{Areas, MADE_SINCE};
use super::{StepContext, Undone};
use crate::busy;
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files::{self, sync_folder};
use crate::paths::RelPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a cheap look tells about a path; nothing is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stamp {
    File { size: u64, mtime_ns: i64 },
    Folder,
    Link,
}

impl Stamp {
    /// What is at a path, links not followed; nothing when there is nothing.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn of(path: &Path) -> Result<Option<Self>> {
        match std::fs::symlink_metadata(path) {
            Ok(meta) => Ok(Some(Self::from_metadata(&meta))),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(Error::io(format!("look at {}", path.display()), &e)),
        }
    }

    pub fn from_metadata(meta: &Metadata) -> Self {
        if meta.file_type().is_symlink() {
            Self::Link
        } else if meta.is_dir() {
            Self::Folder
        } else {
            Self::File { size: meta.len(), mtime_ns: mtime_ns(meta) }
        }
    }
}

/// Nanoseconds since 1970 of the last change; negative before.
pub fn mtime_ns(meta: &Metadata) -> i64 {
    let Ok(time) = meta.modified() else { return 0 };
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

/// Gives a file or folder its time of last change back.
///
/// # Errors
/// When the system refuses.
pub fn set_mtime(path: &Path, ns: i64) -> std::io::Result<()> {
    let part = Duration::from_nanos(ns.unsigned_abs());
    let time: SystemTime = if ns >= 0 { UNIX_EPOCH + part } else { UNIX_EPOCH - part };
    let mut options = std::fs::OpenOptions::new();
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        // FILE_WRITE_ATTRIBUTES; FILE_FLAG_BACKUP_SEMANTICS, which opens folders.
        options.access_mode(0x0100).custom_flags(0x0200_0000);
    }
    #[cfg(not(windows))]
    options.read(true);
    options.open(path)?.set_times(std::fs::FileTimes::new().set_modified(time))
}

/// Something that goes: a file, a link, or a folder with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    pub path: RelPath,
    /// What was seen there.
    pub seen: Stamp,
}

/// Something that comes: the staged `name` becomes `path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct In {
    pub path: RelPath,
    pub name: String,
    pub expect: Stamp,
    /// What is in it, where it is a folder in which changes are watched for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inside: BTreeMap<RelPath, Stamp>,
}

/// A set of moves inside one folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// The folder that all paths are relative to, resolved.
    pub target: PathBuf,
    pub stage: PathBuf,
    /// What goes is kept here, named by its number in `outs`.
    pub undo: PathBuf,
    /// Folders that must be made first, the outermost first: `target` and those above it, when they are missing.
    pub made: Vec<PathBuf>,
    pub outs: Vec<Out>,
    pub ins: Vec<In>,
    /// Times of change of the folders that the moves touch.
    pub folders: Vec<(PathBuf, i64)>,
    /// A file or link that comes replaces the one that goes in one rename, so that there is always one.
    pub over: bool,
    /// Set where changes by others in what came are kept when the moves are taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// What the step reports when it is done.
    pub result: serde_json::Value,
}

/// The file that holds a set of [`Moves`], as an intent record names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovesRecord {
    pub file: PathBuf,
    pub hash: ContentHash,
    pub target: PathBuf,
    pub stage: PathBuf,
    pub undo: PathBuf,
}

impl Moves {
    /// Moves below `target` with nothing in them yet; notes which folders are missing.
    pub fn below(target: &Path, areas: &Areas) -> Self {
        let mut made: Vec<PathBuf> = target.ancestors().take_while(|p| !p.exists()).map(Path::to_path_buf).collect();
        made.reverse();
        Self {
            target: target.to_path_buf(),
            stage: areas.stage.clone(),
            undo: areas.undo.clone(),
            made,
            outs: Vec::new(),
            ins: Vec::new(),
            folders: Vec::new(),
            over: false,
            watch: None,
            result: serde_json::Value::Null,
        }
    }

    /// Adds what goes, as it is now; nothing when there is nothing.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn take(&mut self, path: RelPath) -> Result<()> {
        if let Some(seen) = Stamp::of(&path.under(&self.target))? {
            self.outs.push(Out { path, seen });
        }
        Ok(())
    }

    /// Adds what comes, as it is staged.
    ///
    /// # Errors
    /// When it is not staged.
    pub fn bring(&mut self, path: RelPath, name: &str) -> Result<()> {
        let staged = self.stage.join(name);
        let expect = Stamp::of(&staged)?
            .ok_or_else(|| Error::new(ErrorKind::Integrity, format!("{path} is not staged")).because(staged.display()))?;
        self.ins.push(In { path, name: name.to_owned(), expect, inside: BTreeMap::new() });
        Ok(())
    }

    /// Writes the moves to `file`, on disk when this returns, and gives what the intent record needs.
    ///
    /// # Errors
    /// When it cannot be written, or what is staged cannot be looked at.
    pub fn write(&mut self, file: &Path) -> Result<MovesRecord> {
        self.note_folders();
        if self.watch.is_some() {
            for entry in self.ins.iter_mut().filter(|entry| entry.expect == Stamp::Folder) {
                entry.inside = since::stamps_in(&self.stage.join(&entry.name))?;
            }
        }
        let bytes = serde_json::to_vec(self).map_err(|e| Error::internal("cannot write moves").because(e))?;
        files::write(file, &bytes)?;
        Ok(self.record(file, &bytes))
    }

    /// Reads moves that were begun, or nothing when there are none.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn begun(file: &Path) -> Result<Option<(Self, MovesRecord)>> {
        match std::fs::read(file) {
            Ok(bytes) => {
                let moves: Self = serde_json::from_slice(&bytes)
                    .map_err(|e| Error::new(ErrorKind::Integrity, format!("{} is damaged", file.display())).because(e))?;
                let record = moves.record(file, &bytes);
                Ok(Some((moves, record)))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(format!("read {}", file.display()), &e)),
        }
    }

    fn record(&self, file: &Path, bytes: &[u8]) -> MovesRecord {
        MovesRecord {
            file: file.to_path_buf(),
            hash: ContentHash::of(bytes),
            target: self.target.clone(),
            stage: self.stage.clone(),
            undo: self.undo.clone(),
        }
    }

    fn note_folders(&mut self) {
        let touched: std::collections::BTreeSet<PathBuf> = self
            .outs
            .iter()
            .map(|o| &o.path)
            .chain(self.ins.iter().map(|i| &i.path))
            .filter_map(|p| p.under(&self.target).parent().map(Path::to_path_buf))
            .chain(self.made.first().and_then(|p| p.parent()).map(Path::to_path_buf))
            .collect();
        self.folders = touched.into_iter().filter_map(|f| std::fs::metadata(&f).ok().map(|m| (f, mtime_ns(&m)))).collect();
    }

    /// Where what was at a path is kept once it has gone; nothing when nothing goes from there.
    pub fn kept(&self, path: &RelPath) -> Option<PathBuf> {
        self.outs.iter().position(|out| out.path == *path).map(|number| self.old(number))
    }

    fn old(&self, number: usize) -> PathBuf {
        self.undo.join(number.to_string())
    }

    /// Carries the moves out, or the rest of them after a crash, and verifies each.
    ///
    /// # Errors
    /// When a path cannot be moved, or is not what was seen; the rest can still be undone.
    pub fn run(&self, cx: &StepContext<'_>) -> Result<()> {
        for folder in &self.made {
            make_folder(cx, folder)?;
        }
        for (number, out) in self.outs.iter().enumerate() {
            self.move_out(cx, number, out)?;
        }
        for entry in &self.ins {
            self.move_in(cx, entry)?;
        }
        self.verify(cx)?;
        self.sync_names()
    }

    /// Makes the renames last through a power cut, before the journal says that they are done.
    fn sync_names(&self) -> Result<()> {
        sync_folder(&self.undo)?;
        sync_folder(&self.target)?;
        self.folders.iter().try_for_each(|(folder, _)| sync_folder(folder))
    }

    fn move_out(&self, cx: &StepContext<'_>, number: usize, out: &Out) -> Result<()> {
        let (at, old) = (out.path.under(&self.target), self.old(number));
        if Stamp::of(&old)?.is_some() {
            return Ok(());
        }
        if Stamp::of(&at)?.is_none() {
            return Err(Error::new(ErrorKind::Io, format!("{} has gone since it was staged", shown(cx, &at))));
        }
        if self.over && !matches!(out.seen, Stamp::Folder) && std::fs::hard_link(&at, &old).is_ok() {
            return Ok(());
        }
        rename(cx, &at, &old)
    }

    fn move_in(&self, cx: &StepContext<'_>, entry: &In) -> Result<()> {
        let (at, staged) = (entry.path.under(&self.target), self.stage.join(&entry.name));
        let there = Stamp::of(&at)?;
        match (Stamp::of(&staged)?, there) {
            (None, Some(_)) => Ok(()),
            (None, None) => {
                Err(Error::new(ErrorKind::Integrity, format!("{} is neither staged nor in its place", shown(cx, &at))))
            }
            (Some(_), Some(_)) if !self.over => {
                Err(Error::new(ErrorKind::Refused, format!("{} has appeared since it was staged", shown(cx, &at)))
                    .next("a program still writes to this folder; end it and start the run again"))
            }
            (Some(_), _) => rename(cx, &staged, &at),
        }
    }

    fn verify(&self, cx: &StepContext<'_>) -> Result<()> {
        let comes: std::collections::BTreeSet<String> = self.ins.iter().map(|i| i.path.case_key()).collect();
        for entry in &self.ins {
            let at = entry.path.under(&self.target);
            if Stamp::of(&at)? != Some(entry.expect) {
                return Err(Error::new(ErrorKind::Integrity, format!("{} is not what was staged", shown(cx, &at))));
            }
        }
        for out in self.outs.iter().filter(|o| !comes.contains(&o.path.case_key())) {
            let at = out.path.under(&self.target);
            if Stamp::of(&at)?.is_some() {
                return Err(Error::new(ErrorKind::Integrity, format!("{} came back after it was removed", shown(cx, &at))));
            }
        }
        Ok(())
    }

    /// Takes the moves back, wherever they stopped. Gives what could not be put back, each named.
    ///
    /// # Errors
    /// When a rename is refused; calling it again goes on from there.
    pub fn take_back(&self, cx: &StepContext<'_>) -> Result<Vec<String>> {
        let mut left = Vec::new();
        since::keep(cx, self)?;
        for entry in self.ins.iter().rev() {
            if self.is_in_place(entry)? {
                make_folder(cx, &self.stage)?;
                rename(cx, &entry.path.under(&self.target), &self.stage.join(&entry.name))?;
            }
        }
        for (number, out) in self.outs.iter().enumerate().rev() {
            self.put_back(cx, number, out, &mut left)?;
        }
        self.unmake_folders(cx, &mut left)?;
        for (folder, ns) in self.folders.iter().rev() {
            // A time that cannot be set is no content that is lost.
            let _ = set_mtime(folder, *ns);
        }
        if left.is_empty() {
            self.sync_names()?;
        }
        Ok(left)
    }

    /// True when something that came, or what was made of it since, is where it came to.
    pub(super) fn is_in_place(&self, entry: &In) -> Result<bool> {
        let (at, staged) = (entry.path.under(&self.target), self.stage.join(&entry.name));
        Ok(Stamp::of(&staged)?.is_none() && Stamp::of(&at)?.is_some() && !self.put_back_already(entry)?)
    }

    /// True when an earlier undo went so far that the old file stands at the place again, though nothing is staged
    /// any more (the stage area was removed in between).
    fn put_back_already(&self, entry: &In) -> Result<bool> {
        let key = entry.path.case_key();
        let Some((number, out)) = self.outs.iter().enumerate().find(|(_, o)| o.path.case_key() == key) else {
            return Ok(false);
        };
        Ok(Stamp::of(&self.old(number))?.is_none() && Stamp::of(&entry.path.under(&self.target))? == Some(out.seen))
    }

    fn put_back(&self, cx: &StepContext<'_>, number: usize, out: &Out, left: &mut Vec<String>) -> Result<()> {
        let (at, old) = (out.path.under(&self.target), self.old(number));
        let there = Stamp::of(&at)?;
        if Stamp::of(&old)?.is_none() {
            if there.is_none() {
                left.push(format!("{} is lost: it is neither in its place nor in {}", shown(cx, &at), self.undo.display()));
            } else if there != Some(out.seen) {
                left.push(format!("{} is not what it was", shown(cx, &at)));
            }
            return Ok(());
        }
        if self.over && there == Some(out.seen) {
            return std::fs::remove_file(&old).cannot(|| format!("remove {}", old.display()));
        }
        if there.is_some() {
            // A program has made something here since; it is kept beside what was there before.
            rename(cx, &at, &self.undo.join(format!("{number}.{MADE_SINCE}")))?;
        }
        if let Some(parent) = at.parent() {
            make_folder(cx, parent)?;
        }
        rename(cx, &old, &at)?;
        if Stamp::of(&at)? != Some(out.seen) {
            left.push(format!("{} is not what it was", shown(cx, &at)));
        }
        Ok(())
    }

    fn unmake_folders(&self, cx: &StepContext<'_>, left: &mut Vec<String>) -> Result<()> {
        for folder in self.made.iter().rev() {
            match std::fs::remove_dir(folder) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                // What is in a target that was not there before has been made since.
                Err(_) if *folder == self.target => rename(cx, folder, &self.undo.join(format!("target.{MADE_SINCE}")))?,
                Err(_) => left.push(format!("{} was not there before and is not empty", shown(cx, folder))),
            }
        }
        Ok(())
    }
}

impl MovesRecord {
    /// Takes the moves back and says so.
    ///
    /// # Errors
    /// When the file of moves is damaged, or a rename is refused.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let Some((moves, found)) = Moves::begun(&self.file)? else {
            return Err(Error::new(ErrorKind::Integrity, format!("{} is gone", self.file.display()))
                .next(format!("what was there before lies in {}", self.undo.display())));
        };
        if found.hash != self.hash {
            return Err(Error::new(ErrorKind::Integrity, format!("{} has changed", self.file.display())));
        }
        let left = moves.take_back(cx)?;
        let summary = match moves.outs.len().max(moves.ins.len()) {
            1 => "1 path put back".to_owned(),
            n => format!("{n} paths put back"),
        };
        Ok(Undone { summary, left })
    }
}

/// The path as the operator knows it.
pub fn shown(cx: &StepContext<'_>, native: &Path) -> String {
    cx.platform.windows_path(native).map_or_else(|| native.display().to_string(), |p| p.to_string())
}

/// Makes a folder; those that are missing get the owner and rights of the one above.
///
/// # Errors
/// When it is refused.
pub fn make_folder(cx: &StepContext<'_>, folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(cx, parent)?;
        std::fs::create_dir(folder).cannot(|| format!("make the folder {}", shown(cx, folder)))?;
        cx.platform.copy_rights(parent, folder)?;
    }
    Ok(())
}

/// A rename with words for what stands in its way.
///
/// # Errors
/// When it is refused.
pub fn rename(cx: &StepContext<'_>, from: &Path, to: &Path) -> Result<()> {
    #[cfg(all(test, unix))]
    super::testing::crash_point()?;
    let limit = busy::PATIENCE.min(cx.deadline.left());
    busy::patiently(limit, || std::fs::rename(from, to)).map_err(|e| {
        let error = Error::io(format!("move {} to {}", shown(cx, from), shown(cx, to)), &e);
        match e.kind() {
            _ if busy::is_busy(&e) => in_use(cx, from, error),
            std::io::ErrorKind::CrossesDevices => {
                error.next("something is mounted inside the folder: give it a place and a step of its own")
            }
            _ => error,
        }
    })
}

/// Says who has it open, where the system knows.
fn in_use(cx: &StepContext<'_>, path: &Path, error: Error) -> Error {
    let holders = cx.platform.holders(path);
    let error = error.temporary().next("a program has it open: close it, or end it with a `process` step before");
    if holders.is_empty() { error } else { error.because(format!("it is in use by {}", holders.join(", "))) }
}
