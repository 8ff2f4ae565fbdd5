//! Changes made by hand to an installed tree since the last release: found by comparing with the baseline that was
//! written at its close, saved before a release replaces them.

use super::difference::SyncDifference;
use super::{Sync, index};
use crate::actions::StepContext;
use crate::actions::volumes::resolved;
use crate::content::{ContentHash, Seen, TreeIndex};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::kit::hotfix::{Content, Entry, Head, PatchPath, write};
use crate::paths::{PathPatterns, RelPath};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The tree of a component as a release left it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Baseline {
    /// Patterns of what the sync does not compare file by file: kept, generated and swapped whole.
    ignored: Vec<String>,
    files: BTreeMap<RelPath, Seen>,
}

/// A file that somebody changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandChange {
    pub path: RelPath,
    pub kind: HandChangeKind,
}

/// What was done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandChangeKind {
    Added,
    Changed,
    Removed,
}

fn baseline_file(home: &Path, component: &str) -> PathBuf {
    home.join("index").join(format!("{component}.baseline.json"))
}

fn read_baseline(home: &Path, component: &str) -> Result<Option<Baseline>> {
    let file = baseline_file(home, component);
    match std::fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::new(ErrorKind::Integrity, format!("{} is damaged", file.display()))
                .because(e)
                .next("remove it: hand-made changes are unknown until the next release is closed")
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format!("read {}", file.display()), &e)),
    }
}

/// Writes down the tree as it is now: what differs from this later was changed by hand.
///
/// # Errors
/// When the tree cannot be read or the baseline cannot be written.
pub fn write_baseline(cx: &StepContext<'_>, sync: &Sync) -> Result<()> {
    let ignored = [sync.kept(), sync.generated.clone(), sync.as_unit.clone()].concat();
    let target = resolved(&cx.native(&sync.to)?)?;
    let tree = index(cx.home, &target, &PathPatterns::new(&ignored)?)?;
    let files = tree.entries.iter().map(|(path, e)| (path.clone(), Seen::from(e))).collect();
    files::write_json(&baseline_file(cx.home, &sync.component), &Baseline { ignored, files })
}

/// Writes down the tree of a component as it is now, by the rules of its last release, and gives a hash of that. Without
/// a baseline changes by hand stay unknown.
///
/// # Errors
/// When the tree cannot be read, or the baseline is damaged or cannot be written.
pub fn write_baseline_anew(home: &Path, component: &str, target: &Path) -> Result<ContentHash> {
    let before = read_baseline(home, component)?;
    let ignored = before.as_ref().map(|baseline| baseline.ignored.clone()).unwrap_or_default();
    let tree = index(home, &resolved(target)?, &PathPatterns::new(&ignored)?)?;
    let baseline = Baseline { ignored, files: tree.entries.iter().map(|(path, e)| (path.clone(), Seen::from(e))).collect() };
    let bytes = serde_json::to_vec(&baseline).map_err(|e| Error::internal("cannot write a list").because(e))?;
    if before.is_some() {
        files::write(&baseline_file(home, component), &bytes)?;
    }
    Ok(ContentHash::of(&bytes))
}

/// What the baseline of a component says of files: nothing for one that it does not have, and nothing at all without a
/// baseline.
///
/// # Errors
/// When the baseline is damaged.
pub fn in_baseline<'a>(
    home: &Path,
    component: &str,
    paths: impl IntoIterator<Item = &'a RelPath>,
) -> Result<Option<BTreeMap<RelPath, Option<Seen>>>> {
    let Some(baseline) = read_baseline(home, component)? else { return Ok(None) };
    Ok(Some(paths.into_iter().map(|path| (path.clone(), baseline.files.get(path).copied())).collect()))
}

/// Changes what the baseline of a component says of files: as they are now, they are nobody's work. Without a baseline
/// there is nothing to change.
///
/// # Errors
/// When the baseline is damaged or cannot be written.
pub fn note_in_baseline(home: &Path, component: &str, files: &BTreeMap<RelPath, Option<Seen>>) -> Result<()> {
    let Some(mut baseline) = read_baseline(home, component)? else { return Ok(()) };
    let skip = PathPatterns::new(&baseline.ignored)?;
    for (path, seen) in files.iter().filter(|(path, _)| !skip.covers(path)) {
        match seen {
            Some(seen) => baseline.files.insert(path.clone(), *seen),
            None => baseline.files.remove(path),
        };
    }
    files::write_json(&baseline_file(home, component), &baseline)
}

/// Those files of an index that are not as the component's baseline has them.
///
/// # Errors
/// When the baseline is damaged.
pub fn changed_of(home: &Path, component: &str, index: &TreeIndex) -> Result<BTreeSet<RelPath>> {
    let Some(baseline) = read_baseline(home, component)? else { return Ok(BTreeSet::new()) };
    let skip = PathPatterns::new(&baseline.ignored)?;
    let differs = |path: &RelPath, seen: Seen| !skip.covers(path) && baseline.files.get(path) != Some(&seen);
    Ok(index.entries.iter().filter(|(path, e)| differs(path, Seen::from(*e))).map(|(path, _)| path.clone()).collect())
}

/// The changes made by hand to a component's tree (a native path) since its baseline; nothing when there is no
/// baseline, so that they are unknown.
///
/// # Errors
/// When the tree or the baseline cannot be read.
pub fn hand_changes(
    home: &Path,
    component: &str,
    target: &Path,
    keep: &[String],
    generated: &[String],
) -> Result<Option<Vec<HandChange>>> {
    let Some(baseline) = read_baseline(home, component)? else { return Ok(None) };
    let skip = PathPatterns::new(&[baseline.ignored.as_slice(), keep, generated].concat())?;
    let tree = index(home, &resolved(target)?, &skip)?;
    Ok(Some(changes(&baseline, &tree, &skip)))
}

fn changes(baseline: &Baseline, tree: &TreeIndex, skip: &PathPatterns) -> Vec<HandChange> {
    let mut found = Vec::new();
    for (path, entry) in tree.entries.iter().filter(|(p, _)| !skip.covers(p)) {
        match baseline.files.get(path) {
            None => found.push(HandChange { path: path.clone(), kind: HandChangeKind::Added }),
            Some(b) if b.hash != entry.hash => found.push(HandChange { path: path.clone(), kind: HandChangeKind::Changed }),
            Some(_) => {}
        }
    }
    let gone = baseline.files.keys().filter(|p| !tree.entries.contains_key(*p) && !skip.covers(p));
    found.extend(gone.map(|path| HandChange { path: path.clone(), kind: HandChangeKind::Removed }));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Saves the hand-made changes that a sync is about to replace or remove, and tells of them.
///
/// # Errors
/// When they cannot be read or saved: then nothing may be replaced.
pub fn save_before_replacing(
    sync: &Sync,
    cx: &StepContext<'_>,
    target: &Path,
    installed: &TreeIndex,
    difference: &SyncDifference,
) -> Result<()> {
    if installed.entries.is_empty() {
        return Ok(());
    }
    let told = cx.data_file(&format!("{}.hand.json", sync.component));
    let Some(baseline) = read_baseline(cx.home, &sync.component)? else {
        if !told.exists() {
            cx.progress.hand_changes(&sync.component, None, None);
            files::write(&told, b"null")?;
        }
        return Ok(());
    };
    let skip = PathPatterns::new(&[baseline.ignored.as_slice(), &sync.keep, &sync.generated].concat())?;
    let goes = |path: &RelPath| std::iter::successors(Some(path.clone()), RelPath::parent).any(|p| difference.outs.contains(&p));
    let lost: Vec<HandChange> = changes(&baseline, installed, &skip)
        .into_iter()
        .filter(|c| c.kind != HandChangeKind::Removed && goes(&c.path))
        .filter(|c| installed.entries.get(&c.path).is_some_and(|e| e.link.is_none()))
        .collect();
    // Staging may be repeated, and `apply` looks once more: what was saved already is not saved again.
    let with_hashes: BTreeMap<&RelPath, ContentHash> =
        lost.iter().filter_map(|c| installed.entries.get(&c.path).map(|e| (&c.path, e.hash))).collect();
    let summary = serde_json::to_vec(&with_hashes).map_err(|e| Error::internal("cannot write a list").because(e))?;
    if lost.is_empty() || std::fs::read(&told).is_ok_and(|bytes| bytes == summary) {
        return Ok(());
    }
    let name = format!("{}-{}.zip", cx.plan.run, sync.component);
    let archive = cx.home.join("hand-changes").join(&name);
    save(sync, cx, target, &lost, &archive)?;
    let shown = archive.display().to_string();
    cx.progress.hand_changes(&sync.component, Some(lost.len() as u64), Some(&shown));
    cx.progress.remind(&format!(
        "{} of {} changed by hand since the last release will be replaced; saved in {shown}: apply them again as a hotfix, or drop them",
        super::counted(lost.len(), "file"),
        sync.component
    ));
    files::write(&told, &summary)
}

/// Writes a patch archive: the files under the component's name, and `hotfix.yaml`.
fn save(sync: &Sync, cx: &StepContext<'_>, target: &Path, files: &[HandChange], archive: &Path) -> Result<()> {
    let head = Head {
        id: Some(format!("hand-changes-{}-{}", cx.plan.run, sync.component.to_lowercase())),
        description: format!("changes made by hand on {} to {}, saved before a release", cx.plan.instrument, sync.component),
        ..Head::default()
    };
    let entry = |change: &HandChange| Entry {
        path: PatchPath { component: sync.component.clone(), path: change.path.clone() },
        content: Content::File(change.path.under(target)),
        executable: false,
    };
    write(archive, &head, files.iter().map(entry).collect())
        .map_err(|e| e.context(format!("cannot save hand-made changes to {}", archive.display())))
}
