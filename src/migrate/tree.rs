//! The files of the settings, with changes that nobody sees until they are written.

use super::xml::Xml;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::paths::{PathPatterns, RelPath};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder that git keeps in a work tree.
const GIT: &str = ".git";

/// A folder of settings. What was changed is kept in memory.
#[derive(Debug)]
pub struct Tree {
    root: PathBuf,
    /// How errors name the folder.
    shown: String,
    files: BTreeMap<RelPath, File>,
    folders: BTreeSet<RelPath>,
    gone: Vec<RelPath>,
    /// Changed since [`Tree::take_touched`] was last called.
    touched: BTreeSet<RelPath>,
}

#[derive(Debug, Default)]
struct File {
    on_disk: bool,
    /// The bytes on disk, once they were read.
    before: Option<Arc<[u8]>>,
    /// What it shall be.
    now: Now,
    xml: Option<Arc<Xml>>,
}

#[derive(Debug, Default)]
enum Now {
    #[default]
    AsBefore,
    Bytes(Arc<[u8]>),
    Gone,
}

/// What becomes of a file; nothing means that there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    #[serde(with = "bytes")]
    pub before: Option<Vec<u8>>,
    #[serde(with = "bytes")]
    pub after: Option<Vec<u8>>,
}

impl Tree {
    /// Looks which files there are; reads none. `shown` is how errors name the folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn open(root: &Path, shown: &str) -> Result<Self> {
        let mut tree = Self {
            root: root.to_path_buf(),
            shown: shown.to_owned(),
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            gone: Vec::new(),
            touched: BTreeSet::new(),
        };
        if !root.is_dir() {
            return Err(Error::new(ErrorKind::StepFailed, format!("{shown} is not a folder"))
                .next("name the folder of the settings: the one that holds `configurations`"));
        }
        let walk = walkdir::WalkDir::new(root).min_depth(1);
        for entry in walk.into_iter().filter_entry(|e| e.depth() > 1 || e.file_name() != GIT) {
            let entry = entry.map_err(|e| Error::new(ErrorKind::Io, format!("cannot read {shown}")).because(e))?;
            let below = entry.path().strip_prefix(root).ok().and_then(Path::to_str);
            // A name that is no path on Windows is none of the settings'.
            let Some(path) = below.and_then(|below| RelPath::parse(below).ok()) else { continue };
            if entry.file_type().is_dir() {
                tree.folders.insert(path);
            } else if entry.file_type().is_file() {
                tree.files.insert(path, File { on_disk: true, ..File::default() });
            }
        }
        Ok(tree)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How errors name a file.
    pub(super) fn shown(&self, path: &RelPath) -> String {
        let slash = if self.shown.contains('\\') { "\\" } else { "/" };
        format!("{}{slash}{}", self.shown, path.as_str().replace('/', slash))
    }

    /// The files that match, sorted.
    pub(super) fn matching(&self, patterns: &PathPatterns) -> Vec<RelPath> {
        let there = self.files.iter().filter(|(_, file)| !matches!(file.now, Now::Gone));
        there.map(|(path, _)| path).filter(|path| patterns.covers(path)).cloned().collect()
    }

    /// The file of a name, in whatever case it is there.
    pub(super) fn find(&self, path: &RelPath) -> Option<RelPath> {
        let there = |p: &RelPath| self.files.get(p).is_some_and(|file| !matches!(file.now, Now::Gone));
        if there(path) {
            return Some(path.clone());
        }
        let key = path.case_key();
        self.files.keys().find(|p| p.case_key() == key && there(p)).cloned()
    }

    /// The folder of a name, in whatever case it is there.
    pub(super) fn find_folder(&self, path: &RelPath) -> Option<RelPath> {
        let key = path.case_key();
        let there = |p: &&RelPath| p.case_key() == key && !self.gone.iter().any(|gone| p.is_within(gone));
        self.folders.iter().find(there).cloned()
    }

    /// A file's bytes as they are to be.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn bytes(&mut self, path: &RelPath) -> Result<Arc<[u8]>> {
        let shown = self.shown(path);
        let file = self.files.get_mut(path).ok_or_else(|| Error::internal(format!("{shown} is not there")))?;
        if let Now::Bytes(bytes) = &file.now {
            return Ok(Arc::clone(bytes));
        }
        if let Some(bytes) = &file.before {
            return Ok(Arc::clone(bytes));
        }
        let bytes: Arc<[u8]> = std::fs::read(path.under(&self.root)).cannot(|| format!("read {shown}"))?.into();
        file.before = Some(Arc::clone(&bytes));
        Ok(bytes)
    }

    /// A file as XML, as it is to be.
    ///
    /// # Errors
    /// When it cannot be read, or is not well-formed: with its line.
    pub(super) fn xml(&mut self, path: &RelPath) -> Result<Arc<Xml>> {
        if let Some(xml) = self.files.get(path).and_then(|file| file.xml.as_ref()) {
            return Ok(Arc::clone(xml));
        }
        let bytes = self.bytes(path)?;
        let xml = Arc::new(Xml::read(&self.shown(path), &bytes)?);
        if let Some(file) = self.files.get_mut(path) {
            file.xml = Some(Arc::clone(&xml));
        }
        Ok(xml)
    }

    /// Gives a file other bytes, or makes it. True when it has changed by that.
    ///
    /// # Errors
    /// When it cannot be read, or the folder it would lie in is not there.
    pub(super) fn set(&mut self, path: &RelPath, bytes: &[u8]) -> Result<bool> {
        if self.files.get(path).is_some_and(|file| !matches!(file.now, Now::Gone)) {
            if *self.bytes(path)? == *bytes {
                return Ok(false);
            }
        } else if let Some(folder) = path.parent()
            && self.find_folder(&folder).is_none()
        {
            let message = format!("{} cannot be made: its folder is not there", self.shown(path));
            return Err(Error::new(ErrorKind::StepFailed, message).next("is this the folder that holds `configurations`?"));
        }
        let file = self.files.entry(path.clone()).or_default();
        file.now = Now::Bytes(bytes.into());
        file.xml = None;
        self.touched.insert(path.clone());
        Ok(true)
    }

    /// Deletes a folder with all that is in it.
    ///
    /// # Errors
    /// When a file in it cannot be read: then it could not be put back.
    pub(super) fn delete_folder(&mut self, folder: &RelPath) -> Result<()> {
        let inside: Vec<RelPath> = self.files.keys().filter(|path| path.is_within(folder)).cloned().collect();
        for path in inside {
            if self.files[&path].on_disk && self.files[&path].before.is_none() {
                self.bytes(&path)?;
            }
            if let Some(file) = self.files.get_mut(&path) {
                file.now = Now::Gone;
                file.xml = None;
            }
            self.touched.insert(path);
        }
        self.gone.push(folder.clone());
        Ok(())
    }

    /// What was changed since the last call, as it is now; nothing for a file that is gone.
    pub(super) fn take_touched(&mut self) -> BTreeMap<RelPath, Option<Vec<u8>>> {
        let touched = std::mem::take(&mut self.touched);
        let now = |path: RelPath| {
            let bytes = match self.files.get(&path).map(|file| &file.now) {
                Some(Now::Bytes(bytes)) => Some(bytes.to_vec()),
                _ => None,
            };
            (path, bytes)
        };
        touched.into_iter().map(now).collect()
    }

    /// The files that are not to be as they are on disk.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn changes(&self) -> BTreeMap<RelPath, FileChange> {
        let mut changes = BTreeMap::new();
        for (path, file) in &self.files {
            let before = file.before.as_ref().filter(|_| file.on_disk).map(|bytes| bytes.to_vec());
            let after = match &file.now {
                Now::AsBefore => continue,
                Now::Bytes(bytes) => Some(bytes.to_vec()),
                Now::Gone => None,
            };
            if before != after {
                changes.insert(path.clone(), FileChange { before, after });
            }
        }
        changes
    }

    /// Folders that are to be deleted, with all that is in them.
    pub fn deleted_folders(&self) -> &[RelPath] {
        &self.gone
    }
}

/// Bytes as text: a character for each, so that most of it can be read.
mod bytes {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|b| b.iter().map(|byte| char::from(*byte)).collect::<String>()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let byte = |c: char| u8::try_from(u32::from(c)).map_err(|_| serde::de::Error::custom("a character that is no byte"));
        text.map(|text| text.chars().map(byte).collect()).transpose()
    }
}
