//! The hotfixes that an instrument has, in the order in which they came: `hotfixes.json` in the agent's home.

use crate::content::{ContentHash, Seen, TreeIndex};
use crate::error::Result;
use crate::events::RunId;
use crate::files;
use crate::kit::hotfix::{PatchPath, Restart};
use crate::paths::{Drives, RelPath, WinPath};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A hotfix that is in place and was proven.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstalledHotfix {
    pub id: String,
    pub description: String,
    /// The archive's file name.
    pub archive: String,
    /// The run that put it in place, and keeps what it replaced.
    pub run: RunId,
    /// user@host.
    pub operator: String,
    pub at: Timestamp,
    pub restart: Restart,
    /// The same for archives that do the same.
    pub content: ContentHash,
    pub files: Vec<HotfixedFile>,
}

/// A file that a hotfix changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HotfixedFile {
    pub component: String,
    /// The installed tree of the component.
    pub folder: WinPath,
    pub path: RelPath,
    /// Nothing when there was no file.
    pub before: Option<Seen>,
    /// Nothing when the hotfix deletes it.
    pub after: Option<Seen>,
    /// The file that was there before; nothing when there was none, or the hotfix changed nothing about it.
    pub kept: Option<PathBuf>,
    /// The outermost folder that was made for it.
    pub made: Option<RelPath>,
    /// What the component's baseline said of it before.
    #[serde(default)]
    pub baseline: Known,
}

/// What was known of a file that a release installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Known {
    /// No release has said.
    #[default]
    Unknown,
    /// The release had no such file.
    Absent,
    File(Seen),
}

/// A hotfix of an instrument, with what became of its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HotfixState {
    pub hotfix: InstalledHotfix,
    /// Paths that are no longer as the hotfix left them, and that no later hotfix has changed.
    pub changed: Vec<String>,
}

impl HotfixedFile {
    /// Component and path, as archives and people name it.
    pub fn named(&self) -> PatchPath {
        PatchPath { component: self.component.clone(), path: self.path.clone() }
    }

    /// The same for paths that are one file to Windows.
    pub fn key(&self) -> (String, String) {
        (self.component.clone(), self.path.case_key())
    }

    /// What is there now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn now(&self, drives: &Drives) -> Result<Option<Seen>> {
        let root = drives.native(&self.folder)?;
        Ok(TreeIndex::of_paths(&root, [&self.path])?.entries.values().next().map(Seen::from))
    }
}

/// The file of an agent's home that holds them.
pub fn file(home: &Path) -> PathBuf {
    home.join("hotfixes.json")
}

/// All hotfixes, the oldest first.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read(home: &Path) -> Result<Vec<InstalledHotfix>> {
    Ok(files::read_json(&file(home))?.unwrap_or_default())
}

/// Writes them down.
///
/// # Errors
/// When the file cannot be written.
pub fn write(home: &Path, all: &[InstalledHotfix]) -> Result<()> {
    files::write_json(&file(home), &all)
}

/// All hotfixes with what became of them, the oldest first.
///
/// # Errors
/// When the list or a file cannot be read.
pub fn states(home: &Path, drives: &Drives) -> Result<Vec<HotfixState>> {
    let all = read(home)?;
    // The last hotfix that touched a file says how it should be.
    let mut last: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (n, hotfix) in all.iter().enumerate() {
        last.extend(hotfix.files.iter().map(|f| (f.key(), n)));
    }
    let mut states = Vec::with_capacity(all.len());
    for (n, hotfix) in all.iter().enumerate() {
        let mut changed = Vec::new();
        for file in hotfix.files.iter().filter(|f| last.get(&f.key()) == Some(&n)) {
            if file.now(drives)? != file.after {
                changed.push(file.named().to_string());
            }
        }
        states.push(HotfixState { hotfix: hotfix.clone(), changed });
    }
    Ok(states)
}
