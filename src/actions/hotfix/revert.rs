//! An installed hotfix taken back: its files become exactly what they were before it.

use super::installed::{self, HotfixedFile, InstalledHotfix};
use super::{Done, Hotfix, Work};
use crate::actions::moves::{Moves, mtime_ns, shown};
use crate::actions::remove::moves_file;
use crate::actions::since::Watch;
use crate::actions::sync::counted;
use crate::actions::volumes::{resolved, step_areas};
use crate::actions::writes::copy_exactly;
use crate::actions::{Difference, FetchStats, Probe, SpaceNeed, StepContext};
use crate::content::{ContentHash, Seen, tree};
use crate::error::{Error, ErrorKind, Result, first_named};
use crate::kit::hotfix::{Content, Entry, Head, PatchPath, write};
use crate::nearest::nearest;
use crate::paths::{PathPatterns, RelPath, WinPath};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file of the hotfix with what is there now.
struct Now<'a> {
    file: &'a HotfixedFile,
    now: Option<Seen>,
}

impl Now<'_> {
    /// Somebody changed it after the hotfix.
    fn is_changed(&self) -> bool {
        self.now != self.file.after && self.now != self.file.before
    }

    fn is_back(&self) -> bool {
        self.now == self.file.before
    }
}

/// The hotfix of this name, which nothing newer stands on.
fn find(id: &str, cx: &StepContext<'_>) -> Result<InstalledHotfix> {
    let all = installed::read(cx.home)?;
    let Some(at) = all.iter().position(|known| known.id.eq_ignore_ascii_case(id)) else {
        let names: Vec<&str> = all.iter().map(|known| known.id.as_str()).collect();
        let next = match nearest(id, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? `ibexdeploy hotfix {} --list` shows them", cx.plan.instrument),
            None if names.is_empty() => "it has none".to_owned(),
            None => format!("it has: {}", names.join(", ")),
        };
        return Err(Error::new(ErrorKind::Refused, format!("no hotfix {id} is installed")).next(next));
    };
    let own: BTreeSet<(String, String)> = all[at].files.iter().map(HotfixedFile::key).collect();
    let on_top = all[at + 1..].iter().find_map(|later| Some((later, later.files.iter().find(|f| own.contains(&f.key()))?)));
    if let Some((later, file)) = on_top {
        let what = format!("the later hotfix {} stands on {}: it changed {} again", later.id, all[at].id, file.named());
        return Err(Error::new(ErrorKind::Refused, what).next(format!("take {} back first", later.id)));
    }
    Ok(all[at].clone())
}

fn look<'a>(hotfix: &'a InstalledHotfix, cx: &StepContext<'_>) -> Result<Vec<Now<'a>>> {
    hotfix.files.iter().map(|file| Ok(Now { file, now: file.now(cx.drives)? })).collect()
}

/// Refuses what would lose somebody's work, unless that is to be saved and discarded.
fn expect_unchanged(step: &Hotfix, hotfix: &InstalledHotfix, files: &[Now<'_>]) -> Result<()> {
    let changed: Vec<PatchPath> = files.iter().filter(|f| f.is_changed()).map(|f| f.file.named()).collect();
    if changed.is_empty() || step.discard_newer {
        return Ok(());
    }
    let what = format!("{} of the hotfix {} changed since it came", counted(changed.len(), "file"), hotfix.id);
    Err(Error::new(ErrorKind::Refused, what)
        .with_output(first_named(&changed))
        .next("look at them; with --discard-newer they are saved first, and then are as before the hotfix"))
}

/// What the hotfix replaced must still be there, and be that.
fn expect_kept(file: &HotfixedFile, cx: &StepContext<'_>) -> Result<PathBuf> {
    let named = file.named();
    let lost = |what: String| {
        Err(Error::new(ErrorKind::Integrity, what)
            .next("restore the file from a backup or a release; then nothing is left to revert"))
    };
    let (Some(kept), Some(before)) = (&file.kept, file.before) else {
        return lost(format!("what {named} was before the hotfix was not kept"));
    };
    if !kept.is_file() {
        return lost(format!("what {named} was before the hotfix is gone: {} is not there", shown(cx, kept)));
    }
    if ContentHash::of_file(kept)? != before.hash {
        return lost(format!("what {named} was before the hotfix is damaged: {}", shown(cx, kept)));
    }
    Ok(kept.clone())
}

pub(super) fn probe(step: &Hotfix, id: &str, cx: &StepContext<'_>) -> Result<Probe> {
    let hotfix = find(id, cx)?;
    let files = look(&hotfix, cx)?;
    expect_unchanged(step, &hotfix, &files)?;
    let mut items = Vec::new();
    for f in files.iter().filter(|f| !f.is_back()) {
        if f.file.before.is_some() {
            expect_kept(f.file, cx)?;
        }
        let sign = match (f.file.before.is_some(), f.now.is_some()) {
            (true, true) => '~',
            (true, false) => '+',
            (false, _) => '-',
        };
        let note = if f.is_changed() { " (changed since; saved first)" } else { "" };
        items.push(format!("{sign} {}{note}", f.file.named()));
    }
    Ok(Probe { difference: Difference::Some, summary: counted(items.len(), "file"), items, fetch_bytes: 0 })
}

pub(super) fn space(id: &str, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
    if Work::begun(cx)?.is_some() {
        return Ok(Vec::new());
    }
    let hotfix = find(id, cx)?;
    let mut needs: BTreeMap<WinPath, u64> = BTreeMap::new();
    for file in &hotfix.files {
        *needs.entry(file.folder.clone()).or_insert(0) += file.before.map_or(0, |before| before.size);
    }
    let need = |(on, bytes)| SpaceNeed { on, bytes, what: format!("what the hotfix {id} replaced") };
    Ok(needs.into_iter().map(need).collect())
}

/// Copies what was there before beside its place, so that it is only renamed later.
pub(super) fn stage(step: &Hotfix, id: &str, cx: &StepContext<'_>) -> Result<FetchStats> {
    let hotfix = find(id, cx)?;
    let files = look(&hotfix, cx)?;
    expect_unchanged(step, &hotfix, &files)?;
    let mut stats = FetchStats::default();
    for f in files.iter().filter(|f| !f.is_back() && f.file.before.is_some()) {
        let target = resolved(&cx.drives.native(&f.file.folder)?)?;
        stats += copy(f.file, &step_areas(cx, &target)?.stage, cx)?;
    }
    Ok(stats)
}

/// The name of what comes back in the stage area.
fn staged_name(file: &HotfixedFile) -> String {
    ContentHash::of(file.path.as_str().as_bytes()).short()
}

/// Copies one file with its rights and time, unless that was done.
fn copy(file: &HotfixedFile, stage: &Path, cx: &StepContext<'_>) -> Result<FetchStats> {
    let kept = expect_kept(file, cx)?;
    let to = stage.join(staged_name(file));
    let meta = |path: &Path| std::fs::symlink_metadata(path).ok().map(|m| (m.len(), mtime_ns(&m)));
    let size = file.before.map_or(0, |before| before.size);
    if meta(&to).is_some() && meta(&to) == meta(&kept) && ContentHash::of_file(&to)? == ContentHash::of_file(&kept)? {
        return Ok(FetchStats::default());
    }
    copy_exactly(cx, &kept, &to)?;
    Ok(FetchStats { files: 1, fetched_bytes: 0, copied_bytes: size })
}

/// Looks again, saves what somebody changed, and writes down what is to be done.
pub(super) fn prepare(step: &Hotfix, id: &str, cx: &StepContext<'_>) -> Result<Option<Work>> {
    let hotfix = find(id, cx)?;
    let files = look(&hotfix, cx)?;
    expect_unchanged(step, &hotfix, &files)?;
    save_changed(&hotfix, &files, cx)?;
    let mut folders: BTreeMap<&WinPath, Vec<&Now<'_>>> = BTreeMap::new();
    for f in files.iter().filter(|f| !f.is_back()) {
        folders.entry(&f.file.folder).or_default().push(f);
    }
    let mut moves_files = Vec::new();
    for (folder, files) in folders {
        let target = resolved(&cx.drives.native(folder)?)?;
        let moves_file = moves_file(cx, &target);
        moves_of(&target, &files, cx)?.write(&moves_file)?;
        moves_files.push(moves_file);
    }
    let changed = files.iter().filter(|f| !f.is_back()).count();
    let work = Work {
        done: Done::Reverted(hotfix.id.clone()),
        moves: moves_files,
        summary: format!("{}: {} as before", hotfix.id, counted(changed, "file")),
        result: serde_json::json!({"id": hotfix.id, "files": changed}),
    };
    work.begin(cx).map(Some)
}

fn moves_of(target: &Path, files: &[&Now<'_>], cx: &StepContext<'_>) -> Result<Moves> {
    let areas = step_areas(cx, target)?;
    let mut moves = Moves::below(target, &areas);
    moves.watch = files.first().map(|f| Watch::of(&f.file.named().component));
    let whole = folders_that_go(target, files)?;
    for folder in &whole {
        moves.take(folder.clone())?;
    }
    let mut copied = 0;
    for f in files {
        let path = &f.file.path;
        if !whole.iter().any(|folder| path.is_within(folder)) {
            moves.take(path.clone())?;
        }
        if f.file.before.is_some() {
            copied += copy(f.file, &areas.stage, cx)?.files;
            moves.bring(path.clone(), &staged_name(f.file))?;
        }
    }
    if copied > 0 {
        cx.platform.flush_volume(&areas.stage)?;
    }
    Ok(moves)
}

/// Folders that came with the hotfix and hold nothing but its files.
fn folders_that_go(target: &Path, files: &[&Now<'_>]) -> Result<Vec<RelPath>> {
    let goes: BTreeSet<&RelPath> = files.iter().filter(|f| f.file.before.is_none()).map(|f| &f.file.path).collect();
    let made: BTreeSet<&RelPath> = files.iter().filter_map(|f| f.file.made.as_ref()).collect();
    let mut whole = Vec::new();
    for folder in made {
        let native = folder.under(target);
        if !native.is_dir() {
            continue;
        }
        let found = tree::walk(&native, &PathPatterns::default())?;
        if found.iter().all(|entry| goes.contains(&folder.child(entry.path.as_str()))) {
            whole.push(folder.clone());
        }
    }
    Ok(whole)
}

/// Saves files that somebody changed after the hotfix, as an archive like any other.
fn save_changed(hotfix: &InstalledHotfix, files: &[Now<'_>], cx: &StepContext<'_>) -> Result<()> {
    let mut entries = Vec::new();
    for f in files.iter().filter(|f| f.is_changed() && f.now.is_some()) {
        let native = cx.drives.native(&f.file.folder.join(&f.file.path))?;
        entries.push(Entry { path: f.file.named(), content: Content::File(native), executable: false });
    }
    let archive = cx.home.join("hand-changes").join(format!("{}-hotfix-{}.zip", cx.plan.run, hotfix.id));
    if entries.is_empty() || archive.exists() {
        return Ok(());
    }
    let head = Head {
        id: Some(format!("changed-since-{}", hotfix.id).chars().take(100).collect()),
        description: format!("files of the hotfix {} as they were changed on {} since", hotfix.id, cx.plan.instrument),
        ..Head::default()
    };
    let number = counted(entries.len(), "file");
    write(&archive, &head, entries)?;
    cx.progress.remind(&format!(
        "{number} of the hotfix {} changed since it came; saved in {} before it was taken back",
        hotfix.id,
        shown(cx, &archive)
    ));
    Ok(())
}

/// Compares every file with what it was before the hotfix.
pub(super) fn verify(id: &str, cx: &StepContext<'_>) -> Result<()> {
    let all = installed::read(cx.home)?;
    for file in all.iter().filter(|known| known.id == id).flat_map(|known| &known.files) {
        if file.now(cx.drives)? != file.before {
            let what = format!("{} is not what it was before the hotfix", file.folder.join(&file.path));
            return Err(Error::new(ErrorKind::Integrity, what));
        }
    }
    Ok(())
}
