//! The files of an archive over the installed trees.

use super::installed::{self, HotfixedFile, InstalledHotfix};
use super::{Done, Hotfix, Work};
use crate::actions::moves::{Moves, Stamp, shown};
use crate::actions::remove::moves_file;
use crate::actions::sync::difference::{Arrival, Rules, SyncDifference, Wanted, WantedTree, compare};
use crate::actions::sync::staging::{Source, Staging};
use crate::actions::sync::{counted, hand};
use crate::actions::volumes::{Areas, resolved, step_areas};
use crate::actions::{Difference, FetchStats, Probe, SpaceNeed, StepContext};
use crate::content::{Seen, TreeIndex};
use crate::error::{Error, ErrorKind, Result, first_named};
use crate::kit::hotfix::Patch;
use crate::paths::{PathPatterns, RelPath, WinPath};
use crate::platform::facts::version_in;
use crate::units::Size;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use wildmatch::WildMatch;

/// What content is asked for by: no kit has it, so it always comes from the controller.
const FROM_CONTROLLER: &str = "hotfix";

/// What an archive makes of one component's tree.
struct Part {
    component: String,
    folder: WinPath,
    /// The native folder, links followed.
    target: PathBuf,
    wanted: WantedTree,
    deletes: Vec<RelPath>,
    installed: TreeIndex,
    difference: SyncDifference,
}

impl Part {
    fn of(hotfix: &Hotfix, patch: &Patch, component: &str, cx: &StepContext<'_>) -> Result<Self> {
        let place = hotfix.to.get(component).ok_or_else(|| Error::internal(format!("no place for the component {component}")))?;
        let folder = cx.path(place)?;
        let target = resolved(&cx.drives.native(&folder)?)?;
        if !target.is_dir() {
            return Err(Error::new(ErrorKind::Refused, format!("{component} is not installed: there is no folder {folder}"))
                .next("release it first, or leave its files out of the hotfix"));
        }
        let of_component = patch.files.iter().filter(|f| f.component == component);
        let wanted: WantedTree = of_component
            .map(|f| {
                let wanted = Wanted { source: f.path.clone(), size: f.size, hash: f.hash, executable: f.executable };
                (f.path.clone(), wanted)
            })
            .collect();
        let deletes: Vec<RelPath> = patch.deletes.iter().filter(|d| d.component == component).map(|d| d.path.clone()).collect();
        wanted.keys().chain(&deletes).try_for_each(|path| expect_plain(cx, &target, path))?;
        let installed = TreeIndex::of_paths(&target, wanted.keys().chain(&deletes))?;
        let none = PathPatterns::default();
        let rules = Rules {
            target: &target,
            kept: &none,
            generated: &none,
            units: &none,
            empty_folders: &BTreeSet::new(),
            remove_extra: false,
        };
        let mut difference = compare(&wanted, &installed, &rules)?;
        for path in deletes.iter().filter(|path| installed.entries.contains_key(*path)) {
            difference.outs.insert(path.clone());
            difference.removed.push(path.clone());
        }
        Ok(Self { component: component.to_owned(), folder, target, wanted, deletes, installed, difference })
    }

    fn staging<'a>(&'a self, areas: &'a Areas) -> Staging<'a> {
        Staging {
            target: &self.target,
            here: &self.target,
            areas,
            wanted: &self.wanted,
            installed: &self.installed,
            source: Source::Kit { component: FROM_CONTROLLER },
        }
    }

    /// What becomes of each file; `moves` are those that make it so.
    fn files(&self, moves: &Moves) -> Vec<HotfixedFile> {
        let seen = |path: &RelPath| self.installed.entries.get(path).map(Seen::from);
        let file = |path: &RelPath, after: Option<Seen>| HotfixedFile {
            component: self.component.clone(),
            folder: self.folder.clone(),
            path: path.clone(),
            before: seen(path),
            after,
            kept: moves.kept(path),
            made: self.made(path),
            baseline: super::Known::Unknown,
        };
        let brought = self.wanted.iter().map(|(path, w)| file(path, Some(Seen { size: w.size, hash: w.hash })));
        brought.chain(self.deletes.iter().map(|path| file(path, None))).collect()
    }

    /// The folder that comes with a file.
    fn made(&self, path: &RelPath) -> Option<RelPath> {
        let arrival = self.difference.arrivals.iter().find(|a| a.folder && a.files.contains(path))?;
        Some(arrival.path.clone())
    }

    /// Lines of a dry run, with those files that a person changed before.
    fn items(&self, cx: &StepContext<'_>) -> Result<Vec<String>> {
        let by_hand: BTreeSet<RelPath> = hand::changed_of(cx.home, &self.component, &self.installed)?;
        let line = |sign: char, path: &RelPath| {
            let note = if by_hand.contains(path) { " (changed by hand before; kept for the way back)" } else { "" };
            (path.clone(), format!("{sign} {}/{path}{note}", self.component))
        };
        let d = &self.difference;
        let mut items: Vec<(RelPath, String)> = Vec::new();
        items.extend(d.added.iter().map(|p| line('+', p)));
        items.extend(d.replaced.iter().map(|p| line('~', p)));
        items.extend(d.removed.iter().map(|p| line('-', p)));
        items.sort();
        Ok(items.into_iter().map(|(_, text)| text).collect())
    }
}

/// A hotfix replaces plain files in real folders of the tree, and nothing else.
fn expect_plain(cx: &StepContext<'_>, target: &Path, path: &RelPath) -> Result<()> {
    let at = path.under(target);
    let refused = |at: &Path, what: &str, next: &str| {
        Err(Error::new(ErrorKind::Refused, format!("{} is {what}", shown(cx, at))).next(next.to_owned()))
    };
    for folder in std::iter::successors(path.parent(), RelPath::parent) {
        let native = folder.under(target);
        match Stamp::of(&native)? {
            Some(Stamp::Link) => {
                return refused(
                    &native,
                    "a link, and the hotfix has files behind it",
                    "a hotfix does not follow links: change these files by hand",
                );
            }
            Some(Stamp::File { .. }) => {
                return refused(
                    &native,
                    "a file, and the hotfix has a folder there",
                    "let the hotfix delete the file first, as one of its own",
                );
            }
            Some(Stamp::Folder) | None => {}
        }
    }
    match Stamp::of(&at)? {
        Some(Stamp::Link) => {
            refused(&at, "a link, and the hotfix has a file there", "a hotfix does not follow links: change it by hand")
        }
        Some(Stamp::Folder) => refused(&at, "a folder, and the hotfix has a file there", "look at the path in the archive"),
        Some(Stamp::File { .. }) | None => Ok(()),
    }
}

/// Everything that an archive makes of the installed trees, as it is now.
fn look(hotfix: &Hotfix, patch: &Patch, cx: &StepContext<'_>) -> Result<Vec<Part>> {
    let parts: Vec<Part> =
        patch.components().into_iter().map(|component| Part::of(hotfix, patch, component, cx)).collect::<Result<_>>()?;
    expect_versions(hotfix, patch, cx)?;
    expect_new(patch, &parts, cx)?;
    Ok(parts)
}

fn nothing_to_do(parts: &[Part]) -> bool {
    parts.iter().all(|part| part.difference.is_empty())
}

/// The versions that the hotfix was made for must be installed.
fn expect_versions(hotfix: &Hotfix, patch: &Patch, cx: &StepContext<'_>) -> Result<()> {
    let mut mistakes = Vec::new();
    for (component, wanted) in &patch.requires {
        let Some(place) = hotfix.to.get(component) else { continue };
        let found = version_in(&cx.native(place)?)?;
        if !found.as_deref().is_some_and(|found| WildMatch::new(wanted).matches(found)) {
            let found = found.map_or_else(|| "none is installed".to_owned(), |found| format!("{found} is installed"));
            mistakes.push(
                Error::new(ErrorKind::Refused, format!("the hotfix {} is for {component} {wanted}, and {found}", patch.id))
                    .next("use the hotfix that was made for this version, or release that version first"),
            );
        }
    }
    Error::of_all(mistakes).map_or(Ok(()), Err)
}

/// A name stands for one hotfix.
fn expect_new(patch: &Patch, parts: &[Part], cx: &StepContext<'_>) -> Result<()> {
    let all = installed::read(cx.home)?;
    let Some(known) = all.iter().find(|known| known.id.eq_ignore_ascii_case(&patch.id)) else { return Ok(()) };
    let same = known.content == patch.content()?;
    if same && nothing_to_do(parts) {
        return Ok(());
    }
    let why = if same { "its files were changed since" } else { "with other content" };
    Err(Error::new(ErrorKind::Refused, format!("a hotfix {} is installed already, {why}", known.id))
        .with_output(first_named(&known.files.iter().map(HotfixedFile::named).collect::<Vec<_>>()))
        .next(format!("take it back first (--revert {}), or give this one another `id:`", known.id)))
}

pub(super) fn probe(hotfix: &Hotfix, patch: &Patch, cx: &StepContext<'_>) -> Result<Probe> {
    let parts = look(hotfix, patch, cx)?;
    if nothing_to_do(&parts) {
        return Ok(Probe { difference: Difference::None, summary: "already in place".to_owned(), ..Probe::default() });
    }
    let areas = Areas { stage: PathBuf::new(), undo: PathBuf::new() };
    let mut items = Vec::new();
    let mut fetch_bytes = 0;
    for part in &parts {
        items.extend(part.items(cx)?);
        fetch_bytes += part.staging(&areas).bytes(&part.difference).1;
    }
    let summary = format!("{}, {} to fetch", counted(items.len(), "file"), Size(fetch_bytes));
    Ok(Probe { difference: Difference::Some, summary, items, fetch_bytes })
}

pub(super) fn space(hotfix: &Hotfix, patch: &Patch, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
    if Work::begun(cx)?.is_some() {
        return Ok(Vec::new());
    }
    let parts = look(hotfix, patch, cx)?;
    let areas = Areas { stage: PathBuf::new(), undo: PathBuf::new() };
    let need = |part: &Part| SpaceNeed {
        on: part.folder.clone(),
        bytes: part.staging(&areas).bytes(&part.difference).0,
        what: format!("files of the hotfix {}", patch.id),
    };
    Ok(parts.iter().map(need).collect())
}

pub(super) fn stage(hotfix: &Hotfix, patch: &Patch, cx: &StepContext<'_>) -> Result<FetchStats> {
    let mut stats = FetchStats::default();
    for part in look(hotfix, patch, cx)?.iter().filter(|part| !part.difference.is_empty()) {
        stats += bring(part, &step_areas(cx, &part.target)?, cx)?;
    }
    Ok(stats)
}

/// Stages what is not staged yet: repeating it costs a look at what is.
fn bring(part: &Part, areas: &Areas, cx: &StepContext<'_>) -> Result<FetchStats> {
    let arrivals: Vec<&Arrival> = part.difference.arrivals.iter().collect();
    part.staging(areas).stage(cx, &arrivals)
}

/// Looks again, and writes down what is to be done. Nothing when there is nothing to do.
pub(super) fn prepare(hotfix: &Hotfix, patch: &Patch, cx: &StepContext<'_>) -> Result<Option<Work>> {
    let parts = look(hotfix, patch, cx)?;
    if nothing_to_do(&parts) {
        return Ok(None);
    }
    let (mut files, mut moves_files) = (Vec::new(), Vec::new());
    for part in &parts {
        let areas = step_areas(cx, &part.target)?;
        let staging = part.staging(&areas);
        if bring(part, &areas, cx)?.files > 0 {
            // What was staged in time was flushed with everything else.
            cx.platform.flush_volume(&areas.stage)?;
        }
        let mut moves = staging.moves(&part.difference)?;
        files.extend(part.files(&moves));
        if !part.difference.is_empty() {
            let file = moves_file(cx, &part.target);
            moves.write(&file)?;
            moves_files.push(file);
        }
    }
    let number = |pick: fn(&SyncDifference) -> usize| parts.iter().map(|part| pick(&part.difference)).sum::<usize>();
    let (replaced, added, removed) = (number(|d| d.replaced.len()), number(|d| d.added.len()), number(|d| d.removed.len()));
    let installed = InstalledHotfix {
        id: patch.id.clone(),
        description: patch.description.clone(),
        archive: patch.archive.clone(),
        run: cx.plan.run.clone(),
        operator: cx.plan.operator.clone(),
        at: Timestamp::now(),
        restart: patch.restart.clone(),
        content: patch.content()?,
        files,
    };
    let work = Work {
        done: Done::Applied(Box::new(installed)),
        moves: moves_files,
        summary: format!("{}: {replaced} replaced, {added} added, {removed} removed", patch.id),
        result: serde_json::json!({"id": patch.id, "replaced": replaced, "added": added, "removed": removed}),
    };
    work.begin(cx).map(Some)
}

/// Compares every file with what the archive has, by its hash.
pub(super) fn verify(hotfix: &InstalledHotfix, cx: &StepContext<'_>) -> Result<()> {
    for file in &hotfix.files {
        if file.now(cx.drives)? != file.after {
            return Err(Error::new(ErrorKind::Integrity, format!("{} is not what the hotfix has", file.folder.join(&file.path))));
        }
    }
    Ok(())
}
