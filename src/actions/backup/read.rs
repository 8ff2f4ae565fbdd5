//! Zips read again: verified, looked into, unpacked. They may come from anywhere, so nothing in them is believed.

use super::listing::Listing;
use super::write::{Alive, Written};
use crate::actions::moves::set_mtime;
use crate::content::tree::workers;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::locks::locked;
use crate::paths::{RelPath, windows_name_problem};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use zip::ZipArchive;
use zip::extra_fields::ExtraField;

type Archive = ZipArchive<Window>;
type ZipEntry<'a> = zip::read::ZipFile<'a, Window>;

/// A part of a file in memory. Going from one entry to the next, which is mostly in it, reads nothing anew.
struct Window {
    file: File,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    start: u64,
    /// Where the next byte is read.
    at: u64,
}

impl Window {
    const BYTES: u64 = 128 * 1024;

    fn on(file: File) -> Self {
        Self { file, buffer: Vec::new(), start: 0, at: 0 }
    }
}

impl Read for Window {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let inside = |w: &Self| w.at.checked_sub(w.start).filter(|at| *at < w.buffer.len() as u64);
        if inside(self).is_none() {
            self.file.seek(SeekFrom::Start(self.at))?;
            self.start = self.at;
            self.buffer.clear();
            Read::by_ref(&mut self.file).take(Self::BYTES).read_to_end(&mut self.buffer)?;
        }
        let Some(from) = inside(self).and_then(|at| usize::try_from(at).ok()) else { return Ok(0) };
        let read = out.len().min(self.buffer.len() - from);
        out[..read].copy_from_slice(&self.buffer[from..from + read]);
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.checked_add_signed(by).ok_or(std::io::ErrorKind::InvalidInput)?,
            SeekFrom::End(_) => self.file.seek(to)?,
        };
        Ok(self.at)
    }
}

/// 100 ns from 1601, where Windows begins to count, to 1970.
const WINDOWS_EPOCH: i128 = 116_444_736_000_000_000;

/// A file or an empty folder in a zip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    number: usize,
    pub(crate) path: RelPath,
    pub(crate) folder: bool,
    /// Bytes when unpacked, as the zip says.
    pub(crate) size: u64,
    mtime_ns: Option<i64>,
    /// May be run, on systems that ask for that.
    pub(crate) executable: bool,
}

fn zip_error(what: &str, path: &Path, error: zip::result::ZipError) -> Error {
    let error = match error {
        zip::result::ZipError::Io(e) if e.kind() != std::io::ErrorKind::InvalidData => {
            return Error::io(format!("{what} {}", path.display()), &e);
        }
        other => Error::new(ErrorKind::Integrity, format!("cannot {what} {}", path.display())).because(other),
    };
    error.next("the zip is damaged, or none: use another backup")
}

fn open(zip: &Path) -> Result<Archive> {
    let file = File::open(zip).cannot(|| format!("open {}", zip.display()))?;
    ZipArchive::new(Window::on(file)).map_err(|e| zip_error("read", zip, e))
}

fn refused(zip: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Integrity, format!("{} holds what a backup never does", zip.display()))
        .because(why)
        .next("nothing was unpacked: use another backup, or look into this one by hand")
}

/// What a zip holds, sorted by path.
///
/// # Errors
/// When it cannot be read, or holds names that lead elsewhere, links, encrypted files, or a name twice.
pub(crate) fn contents(zip: &Path) -> Result<Vec<Held>> {
    let mut archive = open(zip)?;
    if archive.has_duplicate_names() {
        return Err(refused(zip, "two entries have the same name"));
    }
    let mut all: BTreeMap<RelPath, Held> = BTreeMap::new();
    for number in 0..archive.len() {
        let entry = archive.by_index_raw(number).map_err(|e| zip_error("read", zip, e))?;
        let held = held(&entry, number).map_err(|why| refused(zip, why))?;
        if let Some(double) = all.insert(held.path.clone(), held) {
            return Err(refused(zip, format!("two entries have the name {}", double.path)));
        }
    }
    if cfg!(windows) {
        let mut keys = BTreeSet::new();
        if let Some(double) = all.keys().find(|path| !keys.insert(path.case_key())) {
            return Err(refused(zip, format!("two names differ only in case: {double}")));
        }
    }
    for path in all.keys() {
        let mut above = path.parent();
        while let Some(folder) = above {
            if all.get(&folder).is_some_and(|held| !held.folder) {
                return Err(refused(zip, format!("{folder} is a file, and {path} lies in it")));
            }
            above = folder.parent();
        }
    }
    Ok(all.into_values().collect())
}

fn held(entry: &ZipEntry<'_>, number: usize) -> Result<Held, String> {
    let name = entry.name().map_err(|e| e.to_string())?;
    let path = RelPath::parse(&name).map_err(|e| e.details().message.clone())?;
    if let Some(problem) = path.names().find_map(windows_name_problem).filter(|_| cfg!(windows)) {
        return Err(format!("{path}: {problem}"));
    }
    if entry.is_symlink() {
        return Err(format!("{path} is a link"));
    }
    if entry.encrypted() {
        return Err(format!("{path} is encrypted"));
    }
    Ok(Held {
        number,
        path,
        folder: entry.is_dir(),
        size: entry.size(),
        mtime_ns: mtime_of(entry),
        executable: entry.unix_mode().is_some_and(|mode| mode & 0o111 != 0),
    })
}

/// The most exact time that an entry has.
fn mtime_of(entry: &ZipEntry<'_>) -> Option<i64> {
    let fields = || entry.extra_data_fields();
    let windows = fields().find_map(|field| match field {
        ExtraField::Ntfs(times) => i64::try_from((i128::from(times.mtime()) - WINDOWS_EPOCH) * 100).ok(),
        _ => None,
    });
    let unix = fields().find_map(|field| match field {
        ExtraField::ExtendedTimestamp(times) => times.mod_time().map(|s| i64::from(s) * 1_000_000_000),
        _ => None,
    });
    windows.or(unix).or_else(|| local_time(entry))
}

/// The oldest form: local time.
fn local_time(entry: &ZipEntry<'_>) -> Option<i64> {
    let plain = entry.last_modified()?;
    let part = |n: u8| i8::try_from(n).ok();
    let local = jiff::civil::DateTime::new(
        i16::try_from(plain.year()).ok()?,
        part(plain.month())?,
        part(plain.day())?,
        part(plain.hour())?,
        part(plain.minute())?,
        part(plain.second())?,
        0,
    );
    let time = local.ok()?.to_zoned(TimeZone::system()).ok()?.timestamp();
    i64::try_from(time.as_nanosecond()).ok()
}

/// Reads a zip back: every entry by its checksum, and the names against what was to be written. The reader is another
/// one than the writer.
///
/// # Errors
/// When an entry is damaged, missing or not expected.
pub(crate) fn verify(zip: &Path, listing: &Listing, written: &Written, alive: Alive<'_>) -> Result<()> {
    let held = contents(zip)?;
    let found: Vec<&RelPath> = held.iter().filter(|h| !h.folder).map(|h| &h.path).collect();
    let expected: Vec<&RelPath> = listing.files.keys().filter(|path| written.holds(path)).collect();
    if found != expected {
        return Err(Error::new(ErrorKind::Integrity, format!("{} does not hold the files it should", zip.display())));
    }
    each(zip, &held, |entry, held, buffer| read_all(zip, entry, held, buffer, alive, |_| Ok(())))
}

/// Reads an entry in pieces to its end, where the reader compares its checksum. No more than it says it has is taken.
fn read_all(
    zip: &Path,
    entry: &mut ZipEntry<'_>,
    held: &Held,
    buffer: &mut [u8],
    alive: Alive<'_>,
    mut put: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut left = held.size;
    loop {
        let read = entry.read(buffer).map_err(|e| {
            let damaged = Error::new(ErrorKind::Integrity, format!("{} is damaged in {}", held.path, zip.display()));
            damaged.because(e).next("use another backup")
        })?;
        left = left.checked_sub(read as u64).ok_or_else(|| refused(zip, format!("{} is larger than it says", held.path)))?;
        if read == 0 {
            return if left == 0 { Ok(()) } else { Err(refused(zip, format!("{} is smaller than it says", held.path))) };
        }
        put(&buffer[..read])?;
        alive(read as u64)?;
    }
}

/// Does something with each file in the zip, on several threads, each with a reader of its own.
fn each(zip: &Path, held: &[Held], work: impl Fn(&mut ZipEntry<'_>, &Held, &mut [u8]) -> Result<()> + Sync) -> Result<()> {
    let files: Vec<&Held> = held.iter().filter(|h| !h.folder).collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let thread = || -> Result<()> {
        let mut archive = open(zip)?;
        let mut buffer = vec![0; 256 * 1024];
        while let Some(held) = files.get(next.fetch_add(1, Ordering::SeqCst)) {
            let mut entry = archive.by_index(held.number).map_err(|e| zip_error("read", zip, e))?;
            work(&mut entry, held, &mut buffer)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..workers().min(files.len()) {
            scope.spawn(|| {
                if let Err(error) = thread() {
                    next.store(files.len(), Ordering::SeqCst);
                    locked(&failed).get_or_insert(error);
                }
            });
        }
    });
    locked(&failed).take().map_or(Ok(()), Err)
}

/// Unpacks what was found in a zip into a folder that is empty: each file as its path below `top`, or as `to` itself when
/// it is `top`. Every entry is compared with its checksum.
///
/// # Errors
/// When an entry is damaged, or the folder cannot be written.
pub(crate) fn unpack(zip: &Path, held: &[Held], top: Option<&RelPath>, to: &Path, alive: Alive<'_>) -> Result<()> {
    let place = |path: &RelPath| -> PathBuf {
        let skipped = top.map_or(0, |top| top.names().count());
        path.names().skip(skipped).fold(to.to_path_buf(), |at, name| at.join(name))
    };
    let folders: BTreeSet<PathBuf> = held
        .iter()
        .filter_map(|h| if h.folder { Some(place(&h.path)) } else { place(&h.path).parent().map(Path::to_path_buf) })
        .collect();
    for folder in &folders {
        std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))?;
    }
    each(zip, held, |entry, held, buffer| {
        let at = place(&held.path);
        let mut out = File::create_new(&at).cannot(|| format!("write {}", at.display()))?;
        read_all(zip, entry, held, buffer, alive, |bytes| out.write_all(bytes).cannot(|| format!("write {}", at.display())))?;
        drop(out);
        match held.mtime_ns {
            Some(ns) => set_mtime(&at, ns).cannot(|| format!("set the time of {}", at.display())),
            None => Ok(()),
        }
    })
}
