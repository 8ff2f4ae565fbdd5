//! `sync`: a component of the kit over an installed tree.
//!
//! Beside the running IBEX only what differs is staged, on the volume of the target; applying is renames, from one
//! intent record. A file that changes between the two is staged again when `apply` begins.

pub mod difference;
pub mod hand;
pub mod linked;
pub mod staging;

use super::hotfix::release::{self, Judged, Release};
use super::moves::{Moves, MovesRecord, shown};
use super::since::Watch;
use super::volumes::{self, Areas};
use super::{Applied, Difference, FetchStats, Perform, Probe, SpaceNeed, StepContext, UndoRecord, Undone};
use crate::content::{ContentHash, HashCache, Manifest, TreeIndex};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::paths::{PathPatterns, Place, RelPath, WinPath};
use crate::plan::ComponentPlan;
use crate::units::Size;
use difference::{Arrival, Rules, SyncDifference, WantedTree};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use staging::{Source, Staging};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use hand::{HandChange, HandChangeKind, hand_changes, write_baseline};

/// Lines of a difference that a probe gives at most.
const MOST_ITEMS: usize = 2_000;

/// Makes a folder equal to a component of the kit: stages only what differs, then renames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// The component's name in the kit, for example `EPICS`.
    pub component: String,
    /// A folder inside the component that is the tree, for example `Client` in `Client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The installed tree.
    pub to: Place,
    /// Paths of the target that are never touched, compared or removed. Patterns relative to `to`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Paths of the component that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Folders swapped whole when anything in them differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub as_unit: Vec<String>,
    /// Removes files that the component does not have, apart from `keep` and `generated`.
    #[serde(default)]
    pub remove_extra: bool,
    /// Files that running programs make in the tree (`**/__pycache__`, logs): neither hand-made changes nor extra.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generated: Vec<String>,
    /// Where the inventory's layout keeps versions beside each other; put in when the plan is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub versions: Option<WinPath>,
}

/// Everything that one look at the target and the component gave.
struct Look {
    target: PathBuf,
    wanted: WantedTree,
    installed: TreeIndex,
    /// The component's folders with nothing in them.
    empty_folders: BTreeSet<RelPath>,
    difference: SyncDifference,
    /// What becomes of the hotfixes in the tree.
    hotfixes: Vec<Judged>,
}

impl Look {
    fn staging<'a>(&'a self, sync: &'a Sync, areas: &'a Areas) -> Staging<'a> {
        Staging {
            target: &self.target,
            here: &self.target,
            areas,
            wanted: &self.wanted,
            installed: &self.installed,
            source: Source::Kit { component: &sync.component },
        }
    }
}

impl Sync {
    fn look(&self, cx: &StepContext<'_>) -> Result<Look> {
        let target = volumes::resolved(&cx.native(&self.to)?)?;
        if target.is_file() {
            return Err(Error::new(ErrorKind::Refused, format!("{} is a file, not a folder", shown(cx, &target))));
        }
        let manifest = self.manifest(cx)?;
        let kept = PathPatterns::new(&self.kept())?;
        let generated = PathPatterns::new(&self.generated)?;
        let mut wanted = self.wanted_of(&manifest, &kept)?;
        let skip = self.not_compared(&wanted, &generated)?;
        let installed = index(cx.home, &target, &skip)?;
        refuse_special(cx, &target, &wanted, &installed)?;
        let release = Release {
            component: &self.component,
            version: &self.component(cx)?.version,
            wanted: &mut wanted,
            installed: &installed,
            skip: &skip,
        };
        let hotfixes = release::settle(release, cx)?;
        let units = PathPatterns::new(&self.as_unit)?;
        let mut empty_folders =
            difference::wanted_folders(&manifest, self.from.as_deref(), &PathPatterns::new(&self.exclude)?, &kept)?;
        empty_folders.retain(|path| !generated.covers(path));
        let rules = Rules {
            target: &target,
            kept: &kept,
            generated: &generated,
            units: &units,
            remove_extra: self.remove_extra,
            empty_folders: &empty_folders,
        };
        let difference = difference::compare(&wanted, &installed, &rules)?;
        Ok(Look { target, wanted, installed, empty_folders, difference, hotfixes })
    }

    fn wanted_of(&self, manifest: &Manifest, kept: &PathPatterns) -> Result<WantedTree> {
        difference::wanted_tree(manifest, self.from.as_deref(), &PathPatterns::new(&self.exclude)?, kept)
    }

    /// The files that the tree should have.
    fn wanted_tree(&self, cx: &StepContext<'_>) -> Result<WantedTree> {
        self.wanted_of(&self.manifest(cx)?, &PathPatterns::new(&self.kept())?)
    }

    /// True when a file of the component comes to the target.
    ///
    /// # Errors
    /// When a pattern of the step is none.
    pub fn brings(&self, file: &str) -> Result<bool> {
        let left_out = PathPatterns::new(&[self.kept(), self.exclude.clone()].concat())?;
        Ok(!left_out.covers(&RelPath::parse(file)?))
    }

    /// The step's `keep`, and the agent's own folder in the root of a volume.
    fn kept(&self) -> Vec<String> {
        let mut kept = self.keep.clone();
        kept.push(volumes::OWN_FOLDER.to_owned());
        kept
    }

    /// What programs write in the tree, and what the release leaves alone.
    fn not_by_hand(&self) -> Vec<String> {
        [self.kept(), self.generated.clone()].concat()
    }

    /// What is left out of the index: what is kept, and generated files unless the component has some of its own.
    fn not_compared(&self, wanted: &WantedTree, generated: &PathPatterns) -> Result<PathPatterns> {
        if !generated.is_empty() && wanted.keys().any(|p| generated.covers(p)) {
            return PathPatterns::new(&self.kept());
        }
        PathPatterns::new(&self.not_by_hand())
    }

    fn component<'a>(&self, cx: &StepContext<'a>) -> Result<&'a ComponentPlan> {
        cx.plan.component(&self.component)
    }

    /// The component's manifest, kept in the run's folder once it came.
    fn manifest(&self, cx: &StepContext<'_>) -> Result<Manifest> {
        let hash = self.component(cx)?.manifest;
        let file = cx.run_dir.join(format!("manifest-{}.json", hash.short()));
        if let Ok(bytes) = std::fs::read(&file)
            && ContentHash::of(&bytes) == hash
        {
            return Manifest::from_bytes(&bytes);
        }
        let bytes = cx.content.blob(&hash, cx.progress, cx.deadline)?;
        if ContentHash::of(&bytes) != hash {
            return Err(Error::new(ErrorKind::Integrity, format!("the manifest of {} is not the planned one", self.component)));
        }
        files::write(&file, &bytes)?;
        Manifest::from_bytes(&bytes)
    }

    fn file(&self, cx: &StepContext<'_>, target: &Path, suffix: &str) -> PathBuf {
        cx.data_file(&format!("{}.{suffix}", volumes::target_key(target)))
    }

    /// The names of what was staged completely, or nothing when staging never came to its end.
    fn staged_names(&self, cx: &StepContext<'_>, target: &Path) -> BTreeSet<String> {
        let bytes = std::fs::read(self.file(cx, target, "staged.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Stages arrivals, and writes down what is staged.
    fn bring(&self, cx: &StepContext<'_>, look: &Look, areas: &Areas, arrivals: &[&Arrival]) -> Result<FetchStats> {
        let staging = look.staging(self, areas);
        let stats = staging.stage(cx, arrivals)?;
        let names: BTreeSet<String> = look.difference.arrivals.iter().map(|a| staging.name(a)).collect();
        files::write_json(&self.file(cx, &look.target, "staged.json"), &names)?;
        Ok(stats)
    }

    /// Looks, and says what becomes of the hotfixes in the tree.
    ///
    /// # Errors
    /// As [`Sync::look`]; when a hotfix that is to be kept cannot be.
    fn look_and_tell(&self, cx: &StepContext<'_>) -> Result<Look> {
        let look = self.look(cx)?;
        release::expect_none_stuck(&look.hotfixes)?;
        release::note(&look.hotfixes, cx)?;
        for special in &look.installed.special {
            let at = shown(cx, &special.path.under(&look.target));
            cx.progress.remind(&format!("{at} is {}: it was neither compared nor saved", special.kind));
        }
        Ok(look)
    }

    /// Looks again, stages what has changed since, and writes down the moves. Nothing when there is nothing to do.
    fn prepare(&self, cx: &StepContext<'_>, target: &Path, moves_file: &Path) -> Result<Option<(Moves, MovesRecord)>> {
        let look = self.look_and_tell(cx)?;
        if look.difference.is_empty() {
            return Ok(None);
        }
        release::remind(&look.hotfixes, cx);
        let areas = volumes::step_areas(cx, target)?;
        let staging = look.staging(self, &areas);
        let staged = self.staged_names(cx, target);
        let ready = |a: &Arrival| {
            let name = staging.name(a);
            staged.contains(&name) && areas.stage.join(&name).symlink_metadata().is_ok()
        };
        let missing: Vec<&Arrival> = look.difference.arrivals.iter().filter(|a| !ready(a)).collect();
        if !missing.is_empty() {
            if !staged.is_empty() {
                let files: usize = missing.iter().map(|a| a.files.len()).sum();
                cx.progress.note(&format!("{files} files of {} changed since they were staged: staged again", self.component));
            }
            self.bring(cx, &look, &areas, &missing).map_err(|e| {
                e.context(format!("{} changed between staging and now, and cannot be staged again", shown(cx, target)))
            })?;
        }
        if !missing.is_empty() {
            // What was staged in time was flushed with everything else.
            cx.platform.flush_volume(&areas.stage)?;
        }
        refuse_in_use(cx, &look.target, &look.difference)?;
        hand::save_before_replacing(self, cx, &look.target, &look.installed, &look.difference)?;
        let mut moves = staging.moves(&look.difference)?;
        moves.watch = Some(Watch { except: self.not_by_hand(), ..Watch::of(&self.component) });
        moves.result = result_of(&look);
        let record = moves.write(moves_file)?;
        Ok(Some((moves, record)))
    }
}

/// Bytes of all that arrives in a difference, and of the part that the instrument does not have anywhere in the tree.
fn bytes_of(look: &Look, difference: &SyncDifference) -> (u64, u64) {
    // Nothing is staged for this: the areas are not looked at.
    let areas = Areas { stage: PathBuf::new(), undo: PathBuf::new() };
    let source = Source::Kit { component: "" };
    let (target, installed) = (look.target.as_path(), &look.installed);
    Staging { target, here: target, areas: &areas, wanted: &look.wanted, installed, source }.bytes(difference)
}

fn result_of(look: &Look) -> serde_json::Value {
    let (bytes, _) = bytes_of(look, &look.difference);
    serde_json::json!({
        "replaced": look.difference.replaced.len(),
        "added": look.difference.added.len(),
        "removed": look.difference.removed.len(),
        "bytes": bytes,
    })
}

/// The index of a tree, with the hashes known from the last time.
///
/// # Errors
/// When a file cannot be read.
pub fn index(home: &Path, target: &Path, skip: &PathPatterns) -> Result<TreeIndex> {
    let cache = HashCache::open(&home.join("index").join(format!("{}.hashes", volumes::target_key(target))));
    let index = TreeIndex::build(target, &cache, skip)?;
    // Without it the next index takes longer; a mere look must not fail for that.
    let _ = cache.save();
    Ok(index)
}

/// What has no content is left alone, and a file of the release cannot come to its place.
fn refuse_special(cx: &StepContext<'_>, target: &Path, wanted: &WantedTree, installed: &TreeIndex) -> Result<()> {
    let in_the_way = |path: &RelPath| wanted.keys().any(|want| want.is_within(path) || path.is_within(want));
    match installed.special.iter().find(|special| in_the_way(&special.path)) {
        None => Ok(()),
        Some(special) => {
            let at = shown(cx, &special.path.under(target));
            let message = format!("{at} is {}, where the release has a file", special.kind);
            Err(Error::new(ErrorKind::Refused, message).next("remove it, or find out which program made it"))
        }
    }
}

/// Windows refuses to move a folder that a program stands in, and a program that runs: found out before anything moves.
fn refuse_in_use(cx: &StepContext<'_>, target: &Path, difference: &SyncDifference) -> Result<()> {
    let going: Vec<PathBuf> = difference.outs.iter().map(|p| p.under(target)).collect();
    if going.is_empty() {
        return Ok(());
    }
    let holds = |path: &Option<PathBuf>| path.as_ref().is_some_and(|p| going.iter().any(|g| p.starts_with(g)));
    let users: Vec<String> = cx
        .platform
        .processes()?
        .iter()
        .filter(|p| p.pid != std::process::id() && (holds(&p.executable) || holds(&p.folder)))
        .map(|p| format!("{} ({})", p.name, p.pid))
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, format!("{} is in use by {}", shown(cx, target), users.join(", ")))
        .next("close these programs, or end them with a `process` step before"))
}

impl Perform for Sync {
    fn describe(&self) -> String {
        format!("sync {} to {}", self.component, self.to)
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let look = self.look(cx)?;
        release::expect_none_stuck(&look.hotfixes)?;
        let plain = self.probe_in_place(&look);
        match self.versions(cx)? {
            Some(versions) => self.probe_linked(cx, &versions, &look, plain),
            None => Ok(plain),
        }
    }

    fn space(&self, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
        if let Some(versions) = &self.versions {
            return self.space_linked(cx, versions);
        }
        let target = volumes::resolved(&cx.native(&self.to)?)?;
        if Moves::begun(&self.file(cx, &target, "moves.json"))?.is_some() {
            return Ok(Vec::new());
        }
        let look = self.look(cx)?;
        let areas = Areas { stage: PathBuf::new(), undo: PathBuf::new() };
        let staged = self.staged_names(cx, &target);
        let staging = look.staging(self, &areas);
        let mut rest = look.difference.clone();
        rest.arrivals.retain(|a| !staged.contains(&staging.name(a)));
        let (bytes, _) = staging.bytes(&rest);
        Ok(vec![SpaceNeed { on: cx.path(&self.to)?, bytes, what: format!("staged files of {}", self.component) }])
    }

    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        if self.versions.is_some() {
            return self.stage_linked(cx);
        }
        let target = volumes::resolved(&cx.native(&self.to)?)?;
        if Moves::begun(&self.file(cx, &target, "moves.json"))?.is_some() {
            return Ok(FetchStats::default());
        }
        let look = self.look_and_tell(cx)?;
        if look.difference.is_empty() {
            return Ok(FetchStats::default());
        }
        let areas = volumes::step_areas(cx, &target)?;
        hand::save_before_replacing(self, cx, &look.target, &look.installed, &look.difference)?;
        let arrivals: Vec<&Arrival> = look.difference.arrivals.iter().collect();
        self.bring(cx, &look, &areas, &arrivals)
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        if self.versions.is_some() {
            return self.apply_linked(cx);
        }
        let target = volumes::resolved(&cx.native(&self.to)?)?;
        let moves_file = self.file(cx, &target, "moves.json");
        let begun = match Moves::begun(&moves_file)? {
            Some(begun) => Some(begun),
            None => self.prepare(cx, &target, &moves_file)?,
        };
        let Some((moves, record)) = begun else {
            return Ok(Applied::ok("already the same")
                .with_result(serde_json::json!({"replaced": 0, "added": 0, "removed": 0, "bytes": 0})));
        };
        cx.undo_log.intend(UndoRecord::Sync(SyncUndo { moves: record }))?;
        moves.run(cx)?;
        let wanted = self.look_at_arrivals(cx, &moves)?;
        let number = |key: &str| moves.result.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let summary = format!(
            "{wanted} verified: {} replaced, {} added, {} removed{}",
            number("replaced"),
            number("added"),
            number("removed"),
            release::summary(&release::fates(cx)?)
        );
        Ok(Applied::changed(summary).with_result(moves.result))
    }
}

impl Sync {
    /// What would change in the installed tree.
    fn probe_in_place(&self, look: &Look) -> Probe {
        let mut items = release::lines(&look.hotfixes);
        if look.difference.is_empty() {
            return Probe { difference: Difference::None, summary: "already the same".to_owned(), items, fetch_bytes: 0 };
        }
        let (_, fetch_bytes) = bytes_of(look, &look.difference);
        let changed = look.difference.added.len() + look.difference.replaced.len();
        items.extend(look.difference.items());
        if items.len() > MOST_ITEMS {
            let more = items.len() - MOST_ITEMS;
            items.truncate(MOST_ITEMS);
            items.push(format!("... and {more} more"));
        }
        let mut summary = format!("{}, {} to fetch", counted(changed, "file"), Size(fetch_bytes));
        if !look.difference.removed.is_empty() {
            summary.push_str(&format!(", {} to remove", look.difference.removed.len()));
        }
        summary.push_str(&release::summary(&look.hotfixes));
        Probe { difference: Difference::Some, summary, items, fetch_bytes }
    }

    /// Compares every file that came, also those inside whole folders, with the manifest by a look at each.
    fn look_at_arrivals(&self, cx: &StepContext<'_>, moves: &Moves) -> Result<String> {
        let wanted = self.wanted_tree(cx)?;
        let came: BTreeSet<&RelPath> = moves.ins.iter().map(|i| &i.path).collect();
        let mut files = 0;
        for (path, wanted) in &wanted {
            let above = std::iter::successors(Some(path.clone()), RelPath::parent).any(|p| came.contains(&p));
            if above {
                let at = path.under(&moves.target);
                let meta = std::fs::symlink_metadata(&at).cannot(|| format!("find {}", shown(cx, &at)))?;
                if !meta.is_file() || meta.len() != wanted.size {
                    return Err(Error::new(ErrorKind::Integrity, format!("{} is not what was staged", shown(cx, &at))));
                }
                files += 1;
            }
        }
        Ok(counted(files, "file"))
    }
}

/// A number and its noun.
pub fn counted(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncUndo {
    pub moves: MovesRecord,
}

impl SyncUndo {
    /// Puts back what was there, and what came goes back to the stage area.
    ///
    /// # Errors
    /// When a rename is refused.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        self.moves.undo(cx)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
