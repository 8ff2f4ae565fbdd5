//! `sync` where each version lies in a folder of its own, and the place is a link to one of them.
//!
//! The whole new tree is made beside the old one while IBEX runs: what is the same is copied on the disk, the rest comes
//! from the kit. Applying is two renames, of the folder and of the link; going back is the link. Copies and no hard links: a
//! program that writes into a file of one version must not change another.

use super::difference::{Arrival, Wanted, WantedTree};
use super::staging::{Source, Staging, give_file_rights, in_parallel, still_wanted};
use super::{Look, Sync, SyncUndo, counted, hand};
use crate::actions::hotfix::release;
use crate::actions::link::prepare_switch;
use crate::actions::moves::{Moves, MovesRecord, Stamp, make_folder, shown};
use crate::actions::remove::split;
use crate::actions::since::Watch;
use crate::actions::volumes::{self, Areas};
use crate::actions::writes::{copy_exactly, make_link};
use crate::actions::{Applied, Difference, FetchStats, Probe, SpaceNeed, StepContext, UndoRecord, Undone};
use crate::content::tree::{self, TreeEntry};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::paths::{PathPatterns, RelPath, WinPath};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// In a run's folder: the end of the names of files that say which version a link led to before.
const RETIRED: &str = ".retired.json";

/// A version that a run has switched away from.
#[derive(Debug, Serialize, Deserialize)]
struct Retired {
    /// The link.
    at: PathBuf,
    folder: PathBuf,
}

/// A version that is to come, beside the one that is there.
struct Coming<'a> {
    sync: &'a Sync,
    cx: &'a StepContext<'a>,
    /// The place itself, which is or becomes a link.
    at: PathBuf,
    /// The folder of the new version.
    folder: PathBuf,
    /// The folder's name in the one it lies in.
    name: RelPath,
    look: Look,
    /// The component's files, below `name`.
    wanted: WantedTree,
    /// The component's folders with nothing in them, below `name`.
    empty_folders: Vec<RelPath>,
    /// What the new version takes over from the old one.
    carried: Vec<TreeEntry>,
}

impl Sync {
    /// The native folder of versions, where the instrument is laid out so.
    pub(super) fn versions(&self, cx: &StepContext<'_>) -> Result<Option<PathBuf>> {
        self.versions.as_ref().map(|path| cx.drives.native(path)).transpose()
    }

    /// True when the place is a link into the folder of versions.
    fn is_linked(&self, cx: &StepContext<'_>, versions: &Path) -> Result<bool> {
        let at = cx.native(&self.to)?;
        let leads_there = || Ok(volumes::resolved(&at)?.starts_with(volumes::resolved(versions)?));
        if Stamp::of(&at)? == Some(Stamp::Link) { leads_there() } else { Ok(false) }
    }

    /// As [`crate::actions::Perform::probe`].
    pub(super) fn probe_linked(&self, cx: &StepContext<'_>, versions: &Path, look: &Look, plain: Probe) -> Result<Probe> {
        let version = &self.component(cx)?.version;
        if look.difference.is_empty() {
            return Ok(match self.is_linked(cx, versions)? {
                true => plain,
                false => Probe {
                    difference: Difference::Some,
                    summary: format!("the same files, to be moved to a folder of their own for {version}"),
                    ..Probe::default()
                },
            });
        }
        Ok(Probe { summary: format!("a new folder for {version}: {}", plain.summary), ..plain })
    }

    /// As [`crate::actions::Perform::space`]: a whole version.
    pub(super) fn space_linked(&self, cx: &StepContext<'_>, versions: &WinPath) -> Result<Vec<SpaceNeed>> {
        if Moves::begun(&self.tree_file(cx))?.is_some() {
            return Ok(Vec::new());
        }
        let Some(coming) = Coming::of(self, cx, self.look(cx)?)? else { return Ok(Vec::new()) };
        let staged = coming.staged_bytes()?;
        let bytes: u64 =
            coming.wanted.values().map(|w| w.size).sum::<u64>() + coming.carried.iter().map(|e| e.stamp.size).sum::<u64>();
        let what = format!("a new version of {}", self.component);
        Ok(vec![SpaceNeed { on: versions.clone(), bytes: bytes.saturating_sub(staged), what }])
    }

    /// As [`crate::actions::Perform::stage`].
    pub(super) fn stage_linked(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        if Moves::begun(&self.tree_file(cx))?.is_some() {
            return Ok(FetchStats::default());
        }
        match Coming::of(self, cx, self.look_and_tell(cx)?)? {
            Some(coming) => coming.bring(),
            None => Ok(FetchStats::default()),
        }
    }

    /// As [`crate::actions::Perform::apply`].
    pub(super) fn apply_linked(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let (tree, record) = match Moves::begun(&self.tree_file(cx))? {
            Some(begun) => begun,
            None => match Coming::of(self, cx, self.look_and_tell(cx)?)? {
                Some(coming) => {
                    release::remind(&coming.look.hotfixes, cx);
                    coming.prepare()?
                }
                None => {
                    let none = serde_json::json!({"replaced": 0, "added": 0, "removed": 0, "bytes": 0});
                    return Ok(Applied::ok("already the same").with_result(none));
                }
            },
        };
        cx.undo_log.intend(UndoRecord::Sync(SyncUndo { moves: record }))?;
        tree.run(cx)?;
        let folder = self.chosen(cx)?.ok_or_else(|| Error::internal("the folder of a new version is not known"))?;
        let files = self.verify_version(cx, &folder)?;
        self.switch(cx, &folder)?;
        let hotfixes = release::summary(&release::fates(cx)?);
        let summary = format!("{} leads to {}; {} verified{hotfixes}", self.to, shown(cx, &folder), counted(files, "file"));
        Ok(Applied::changed(summary).with_result(tree.result))
    }

    /// Looks at each file that the new version should have.
    fn verify_version(&self, cx: &StepContext<'_>, folder: &Path) -> Result<usize> {
        let gone = || Error::internal("what a new version should hold is not known");
        let wanted: BTreeMap<RelPath, u64> = files::read_json(&self.own_file(cx, "wanted.json"))?.ok_or_else(gone)?;
        for (path, size) in &wanted {
            let at = path.under(folder);
            let meta = std::fs::symlink_metadata(&at).cannot(|| format!("find {}", shown(cx, &at)))?;
            if !meta.is_file() || meta.len() != *size {
                return Err(Error::new(ErrorKind::Integrity, format!("{} is not what was staged", shown(cx, &at))));
            }
        }
        Ok(wanted.len())
    }

    /// Points the link to the folder. A plain folder that stands there goes to the undo area.
    fn switch(&self, cx: &StepContext<'_>, folder: &Path) -> Result<()> {
        let at = cx.native(&self.to)?;
        let file = self.own_file(cx, "link.json");
        let (moves, record) = match Moves::begun(&file)? {
            Some(begun) => begun,
            None => {
                make_folder(cx, &split(&at)?.0)?;
                prepare_switch(cx, &at, folder, &file)?
            }
        };
        self.note_retired(cx, &at, folder)?;
        let undo = SwitchUndo { at: at.clone(), folder: folder.to_path_buf(), keep: self.keep.clone(), moves: record };
        cx.undo_log.intend(UndoRecord::Switch(undo))?;
        moves.run(cx)?;
        if volumes::resolved(&at)? != volumes::resolved(folder)? {
            return Err(Error::step_failed(format!("{} does not lead to {}", shown(cx, &at), shown(cx, folder))));
        }
        Ok(())
    }

    /// Writes down which version the link leads to now, to be removed when no run needs it any more. What lies outside of
    /// the versions is nobody's to remove.
    fn note_retired(&self, cx: &StepContext<'_>, at: &Path, folder: &Path) -> Result<()> {
        let Some(versions) = self.versions(cx)? else { return Ok(()) };
        let (versions, now) = (volumes::resolved(&versions)?, volumes::resolved(at)?);
        if Stamp::of(at)? != Some(Stamp::Link) || now == volumes::resolved(folder)? || !now.starts_with(&versions) {
            return Ok(());
        }
        let key = volumes::target_key(at);
        let file = cx.run_dir.join(format!("{}.{key}{RETIRED}", cx.step.id));
        files::write_json(&file, &Retired { at: at.to_path_buf(), folder: now })
    }

    fn own_file(&self, cx: &StepContext<'_>, suffix: &str) -> PathBuf {
        cx.data_file(&format!("linked.{suffix}"))
    }

    /// The moves of the new version's folder.
    fn tree_file(&self, cx: &StepContext<'_>) -> PathBuf {
        self.own_file(cx, "tree.json")
    }

    /// The folder of the new version, once it was chosen.
    fn chosen(&self, cx: &StepContext<'_>) -> Result<Option<PathBuf>> {
        files::read_json(&self.own_file(cx, "folder.json"))
    }

    /// Chooses the folder of the new version: `<versions>\26.9.0\EPICS`, or `26.9.0-2` and so on where that is taken.
    fn choose(&self, cx: &StepContext<'_>, versions: &Path, name: &RelPath) -> Result<PathBuf> {
        if let Some(folder) = self.chosen(cx)? {
            return Ok(folder);
        }
        let versions = volumes::resolved(versions)?;
        let version = &self.component(cx)?.version;
        let version = RelPath::parse(version).map_err(|e| e.context(format!("`{version}` cannot name a folder")))?;
        let mut number = 1;
        let folder = loop {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let folder = name.under(&versions.join(format!("{version}{suffix}")));
            if Stamp::of(&folder)?.is_none() {
                break folder;
            }
            number += 1;
        };
        files::write_json(&self.own_file(cx, "folder.json"), &folder)?;
        Ok(folder)
    }
}

impl<'a> Coming<'a> {
    /// What is to come; nothing when all is as wanted.
    fn of(sync: &'a Sync, cx: &'a StepContext<'a>, look: Look) -> Result<Option<Self>> {
        let Some(versions) = sync.versions(cx)? else {
            return Err(Error::internal("a sync without versions is none of links"));
        };
        if look.difference.is_empty() && sync.is_linked(cx, &versions)? {
            return Ok(None);
        }
        let at = cx.native(&sync.to)?;
        let name = split(&at)?.1;
        let folder = sync.choose(cx, &versions, &name)?;
        let below = |path: &RelPath| RelPath::parse(&format!("{name}/{path}"));
        let wanted: WantedTree = look.wanted.iter().map(|(path, w)| Ok((below(path)?, w.clone()))).collect::<Result<_>>()?;
        let empty_folders = look.empty_folders.iter().map(below).collect::<Result<_>>()?;
        let carried = carried(sync, &look)?;
        Ok(Some(Self { sync, cx, at, folder, name, look, wanted, empty_folders, carried }))
    }

    fn parent(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    fn areas(&self) -> Result<Areas> {
        volumes::step_areas(self.cx, &self.folder)
    }

    fn arrival(&self) -> Arrival {
        Arrival {
            path: self.name.clone(),
            folder: true,
            files: self.wanted.keys().cloned().collect(),
            empty_folders: self.empty_folders.clone(),
        }
    }

    fn staging<'s>(&'s self, areas: &'s Areas) -> Staging<'s> {
        Staging {
            target: self.parent(),
            here: &self.look.target,
            areas,
            wanted: &self.wanted,
            installed: &self.look.installed,
            source: Source::Kit { component: &self.sync.component },
        }
    }

    fn staged(&self, areas: &Areas) -> (PathBuf, String) {
        let name = self.staging(areas).name(&self.arrival());
        (areas.stage.join(&name), name)
    }

    /// Bytes of the component's files that are staged already.
    fn staged_bytes(&self) -> Result<u64> {
        if !self.done_file().exists() {
            return Ok(0);
        }
        Ok(self.wanted.values().map(|w| w.size).sum())
    }

    /// Holds the name of what was staged to its end.
    fn done_file(&self) -> PathBuf {
        self.sync.own_file(self.cx, "staged.json")
    }

    /// Makes the new version in the stage area.
    fn bring(&self) -> Result<FetchStats> {
        let areas = self.areas()?;
        let (staged, name) = self.staged(&areas);
        hand::save_before_replacing(self.sync, self.cx, &self.look.target, &self.look.installed, &self.look.difference)?;
        let mut stats = FetchStats::default();
        if files::read_json::<String>(&self.done_file())?.as_ref() != Some(&name) || !staged.is_dir() {
            stats = self.staging(&areas).stage(self.cx, &[&self.arrival()])?;
            self.give_rights(&staged)?;
            files::write_json(&self.done_file(), &name)?;
        }
        self.carry(&staged)?;
        Ok(stats)
    }

    /// Folders and files that both versions have get the old one's owner and rights.
    fn give_rights(&self, staged: &Path) -> Result<()> {
        let old = &self.look.target;
        for entry in walkdir::WalkDir::new(staged).into_iter().flatten().filter(|e| e.file_type().is_dir()) {
            let same = old.join(entry.path().strip_prefix(staged).unwrap_or(Path::new("")));
            if same.is_dir() {
                self.cx.platform.copy_rights(&same, entry.path())?;
            }
        }
        let both: Vec<(&RelPath, &Wanted)> =
            self.look.wanted.iter().filter(|(path, _)| self.look.installed.entries.contains_key(*path)).collect();
        in_parallel(&both, |(path, wanted)| {
            let (old, new) = (path.under(old), path.under(staged));
            give_file_rights(self.cx, old.is_file().then_some(old.as_path()), &new, &new, wanted.executable)
        })?;
        Ok(())
    }

    /// Copies what is taken over, as far as it has changed since the last time; what has gone since goes.
    fn carry(&self, staged: &Path) -> Result<()> {
        let old = &self.look.target;
        for folder in self.carried.iter().filter_map(|e| e.path.parent()).collect::<BTreeSet<_>>() {
            make_alike(self.cx, &folder, old, staged)?;
        }
        in_parallel(&self.carried, |entry| {
            still_wanted(self.cx)?;
            carry_over(self.cx, &entry.path.under(old), &entry.path.under(staged))
        })?;
        let stays: BTreeSet<&RelPath> = self.carried.iter().map(|e| &e.path).chain(self.look.wanted.keys()).collect();
        for entry in tree::walk(staged, &PathPatterns::default())? {
            if !stays.contains(&entry.path) {
                let gone = entry.path.under(staged);
                std::fs::remove_file(&gone).cannot(|| format!("remove {}", gone.display()))?;
            }
        }
        Ok(())
    }

    /// Stages what is missing, and writes down the move of the whole folder.
    fn prepare(self) -> Result<(Moves, MovesRecord)> {
        self.bring()?;
        let areas = self.areas()?;
        self.cx.platform.flush_volume(&areas.stage)?;
        let mut moves = Moves::below(self.parent(), &areas);
        moves.bring(self.name.clone(), &self.staged(&areas).1)?;
        let (root, except) = (Some(self.name.clone()), self.sync.not_by_hand());
        moves.watch = Some(Watch { root, except, ..Watch::of(&self.sync.component) });
        let difference = &self.look.difference;
        let (bytes, _) = super::bytes_of(&self.look, difference);
        moves.result = serde_json::json!({
            "replaced": difference.replaced.len(),
            "added": difference.added.len(),
            "removed": difference.removed.len(),
            "bytes": bytes,
            "folder": shown(self.cx, &self.folder),
            "link": shown(self.cx, &self.at),
        });
        let sizes: BTreeMap<&RelPath, u64> = self.look.wanted.iter().map(|(path, wanted)| (path, wanted.size)).collect();
        files::write_json(&self.sync.own_file(self.cx, "wanted.json"), &sizes)?;
        let record = moves.write(&self.sync.tree_file(self.cx))?;
        Ok((moves, record))
    }
}

/// What a `sync` in place would have left alone, and the component does not have.
fn carried(sync: &Sync, look: &Look) -> Result<Vec<TreeEntry>> {
    if !look.target.is_dir() {
        return Ok(Vec::new());
    }
    let (kept, generated) = (PathPatterns::new(&sync.kept())?, PathPatterns::new(&sync.generated)?);
    let (units, own) = (PathPatterns::new(&sync.as_unit)?, PathPatterns::new(&[volumes::OWN_FOLDER])?);
    let mut all = tree::walk(&look.target, &own)?;
    let wanted: BTreeSet<String> = look.wanted.keys().map(RelPath::case_key).collect();
    all.retain(|entry| {
        let left_alone =
            kept.covers(&entry.path) || (!units.covers(&entry.path) && (generated.covers(&entry.path) || !sync.remove_extra));
        left_alone && !wanted.contains(&entry.path.case_key())
    });
    Ok(all)
}

/// Makes a folder below `new` with the owner and rights that it has below `old`, and those above it.
fn make_alike(cx: &StepContext<'_>, folder: &RelPath, old: &Path, new: &Path) -> Result<()> {
    let here = folder.under(new);
    if here.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_alike(cx, &parent, old, new)?;
    }
    std::fs::create_dir(&here).cannot(|| format!("make the folder {}", here.display()))?;
    cx.platform.copy_rights(&folder.under(old), &here)
}

/// Copies a file or link, unless the copy is there already. A file that has gone meanwhile is no error.
fn carry_over(cx: &StepContext<'_>, from: &Path, to: &Path) -> Result<()> {
    let (there, wanted) = (Stamp::of(to)?, Stamp::of(from)?);
    match wanted {
        Some(Stamp::File { .. }) if there == wanted => Ok(()),
        Some(Stamp::File { .. }) => copy_exactly(cx, from, to),
        Some(Stamp::Link) => {
            let leads = std::fs::read_link(from).cannot(|| format!("read the link {}", from.display()))?;
            if there.is_some() {
                files::remove(to)?;
            }
            make_link(cx, to, &leads)
        }
        Some(Stamp::Folder) | None => Ok(()),
    }
}

/// How a link is taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SwitchUndo {
    /// The link.
    at: PathBuf,
    /// The version it was switched to.
    folder: PathBuf,
    /// What belongs to the instrument and not to a version.
    keep: Vec<String>,
    moves: MovesRecord,
}

impl SwitchUndo {
    /// Points the link to where it led before, and takes what belongs to the instrument along.
    ///
    /// # Errors
    /// When a rename or a copy is refused; calling it again goes on.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let undone = self.moves.undo(cx)?;
        if undone.left.is_empty() {
            self.take_along(cx)?;
            self.forget_retired(cx)?;
        }
        Ok(undone)
    }

    /// Files of `keep` are the instrument's: they are as they were left under the newer version.
    fn take_along(&self, cx: &StepContext<'_>) -> Result<()> {
        let kept = PathPatterns::new(&self.keep)?;
        if kept.is_empty() || !self.folder.is_dir() || !self.at.is_dir() {
            return Ok(());
        }
        let old = volumes::resolved(&self.at)?;
        let own = PathPatterns::new(&[volumes::OWN_FOLDER])?;
        let of = |folder: &Path| -> Result<BTreeMap<RelPath, TreeEntry>> {
            let all = tree::walk(folder, &own)?.into_iter().filter(|e| kept.covers(&e.path));
            Ok(all.map(|e| (e.path.clone(), e)).collect())
        };
        let (newer, older) = (of(&self.folder)?, of(&old)?);
        for path in newer.keys() {
            if let Some(parent) = path.parent() {
                make_alike(cx, &parent, &self.folder, &old)?;
            }
            carry_over(cx, &path.under(&self.folder), &path.under(&old))?;
        }
        for path in older.keys().filter(|path| !newer.contains_key(*path)) {
            let gone = path.under(&old);
            std::fs::remove_file(&gone).cannot(|| format!("remove {}", gone.display()))?;
        }
        Ok(())
    }

    /// The version that is active again is not one to be removed with the run's data.
    fn forget_retired(&self, cx: &StepContext<'_>) -> Result<()> {
        for (file, retired) in retired_in(cx.run_dir)? {
            if retired.at == self.at {
                std::fs::remove_file(&file).cannot(|| format!("remove {}", file.display()))?;
            }
        }
        Ok(())
    }
}

fn retired_in(run_dir: &Path) -> Result<Vec<(PathBuf, Retired)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(run_dir).cannot(|| format!("list {}", run_dir.display()))? {
        let file = entry.cannot(|| format!("list {}", run_dir.display()))?.path();
        if file.file_name().is_some_and(|n| n.to_string_lossy().ends_with(RETIRED))
            && let Some(retired) = files::read_json(&file)?
        {
            found.push((file, retired));
        }
    }
    Ok(found)
}

/// Removes the versions that a run has switched away from, when what it kept for its undo goes. One that a link leads to
/// stays.
///
/// # Errors
/// When a folder cannot be removed.
pub fn remove_retired(run_dir: &Path) -> Result<()> {
    for (file, retired) in retired_in(run_dir)? {
        if retired.at.canonicalize().is_ok_and(|now| now.starts_with(&retired.folder)) {
            continue;
        }
        match std::fs::remove_dir_all(&retired.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove the old version {}", retired.folder.display()), &e));
            }
            _ => {}
        }
        if let Some(version) = retired.folder.parent() {
            // It goes with the last component of that version.
            let _ = std::fs::remove_dir(version);
        }
        std::fs::remove_file(&file).cannot(|| format!("remove {}", file.display()))?;
    }
    Ok(())
}
