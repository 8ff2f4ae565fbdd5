//! Content for the instruments: blobs by hash, and packs that are compressed once and sent to all.

use super::Kit;
use crate::content::{Chunk, ContentHash, Hashing, pack};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::locks::locked;
use crate::protocol::PackHeader;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime};

/// Packs of earlier runs are kept up to this many bytes.
const KEPT_PACKS: u64 = 8_000_000_000;

/// What a process that was killed left half written is removed after this time.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

const MAGIC: &[u8; 8] = b"ibxpack1";

/// Where a blob's bytes are.
#[derive(Debug, Clone)]
enum Blob {
    File { path: PathBuf, size: u64 },
    Memory(Arc<[u8]>),
}

impl Blob {
    fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

/// All content a run may be asked for.
#[derive(Debug)]
pub struct ContentStore {
    packs: PathBuf,
    blobs: Mutex<HashMap<ContentHash, Blob>>,
    /// One slot for each pack; whoever holds the slot builds it, the others wait.
    slots: Mutex<HashMap<ContentHash, Arc<Mutex<Weak<Pack>>>>>,
}

/// What a pack's file says before the compressed bytes.
#[derive(Debug, Serialize, Deserialize)]
struct PackFileHead {
    header: PackHeader,
    /// Of the compressed bytes.
    frame: ContentHash,
}

/// A compressed pack in the cache folder; the file stays readable while this lives.
#[derive(Debug)]
pub struct Pack {
    pub header: PackHeader,
    file: File,
}

impl Pack {
    /// Reads compressed bytes from `offset` on; 0 at the end. Any number of readers may do so at once.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = usize::try_from(self.header.packed.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        read_file_at(&self.file, offset, &mut buffer[..length]).cannot(|| "read a pack from the cache")
    }

    /// A reader of all compressed bytes.
    pub fn reader(self: &Arc<Self>) -> PackReader {
        PackReader { pack: Arc::clone(self), at: 0 }
    }
}

#[cfg(unix)]
fn read_file_at(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_file_at(file: &File, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

/// See [`Pack::reader`].
#[derive(Debug)]
pub struct PackReader {
    pack: Arc<Pack>,
    at: u64,
}

impl Read for PackReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.pack.read_at(self.at, buffer).map_err(std::io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl ContentStore {
    /// Keeps packs in `cache_dir`, and removes the least recently used of earlier runs beyond [`KEPT_PACKS`].
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn new(cache_dir: &Path) -> Result<Self> {
        let packs = cache_dir.join("packs");
        std::fs::create_dir_all(&packs).cannot(|| format!("make the cache folder {}", packs.display()))?;
        let store = Self { packs, blobs: Mutex::default(), slots: Mutex::default() };
        store.prune(KEPT_PACKS)?;
        Ok(store)
    }

    /// Makes the files and manifests of a kit known.
    ///
    /// # Errors
    /// When a manifest cannot be written as bytes.
    pub fn add_kit(&self, kit: &Kit) -> Result<()> {
        for component in kit.components.values() {
            let folder = std::path::absolute(&component.folder).unwrap_or_else(|_| component.folder.clone());
            let mut blobs = locked(&self.blobs);
            for file in &component.manifest.files {
                blobs.entry(file.hash).or_insert_with(|| Blob::File { path: file.path.under(&folder), size: file.size });
            }
            drop(blobs);
            self.add_bytes(component.manifest.to_bytes()?);
        }
        Ok(())
    }

    /// Makes a file with this content known.
    pub fn add_file(&self, hash: ContentHash, path: PathBuf, size: u64) {
        locked(&self.blobs).insert(hash, Blob::File { path, size });
    }

    /// Makes bytes known, by the hash that is returned.
    pub fn add_bytes(&self, bytes: Vec<u8>) -> ContentHash {
        let hash = ContentHash::of(&bytes);
        locked(&self.blobs).insert(hash, Blob::Memory(bytes.into()));
        hash
    }

    /// The chunks in which these blobs are sent, in order; a blob named twice is sent once.
    ///
    /// # Errors
    /// When a blob is not known.
    pub fn chunks(&self, hashes: &[ContentHash]) -> Result<Vec<Chunk>> {
        let blobs = locked(&self.blobs);
        let mut seen = std::collections::HashSet::new();
        let mut sized = Vec::with_capacity(hashes.len());
        for hash in hashes.iter().filter(|h| seen.insert(**h)) {
            let blob = blobs.get(hash).ok_or_else(|| unknown(hash))?;
            sized.push((*hash, blob.size()));
        }
        Ok(pack::cut(&sized))
    }

    /// The pack of a chunk, compressed by the first that asks and taken from the cache by all others. Blocks.
    ///
    /// # Errors
    /// When a blob is not known, cannot be read, or (`Integrity`) has changed since the kit was read; when the cache
    /// folder cannot be written.
    pub fn pack(&self, chunk: &Chunk) -> Result<Arc<Pack>> {
        let key = chunk.key();
        let slot = Arc::clone(locked(&self.slots).entry(key).or_default());
        let mut slot = locked(&slot);
        if let Some(pack) = slot.upgrade() {
            return Ok(pack);
        }
        let file = self.packs.join(key.to_string());
        let pack = match open_pack(&file, chunk) {
            Some(pack) => pack,
            None => self.build(&file, chunk)?,
        };
        let pack = Arc::new(pack);
        *slot = Arc::downgrade(&pack);
        Ok(pack)
    }

    fn build(&self, target: &Path, chunk: &Chunk) -> Result<Pack> {
        let what = || format!("write a pack into {}", self.packs.display());
        let mut frame = tempfile::Builder::new().prefix(".frame-").tempfile_in(&self.packs).cannot(what)?;
        let mut hashing = Hashing::new(frame.as_file_mut());
        // A buffer in front: the compressor writes in small pieces.
        let header = {
            let mut buffered = std::io::BufWriter::with_capacity(256 * 1024, &mut hashing);
            let mut last = None;
            let header = pack::build(chunk, |hash| self.open(hash, &mut last), &mut buffered);
            let header = header.map_err(|error| changed_since(error, last.as_deref()))?;
            buffered.flush().cannot(what)?;
            header
        };
        let head = PackFileHead { header, frame: hashing.hash() };
        let head_bytes = rmp_serde::to_vec(&head).map_err(|e| Error::internal("cannot write a pack's header").because(e))?;
        // The head stands behind the frame, since it is known last; its length and the magic come at the very end.
        let mut tail = head_bytes.clone();
        tail.extend_from_slice(&(head_bytes.len() as u64).to_le_bytes());
        tail.extend_from_slice(MAGIC);
        frame.write_all(&tail).cannot(what)?;
        let file = frame.persist(target).map_err(|e| e.error).cannot(what)?;
        Ok(Pack { header: head.header, file })
    }

    /// A reader of a blob; `last` is told the file that is read.
    fn open(&self, hash: &ContentHash, last: &mut Option<PathBuf>) -> Result<Box<dyn Read>> {
        *last = None;
        match locked(&self.blobs).get(hash).cloned().ok_or_else(|| unknown(hash))? {
            Blob::Memory(bytes) => Ok(Box::new(std::io::Cursor::new(bytes))),
            Blob::File { path, .. } => {
                let file = File::open(&path).cannot(|| format!("open {}", path.display()))?;
                *last = Some(path);
                Ok(Box::new(file))
            }
        }
    }

    /// Removes the least recently used packs until the rest is within `limit` bytes.
    ///
    /// # Errors
    /// When the folder cannot be read. A pack that cannot be removed, because somebody reads it, stays.
    pub fn prune(&self, limit: u64) -> Result<()> {
        let what = || format!("read the cache folder {}", self.packs.display());
        let mut files = Vec::new();
        for item in std::fs::read_dir(&self.packs).cannot(what)? {
            let item = item.cannot(what)?;
            // Another controller may have removed it meanwhile.
            let Ok(metadata) = item.metadata() else { continue };
            let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if item.file_name().to_string_lossy().starts_with('.') {
                if used.elapsed().is_ok_and(|age| age > ABANDONED) {
                    remove(&item.path());
                }
                continue;
            }
            files.push((used, metadata.len(), item.path()));
        }
        files.sort_unstable();
        let mut total: u64 = files.iter().map(|f| f.1).sum();
        for (_, size, path) in files {
            if total <= limit {
                break;
            }
            remove(&path);
            total -= size;
        }
        Ok(())
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "a pack stays in the cache");
    }
}

/// The pack knows a blob only by its hash; the operator wants to know the file.
fn changed_since(error: Error, file: Option<&Path>) -> Error {
    match file {
        Some(path) if error.kind() == ErrorKind::Integrity => error
            .context(format!("{} changed since the kit was read", path.display()))
            .next("wait until nothing is copied into the release any more, then start again: what is staged already is not sent twice"),
        _ => error,
    }
}

fn unknown(hash: &ContentHash) -> Error {
    Error::new(ErrorKind::Protocol, format!("blob {} is asked for, but is part of neither kit nor plan", hash.short()))
        .next("the kit may have changed since the plan was made: make the plan again")
}

/// A pack of an earlier run, when it is there, is of this chunk, and undamaged.
fn open_pack(path: &Path, chunk: &Chunk) -> Option<Pack> {
    let mut file = File::options().read(true).write(true).open(path).ok()?;
    let mut end = [0; 16];
    let length = file.seek(SeekFrom::End(-16)).ok()?;
    file.read_exact(&mut end).ok()?;
    let (size, magic) = end.split_first_chunk::<8>()?;
    if magic != MAGIC {
        return None;
    }
    let packed = length.checked_sub(u64::from_le_bytes(*size))?;
    file.seek(SeekFrom::Start(packed)).ok()?;
    let mut head = vec![0; usize::try_from(length - packed).ok()?];
    file.read_exact(&mut head).ok()?;
    let head: PackFileHead = rmp_serde::from_slice(&head).ok()?;
    if head.header.blobs != chunk.blobs || head.header.packed != packed {
        return None;
    }
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader((&mut file).take(packed)).ok()?;
    if ContentHash::from_hasher(&hasher) != head.frame {
        return None;
    }
    // The time of the last use, by which packs are pruned.
    if let Err(error) = file.set_modified(SystemTime::now()) {
        tracing::debug!(%error, "the time of a pack's last use is not kept");
    }
    Some(Pack { header: head.header, file })
}

#[cfg(test)]
mod tests;
