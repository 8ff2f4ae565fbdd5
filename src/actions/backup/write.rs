//! One folder as one plain zip: several threads read and compress, one writes in the order of the names.

use super::listing::{Listing, Unreadable};
use super::work::{Job, OpenFile, PIECE, Part, Work};
use super::zip_format::{Attributes, Entry, Method, Times, end};
use crate::actions::StepContext;
use crate::actions::moves::mtime_ns;
use crate::actions::sync::staging::still_wanted;
use crate::content::tree::workers;
use crate::error::{Error, IoContext, Result};
use crate::events::Unit;
use crate::paths::RelPath;
use jiff::tz::TimeZone;
use libdeflater::{CompressionLvl, Compressor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Fast, and as small as the backups have been so far.
const LEVEL: u8 = 1;
/// Pauses before what could not be read is tried again: whoever has a file open for writing is mostly done by then.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// Asked between pieces whether the work is still wanted, and told of the bytes that were read.
pub(crate) type Alive<'a> = &'a (dyn Fn(u64) -> Result<()> + Sync);

/// What work that counts bytes is told: it adds them to `done` of `total`, and stops at the deadline and on the operator's
/// word.
pub(crate) fn counting<'a>(cx: &'a StepContext<'_>, total: u64, done: &'a AtomicU64) -> impl Fn(u64) -> Result<()> + Sync + 'a {
    move |bytes| {
        let now = done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        cx.progress.advanced(now.min(total), total, Unit::Bytes);
        still_wanted(cx)
    }
}

/// A zip that was written, as the catalogue has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub files: u64,
    /// Bytes before compression.
    pub bytes: u64,
    /// Bytes of the zip.
    pub zip_bytes: u64,
    /// BLAKE3 of the zip.
    pub hash: String,
    /// Files that were gone when their turn came.
    pub vanished: Vec<RelPath>,
    /// Links, which are left out.
    pub links: Vec<RelPath>,
    /// What is not in the zip because it could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Unreadable>,
    /// Files that somebody wrote to each time they were read: the zip has them as they were in the middle of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<RelPath>,
}

impl Written {
    /// True when the zip should hold this file of the listing.
    pub(crate) fn holds(&self, path: &RelPath) -> bool {
        !self.vanished.contains(path) && !self.unreadable.iter().any(|u| u.path == path.as_str())
    }
}

/// Why a file is not in the zip yet.
#[derive(Debug)]
enum Trouble {
    Gone,
    Unreadable(std::io::Error),
    /// Somebody wrote to it meanwhile.
    Changed,
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Self::Gone,
            _ => Self::Unreadable(error),
        }
    }
}

/// A file or a piece of one, compressed.
struct Packed {
    bytes: Vec<u8>,
    method: Method,
    crc: crc32fast::Hasher,
    read: u64,
    /// Of a whole file, or with its first piece.
    meta: Option<Metadata>,
    changed: bool,
}

/// What came of a job.
type Came = (Job, Result<Result<Packed, Trouble>>);

/// Writes the files of a folder to a zip. A file that is gone, in use or written to is tried again, after all others;
/// what cannot be read even then is named in what this returns. The zip need not be on the disk yet: its file comes along.
///
/// # Errors
/// When the zip cannot be written, or `alive` says stop.
pub(crate) fn write(folder: &Path, listing: &Listing, to: &Path, alive: Alive<'_>) -> Result<(Written, File)> {
    let mut sink = Sink::new(to)?;
    sink.written.links = listing.links.clone();
    sink.written.unreadable = listing.unreadable.clone();
    for path in &listing.empty {
        sink.put_whole(Entry::new(format!("{path}/"), Times::NONE, Attributes::folder(), 0), &[])?;
    }
    let all: Vec<(RelPath, u64)> = listing.files.iter().map(|(path, size)| (path.clone(), *size)).collect();
    let mut trouble = pack_all(folder, &all, &mut sink, false, alive)?;
    for (round, pause) in PAUSES.into_iter().enumerate() {
        if trouble.is_empty() {
            break;
        }
        // A file that is gone comes back at once, when somebody replaces it, or never.
        if trouble.values().any(|why| !matches!(why, Trouble::Gone)) {
            wait(pause, alive)?;
        }
        let size = |path: &RelPath| path.under(folder).metadata().map_or(0, |meta| meta.len());
        let again: Vec<(RelPath, u64)> = trouble.keys().map(|path| (path.clone(), size(path))).collect();
        trouble = pack_all(folder, &again, &mut sink, round + 1 == PAUSES.len(), alive)?;
    }
    sink.give_up(trouble);
    sink.finish()
}

/// Waits, and goes on asking.
fn wait(pause: Duration, alive: Alive<'_>) -> Result<()> {
    const STEP: Duration = Duration::from_millis(50);
    let mut left = pause;
    while !left.is_zero() {
        alive(0)?;
        let step = left.min(STEP);
        std::thread::sleep(step);
        left -= step;
    }
    Ok(())
}

/// Reads and compresses on several threads, and writes here.
fn pack_all(
    folder: &Path,
    files: &[(RelPath, u64)],
    sink: &mut Sink<'_>,
    last: bool,
    alive: Alive<'_>,
) -> Result<BTreeMap<RelPath, Trouble>> {
    let work = Work::new(folder, files);
    let (out, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..workers().min(files.len()) {
            let (work, out) = (&work, out.clone());
            scope.spawn(move || pack(work, last, alive, &out));
        }
        drop(out);
        let written = write_in_order(&work, &results, sink);
        // Whatever came of it, nobody is to wait for room any more.
        work.stop();
        written
    })
}

/// A thread's work: job by job until there are no more or nobody wants them.
fn pack(work: &Work<'_>, last: bool, alive: Alive<'_>, out: &Sender<Came>) {
    let Ok(level) = CompressionLvl::new(i32::from(LEVEL)) else { return };
    let mut packer = Packer { whole: Compressor::new(level), pieces: None, buffer: Vec::new(), last };
    while let Some(job) = work.take() {
        let packed = packer.pack(work, &job);
        let came = alive(packed.as_ref().map_or(0, |p| p.read)).map(|()| packed);
        let stop = came.is_err();
        if out.send((job, came)).is_err() || stop {
            return;
        }
    }
}

struct Packer {
    whole: Compressor,
    pieces: Option<flate2::Compress>,
    buffer: Vec<u8>,
    /// The last round: a file that is written to all the time is taken as it is.
    last: bool,
}

impl Packer {
    fn pack(&mut self, work: &Work<'_>, job: &Job) -> Result<Packed, Trouble> {
        match &job.part {
            Part::Whole => self.file(&work.native(job.file)),
            Part::Piece { open, offset, bytes, first, last } => self.piece(open, *offset, *bytes, *first, *last),
        }
    }

    fn file(&mut self, path: &Path) -> Result<Packed, Trouble> {
        let mut file = File::open(path)?;
        let before = file.metadata()?;
        let size = before.len();
        if size > PIECE {
            // It has grown since it was listed: the next round cuts it up.
            return Err(Trouble::Changed);
        }
        self.buffer.clear();
        // A byte more than there should be tells that it grows.
        Read::by_ref(&mut file).take(size + 1).read_to_end(&mut self.buffer)?;
        let changed = self.buffer.len() as u64 != size || differs(&file.metadata()?, &before);
        if changed && !self.last {
            return Err(Trouble::Changed);
        }
        self.buffer.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.buffer);
        let mut bytes = vec![0; self.whole.deflate_compress_bound(self.buffer.len())];
        let packed = self.whole.deflate_compress(&self.buffer, &mut bytes).unwrap_or(usize::MAX);
        let method = if packed < self.buffer.len() {
            bytes.truncate(packed);
            Method::Deflated
        } else {
            bytes.clone_from(&self.buffer);
            Method::Stored
        };
        Ok(Packed { bytes, method, crc, read: self.buffer.len() as u64, meta: Some(before), changed })
    }

    /// A part of one long stream: each ends at a byte, and only the last one says that it is the end.
    fn piece(&mut self, open: &OpenFile, offset: u64, bytes: u64, first: bool, last: bool) -> Result<Packed, Trouble> {
        self.buffer.clear();
        self.buffer.resize(usize::try_from(bytes).unwrap_or(usize::MAX), 0);
        let mut filled = 0;
        while filled < self.buffer.len() {
            match read_at(&open.file, &mut self.buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Trouble::Unreadable(e)),
            }
        }
        let changed = filled < self.buffer.len();
        self.buffer.truncate(filled);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.buffer);
        let stream = self.pieces.get_or_insert_with(|| flate2::Compress::new(flate2::Compression::new(u32::from(LEVEL)), false));
        stream.reset();
        let flush = if last { flate2::FlushCompress::Finish } else { flate2::FlushCompress::Sync };
        let packed = deflate(stream, &self.buffer, flush).map_err(|e| Trouble::Unreadable(std::io::Error::other(e)))?;
        let meta = first.then(|| open.meta.clone());
        Ok(Packed { bytes: packed, method: Method::Deflated, crc, read: filled as u64, meta, changed })
    }
}

fn deflate(stream: &mut flate2::Compress, input: &[u8], flush: flate2::FlushCompress) -> Result<Vec<u8>, flate2::CompressError> {
    let mut out = Vec::with_capacity(input.len() + input.len() / 1024 + 64);
    loop {
        let taken = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        let status = stream.compress_vec(&input[taken..], &mut out, flush)?;
        let all_in = stream.total_in() == input.len() as u64;
        let done = match flush {
            flate2::FlushCompress::Finish => status == flate2::Status::StreamEnd,
            // Room that is left means that nothing waits to be put into it.
            _ => all_in && out.len() < out.capacity(),
        };
        if done {
            return Ok(out);
        }
        out.reserve(out.capacity() / 2 + 64);
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

fn differs(now: &Metadata, before: &Metadata) -> bool {
    now.len() != before.len() || mtime_ns(now) != mtime_ns(before)
}

/// Takes the results in the order of their numbers. Gives the files that are not in the zip, and why.
fn write_in_order(work: &Work<'_>, results: &Receiver<Came>, sink: &mut Sink<'_>) -> Result<BTreeMap<RelPath, Trouble>> {
    let mut early: BTreeMap<u64, (Job, Result<Packed, Trouble>)> = BTreeMap::new();
    let mut trouble = BTreeMap::new();
    let mut next = 0;
    for (job, came) in results {
        early.insert(job.number, (job, came?));
        while let Some((job, packed)) = early.remove(&next) {
            next += 1;
            let path = work.path(job.file);
            let cost = job.cost();
            if let Err(why) = sink.take(path, job, packed)? {
                trouble.entry(path.clone()).or_insert(why);
            }
            work.release(cost);
        }
    }
    if !early.is_empty() || !work.is_all_out() {
        return Err(Error::internal("a thread that compresses files ended early"));
    }
    Ok(trouble)
}

/// The zip as far as it is written.
struct Sink<'a> {
    path: &'a Path,
    out: BufWriter<File>,
    at: u64,
    entries: Vec<Entry>,
    zone: TimeZone,
    /// The large file whose pieces are coming.
    coming: Option<Coming>,
    written: Written,
}

struct Coming {
    entry: Entry,
    crc: crc32fast::Hasher,
    changed: bool,
}

impl<'a> Sink<'a> {
    fn new(path: &'a Path) -> Result<Self> {
        let file = File::create(path).cannot(|| format!("make {}", path.display()))?;
        Ok(Self {
            path,
            out: BufWriter::with_capacity(1 << 20, file),
            at: 0,
            entries: Vec::new(),
            zone: TimeZone::system(),
            coming: None,
            written: Written::default(),
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).cannot(|| format!("write {}", self.path.display()))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn put_whole(&mut self, mut entry: Entry, bytes: &[u8]) -> Result<()> {
        (entry.offset, entry.packed) = (self.at, bytes.len() as u64);
        self.put(&entry.local_header())?;
        self.put(bytes)?;
        self.entries.push(entry);
        Ok(())
    }

    fn go_to(&mut self, at: u64) -> Result<()> {
        self.out.seek(SeekFrom::Start(at)).cannot(|| format!("write {}", self.path.display()))?;
        self.at = at;
        Ok(())
    }

    /// Writes a result. The inner error is the file's own trouble, the outer one the zip's.
    fn take(&mut self, path: &RelPath, job: Job, packed: Result<Packed, Trouble>) -> Result<Result<(), Trouble>> {
        match (job.part, packed) {
            (Part::Whole, Err(why)) => Ok(Err(why)),
            (Part::Whole, Ok(packed)) => {
                let Some(meta) = &packed.meta else { return Err(Error::internal("a file came without its times")) };
                let mut entry = self.entry(path, meta);
                (entry.method, entry.crc, entry.size) = (packed.method, packed.crc.finalize(), packed.read);
                self.count(path, packed.read, packed.changed);
                self.put_whole(entry, &packed.bytes).map(Ok)
            }
            (Part::Piece { last, open, .. }, packed) => self.take_piece(path, packed, last.then_some(&open)),
        }
    }

    fn entry(&self, path: &RelPath, meta: &Metadata) -> Entry {
        Entry::new(path.as_str().to_owned(), Times::of(mtime_ns(meta), &self.zone), Attributes::of(meta), meta.len())
    }

    fn take_piece(
        &mut self,
        path: &RelPath,
        packed: Result<Packed, Trouble>,
        last: Option<&Arc<OpenFile>>,
    ) -> Result<Result<(), Trouble>> {
        let packed = match packed {
            Ok(packed) => packed,
            Err(why) => {
                // What is written of it counts for nothing; its further pieces find that it does not come any more.
                if let Some(coming) = self.coming.take() {
                    self.go_to(coming.entry.offset)?;
                }
                return Ok(Err(why));
            }
        };
        if let Some(meta) = &packed.meta {
            let mut entry = self.entry(path, meta);
            (entry.method, entry.offset) = (Method::Deflated, self.at);
            // The header is written anew once all is known that stands in it.
            self.put(&entry.local_header())?;
            self.coming = Some(Coming { entry, crc: crc32fast::Hasher::new(), changed: false });
        }
        let Some(coming) = &mut self.coming else { return Ok(Ok(())) };
        coming.crc.combine(&packed.crc);
        coming.entry.size += packed.read;
        coming.entry.packed += packed.bytes.len() as u64;
        coming.changed |= packed.changed;
        self.put(&packed.bytes)?;
        if let Some(open) = last {
            self.end_pieces(path, open)?;
        }
        Ok(Ok(()))
    }

    fn end_pieces(&mut self, path: &RelPath, open: &OpenFile) -> Result<()> {
        let Some(Coming { mut entry, crc, changed }) = self.coming.take() else { return Ok(()) };
        entry.crc = crc.finalize();
        let after = self.at;
        self.go_to(entry.offset)?;
        self.put(&entry.local_header())?;
        self.go_to(after)?;
        let changed = changed || open.file.metadata().is_ok_and(|now| differs(&now, &open.meta));
        self.count(path, entry.size, changed);
        self.entries.push(entry);
        Ok(())
    }

    fn count(&mut self, path: &RelPath, bytes: u64, changed: bool) {
        self.written.files += 1;
        self.written.bytes += bytes;
        if changed {
            self.written.changed.push(path.clone());
        }
    }

    /// Names what is not in the zip.
    fn give_up(&mut self, trouble: BTreeMap<RelPath, Trouble>) {
        for (path, why) in trouble {
            let why = match why {
                Trouble::Gone => {
                    self.written.vanished.push(path);
                    continue;
                }
                Trouble::Unreadable(error) => error.to_string(),
                Trouble::Changed => "it grows faster than it can be read".to_owned(),
            };
            self.written.unreadable.push(Unreadable { path: path.into(), why });
        }
        self.written.unreadable.sort();
    }

    fn finish(mut self) -> Result<(Written, File)> {
        let start = self.at;
        let entries = std::mem::take(&mut self.entries);
        for entry in &entries {
            self.put(&entry.central_header())?;
        }
        self.put(&end(entries.len() as u64, start, self.at - start))?;
        let write = || format!("write {}", self.path.display());
        let file = self.out.into_inner().map_err(|e| Error::io(write(), e.error()))?;
        // Behind an entry that was given up there may be more than is wanted.
        file.set_len(self.at).cannot(write)?;
        self.written.zip_bytes = self.at;
        Ok((self.written, file))
    }
}
