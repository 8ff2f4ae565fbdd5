//! What a component of a kit consists of.

use super::ContentHash;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::RelPath;
use serde::{Deserialize, Serialize};

/// One file of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    pub path: RelPath,
    /// Bytes.
    pub size: u64,
    pub hash: ContentHash,
    /// True when the file may be run on systems that ask for that; Windows does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// All files of a component, sorted by path, and its empty folders: programs may need those (git needs `.git/refs`).
///
/// A manifest is itself a blob: the plan names it by the hash of [`Manifest::to_bytes`], and the agent asks for it
/// as for any other content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The component's name, for example `EPICS`.
    pub component: String,
    /// What its `VERSION.txt` says, else the release's name.
    pub version: String,
    /// The release folder it came from; another one than asked for in a partial release.
    pub release: String,
    pub files: Vec<ManifestEntry>,
    /// Folders with nothing in them, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_folders: Vec<RelPath>,
}

impl Manifest {
    /// Bytes of all files together.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }

    /// The form that is hashed and sent; the same manifest gives the same bytes.
    ///
    /// # Errors
    /// Never in practice; the writer of the format has an error type.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::internal("cannot write a manifest").because(e))
    }

    /// Reads what [`Manifest::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a manifest.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| Error::new(ErrorKind::Integrity, "a manifest cannot be read").because(e))
    }
}
