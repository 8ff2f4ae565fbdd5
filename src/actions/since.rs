//! What somebody changed in files that a run had put in place, before the run was taken back: nobody has it anywhere
//! else, so it is kept.

use super::StepContext;
use super::moves::{Moves, MovesRecord, Stamp, make_folder, rename, shown};
use super::volumes::MADE_SINCE;
use crate::content::{ContentHash, tree};
use crate::error::{Error, Result};
use crate::files;
use crate::kit::hotfix::{Content, Entry, Head, PatchPath, write};
use crate::paths::{PathPatterns, RelPath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Paths that a reminder names before it says how many more there are.
const NAMED: usize = 5;

/// In the folder of a run that is taken back: what of its files is in an archive already, by native path.
const SAVED: &str = "saved-before-rollback.json";

/// How changes in what came are told from what programs make there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// The component; without it the folder's name stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// The component's own folder below the target, where that is not the target itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RelPath>,
    /// Paths of the component that programs write to or that stay: no change by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
}

impl Watch {
    /// For files of a component.
    pub fn of(component: &str) -> Self {
        Self { component: Some(component.to_owned()), ..Self::default() }
    }

    /// The path inside the component; nothing for the component's own folder.
    fn inside(&self, path: &RelPath) -> Option<RelPath> {
        match &self.root {
            None => Some(path.clone()),
            Some(root) => path.as_str().strip_prefix(root.as_str()).and_then(|p| RelPath::parse(p.trim_start_matches('/')).ok()),
        }
    }
}

/// What is in a folder, by a look at each file.
///
/// # Errors
/// When it cannot be read.
pub(super) fn stamps_in(folder: &Path) -> Result<BTreeMap<RelPath, Stamp>> {
    let stamp = |e: tree::TreeEntry| match e.link {
        Some(_) => (e.path, Stamp::Link),
        None => (e.path, Stamp::File { size: e.stamp.size, mtime_ns: e.stamp.mtime_ns }),
    };
    Ok(tree::walk(folder, &PathPatterns::default())?.into_iter().map(stamp).collect())
}

/// Remembers in a run's folder which files were saved, with their content, before the run is taken back.
///
/// # Errors
/// When it cannot be written.
pub fn note_saved(run_dir: &Path, saved: &BTreeMap<PathBuf, ContentHash>) -> Result<()> {
    files::write_json(&run_dir.join(SAVED), saved)
}

/// Files that came with the moves, are in their place, and are no longer what came.
fn changed(moves: &Moves, watch: &Watch) -> Result<Vec<RelPath>> {
    let mut found = Vec::new();
    for entry in &moves.ins {
        if !moves.is_in_place(entry)? {
            continue;
        }
        let at = entry.path.under(&moves.target);
        match (Stamp::of(&at)?, entry.expect) {
            (Some(Stamp::Folder), Stamp::Folder) => {
                let now = stamps_in(&at)?.into_iter().filter(|(path, stamp)| entry.inside.get(path) != Some(stamp));
                found.extend(now.map(|(path, _)| entry.path.child(path.as_str())));
            }
            (Some(now @ Stamp::File { .. }), came) if now != came => found.push(entry.path.clone()),
            _ => {}
        }
    }
    let except = PathPatterns::new(&watch.except)?;
    found.retain(|path| watch.inside(path).is_none_or(|inside| !except.covers(&inside)));
    Ok(without_git_s_own(found))
}

/// What a finished step had put in place.
#[derive(Debug, Default)]
pub struct PutInPlace {
    /// Native paths of what came: files, and folders with all that is in them.
    pub came: Vec<PathBuf>,
    /// Native paths below these that somebody has changed or added since.
    pub changed: Vec<PathBuf>,
}

/// Looks at what a step had put in place, where changes in it are watched for.
///
/// # Errors
/// When the file of moves is damaged, or something cannot be looked at.
pub fn put_in_place(record: &MovesRecord) -> Result<PutInPlace> {
    let Some((moves, _)) = Moves::begun(&record.file)? else { return Ok(PutInPlace::default()) };
    let Some(watch) = &moves.watch else { return Ok(PutInPlace::default()) };
    let native = |path: &RelPath| path.under(&moves.target);
    let changed = changed(&moves, watch)?.iter().map(native).collect();
    Ok(PutInPlace { came: moves.ins.iter().map(|entry| native(&entry.path)).collect(), changed })
}

/// git writes in its folder at every look. Only new objects are somebody's work.
fn without_git_s_own(found: Vec<RelPath>) -> Vec<RelPath> {
    let of_git = |path: &RelPath| {
        let mut names = path.names();
        names.any(|name| name == ".git").then(|| names.next() == Some("objects"))
    };
    let work = found.iter().any(|path| of_git(path) == Some(true));
    found.into_iter().filter(|path| work || of_git(path).is_none()).collect()
}

/// Saves what was changed since the moves, as an archive like a hotfix. Where that cannot be written the files are moved
/// aside on their own volume, where they stay.
///
/// # Errors
/// When not even that is possible: then nothing may be taken back.
pub(super) fn keep(cx: &StepContext<'_>, moves: &Moves) -> Result<()> {
    let Some(watch) = &moves.watch else { return Ok(()) };
    let changed = match changed(moves, watch) {
        Ok(changed) => changed,
        // What cannot be looked at may be somebody's work.
        Err(error) => {
            let all: Vec<RelPath> = moves.ins.iter().map(|entry| entry.path.clone()).collect();
            set_aside(cx, moves, &all)?;
            let natives: Vec<PathBuf> = all.iter().map(|path| path.under(&moves.target)).collect();
            tell(cx, &natives, &aside(&moves.undo, &error));
            return Ok(());
        }
    };
    let named = changed.iter().map(|path| (watch.inside(path).unwrap_or_else(|| path.clone()), path.under(&moves.target)));
    let folder = || moves.target.file_name().map(|n| n.to_string_lossy().into_owned());
    let component = watch.component.clone().or_else(folder).unwrap_or_else(|| "files".to_owned());
    keep_files(cx, &component, named.collect(), &moves.undo, |changed| {
        let paths: Vec<RelPath> =
            changed.iter().filter_map(|native| RelPath::parse(native.strip_prefix(&moves.target).ok()?.to_str()?).ok()).collect();
        set_aside(cx, moves, &paths)
    })
}

/// Saves files that somebody changed, given by their paths in an archive and on the disk. Where that is not possible,
/// `set_aside` moves those that are not saved yet into the folder `undo`.
///
/// # Errors
/// What `set_aside` fails with.
pub(super) fn keep_files(
    cx: &StepContext<'_>,
    component: &str,
    mut changed: Vec<(RelPath, PathBuf)>,
    undo: &Path,
    set_aside: impl FnOnce(&[PathBuf]) -> Result<()>,
) -> Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let saved: BTreeMap<PathBuf, ContentHash> = files::read_json(&cx.run_dir.join(SAVED))?.unwrap_or_default();
    changed.retain(|(_, at)| saved.get(at).is_none_or(|hash| ContentHash::of_file(at).ok() != Some(*hash)));
    if changed.is_empty() {
        return Ok(());
    }
    let natives: Vec<PathBuf> = changed.iter().map(|(_, native)| native.clone()).collect();
    match save(cx, component, changed) {
        Ok(archive) => tell(cx, &natives, &format!("saved in {}", archive.display())),
        Err(error) => {
            set_aside(&natives)?;
            tell(cx, &natives, &aside(undo, &error));
        }
    }
    Ok(())
}

fn aside(undo: &Path, error: &Error) -> String {
    format!("moved aside into {}, because saving failed ({error})", undo.display())
}

fn tell(cx: &StepContext<'_>, changed: &[PathBuf], what: &str) {
    let mut named: Vec<String> = changed.iter().take(NAMED).map(|native| shown(cx, native)).collect();
    if changed.len() > NAMED {
        named.push(format!("{} more", changed.len() - NAMED));
    }
    let files = super::sync::counted(changed.len(), "file");
    let are = if changed.len() == 1 { "was" } else { "were" };
    cx.progress.remind(&format!(
        "{files} in what the run had brought {are} changed before it was taken back, and {are} {what}: {}",
        named.join(", ")
    ));
}

/// Writes the archive under a name that is not taken: undoing may be repeated, and what is in an archive stays there.
fn save(cx: &StepContext<'_>, component: &str, changed: Vec<(RelPath, PathBuf)>) -> Result<PathBuf> {
    let folder = cx.home.join("hand-changes");
    let stem = format!("{}-{}-since", cx.plan.run, cx.step.id);
    let mut archive = folder.join(format!("{stem}.zip"));
    let mut number = 1;
    while archive.exists() {
        number += 1;
        archive = folder.join(format!("{stem}-{number}.zip"));
    }
    let head = Head {
        id: Some(format!("changed-during-{}-{}", cx.plan.run, component.to_lowercase()).chars().take(100).collect()),
        description: format!("files that were changed on {} before the run {} was taken back", cx.plan.instrument, cx.plan.run),
        ..Head::default()
    };
    let entry = |(path, native): (RelPath, PathBuf)| Entry {
        path: PatchPath { component: component.to_owned(), path },
        content: Content::File(native),
        executable: false,
    };
    write(&archive, &head, changed.into_iter().map(entry).collect())?;
    Ok(archive)
}

/// Moves what came and was changed into the undo area, under names that say that it is nobody else's.
fn set_aside(cx: &StepContext<'_>, moves: &Moves, changed: &[RelPath]) -> Result<()> {
    make_folder(cx, &moves.undo)?;
    for (number, entry) in moves.ins.iter().enumerate() {
        if changed.iter().any(|path| path.is_within(&entry.path)) && moves.is_in_place(entry)? {
            rename(cx, &entry.path.under(&moves.target), &moves.undo.join(format!("in-{number}.{MADE_SINCE}")))?;
        }
    }
    Ok(())
}
