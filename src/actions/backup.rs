//! `backup`: folders to plain zip files.

use super::{Applied, Perform, Probe, StepContext};
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Backs up folders, one plain `.zip` each, in `<to>\\ibex_backup_YYYY_MM_DD`; read back and verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Places to back up.
    pub of: Vec<Place>,
    /// Where the dated folder is made; the place `backups` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Place>,
    /// Patterns left out of every folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Patterns left out by place.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub exclude_in: std::collections::BTreeMap<String, Vec<String>>,
    /// Files that each zip must hold, by place, for example `{server: [VERSION.txt]}`.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub must_hold: std::collections::BTreeMap<String, Vec<String>>,
    /// A place that does not exist is left out instead of being an error.
    #[serde(default)]
    pub if_exists: bool,
}

impl Perform for Backup {
    fn describe(&self) -> String {
        "backup".to_owned()
    }
    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Err(Error::internal("not built"))
    }
    fn apply(&self, _cx: &StepContext<'_>) -> Result<Applied> {
        Err(Error::internal("not built"))
    }
}
