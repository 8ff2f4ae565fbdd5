//! What a folder has to offer a backup.

use crate::error::{Error, ErrorKind, Result};
use crate::paths::{PathPatterns, RelPath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The files of a folder, as a walk found them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Files with their sizes.
    pub(crate) files: BTreeMap<RelPath, u64>,
    /// Folders with nothing in them.
    pub(crate) empty: Vec<RelPath>,
    /// Links, which are not followed, and sockets and the like: none of them is kept.
    pub(crate) links: Vec<RelPath>,
    /// Folders that could not be read, and names that no zip can hold.
    pub(crate) unreadable: Vec<Unreadable>,
}

impl Listing {
    /// True when there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.empty.is_empty() && self.links.is_empty() && self.unreadable.is_empty()
    }
}

/// Something that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unreadable {
    /// Below the folder that is backed up.
    pub path: String,
    /// The system's words.
    pub why: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.why)
    }
}

/// Bytes that a zip takes for an entry besides its content and twice its name: both headers with their times.
const PER_ENTRY: u64 = 160;

/// Bytes of the longest name that an entry can have, with room for a slash at its end.
const LONGEST_NAME: usize = 65_000;

impl Listing {
    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().sum()
    }

    /// The most that a zip of it can take: as if nothing could be compressed.
    pub(crate) fn room(&self) -> u64 {
        let names = self.files.keys().chain(&self.empty);
        self.bytes() + self.bytes() / 8192 + names.map(|n| 2 * n.as_str().len() as u64 + PER_ENTRY).sum::<u64>()
    }

    /// Walks a folder, without what the patterns cover. What vanishes meanwhile is left out: the instrument is running.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub(crate) fn of(folder: &Path, skip: &PathPatterns) -> Result<Self> {
        let mut listing = Self::default();
        let mut walk = walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter();
        while let Some(entry) = walk.next() {
            match entry {
                Ok(entry) => {
                    if listing.add(folder, &entry, skip) == Walk::Past {
                        walk.skip_current_dir();
                    }
                }
                Err(e) if e.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) && e.depth() > 0 => {}
                Err(e) if e.depth() == 0 => {
                    return Err(Error::new(ErrorKind::Io, format!("cannot read {}", folder.display())).because(e));
                }
                Err(e) => {
                    let path = below(folder, e.path().unwrap_or(folder));
                    let why = e.io_error().map_or_else(|| e.to_string(), ToString::to_string);
                    listing.unreadable.push(Unreadable { path, why });
                }
            }
        }
        Ok(listing)
    }

    fn add(&mut self, folder: &Path, entry: &walkdir::DirEntry, skip: &PathPatterns) -> Walk {
        let Some(path) = path_in_zip(folder, entry.path()) else {
            let unicode = entry.path().to_str().is_some();
            let why = if unicode { "no zip can hold this name" } else { "the name is not Unicode" };
            self.unreadable.push(Unreadable { path: below(folder, entry.path()), why: why.to_owned() });
            return Walk::past(entry);
        };
        if skip.covers(&path) {
            return Walk::past(entry);
        }
        let kind = entry.file_type();
        if kind.is_dir() {
            if std::fs::read_dir(entry.path()).is_ok_and(|mut d| d.next().is_none()) {
                self.empty.push(path);
            }
        } else if !kind.is_file() {
            self.links.push(path);
        } else if let Ok(meta) = entry.metadata() {
            self.files.insert(path, meta.len());
        }
        Walk::On
    }
}

/// Whether the walk goes into what it has just seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    On,
    Past,
}

impl Walk {
    fn past(entry: &walkdir::DirEntry) -> Self {
        if entry.file_type().is_dir() { Self::Past } else { Self::On }
    }
}

/// The path below the folder; nothing where it has a name that no zip can hold.
pub(crate) fn path_in_zip(folder: &Path, path: &Path) -> Option<RelPath> {
    let text = below(folder, path);
    // A `\` in a name is a slash to the parser.
    let holds = |parsed: &RelPath| path.to_str().is_some() && parsed.as_str() == text && text.len() <= LONGEST_NAME;
    RelPath::parse(&text).ok().filter(holds)
}

/// The path below the folder, with `/`, as well as it can be written.
fn below(folder: &Path, path: &Path) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path);
    let names: Vec<_> = below.components().map(|c| c.as_os_str().to_string_lossy()).collect();
    names.join("/")
}
