//! One folder as one plain zip: written to the end, then read back.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::paths::{PathPatterns, RelPath};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;
use zip::write::{ExtendedFileOptions, FileOptions};
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// Fast, and as small as the backups have been so far.
const LEVEL: i64 = 1;
/// From this size on an entry gets 64-bit sizes: the limit of the old form, with room for a file that grows.
const LARGE: u64 = 3 << 30;

/// What a folder has to offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Files with their sizes.
    pub(crate) files: BTreeMap<RelPath, u64>,
    /// Folders with nothing in them.
    pub(crate) empty: Vec<RelPath>,
    /// Links, which are not followed and not kept.
    pub(crate) links: Vec<RelPath>,
}

impl Listing {
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().sum()
    }

    /// Walks a folder, without what the patterns cover.
    ///
    /// # Errors
    /// When a folder cannot be read or a name is not Unicode.
    pub(crate) fn of(folder: &Path, skip: &PathPatterns) -> Result<Self> {
        let mut listing = Self::default();
        let mut walk = walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // It was there a moment ago: the instrument is running.
                Err(e) if e.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => continue,
                Err(e) => return Err(Error::new(ErrorKind::Io, format!("cannot read {}", folder.display())).because(e)),
            };
            let below = entry.path().strip_prefix(folder).ok().and_then(Path::to_str);
            let path = RelPath::parse(
                below.ok_or_else(|| Error::new(ErrorKind::Io, format!("the name {} is not Unicode", entry.path().display())))?,
            )?;
            if skip.covers(&path) {
                if entry.file_type().is_dir() {
                    walk.skip_current_dir();
                }
            } else if entry.file_type().is_dir() {
                if std::fs::read_dir(entry.path()).is_ok_and(|mut d| d.next().is_none()) {
                    listing.empty.push(path);
                }
            } else if entry.file_type().is_symlink() {
                listing.links.push(path);
            } else if let Ok(meta) = entry.metadata() {
                listing.files.insert(path, meta.len());
            }
        }
        Ok(listing)
    }
}

/// A zip that was written, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) files: u64,
    /// Bytes before compression.
    pub(crate) bytes: u64,
    /// Bytes of the zip.
    pub(crate) zip_bytes: u64,
    /// BLAKE3 of the zip.
    pub(crate) hash: String,
    /// Files that were gone when their turn came.
    pub(crate) vanished: Vec<RelPath>,
    /// Links, which are left out.
    pub(crate) links: Vec<RelPath>,
}

fn zip_error(what: &str, path: &Path, error: zip::result::ZipError) -> Error {
    match error {
        zip::result::ZipError::Io(e) => Error::io(format!("{what} {}", path.display()), &e),
        other => Error::new(ErrorKind::Integrity, format!("cannot {what} {}", path.display())).because(other),
    }
}

fn options(time: Option<Timestamp>, size: u64) -> FileOptions<'static, 'static, ExtendedFileOptions> {
    let mut options = FileOptions::<ExtendedFileOptions>::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(LEVEL))
        .large_file(size >= LARGE);
    if let Some(time) = time {
        // The plain field holds local time in steps of two seconds; the extra one says the same exactly.
        let local = time.to_zoned(TimeZone::system()).datetime();
        let dos = DateTime::from_date_and_time(
            u16::try_from(local.year()).unwrap_or(1980),
            local.month().unsigned_abs(),
            local.day().unsigned_abs(),
            local.hour().unsigned_abs(),
            local.minute().unsigned_abs(),
            local.second().unsigned_abs(),
        );
        options = options.last_modified_time(dos.unwrap_or_default());
        // Without it the plain field still tells.
        if let Ok(seconds) = u32::try_from(time.as_second())
            && let Ok(exact) = options.clone().with_extended_timestamp(Some(seconds), None, None)
        {
            return exact;
        }
    }
    options
}

fn time_of(meta: &std::fs::Metadata) -> Option<Timestamp> {
    let since = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok()
}

/// Writes the files of a folder to a zip. `alive` is asked between pieces, and told of the bytes that were read.
///
/// # Errors
/// When a file cannot be read or the zip cannot be written, or `alive` says stop.
pub(crate) fn write(folder: &Path, listing: &Listing, to: &Path, alive: &(dyn Fn(u64) -> Result<()> + Sync)) -> Result<Written> {
    let out = File::create(to).cannot(|| format!("make {}", to.display()))?;
    let mut zip = ZipWriter::new(BufWriter::with_capacity(1 << 20, out));
    let mut written =
        Written { files: 0, bytes: 0, zip_bytes: 0, hash: String::new(), vanished: Vec::new(), links: listing.links.clone() };
    for path in &listing.empty {
        zip.add_directory(path.as_str(), options(None, 0)).map_err(|e| zip_error("write", to, e))?;
    }
    for path in listing.files.keys() {
        let from = path.under(folder);
        let mut file = match File::open(&from) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                written.vanished.push(path.clone());
                continue;
            }
            Err(e) => {
                return Err(
                    Error::io(format!("read {}", from.display()), &e).next("exclude it, or close the program that holds it")
                );
            }
        };
        let meta = file.metadata().cannot(|| format!("look at {}", from.display()))?;
        zip.start_file(path.as_str(), options(time_of(&meta), meta.len())).map_err(|e| zip_error("write", to, e))?;
        written.bytes += copy(&mut file, &from, &mut zip, to, alive)?;
        written.files += 1;
    }
    let out = zip.finish().map_err(|e| zip_error("write", to, e))?;
    let out = out.into_inner().map_err(|e| Error::io(format!("write {}", to.display()), e.error()))?;
    out.sync_all().cannot(|| format!("write {}", to.display()))?;
    written.zip_bytes = out.metadata().cannot(|| format!("look at {}", to.display()))?.len();
    Ok(written)
}

fn copy(
    from: &mut File,
    from_path: &Path,
    zip: &mut impl Write,
    to: &Path,
    alive: &(dyn Fn(u64) -> Result<()> + Sync),
) -> Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let read = from.read(&mut buffer).cannot(|| format!("read {}", from_path.display()))?;
        if read == 0 {
            return Ok(bytes);
        }
        zip.write_all(&buffer[..read]).cannot(|| format!("write {}", to.display()))?;
        bytes += read as u64;
        alive(read as u64)?;
    }
}

/// Reads a zip back: every entry by its checksum, and the list of names against what was to be written.
///
/// # Errors
/// When an entry is damaged, missing or not expected.
pub(crate) fn verify(zip: &Path, listing: &Listing, written: &Written, alive: &(dyn Fn(u64) -> Result<()> + Sync)) -> Result<()> {
    let mut archive = open(zip)?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    for number in 0..archive.len() {
        let mut entry = archive.by_index(number).map_err(|e| zip_error("read back", zip, e))?;
        let name = entry.name().map_err(|e| zip_error("read back", zip, e))?.into_owned();
        loop {
            // The reader compares the checksum at the end of the entry.
            let read = entry.read(&mut buffer).cannot(|| format!("read back {name} in {}", zip.display()))?;
            if read == 0 {
                break;
            }
            alive(0)?;
        }
        if !entry.is_dir() {
            found.push(name);
        }
    }
    found.sort();
    let expected: Vec<String> =
        listing.files.keys().filter(|p| !written.vanished.contains(p)).map(|p| p.as_str().to_owned()).collect();
    if found != expected {
        return Err(Error::new(ErrorKind::Integrity, format!("{} does not hold the files it should", zip.display())));
    }
    Ok(())
}

/// Opens a zip to read.
///
/// # Errors
/// When it cannot be read or is no zip.
pub(crate) fn open(zip: &Path) -> Result<ZipArchive<BufReader<File>>> {
    let file = File::open(zip).cannot(|| format!("open {}", zip.display()))?;
    ZipArchive::new(BufReader::new(file)).map_err(|e| zip_error("read", zip, e))
}

/// Unpacks a zip into a folder that is empty; every entry is compared with its checksum.
///
/// # Errors
/// When an entry is damaged or has a name that leads elsewhere, or the folder cannot be written.
pub(crate) fn unpack(zip: &Path, to: &Path, alive: &(dyn Fn(u64) -> Result<()> + Sync)) -> Result<u64> {
    let mut archive = open(zip)?;
    let mut files = 0;
    for number in 0..archive.len() {
        let mut entry = archive.by_index(number).map_err(|e| zip_error("read", zip, e))?;
        let name = entry.name().map_err(|e| zip_error("read", zip, e))?.into_owned();
        let path = RelPath::parse(&name).map_err(|e| e.context(format!("{} has a bad name in it", zip.display())))?;
        let at = path.under(to);
        let folder = if entry.is_dir() { at.as_path() } else { at.parent().unwrap_or(to) };
        std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))?;
        if entry.is_dir() {
            continue;
        }
        let time = time_in(&entry);
        let mut out = File::create(&at).cannot(|| format!("write {}", at.display()))?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let read = entry.read(&mut buffer).cannot(|| format!("read {name} in {}", zip.display()))?;
            if read == 0 {
                break;
            }
            out.write_all(&buffer[..read]).cannot(|| format!("write {}", at.display()))?;
            alive(read as u64)?;
        }
        if let Some(time) = time {
            out.set_modified(time.into()).cannot(|| format!("set the time of {}", at.display()))?;
        }
        files += 1;
    }
    Ok(files)
}

fn time_in<R: Read>(entry: &zip::read::ZipFile<'_, R>) -> Option<Timestamp> {
    let exact = entry.extra_data_fields().find_map(|field| match field {
        zip::extra_fields::ExtraField::ExtendedTimestamp(t) => t.mod_time(),
        _ => None,
    });
    if let Some(seconds) = exact {
        return Timestamp::from_second(i64::from(seconds)).ok();
    }
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
    local.ok()?.to_zoned(TimeZone::system()).ok().map(|z| z.timestamp())
}
