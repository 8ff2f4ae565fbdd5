//! Packs: many blobs as one compressed stream, the same for all instruments.

use super::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::protocol::PackHeader;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};

/// A chunk ends when it holds this many bytes, and a larger blob is a chunk of its own.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// One in so many blobs ends a chunk, by its hash.
const CHUNK_END_ONE_IN: u8 = 32;

/// Fast enough for the network, and within a few per cent of the slower levels on these files.
const LEVEL: i32 = 3;

/// The largest window a pack may ask the reader to hold in memory: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;

/// Blobs that are sent together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Hash and size, in the order they are sent.
    pub blobs: Vec<(ContentHash, u64)>,
}

impl Chunk {
    /// The name of the pack made from this chunk: the hash of its blobs' hashes.
    pub fn key(&self) -> ContentHash {
        let mut hasher = blake3::Hasher::new();
        for (hash, _) in &self.blobs {
            hasher.update(hash.bytes());
        }
        ContentHash::from_hasher(&hasher)
    }

    /// Bytes of the blobs before compression.
    pub fn bytes(&self) -> u64 {
        self.blobs.iter().map(|(_, size)| size).sum()
    }
}

/// Cuts a list of blobs into chunks at places that the content decides, so that instruments which lack nearly the
/// same blobs ask for mostly the same chunks, and each is compressed once.
pub fn cut(blobs: &[(ContentHash, u64)]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut open = Vec::new();
    let mut bytes = 0;
    for &(hash, size) in blobs {
        if size > CHUNK_BYTES && !open.is_empty() {
            chunks.push(Chunk { blobs: std::mem::take(&mut open) });
            bytes = 0;
        }
        open.push((hash, size));
        bytes += size;
        if bytes >= CHUNK_BYTES || hash.bytes()[0] % CHUNK_END_ONE_IN == 0 {
            chunks.push(Chunk { blobs: std::mem::take(&mut open) });
            bytes = 0;
        }
    }
    if !open.is_empty() {
        chunks.push(Chunk { blobs: open });
    }
    chunks
}

/// Compresses the blobs of a chunk, as `open` gives them, into `out`. Every blob is checked against its hash on the way.
///
/// # Errors
/// When a blob cannot be read or written, or (`Integrity`) is no longer what its hash says.
pub fn build<R: Read>(chunk: &Chunk, mut open: impl FnMut(&ContentHash) -> Result<R>, out: impl Write) -> Result<PackHeader> {
    let what = || "write a pack";
    let mut encoder = zstd::stream::write::Encoder::new(Counted { inner: out, count: 0 }, LEVEL).cannot(what)?;
    encoder.include_checksum(true).cannot(what)?;
    let mut buffer = vec![0; 128 * 1024];
    for (hash, size) in &chunk.blobs {
        let mut source = open(hash)?;
        let mut hasher = blake3::Hasher::new();
        let mut bytes = 0;
        loop {
            let read = source.read(&mut buffer).cannot(|| format!("read blob {}", hash.short()))?;
            if read == 0 {
                break;
            }
            bytes += read as u64;
            hasher.update(&buffer[..read]);
            encoder.write_all(&buffer[..read]).cannot(what)?;
        }
        if bytes != *size || ContentHash::from_hasher(&hasher) != *hash {
            return Err(Error::new(ErrorKind::Integrity, format!("blob {} is no longer what its hash says", hash.short())));
        }
    }
    let packed = encoder.finish().cannot(what)?.count;
    Ok(PackHeader { blobs: chunk.blobs.clone(), packed })
}

struct Counted<W> {
    inner: W,
    count: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Where the blobs of a pack go.
pub trait BlobSink {
    /// Takes the bytes of one blob; dropped when the blob turns out to be wrong.
    type Writer: Write;

    /// A blob begins.
    ///
    /// # Errors
    /// When there is no place for it.
    fn open(&mut self, hash: &ContentHash, size: u64) -> Result<Self::Writer>;

    /// All bytes of the blob were written and are what the hash says. Only now may it be used.
    ///
    /// # Errors
    /// When it cannot be put in place.
    fn verified(&mut self, hash: &ContentHash, size: u64, writer: Self::Writer) -> Result<()>;
}

/// Takes a pack's bytes in pieces of any size and hands out the blobs, each checked against its hash. Holds no
/// more than the window of the compression and a buffer in memory, however large a blob is.
pub struct Unpacker<S: BlobSink> {
    decoder: zstd::stream::write::Decoder<'static, Splitter<S>>,
    packed: u64,
    taken: u64,
}

impl<S: BlobSink> std::fmt::Debug for Unpacker<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacker").field("packed", &self.packed).field("taken", &self.taken).finish_non_exhaustive()
    }
}

impl<S: BlobSink> Unpacker<S> {
    /// For the pack that `header` announces.
    ///
    /// # Errors
    /// When memory for decompression cannot be had.
    pub fn new(header: PackHeader, sink: S) -> Result<Self> {
        let splitter = Splitter { blobs: header.blobs.into_iter(), sink, open: None, failed: None };
        let mut decoder = zstd::stream::write::Decoder::new(splitter).cannot(|| "begin to unpack")?;
        decoder.window_log_max(WINDOW_LOG_MAX).cannot(|| "begin to unpack")?;
        Ok(Self { decoder, packed: header.packed, taken: 0 })
    }

    /// Takes the next bytes. After an error the unpacker is of no more use.
    ///
    /// # Errors
    /// `Integrity` when the bytes are not a pack of these blobs; what the sink returns.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.taken += bytes.len() as u64;
        if self.taken > self.packed {
            return Err(damaged("it is longer than announced"));
        }
        let outcome = self.decoder.write_all(bytes).and_then(|()| self.decoder.flush());
        self.judge(outcome)
    }

    /// True when all announced bytes came.
    pub fn is_complete(&self) -> bool {
        self.taken == self.packed
    }

    /// Ends the pack and gives the sink back.
    ///
    /// # Errors
    /// `Integrity` when bytes or blobs are missing.
    pub fn finish(mut self) -> Result<S> {
        if self.taken < self.packed {
            return Err(damaged(&format!("it ended after {} of {} bytes", self.taken, self.packed)));
        }
        let outcome = self.decoder.flush();
        self.judge(outcome)?;
        let mut splitter = self.decoder.into_inner();
        splitter.hand_out_empty_blobs()?;
        match splitter.open.map(|o| o.hash).or_else(|| splitter.blobs.next().map(|(hash, _)| hash)) {
            Some(hash) => Err(damaged(&format!("blob {} is not complete in it", hash.short()))),
            None => Ok(splitter.sink),
        }
    }

    /// The splitter's own error is the cause when it stopped the decoder.
    fn judge(&mut self, outcome: std::io::Result<()>) -> Result<()> {
        match (self.decoder.get_mut().failed.take(), outcome) {
            (Some(error), _) => Err(error),
            (None, Err(e)) => Err(damaged("it cannot be decompressed").because(e)),
            (None, Ok(())) => Ok(()),
        }
    }
}

fn damaged(why: &str) -> Error {
    Error::new(ErrorKind::Integrity, format!("a pack of files was damaged on the way: {why}"))
        .next("the transfer is tried again; if it goes on, check the network or the disk of either machine")
}

/// Splits the decompressed stream into its blobs.
struct Splitter<S: BlobSink> {
    blobs: std::vec::IntoIter<(ContentHash, u64)>,
    sink: S,
    open: Option<OpenBlob<S::Writer>>,
    failed: Option<Error>,
}

struct OpenBlob<W> {
    hash: ContentHash,
    size: u64,
    left: u64,
    hasher: blake3::Hasher,
    writer: W,
}

impl<S: BlobSink> Splitter<S> {
    /// Opens the next blob and closes it at once when it is empty, until one wants bytes.
    fn hand_out_empty_blobs(&mut self) -> Result<()> {
        while self.open.is_none() {
            let Some((hash, size)) = self.blobs.next() else { return Ok(()) };
            let writer = self.sink.open(&hash, size)?;
            self.open = Some(OpenBlob { hash, size, left: size, hasher: blake3::Hasher::new(), writer });
            if size == 0 {
                self.close_blob()?;
            }
        }
        Ok(())
    }

    fn close_blob(&mut self) -> Result<()> {
        let Some(blob) = self.open.take() else { return Ok(()) };
        if ContentHash::from_hasher(&blob.hasher) != blob.hash {
            return Err(damaged(&format!("blob {} is not what its hash says", blob.hash.short())));
        }
        self.sink.verified(&blob.hash, blob.size, blob.writer)
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.hand_out_empty_blobs()?;
            let Some(blob) = &mut self.open else {
                return Err(damaged("it holds more than was announced"));
            };
            let length = usize::try_from(blob.left).unwrap_or(usize::MAX).min(bytes.len());
            let (now, rest) = bytes.split_at(length);
            blob.hasher.update(now);
            blob.writer.write_all(now).cannot(|| format!("write the content {}", blob.hash.short()))?;
            blob.left -= length as u64;
            if blob.left == 0 {
                self.close_blob()?;
            }
            bytes = rest;
        }
        Ok(())
    }
}

impl<S: BlobSink> Write for Splitter<S> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.failed.is_none()
            && let Err(error) = self.take(bytes)
        {
            self.failed = Some(error);
        }
        if self.failed.is_some() {
            return Err(std::io::Error::other("stopped"));
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
