//! What an installed tree consists of.

use super::tree::{self, Special, Stamp, TreeEntry};
use super::{ContentHash, HashCache};
use crate::error::{Error, ErrorKind, Result};
use crate::locks::locked;
use crate::paths::{PathPatterns, RelPath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The content of a file, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Bytes.
    pub size: u64,
    pub hash: ContentHash,
}

impl From<&IndexEntry> for Seen {
    fn from(entry: &IndexEntry) -> Self {
        Self { size: entry.size, hash: entry.hash }
    }
}

/// One file or link of an installed tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Bytes; of a link, those of its target's name.
    pub size: u64,
    /// Of a link: the hash of its target's name.
    pub hash: ContentHash,
    /// Nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Permission bits; 0 where the system has none.
    #[serde(default)]
    pub mode: u32,
    /// Where a link leads; nothing for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl IndexEntry {
    /// True when the file may be run on systems that ask for that.
    pub fn executable(&self) -> bool {
        self.mode & 0o111 != 0
    }

    /// True when both have the same content and rights; times do not count.
    pub fn same_as(&self, other: &Self) -> bool {
        self.size == other.size && self.hash == other.hash && self.mode == other.mode && self.link == other.link
    }
}

/// All files and links of an installed tree by path, with their hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TreeIndex {
    pub entries: BTreeMap<RelPath, IndexEntry>,
    /// What was there without any content; known only to who has looked.
    #[serde(skip)]
    pub special: Vec<Special>,
}

/// What is different between two indexes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeDifference {
    pub added: Vec<RelPath>,
    pub removed: Vec<RelPath>,
    /// Other content, other rights, or a link where a file was.
    pub changed: Vec<RelPath>,
}

impl TreeDifference {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// All paths that differ, sorted.
    pub fn paths(&self) -> Vec<&RelPath> {
        let mut all: Vec<_> = self.added.iter().chain(&self.removed).chain(&self.changed).collect();
        all.sort_unstable();
        all
    }
}

impl TreeIndex {
    /// Indexes a tree with several threads, hashing only what the cache does not know. A root that does not exist has
    /// an empty index; a file that vanishes meanwhile is left out. The cache is not saved.
    ///
    /// # Errors
    /// When a folder or file cannot be read, or a name can be no [`RelPath`].
    pub fn build(root: &Path, cache: &HashCache, skip: &PathPatterns) -> Result<Self> {
        if let Err(e) = std::fs::metadata(root)
            && e.kind() == std::io::ErrorKind::NotFound
        {
            return Ok(Self::default());
        }
        let tree::Found { entries, special, .. } = tree::walk_all(root, skip)?;
        let entries = hash_all(root, entries, cache, &|_| ())?;
        let entries = entries.into_iter().map(|(e, hash)| (e.path.clone(), entry_of(&e, hash))).collect();
        let index = Self { entries, special };
        // What is skipped was not looked at, and may still be there.
        cache.retain_under(root, |below| {
            let path = below.to_str().and_then(|t| RelPath::parse(t).ok());
            path.is_some_and(|p| skip.covers(&p) || index.entries.contains_key(&p))
        });
        Ok(index)
    }

    /// Indexes single paths of a tree: those that are files or links.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn of_paths<'a>(root: &Path, paths: impl IntoIterator<Item = &'a RelPath>) -> Result<Self> {
        let mut index = Self::default();
        for path in paths {
            if let Some(found) = tree::look_at(root, path)? {
                let hash = match &found.link {
                    Some(to) => ContentHash::of(to.to_string_lossy().as_bytes()),
                    None => ContentHash::of_file(&path.under(root))?,
                };
                index.entries.insert(path.clone(), entry_of(&found, hash));
            }
        }
        Ok(index)
    }

    /// What changed from this index to a later one.
    pub fn compare(&self, later: &Self) -> TreeDifference {
        let mut difference = TreeDifference::default();
        for (path, entry) in &self.entries {
            match later.entries.get(path) {
                None => difference.removed.push(path.clone()),
                Some(now) if !entry.same_as(now) => difference.changed.push(path.clone()),
                Some(_) => {}
            }
        }
        difference.added = later.entries.keys().filter(|p| !self.entries.contains_key(*p)).cloned().collect();
        difference
    }

    /// Bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.entries.values().map(|e| e.size).sum()
    }
}

fn entry_of(found: &TreeEntry, hash: ContentHash) -> IndexEntry {
    let link = found.link.as_ref().map(|to| to.to_string_lossy().into_owned());
    let size = link.as_ref().map_or(found.stamp.size, |to| to.len() as u64);
    IndexEntry { size, hash, mtime_ns: found.stamp.mtime_ns, mode: found.mode, link }
}

/// The hash of each entry, by several threads, with the cache in front. `done` hears of the bytes of each file.
///
/// # Errors
/// The first that a thread met: a file that cannot be read.
pub(crate) fn hash_all(
    root: &Path,
    mut found: Vec<TreeEntry>,
    cache: &HashCache,
    done: &(dyn Fn(u64) + Sync),
) -> Result<Vec<(TreeEntry, ContentHash)>> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    let hash_some = || {
        let mut mine = Vec::new();
        while let Some(entry) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
            if locked(&failed).is_some() {
                break;
            }
            match hash_one(&entry.path.under(root), entry, cache) {
                Ok(Some(hash)) => mine.push((entry.path.clone(), hash)),
                Ok(None) => {}
                Err(error) => {
                    locked(&failed).get_or_insert(error);
                    break;
                }
            }
            done(entry.stamp.size);
        }
        mine
    };
    let mut hashes: BTreeMap<RelPath, ContentHash> = BTreeMap::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..tree::workers()).map(|_| scope.spawn(hash_some)).collect();
        for thread in threads {
            hashes.extend(thread.join().map_err(|_| Error::internal(format!("a thread that hashed {} died", root.display())))?);
        }
        Ok::<_, Error>(())
    })?;
    if let Some(error) = locked(&failed).take() {
        return Err(error);
    }
    Ok(found.drain(..).filter_map(|e| hashes.get(&e.path).copied().map(|hash| (e, hash))).collect())
}

/// Nothing when the file is gone.
fn hash_one(path: &PathBuf, entry: &TreeEntry, cache: &HashCache) -> Result<Option<ContentHash>> {
    if let Some(to) = &entry.link {
        return Ok(Some(ContentHash::of(to.to_string_lossy().as_bytes())));
    }
    if let Some(hash) = cache.get(path, &entry.stamp) {
        return Ok(Some(hash));
    }
    match ContentHash::of_file(path) {
        Ok(hash) => {
            // Remembered only when it did not change while it was read.
            if std::fs::symlink_metadata(path).is_ok_and(|now| Stamp::of(&now) == entry.stamp) {
                cache.put(path, &entry.stamp, hash);
            }
            Ok(Some(hash))
        }
        Err(error) if error.kind() == ErrorKind::Io && !path.exists() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn write_old(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
    }

    #[test]
    fn differences_are_named() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        for file in ["same", "changed", "gone"] {
            write_old(&dir.path().join("sub").join(file), file);
        }
        let cache = HashCache::in_memory();
        let before = TreeIndex::build(dir.path(), &cache, &PathPatterns::default())?;
        std::fs::write(dir.path().join("sub/changed"), "CHANGED").unwrap();
        std::fs::remove_file(dir.path().join("sub/gone")).unwrap();
        std::fs::write(dir.path().join("new"), "n").unwrap();
        let after = TreeIndex::build(dir.path(), &cache, &PathPatterns::default())?;
        let difference = before.compare(&after);
        let named: Vec<_> = difference.paths().into_iter().map(RelPath::as_str).collect();
        assert_eq!(named, ["new", "sub/changed", "sub/gone"]);
        assert_eq!((difference.added.len(), difference.changed.len(), difference.removed.len()), (1, 1, 1));
        assert_eq!(before.compare(&before.clone()), TreeDifference::default());
        Ok(())
    }

    #[test]
    fn what_the_cache_knows_is_not_read_again() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_old(&path, "abc");
        let stamp = Stamp::of(&std::fs::metadata(&path).unwrap());
        let cache = HashCache::in_memory();
        // A hash that reading would never give tells where the answer came from.
        let planted = ContentHash::of(b"planted");
        cache.put(&path, &stamp, planted);
        let index = TreeIndex::build(dir.path(), &cache, &PathPatterns::default())?;
        assert_eq!(index.entries.values().map(|e| e.hash).collect::<Vec<_>>(), [planted]);
        write_old(&path, "abcd");
        let index = TreeIndex::build(dir.path(), &cache, &PathPatterns::default())?;
        assert_eq!(index.entries.values().map(|e| e.hash).collect::<Vec<_>>(), [ContentHash::of(b"abcd")]);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn links_and_rights_count_and_survive_json() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        write_old(&dir.path().join("run.bat"), "x");
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        let cache = HashCache::in_memory();
        let before = TreeIndex::build(dir.path(), &cache, &PathPatterns::default())?;
        let text = serde_json::to_string(&before).unwrap();
        assert_eq!(serde_json::from_str::<TreeIndex>(&text).unwrap(), before);
        std::fs::set_permissions(dir.path().join("run.bat"), PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::remove_file(dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).unwrap();
        let after = TreeIndex::build(dir.path(), &cache, &PathPatterns::default())?;
        assert_eq!(before.compare(&after).paths().len(), 2);
        Ok(())
    }

    #[test]
    fn a_tree_that_is_not_there_is_empty() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let index = TreeIndex::build(&dir.path().join("no"), &HashCache::in_memory(), &PathPatterns::default())?;
        assert_eq!(index, TreeIndex::default());
        Ok(())
    }
}
