//! Remembers the hashes of files between runs.

use super::ContentHash;
use super::tree::Stamp;
use crate::error::{Error, Result};
use crate::files;
use crate::locks::locked;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A file that was written more recently than this when it was hashed is hashed again next time: it may have been
/// written once more without its time telling. Two seconds is the coarsest time of the file systems in use (FAT).
const TOO_FRESH: Duration = Duration::from_secs(2);

/// The first bytes of the file; the digit grows with the format.
const MAGIC: &[u8; 8] = b"ibxhash1";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    size: u64,
    mtime_ns: i64,
    file_id: u64,
    hash: [u8; 32],
}

/// Path to (size, time, file id) to hash, in one file. What cannot be read there is simply not known.
#[derive(Debug)]
pub struct HashCache {
    file: Option<PathBuf>,
    known: Mutex<HashMap<String, Known>>,
}

impl HashCache {
    /// Reads the cache; one that is missing or damaged is empty.
    pub fn open(file: &Path) -> Self {
        let known = std::fs::read(file).ok().and_then(|bytes| decode(&bytes)).unwrap_or_default();
        Self { file: Some(file.to_path_buf()), known: Mutex::new(known) }
    }

    /// A cache that is forgotten with the value.
    pub fn in_memory() -> Self {
        Self { file: None, known: Mutex::new(HashMap::new()) }
    }

    /// The hash of a file that looks as it did when it was hashed.
    pub fn get(&self, path: &Path, stamp: &Stamp) -> Option<ContentHash> {
        let known = locked(&self.known);
        let entry = known.get(path.to_str()?)?;
        let same = entry.size == stamp.size && entry.mtime_ns == stamp.mtime_ns && entry.file_id == stamp.file_id;
        same.then(|| ContentHash::from_bytes(entry.hash))
    }

    /// Remembers a hash, unless the file is so fresh that it could change again unseen.
    pub fn put(&self, path: &Path, stamp: &Stamp, hash: ContentHash) {
        let Some(key) = path.to_str() else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX));
        let fresh = i64::try_from(TOO_FRESH.as_nanos()).unwrap_or(i64::MAX);
        let mut known = locked(&self.known);
        if stamp.mtime_ns > now.saturating_sub(fresh) {
            known.remove(key);
            return;
        }
        let entry = Known { size: stamp.size, mtime_ns: stamp.mtime_ns, file_id: stamp.file_id, hash: *hash.bytes() };
        known.insert(key.to_owned(), entry);
    }

    /// Forgets the files below `root` that `keep` does not know any more.
    pub fn retain_under(&self, root: &Path, keep: impl Fn(&Path) -> bool) {
        locked(&self.known).retain(|path, _| {
            let path = Path::new(path);
            path.strip_prefix(root).map_or(true, &keep)
        });
    }

    /// Writes the cache in one step: a reader finds the old one or the new one.
    ///
    /// # Errors
    /// When the file cannot be written. Nothing is lost but time: callers may go on.
    pub fn save(&self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let body =
            rmp_serde::to_vec(&*locked(&self.known)).map_err(|e| Error::internal("cannot write the hash cache").because(e))?;
        files::write_unflushed(file, &[MAGIC.as_slice(), &crc32fast::hash(&body).to_le_bytes(), &body].concat())
    }
}

fn decode(bytes: &[u8]) -> Option<HashMap<String, Known>> {
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    (crc32fast::hash(body) == u32::from_le_bytes(*sum)).then(|| rmp_serde::from_slice(body).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Stamp = Stamp { size: 3, mtime_ns: 1_000, file_id: 7 };

    #[test]
    fn remembers_over_a_restart_and_forgets_what_changed() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("index/hashes");
        let hash = ContentHash::of(b"abc");
        let cache = HashCache::open(&file);
        cache.put(Path::new("/a/b"), &OLD, hash);
        cache.put(Path::new("/a/c"), &OLD, hash);
        cache.put(Path::new("/z"), &OLD, hash);
        cache.retain_under(Path::new("/a"), |below| below == Path::new("b"));
        cache.save()?;
        let again = HashCache::open(&file);
        assert_eq!(again.get(Path::new("/a/b"), &OLD), Some(hash));
        assert_eq!(again.get(Path::new("/z"), &OLD), Some(hash));
        assert_eq!(again.get(Path::new("/a/c"), &OLD), None);
        for other in [Stamp { size: 4, ..OLD }, Stamp { mtime_ns: 1_001, ..OLD }, Stamp { file_id: 8, ..OLD }] {
            assert_eq!(again.get(Path::new("/a/b"), &other), None, "{other:?}");
        }
        Ok(())
    }

    #[test]
    fn a_file_written_just_now_is_not_remembered() {
        let cache = HashCache::in_memory();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "x").unwrap();
        let stamp = Stamp::of(&std::fs::metadata(&path).unwrap());
        cache.put(&path, &stamp, ContentHash::of(b"x"));
        assert_eq!(cache.get(&path, &stamp), None);
    }

    #[test]
    fn damage_anywhere_makes_it_empty() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hashes");
        let cache = HashCache::open(&file);
        cache.put(Path::new("/a"), &OLD, ContentHash::of(b"abc"));
        cache.save()?;
        let good = std::fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            std::fs::write(&file, bad).unwrap();
            assert_eq!(HashCache::open(&file).get(Path::new("/a"), &OLD), None, "byte {at}");
            std::fs::write(&file, &good[..at]).unwrap();
            assert_eq!(HashCache::open(&file).get(Path::new("/a"), &OLD), None, "cut at {at}");
        }
        Ok(())
    }
}
