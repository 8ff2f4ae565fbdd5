//! Bringing what a tree lacks to the stage area.

use super::difference::{Arrival, SyncDifference, WantedTree};
use crate::actions::moves::Moves;
use crate::actions::since::Watch;
use crate::actions::volumes::{Areas, NearestFolders, nearest_folder, take_over_staged};
use crate::actions::{FetchStats, StepContext, Want};
use crate::content::{ContentHash, TreeIndex};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::paths::RelPath;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One tree that is being brought to its wanted state.
#[derive(Debug)]
pub struct Staging<'a> {
    /// The installed tree, resolved.
    pub target: &'a Path,
    /// The tree whose files `installed` lists: the same, unless another one is made beside it.
    pub here: &'a Path,
    pub areas: &'a Areas,
    pub wanted: &'a WantedTree,
    pub installed: &'a TreeIndex,
    /// The component that content is asked for by, or the folder it is copied from.
    pub source: Source<'a>,
}

/// Where content comes from that the tree itself does not have.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    Kit { component: &'a str },
    Folder(&'a Path),
}

/// A file that is to be written to the stage area.
struct Missing<'a> {
    path: &'a RelPath,
    hash: ContentHash,
    to: PathBuf,
}

impl Staging<'_> {
    /// The name of an arrival in the stage area: the same for the same content, so that staging can be repeated.
    pub fn name(&self, arrival: &Arrival) -> String {
        let mut text = arrival.path.as_str().to_owned();
        for path in &arrival.files {
            if let Some(wanted) = self.wanted.get(path) {
                text.push_str(&format!("\n{path} {}", wanted.hash));
            }
        }
        for path in &arrival.empty_folders {
            text.push_str(&format!("\n{path}/"));
        }
        ContentHash::of(text.as_bytes()).to_string()[..24].to_owned()
    }

    fn staged_path(&self, arrival: &Arrival, name: &str, path: &RelPath) -> PathBuf {
        let base = self.areas.stage.join(name);
        let below =
            path.as_str().strip_prefix(arrival.path.as_str()).and_then(|b| RelPath::parse(b.trim_start_matches('/')).ok());
        below.map_or(base.clone(), |b| b.under(&base))
    }

    /// Bytes of all that arrives, and of the part that the instrument does not have anywhere in the tree.
    pub fn bytes(&self, difference: &SyncDifference) -> (u64, u64) {
        let here: HashSet<ContentHash> = self.files_here().map(|(_, hash)| hash).collect();
        let mut fetched = HashMap::new();
        let mut all = 0;
        for wanted in difference.arrivals.iter().flat_map(|a| &a.files).filter_map(|p| self.wanted.get(p)) {
            all += wanted.size;
            if !here.contains(&wanted.hash) {
                fetched.insert(wanted.hash, wanted.size);
            }
        }
        (all, fetched.values().sum())
    }

    /// Stages the arrivals. What is staged and right is left as it is; what the tree has under another name is
    /// copied; the rest is fetched.
    ///
    /// # Errors
    /// When content cannot be had or written, or is not what its hash says.
    pub fn stage(&self, cx: &StepContext<'_>, arrivals: &[&Arrival]) -> Result<FetchStats> {
        take_over_staged(self.areas)?;
        let mut missing = Vec::new();
        let mut made: HashSet<PathBuf> = HashSet::new();
        for arrival in arrivals {
            let name = self.name(arrival);
            for path in &arrival.empty_folders {
                let to = self.staged_path(arrival, &name, path);
                std::fs::create_dir_all(&to).cannot(|| format!("make the folder {}", to.display()))?;
            }
            for path in &arrival.files {
                let wanted = self.wanted.get(path).ok_or_else(|| Error::internal(format!("{path} is not wanted")))?;
                let to = self.staged_path(arrival, &name, path);
                if !is_right(&to, wanted.size, &wanted.hash)? {
                    if let Some(parent) = to.parent().filter(|parent| !made.contains(*parent)) {
                        std::fs::create_dir_all(parent).cannot(|| format!("make the folder {}", parent.display()))?;
                        made.insert(parent.to_path_buf());
                    }
                    missing.push(Missing { path, hash: wanted.hash, to });
                }
            }
        }
        let mut stats = FetchStats { files: missing.len() as u64, ..FetchStats::default() };
        let rest = self.copy_what_is_here(cx, missing, &mut stats)?;
        stats.fetched_bytes = self.fetch(cx, rest)?;
        let spelled: HashMap<String, &RelPath> = self.files_here().map(|(path, _)| (path.case_key(), path)).collect();
        let mut nearest = NearestFolders::default();
        for arrival in arrivals {
            self.give_rights(cx, arrival, &spelled, &mut nearest)?;
        }
        Ok(stats)
    }

    fn copy_what_is_here<'m>(
        &self,
        cx: &StepContext<'_>,
        missing: Vec<Missing<'m>>,
        stats: &mut FetchStats,
    ) -> Result<Vec<Missing<'m>>> {
        let here: HashMap<ContentHash, &RelPath> = self.files_here().map(|(path, hash)| (hash, path)).collect();
        let origin = |m: &Missing<'_>| -> Option<PathBuf> {
            let same = here.get(&m.hash).map(|p| p.under(self.here));
            match (same, self.source) {
                (Some(path), _) => Some(path),
                (None, Source::Folder(folder)) => self.wanted.get(m.path).map(|w| w.source.under(folder)),
                (None, Source::Kit { .. }) => None,
            }
        };
        let (local, mut rest): (Vec<_>, Vec<_>) = missing.into_iter().partition(|m| origin(m).is_some());
        let copied = in_parallel(&local, |m| {
            still_wanted(cx)?;
            origin(m).map_or(Ok(None), |from| copy_if_same(&from, &m.to, &m.hash))
        })?;
        for (entry, bytes) in local.into_iter().zip(copied) {
            match (bytes, self.source) {
                (Some(bytes), _) => stats.copied_bytes += bytes,
                (None, Source::Kit { .. }) => rest.push(entry),
                (None, Source::Folder(_)) => {
                    return Err(Error::new(ErrorKind::Io, format!("{} changed while it was copied", entry.path)).temporary());
                }
            }
        }
        Ok(rest)
    }

    fn fetch(&self, cx: &StepContext<'_>, missing: Vec<Missing<'_>>) -> Result<u64> {
        let Source::Kit { component } = self.source else { return Ok(0) };
        let mut wants: BTreeMap<ContentHash, Want> = BTreeMap::new();
        // In the order of paths, as the kit lies on the share and the packs are cut.
        let mut order = Vec::new();
        for entry in missing {
            let Some(wanted) = self.wanted.get(entry.path) else { continue };
            let want = wants.entry(entry.hash).or_insert_with(|| {
                order.push(entry.hash);
                Want {
                    hash: entry.hash,
                    size: wanted.size,
                    component: component.to_owned(),
                    path: wanted.source.as_str().to_owned(),
                    to: Vec::new(),
                }
            });
            want.to.push(entry.to);
        }
        let wants: Vec<Want> = order.into_iter().filter_map(|h| wants.remove(&h)).collect();
        if wants.is_empty() {
            return Ok(0);
        }
        Ok(cx.content.fetch(wants, cx.progress, cx.deadline)?.fetched_bytes)
    }

    /// Each staged file gets owner and rights of the one it replaces, else of the folder it comes to.
    fn give_rights(
        &self,
        cx: &StepContext<'_>,
        arrival: &Arrival,
        spelled: &HashMap<String, &RelPath>,
        nearest: &mut NearestFolders,
    ) -> Result<()> {
        let name = self.name(arrival);
        if arrival.folder {
            let base = self.areas.stage.join(&name);
            for entry in walkdir::WalkDir::new(&base).into_iter().flatten().filter(|e| e.file_type().is_dir()) {
                let below = entry.path().strip_prefix(&base).unwrap_or(Path::new(""));
                let place = arrival.path.under(self.target).join(below);
                cx.platform.copy_rights(nearest.of(&place)?, entry.path())?;
            }
        }
        for path in &arrival.files {
            let staged = self.staged_path(arrival, &name, path);
            let place = path.under(self.target);
            let executable = self.wanted.get(path).is_some_and(|w| w.executable);
            let folder = place.parent().unwrap_or(&place);
            let nearest = nearest.of(folder)?;
            let replaced = if nearest == folder && place.is_file() {
                Some(place.clone())
            } else {
                spelled.get(&path.case_key()).map(|other| other.under(self.here))
            };
            cx.platform.copy_file_rights(replaced.as_deref().unwrap_or(nearest), &staged, executable)?;
        }
        Ok(())
    }

    fn files_here(&self) -> impl Iterator<Item = (&RelPath, ContentHash)> {
        self.installed.entries.iter().filter(|(_, e)| e.link.is_none()).map(|(p, e)| (p, e.hash))
    }

    /// The renames that make the difference, with what is there now.
    ///
    /// # Errors
    /// When something is not staged or cannot be looked at.
    pub fn moves(&self, difference: &SyncDifference) -> Result<Moves> {
        let mut moves = Moves::below(self.target, self.areas);
        moves.watch = Some(match self.source {
            Source::Kit { component } => Watch::of(component),
            Source::Folder(_) => Watch::default(),
        });
        for path in &difference.outs {
            moves.take(path.clone())?;
        }
        for arrival in &difference.arrivals {
            moves.bring(arrival.path.clone(), &self.name(arrival))?;
        }
        Ok(moves)
    }
}

/// Owner and rights of a staged file: those of the file it replaces, else of the folder it will lie in, without the
/// folder's leave to be entered.
///
/// # Errors
/// When they cannot be set.
pub fn give_file_rights(
    cx: &StepContext<'_>,
    replaced: Option<&Path>,
    place: &Path,
    staged: &Path,
    executable: bool,
) -> Result<()> {
    let like = match replaced {
        Some(old) => old.to_path_buf(),
        None => nearest_folder(place.parent().unwrap_or(place))?,
    };
    cx.platform.copy_file_rights(&like, staged, executable)
}

/// Stops work that takes long on the operator's word or at the deadline.
///
/// # Errors
/// When it is time to stop.
pub fn still_wanted(cx: &StepContext<'_>) -> Result<()> {
    if cx.deadline.is_cancelled() {
        return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
    }
    if cx.deadline.is_over() {
        let limit = cx.deadline.limit().as_secs();
        return Err(Error::new(ErrorKind::TimedOut, format!("not done after {limit} s")).next("give the step a longer `timeout`"));
    }
    Ok(())
}

fn is_right(path: &Path, size: u64, hash: &ContentHash) -> Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() && meta.len() == size => Ok(ContentHash::of_file(path)? == *hash),
        _ => Ok(false),
    }
}

/// Copies a file when its content is what the index says; a file that has changed since is not used.
fn copy_if_same(from: &Path, to: &Path, hash: &ContentHash) -> Result<Option<u64>> {
    match std::fs::copy(from, to) {
        Ok(bytes) if ContentHash::of_file(to)? == *hash => Ok(Some(bytes)),
        Ok(_) => Ok(None),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && to.parent().is_some_and(Path::is_dir) => Ok(None),
        Err(e) => Err(Error::io(format!("copy {} to {}", from.display(), to.display()), &e)),
    }
}

/// Runs `work` for each item on a few threads; results in the order of the items.
///
/// # Errors
/// The first error that any of them had.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8)).min(items.len());
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((at, item)) = {
                    let at = next.fetch_add(1, Ordering::SeqCst);
                    items.get(at).map(|i| (at, i))
                } {
                    let result = work(item);
                    if result.is_err() {
                        next.store(items.len(), Ordering::SeqCst);
                    }
                    if let Ok(mut all) = results.lock() {
                        all.push((at, result));
                    }
                }
            });
        }
    });
    let mut all = results.into_inner().map_err(|_| Error::internal("a thread that handles files ended badly"))?;
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}
