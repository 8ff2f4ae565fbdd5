//! Reads a component: lists, checks and hashes its files.

use super::{Component, KitProgress, OnProgress, Source, checks, version_of_tree};
use crate::content::tree::{self, TreeEntry};
use crate::content::{ContentHash, HashCache, Manifest, ManifestEntry, hash_all};
use crate::error::Result;
use crate::paths::PathPatterns;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Without a cache folder, every file is read.
pub(super) fn component(name: &str, source: Source, cache: Option<&Path>, progress: OnProgress<'_>) -> Result<Component> {
    let folder = source.folder;
    checks::copying_has_ended(name, &folder)?;
    let skip = PathPatterns::new(&checks::left_out(name, &folder))?;
    let tree::Found { entries: found, empty_folders, special } = tree::walk_all(&folder, &skip)?;
    checks::nothing_special(&folder, &special)?;
    checks::files(&folder, &found)?;
    let hashes = cache.map_or_else(HashCache::in_memory, |cache| HashCache::open(&cache_file(cache, &folder)));
    let all_known = found.iter().all(|e| hashes.get(&e.path.under(&folder), &e.stamp).is_some());
    let files = hash(name, &folder, &found, &hashes, progress)?;
    if !all_known {
        // Reading took a while: what was copied meanwhile is met here. From the cache alone, listing twice would be
        // most of the work.
        checks::unchanged(&folder, &found, &tree::walk(&folder, &skip)?)?;
        save(&hashes);
    }
    let manifest = Manifest {
        component: name.to_owned(),
        version: version_of(name, &folder).unwrap_or_else(|| source.release.clone()),
        release: source.release.clone(),
        files,
        empty_folders,
    };
    Ok(Component {
        manifest_hash: ContentHash::of(&manifest.to_bytes()?),
        bytes: manifest.total_bytes(),
        manifest,
        folder,
        release: source.release,
        borrowed: source.borrowed,
    })
}

fn hash(
    name: &str,
    folder: &Path,
    found: &[TreeEntry],
    cache: &HashCache,
    progress: OnProgress<'_>,
) -> Result<Vec<ManifestEntry>> {
    let total_bytes = found.iter().map(|e| e.stamp.size).sum();
    let (files, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = |size: u64| {
        progress(&KitProgress {
            component: name.to_owned(),
            files: files.fetch_add(1, Ordering::Relaxed) + 1,
            total_files: found.len() as u64,
            bytes: bytes.fetch_add(size, Ordering::Relaxed) + size,
            total_bytes,
        });
    };
    let hashed = hash_all(folder, found.to_vec(), cache, &done)?;
    if hashed.len() < found.len() {
        let gone = |e: &&TreeEntry| hashed.binary_search_by(|(h, _)| h.path.cmp(&e.path)).is_err();
        let moved: Vec<_> = found.iter().filter(gone).map(|e| e.path.to_string()).collect();
        return Err(checks::changed_meanwhile(folder, &moved));
    }
    let entry = |(e, hash): (TreeEntry, ContentHash)| ManifestEntry {
        executable: e.executable(),
        size: e.stamp.size,
        path: e.path,
        hash,
    };
    Ok(hashed.into_iter().map(entry).collect())
}

/// What the component's `VERSION.txt` says, if it says something. Where a playbook proves it, the plan asks for more.
fn version_of(name: &str, folder: &Path) -> Option<String> {
    let tree = if checks::is_nested(name, folder) { folder.join(name) } else { folder.to_path_buf() };
    version_of_tree(&tree).ok()
}

/// One file for each component's folder, however the folder was named.
fn cache_file(cache: &Path, folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let name = ContentHash::of(absolute.to_string_lossy().as_bytes());
    cache.join("hashes").join(name.short())
}

fn save(hashes: &HashCache) {
    if let Err(error) = hashes.save() {
        // Only time is lost: the kit is read again next time.
        tracing::warn!(%error, "the hashes of the kit are not remembered");
    }
}
