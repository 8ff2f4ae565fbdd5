//! A hotfix as data, without its files' content: a part of the plan.

use super::Restart;
use crate::actions::check::Check;
use crate::content::ContentHash;
use crate::error::{Error, Result};
use crate::paths::RelPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A hotfix that was read and found well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Patch {
    pub id: String,
    pub description: String,
    /// The archive's file name, for people.
    pub archive: String,
    /// Versions by component.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requires: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Restart::is_none")]
    pub restart: Restart,
    /// Sorted.
    pub files: Vec<PatchFile>,
    /// Sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletes: Vec<PatchPath>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

/// A path inside a component's installed tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PatchPath {
    /// For example `EPICS`.
    pub component: String,
    pub path: RelPath,
}

/// A file that a hotfix brings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PatchFile {
    pub component: String,
    pub path: RelPath,
    /// Bytes.
    pub size: u64,
    pub hash: ContentHash,
    /// True when the file may be run on systems that ask for that; Windows does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl fmt::Display for PatchPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.component, self.path)
    }
}

impl Patch {
    /// The components it touches.
    pub fn components(&self) -> BTreeSet<&str> {
        let files = self.files.iter().map(|f| f.component.as_str());
        files.chain(self.deletes.iter().map(|d| d.component.as_str())).collect()
    }

    /// What it makes of the files: the same for archives that do the same, however they were packed.
    ///
    /// # Errors
    /// Never in practice; the writer of the format has an error type.
    pub fn content(&self) -> Result<ContentHash> {
        let bytes = serde_json::to_vec(&(&self.files, &self.deletes));
        Ok(ContentHash::of(&bytes.map_err(|e| Error::internal("cannot write a hotfix").because(e))?))
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size).sum()
    }
}
