//! `restore`: folders back from a backup.

use super::{Applied, Perform, Probe, StepContext, Undone};
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Puts folders back from a backup; what was there moves to the run's undo folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The backup folder; the newest below the place `backups` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Place>,
    /// Places to put back; all that the backup holds unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<Place>,
}

impl Perform for Restore {
    fn describe(&self) -> String {
        "restore".to_owned()
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
pub struct RestoreUndo {}

impl RestoreUndo {
    pub fn undo(&self, _cx: &StepContext<'_>) -> Result<Undone> {
        Err(Error::internal("not built"))
    }
}
