//! `sync`: a component of the kit over an installed tree.

use super::{Applied, Perform, Probe, StepContext, Undone};
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes a folder equal to a component of the kit: stages only what differs, then renames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// The component's name in the kit, for example `EPICS`.
    pub component: String,
    /// A folder inside the component that is the tree, for example `Client` in `Client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The installed tree.
    pub to: Place,
    /// Paths of the target that are never touched, compared or removed. Patterns relative to `to`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Paths of the component that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Folders swapped whole when anything in them differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub as_unit: Vec<String>,
    /// Removes files that the component does not have, apart from `keep` and `generated`.
    #[serde(default)]
    pub remove_extra: bool,
    /// Files that running programs make in the tree (`**/__pycache__`, logs): neither hand-made changes nor extra.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generated: Vec<String>,
}

impl Perform for Sync {
    fn describe(&self) -> String {
        "sync".to_owned()
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
pub struct SyncUndo {}

impl SyncUndo {
    pub fn undo(&self, _cx: &StepContext<'_>) -> Result<Undone> {
        Err(Error::internal("not built"))
    }
}
