//! `copy`: a file or folder to another place on the instrument.

use super::{Applied, Perform, Probe, StepContext, Undone};
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Copies a file or a folder on the instrument.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The file or folder to copy.
    pub from: Place,
    /// Where the copy stands.
    pub to: Place,
    /// Missing `from` is no error: the step is skipped.
    #[serde(default)]
    pub if_exists: bool,
}

impl Perform for Copy {
    fn describe(&self) -> String {
        "copy".to_owned()
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
pub struct CopyUndo {}

impl CopyUndo {
    pub fn undo(&self, _cx: &StepContext<'_>) -> Result<Undone> {
        Err(Error::internal("not built"))
    }
}
