//! `file`: a file with a wanted content, whole or in part.

use super::{Applied, Perform, Probe, StepContext, Undone};
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

/// Writes a file, or makes sure of lines or ini keys in one; atomic, keeping its owner, rights, encoding and line ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The file.
    pub path: Place,
    /// The whole content, a template. One of `content`, `template`, or any of `lines`, `absent_lines`, `ini`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// A file with the whole content, relative to the playbook; a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Lines that must be there; a missing one is added at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// Lines that must not be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent_lines: Vec<String>,
    /// Ini keys: section, key, value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ini: BTreeMap<String, BTreeMap<String, String>>,
    /// Makes the file when it is missing; true unless said.
    #[serde(default = "yes")]
    pub create: bool,
}

fn yes() -> bool {
    true
}

impl Perform for File {
    fn describe(&self) -> String {
        "file".to_owned()
    }
    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Err(Error::internal("not built"))
    }
    fn apply(&self, _cx: &StepContext<'_>) -> Result<Applied> {
        Err(Error::internal("not built"))
    }
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileUndo {}

impl FileUndo {
    pub fn undo(&self, _cx: &StepContext<'_>) -> Result<Undone> {
        Err(Error::internal("not built"))
    }
}
