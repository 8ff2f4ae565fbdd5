//! The folders that an external program writes to: copied before it runs, put back by undo.

use super::moves::{Stamp, make_folder, mtime_ns, rename, set_mtime, shown};
use super::sync::staging::{in_parallel, still_wanted};
use super::volumes::{MADE_SINCE, OWN_FOLDER, resolved, step_areas};
use super::{Action, StepContext, UndoRecord, Undone, since};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files::{self, sync_folder};
use crate::paths::{PathPatterns, RelPath, WinPath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How to put the folders back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WritesUndo {
    pub folders: Vec<SavedFolder>,
}

/// A folder and where its copy lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedFolder {
    /// The native path, resolved.
    pub folder: PathBuf,
    /// The copy; `tree` in it is the folder, `index.json` is there once the copy is complete.
    pub saved: PathBuf,
}

/// What a folder consisted of; nothing when it did not exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SavedIndex {
    existed: bool,
    entries: BTreeMap<RelPath, SavedEntry>,
    /// The folder's own time of change.
    mtime_ns: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SavedEntry {
    stamp: Stamp,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<PathBuf>,
    /// A folder's time of change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime_ns: Option<i64>,
}

impl WritesUndo {
    /// Saves the folders, after writing down how they are put back. Saving again copies only what has changed since,
    /// so that most of it can be done beforehand with [`WritesUndo::prepare`].
    ///
    /// # Errors
    /// When a folder cannot be copied: then the program must not run.
    pub fn save(cx: &StepContext<'_>, folders: &[WinPath]) -> Result<()> {
        let undo = Self::of(cx, folders)?;
        // A program that is started again after a crash may have written already: the first copy stands.
        let begun = cx.data_file("writes.begun");
        if begun.exists() {
            return cx.undo_log.intend(UndoRecord::Writes(undo));
        }
        for folder in &undo.folders {
            folder.refresh(cx)?;
        }
        cx.undo_log.intend(UndoRecord::Writes(undo))?;
        files::write(&begun, b"the folders are saved; the program may have started\n")
    }

    /// Remembers how the program left the folders, so that what others change later is told from its own work. Without it
    /// all of it is taken for the program's.
    pub fn note_left(cx: &StepContext<'_>, folders: &[WinPath]) {
        let noted = Self::of(cx, folders).and_then(|undo| {
            let note = |f: &SavedFolder| files::write_json(&f.left_file(), &SavedIndex::of(&f.folder)?);
            undo.folders.iter().try_for_each(note)
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "how a program left its folders is not noted");
        }
    }

    /// Copies the folders beside the running IBEX, so that saving them during the outage is quick.
    ///
    /// # Errors
    /// When a folder cannot be copied.
    pub fn prepare(cx: &StepContext<'_>, folders: &[WinPath]) -> Result<()> {
        Self::of(cx, folders)?.folders.iter().try_for_each(|f| f.refresh(cx))
    }

    /// Bytes in the folders that are to be saved: what [`WritesUndo::prepare`] takes at most.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn bytes(cx: &StepContext<'_>, folder: &WinPath) -> Result<u64> {
        let index = SavedIndex::of(&resolved(&cx.drives.native(folder)?)?)?;
        Ok(index.entries.values().map(|e| if let Stamp::File { size, .. } = e.stamp { size } else { 0 }).sum())
    }

    fn of(cx: &StepContext<'_>, folders: &[WinPath]) -> Result<Self> {
        let mut saved = Vec::new();
        for folder in folders {
            let folder = resolved(&cx.drives.native(folder)?)?;
            let place = step_areas(cx, &folder)?.undo.join("writes");
            saved.push(SavedFolder { folder, saved: place });
        }
        Ok(Self { folders: saved })
    }

    /// Puts the folders back as they were saved; what was made since is moved beside the copy.
    ///
    /// # Errors
    /// When something cannot be put back; calling it again goes on.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let mut left = Vec::new();
        let mut changed = 0;
        for folder in self.folders.iter().rev() {
            changed += folder.put_back(cx, &mut left)?;
        }
        Ok(Undone { summary: format!("{} put back", super::sync::counted(changed, "path")), left })
    }
}

impl SavedFolder {
    /// The copy of the folder.
    pub(super) fn tree(&self) -> PathBuf {
        self.saved.join("tree")
    }

    fn index_file(&self) -> PathBuf {
        self.saved.join("index.json")
    }

    /// Says how the program left the folder.
    fn left_file(&self) -> PathBuf {
        self.saved.join("left.json")
    }

    fn read_index(&self) -> Result<Option<SavedIndex>> {
        match std::fs::read(self.index_file()) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| Error::new(ErrorKind::Integrity, format!("{} is damaged", self.index_file().display())).because(e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(format!("read {}", self.index_file().display()), &e)),
        }
    }

    /// Brings the copy to the folder's present state, by copying what has changed since the last time.
    ///
    /// # Errors
    /// When something cannot be copied.
    pub(super) fn refresh(&self, cx: &StepContext<'_>) -> Result<()> {
        let before = self.read_index()?.unwrap_or_default();
        let now = SavedIndex::of(&self.folder)?;
        if before == now && self.index_file().exists() {
            return Ok(());
        }
        std::fs::create_dir_all(self.tree()).cannot(|| format!("make the folder {}", self.tree().display()))?;
        // Without its index the copy counts for nothing until it is complete again.
        match std::fs::remove_file(self.index_file()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove {}", self.index_file().display()), &e));
            }
            _ => {}
        }
        for path in before.entries.keys().filter(|p| now.entries.get(*p) != before.entries.get(*p)).rev() {
            remove_any(&path.under(&self.tree()), before.entries.get(path))?;
        }
        for (path, entry) in now.entries.iter().filter(|(_, e)| e.stamp == Stamp::Folder) {
            let (from, to) = (path.under(&self.folder), path.under(&self.tree()));
            std::fs::create_dir_all(&to).cannot(|| format!("make the folder {}", to.display()))?;
            if before.entries.get(path) != Some(entry) {
                cx.platform.copy_rights(&from, &to)?;
            }
        }
        let files: Vec<&RelPath> = now
            .entries
            .iter()
            .filter(|(p, e)| matches!(e.stamp, Stamp::File { .. }) && self.must_copy(p, e, &before))
            .map(|(p, _)| p)
            .collect();
        in_parallel(&files, |path| {
            still_wanted(cx)?;
            copy_exactly(cx, &path.under(&self.folder), &path.under(&self.tree()))
        })?;
        files::write_json(&self.index_file(), &now)
    }

    fn must_copy(&self, path: &RelPath, entry: &SavedEntry, before: &SavedIndex) -> bool {
        before.entries.get(path) != Some(entry)
            || !matches!(Stamp::of(&path.under(&self.tree())), Ok(Some(s)) if s == entry.stamp)
    }

    fn put_back(&self, cx: &StepContext<'_>, left: &mut Vec<String>) -> Result<usize> {
        // An incomplete copy means that the program was never started.
        let Some(saved) = self.read_index()? else { return Ok(0) };
        let now = SavedIndex::of(&self.folder)?;
        if now == saved {
            return Ok(0);
        }
        self.keep_changed(cx, &saved, &now)?;
        if !saved.existed {
            let since = self.free_name("since")?;
            rename(cx, &self.folder, &since)?;
            return Ok(1);
        }
        make_folder(cx, &self.folder)?;
        let mut changed = self.set_aside_what_is_new(cx, &saved, &now)?;
        for (path, entry) in &saved.entries {
            let at = path.under(&self.folder);
            if Stamp::of(&at)? != Some(entry.stamp) || now.entries.get(path).map(|n| &n.link) != Some(&entry.link) {
                self.restore(cx, path, entry, left)?;
                changed += 1;
            }
        }
        for (path, ns) in saved.entries.iter().rev().filter_map(|(p, e)| e.mtime_ns.map(|ns| (p, ns))) {
            // A time that cannot be set is no content that is lost.
            let _ = set_mtime(&path.under(&self.folder), ns);
        }
        let _ = set_mtime(&self.folder, saved.mtime_ns);
        sync_folder(&self.folder)?;
        for path in saved.difference(&SavedIndex::of(&self.folder)?) {
            left.push(format!("{} is not what it was", shown(cx, &path.under(&self.folder))));
        }
        Ok(changed)
    }

    /// Keeps files that somebody changed or made after the program.
    fn keep_changed(&self, cx: &StepContext<'_>, saved: &SavedIndex, now: &SavedIndex) -> Result<()> {
        let Some(left) = files::read_json::<SavedIndex>(&self.left_file())? else { return Ok(()) };
        let by_programs = ByPrograms::of(cx, &self.folder)?;
        let is_changed = |path: &RelPath, entry: &SavedEntry| {
            let same = |index: &SavedIndex| index.entries.get(path) == Some(entry);
            matches!(entry.stamp, Stamp::File { .. }) && !same(&left) && !same(saved) && !by_programs.covers(path)
        };
        let changed: Vec<(RelPath, PathBuf)> = now
            .entries
            .iter()
            .filter(|(path, entry)| is_changed(path, entry))
            .map(|(path, _)| (path.clone(), path.under(&self.folder)))
            .collect();
        let name = self.folder.file_name().map_or_else(|| "files".to_owned(), |n| n.to_string_lossy().into_owned());
        let undo = self.saved.parent().unwrap_or(&self.saved);
        since::keep_files(cx, &name, changed, undo, |natives| {
            natives.iter().enumerate().try_for_each(|(n, at)| rename(cx, at, &undo.join(format!("changed-{n}.{MADE_SINCE}"))))
        })
    }

    /// Moves what was not there, or is something else now, beside the copy; folders go with all that is in them.
    fn set_aside_what_is_new(&self, cx: &StepContext<'_>, saved: &SavedIndex, now: &SavedIndex) -> Result<usize> {
        let since = self.free_name("since")?;
        let mut moved = 0;
        for (path, entry) in &now.entries {
            let same_kind = saved.entries.get(path).is_some_and(|s| same_kind(s.stamp, entry.stamp) && s.link == entry.link);
            let at = path.under(&self.folder);
            if same_kind || Stamp::of(&at)?.is_none() {
                continue;
            }
            let to = path.under(&since);
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).cannot(|| format!("make the folder {}", parent.display()))?;
            }
            rename(cx, &at, &to)?;
            moved += 1;
        }
        Ok(moved)
    }

    fn restore(&self, cx: &StepContext<'_>, path: &RelPath, entry: &SavedEntry, left: &mut Vec<String>) -> Result<()> {
        let (at, copy) = (path.under(&self.folder), path.under(&self.tree()));
        match (&entry.link, entry.stamp) {
            (Some(to), _) => make_link(cx, &at, to),
            (None, Stamp::Folder) => {
                std::fs::create_dir_all(&at).cannot(|| format!("make the folder {}", shown(cx, &at)))?;
                cx.platform.copy_rights(&copy, &at)
            }
            _ if Stamp::of(&copy)? != Some(entry.stamp) => {
                left.push(format!("{}: its copy is not what was saved", shown(cx, &at)));
                Ok(())
            }
            _ => {
                // First beside the copies, which are on the same volume, then in one rename.
                let part = self.saved.join("part");
                copy_exactly(cx, &copy, &part)?;
                rename(cx, &part, &at)
            }
        }
    }

    /// A name beside the copy that is not taken: undo may be repeated.
    fn free_name(&self, name: &str) -> Result<PathBuf> {
        for n in 0.. {
            let free = self.saved.join(format!("{name}.{n}"));
            if Stamp::of(&free)?.is_none() {
                return Ok(free);
            }
        }
        Err(Error::internal("no free name"))
    }
}

/// What programs write in a folder, as the plan's `sync` steps have it for the tree around it.
struct ByPrograms(Vec<(PathPatterns, Option<RelPath>)>);

impl ByPrograms {
    fn of(cx: &StepContext<'_>, folder: &Path) -> Result<Self> {
        let mut all = Vec::new();
        for step in &cx.plan.steps {
            let Action::Sync(sync) = &step.action else { continue };
            let Ok(tree) = cx.native(&sync.to).and_then(|native| resolved(&native)) else { continue };
            let Ok(below) = folder.strip_prefix(&tree) else { continue };
            let below = below.to_str().filter(|below| !below.is_empty()).map(RelPath::parse).transpose()?;
            all.push((PathPatterns::new(&sync.generated)?, below));
        }
        Ok(Self(all))
    }

    fn covers(&self, path: &RelPath) -> bool {
        let covers = |(patterns, below): &(PathPatterns, Option<RelPath>)| match below {
            Some(below) => patterns.covers(&below.child(path.as_str())),
            None => patterns.covers(path),
        };
        self.0.iter().any(covers)
    }
}

impl SavedIndex {
    fn of(folder: &Path) -> Result<Self> {
        let Ok(meta) = std::fs::symlink_metadata(folder) else { return Ok(Self::default()) };
        let mut index = Self { existed: true, entries: BTreeMap::new(), mtime_ns: mtime_ns(&meta) };
        let own = folder.join(OWN_FOLDER);
        for entry in walkdir::WalkDir::new(folder).min_depth(1).into_iter().filter_entry(|e| e.path() != own) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) if e.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => continue,
                Err(e) => return Err(Error::new(ErrorKind::Io, format!("cannot read {}", folder.display())).because(e)),
            };
            let Ok(meta) = std::fs::symlink_metadata(entry.path()) else { continue };
            let kind = meta.file_type();
            // Pipes and sockets have no content to be saved, and reading one may take for ever.
            if !(kind.is_file() || kind.is_dir() || kind.is_symlink()) {
                continue;
            }
            let below = entry.path().strip_prefix(folder).ok().and_then(Path::to_str);
            let path = RelPath::parse(
                below.ok_or_else(|| Error::new(ErrorKind::Io, format!("the name {} is not Unicode", entry.path().display())))?,
            )?;
            let stamp = Stamp::from_metadata(&meta);
            let link = (stamp == Stamp::Link).then(|| std::fs::read_link(entry.path()).ok()).flatten();
            let mtime_ns = (stamp == Stamp::Folder).then(|| mtime_ns(&meta));
            index.entries.insert(path, SavedEntry { stamp, link, mtime_ns });
        }
        Ok(index)
    }

    /// Paths that are different; the times of folders do not count.
    fn difference(&self, later: &Self) -> Vec<RelPath> {
        let same = |p: &RelPath| match (self.entries.get(p), later.entries.get(p)) {
            (Some(a), Some(b)) => a.stamp == b.stamp && a.link == b.link,
            _ => false,
        };
        let mut paths: Vec<RelPath> = self.entries.keys().chain(later.entries.keys()).filter(|p| !same(p)).cloned().collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

fn same_kind(a: Stamp, b: Stamp) -> bool {
    matches!((a, b), (Stamp::File { .. }, Stamp::File { .. }) | (Stamp::Folder, Stamp::Folder) | (Stamp::Link, Stamp::Link))
}

fn remove_any(path: &Path, what: Option<&SavedEntry>) -> Result<()> {
    if what.map(|e| e.stamp) != Some(Stamp::Folder) {
        return files::remove(path);
    }
    match std::fs::remove_dir(path) {
        // A folder that is not empty stays, when only its time has changed.
        Err(e) if !matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => {
            Err(Error::io(format!("remove {}", path.display()), &e))
        }
        _ => Ok(()),
    }
}

/// Copies a file with its rights and its time of last change.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy_exactly(cx: &StepContext<'_>, from: &Path, to: &Path) -> Result<()> {
    let meta = match std::fs::symlink_metadata(from) {
        Ok(meta) => meta,
        Err(e) => return Err(Error::io(format!("read {}", shown(cx, from)), &e)),
    };
    std::fs::copy(from, to).cannot(|| format!("copy {} to {}", shown(cx, from), to.display()))?;
    cx.platform.copy_rights(from, to)?;
    set_mtime(to, mtime_ns(&meta)).cannot(|| format!("set the time of {}", to.display()))
}

/// Makes a link anew.
///
/// # Errors
/// When it is refused.
#[cfg(unix)]
pub(super) fn make_link(_cx: &StepContext<'_>, at: &Path, to: &Path) -> Result<()> {
    std::os::unix::fs::symlink(to, at).cannot(|| format!("make the link {}", at.display()))
}

/// Makes a link anew.
///
/// # Errors
/// When it is refused.
#[cfg(not(unix))]
pub(super) fn make_link(cx: &StepContext<'_>, at: &Path, to: &Path) -> Result<()> {
    cx.platform.make_link(at, to)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::actions::testing::{Bench, tree};

    fn folders() -> Vec<WinPath> {
        vec![WinPath::parse("C:\\Instrument\\Apps\\EPICS").unwrap(), WinPath::parse("C:\\Instrument\\Apps\\Client_E4").unwrap()]
    }

    fn scribble(bench: &Bench) {
        bench.write("server", "a.txt", "changed");
        std::fs::remove_file(bench.at("server", "sub/b.txt")).unwrap();
        std::fs::remove_dir_all(bench.at("server", "gone")).unwrap();
        bench.write("server", "sub/new/c.txt", "new");
        bench.write("server", "was/folder", "now a folder");
        std::fs::remove_file(bench.at("server", "link")).unwrap();
        std::os::unix::fs::symlink("b", bench.at("server", "link")).unwrap();
        bench.write("client", "made.txt", "there was no client");
    }

    /// Without the inodes, and the times of links: what a program has replaced comes back as a copy.
    fn look(bench: &Bench) -> Vec<String> {
        let all = tree(&bench.at("server", ""));
        let known = |what: &str| {
            let parts: Vec<&str> = what.split(' ').collect();
            let times = if parts[0] == "link" { 2 } else { parts.len() - 1 };
            parts[..times].join(" ")
        };
        all.into_iter().map(|(path, what)| format!("{path}: {}", known(&what))).collect()
    }

    fn installed() -> Bench {
        let bench = Bench::new();
        bench.write("server", "a.txt", "a");
        bench.write("server", "sub/b.txt", "b");
        bench.write("server", "gone/x/y.txt", "y");
        bench.write("server", "gone/z.txt", "z");
        std::os::unix::fs::symlink("a", bench.at("server", "link")).unwrap();
        bench
    }

    #[test]
    fn what_a_program_writes_is_taken_back() -> Result<()> {
        let bench = installed();
        bench.write("server", "was", "a file");
        let before = look(&bench);
        WritesUndo::prepare(&bench.cx(), &folders())?;
        WritesUndo::save(&bench.cx(), &folders())?;
        std::fs::remove_file(bench.at("server", "was")).unwrap();
        scribble(&bench);
        WritesUndo::save(&bench.cx(), &folders())?;
        assert_eq!(bench.undo()?, Vec::<String>::new());
        assert_eq!(look(&bench), before);
        assert!(!bench.at("client", "").exists());
        assert_eq!(bench.undo()?, Vec::<String>::new());
        assert_eq!(look(&bench), before);
        Ok(())
    }

    #[test]
    fn the_copy_follows_changes_until_the_program_starts() -> Result<()> {
        let bench = installed();
        WritesUndo::prepare(&bench.cx(), &folders())?;
        bench.write("server", "a.txt", "newer");
        std::fs::remove_dir_all(bench.at("server", "sub")).unwrap();
        bench.write("server", "sub", "now a file");
        let before = look(&bench);
        WritesUndo::save(&bench.cx(), &folders())?;
        assert_eq!(WritesUndo::bytes(&bench.cx(), &folders()[0])?, 17);
        bench.write("server", "a.txt", "x");
        std::fs::remove_file(bench.at("server", "sub")).unwrap();
        bench.write("server", "sub/d", "d");
        assert_eq!(bench.undo()?, Vec::<String>::new());
        assert_eq!(look(&bench), before);
        Ok(())
    }

    #[test]
    fn a_damaged_copy_is_named() -> Result<()> {
        let bench = installed();
        WritesUndo::save(&bench.cx(), &folders())?;
        let Some(UndoRecord::Writes(undo)) = bench.world.undo.lock().unwrap().first().cloned() else { panic!("no record") };
        std::fs::remove_file(undo.folders[0].tree().join("a.txt")).unwrap();
        bench.write("server", "a.txt", "changed");
        let left = bench.undo()?;
        assert!(left[0].contains("a.txt: its copy is not what was saved"), "{left:?}");
        Ok(())
    }
}
