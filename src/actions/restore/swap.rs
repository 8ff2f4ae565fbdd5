//! The renames that put what was unpacked in place of what is there, around what no backup holds.

use super::part::Part;
use crate::actions::StepContext;
use crate::actions::backup::listing::path_in_zip;
use crate::actions::moves::{Moves, shown};
use crate::actions::sync::counted;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::paths::{PathPatterns, RelPath};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Paths that a line of the report names before it says how many more there are.
const NAMED: usize = 5;

/// What is in a folder and in no backup of it, below the folder that is put back.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// What could not be read when the backup was made.
    unreadable: Vec<PathBuf>,
    /// Links, what the backup leaves out, and names that no zip can hold.
    left_out: Vec<PathBuf>,
    /// What had to go all the same: the backup has a file where a folder with something of that kind is.
    gone: Vec<PathBuf>,
}

impl Kept {
    /// Names it in the report: what could not be read is not as in the backup, and somebody should look.
    pub(super) fn tell(&self, cx: &StepContext<'_>) {
        let named = |paths: &[PathBuf]| {
            let mut names: Vec<String> = paths.iter().take(NAMED).map(|path| shown(cx, path)).collect();
            if paths.len() > NAMED {
                names.push(format!("{} more", paths.len() - NAMED));
            }
            names.join(", ")
        };
        if !self.unreadable.is_empty() {
            let count = counted(self.unreadable.len(), "path");
            let names = named(&self.unreadable);
            cx.progress.remind(&format!("{count} could not be read when the backup was made, and stay as they are now: {names}"));
        }
        if !self.left_out.is_empty() {
            let count = counted(self.left_out.len(), "path");
            cx.progress.note(&format!("{count} that no backup holds stay as they are: {}", named(&self.left_out)));
        }
        if !self.gone.is_empty() {
            let names = named(&self.gone);
            cx.progress.remind(&format!("moved aside with what no backup holds, as the backup has a file there: {names}"));
        }
    }
}

/// The exchange of a folder's content.
pub(super) struct Swap<'a> {
    pub(super) moves: Moves,
    pub(super) kept: Kept,
    /// The folder that is put back.
    root: PathBuf,
    /// The same, below the target of the moves.
    at: Option<RelPath>,
    /// What was unpacked for it.
    staged: PathBuf,
    /// The same, below the stage area.
    name: Option<&'a str>,
    /// What stays, by the key of its path.
    stays: BTreeSet<String>,
    /// Folders with something in them that stays.
    around: BTreeSet<String>,
}

impl<'a> Swap<'a> {
    /// For the folder `root`, which is `at` below the target of the moves, out of `staged`, which has a name in the stage area.
    pub(super) fn new(moves: Moves, root: PathBuf, at: Option<RelPath>, staged: PathBuf, name: Option<&'a str>) -> Self {
        let (stays, around) = (BTreeSet::new(), BTreeSet::new());
        Self { moves, kept: Kept::default(), root, at, staged, name, stays, around }
    }

    /// Finds what no backup holds. What the backup has under that name all the same takes its place.
    pub(super) fn look(&mut self, part: &Part, patterns: &PathPatterns) -> Result<()> {
        let unreadable = part.unreadable();
        let held = keys_below(&self.staged)?;
        let mut walk = walkdir::WalkDir::new(&self.root).min_depth(1).into_iter();
        while let Some(entry) = walk.next() {
            // What vanishes, or cannot be looked at, goes with the folder it is in.
            let Ok(entry) = entry else { continue };
            let folder = entry.file_type().is_dir();
            let Some(below) = path_in_zip(&self.root, entry.path()) else {
                self.stay(None, entry.path(), false);
                if folder {
                    walk.skip_current_dir();
                }
                continue;
            };
            let in_backup = part.in_folder(&below);
            let could_not = unreadable.contains(&in_backup.case_key());
            let kept = could_not || patterns.covers(&in_backup) || !(folder || entry.file_type().is_file());
            if kept && !held.contains(&below.case_key()) {
                self.stay(Some(&below), entry.path(), could_not);
                if folder {
                    walk.skip_current_dir();
                }
            }
        }
        Ok(())
    }

    fn stay(&mut self, below: Option<&RelPath>, native: &Path, could_not_be_read: bool) {
        if let Some(below) = below {
            self.stays.insert(below.case_key());
        }
        let folders = native.ancestors().skip(1).take_while(|folder| *folder != self.root);
        let folders: Vec<String> = folders.filter_map(|f| Some(path_in_zip(&self.root, f)?.case_key())).collect();
        self.around.extend(folders);
        let list = if could_not_be_read { &mut self.kept.unreadable } else { &mut self.kept.left_out };
        list.push(native.to_path_buf());
    }

    /// True when the folder cannot be exchanged by two renames.
    pub(super) fn has_to_go_inside(&self) -> bool {
        !(self.kept.unreadable.is_empty() && self.kept.left_out.is_empty())
    }

    /// Takes everything and brings everything, without what stays.
    pub(super) fn exchange(&mut self) -> Result<()> {
        self.folder(None, None, true)
    }

    /// One folder: as it is spelled in the target, and in what was unpacked where it is there.
    fn folder(&mut self, there: Option<&RelPath>, coming: Option<&RelPath>, comes: bool) -> Result<()> {
        // Where names differ only in case, one that comes stands for all of them.
        let mut names: BTreeMap<String, (Vec<String>, Option<String>)> = BTreeMap::new();
        for name in names_in(&there.map_or_else(|| self.root.clone(), |f| f.under(&self.root)))? {
            names.entry(name.to_lowercase()).or_default().0.push(name.clone());
        }
        if comes {
            for name in names_in(&coming.map_or_else(|| self.staged.clone(), |f| f.under(&self.staged)))? {
                names.entry(name.to_lowercase()).or_default().1 = Some(name.clone());
            }
        }
        let child = |folder: Option<&RelPath>, name: &str| match folder {
            Some(folder) => Ok(folder.child(name)),
            None => RelPath::parse(name),
        };
        for (old, new) in names.into_values() {
            let source = new.as_ref().map(|name| child(coming, name)).transpose()?;
            let mut comes_whole = true;
            for old in &old {
                let path = child(there, old)?;
                if self.stays.contains(&path.case_key()) {
                    continue;
                }
                let folder_comes = source.as_ref().is_none_or(|source| source.under(&self.staged).is_dir());
                if self.around.contains(&path.case_key()) && comes_whole {
                    if folder_comes {
                        self.folder(Some(&path), source.as_ref(), source.is_some())?;
                        comes_whole = false;
                        continue;
                    }
                    self.kept.gone.push(path.under(&self.root));
                }
                let target = self.below_target(&path);
                self.moves.take(target)?;
            }
            if let (Some(name), Some(source), true) = (new, source, comes_whole) {
                let target = self.below_target(&child(there, &name)?);
                let staged = self.name.map_or_else(|| source.to_string(), |root| format!("{root}/{source}"));
                self.moves.bring(target, &staged)?;
            }
        }
        Ok(())
    }

    fn below_target(&self, path: &RelPath) -> RelPath {
        self.at.as_ref().map_or_else(|| path.clone(), |at| at.child(path.as_str()))
    }
}

/// The keys of all that lies in a folder.
fn keys_below(folder: &Path) -> Result<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    if !folder.is_dir() {
        return Ok(keys);
    }
    for entry in walkdir::WalkDir::new(folder).min_depth(1) {
        let entry = entry.map_err(|e| Error::new(ErrorKind::Io, format!("cannot read {}", folder.display())).because(e))?;
        keys.extend(path_in_zip(folder, entry.path()).map(|path| path.case_key()));
    }
    Ok(keys)
}

/// The names in a folder that a zip can hold; none when there is no such folder.
fn names_in(folder: &Path) -> Result<Vec<String>> {
    let entries = files::entries(folder)?;
    Ok(entries.iter().filter_map(|entry| path_in_zip(folder, &entry.path())).map(|name| name.as_str().to_owned()).collect())
}
