//! `link`: a junction or symbolic link.

use super::{Applied, Perform, Probe, StepContext, Undone};
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes a link (a junction on Windows) or points it elsewhere, in one rename.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The link itself.
    pub at: Place,
    /// The folder it leads to; it must exist.
    pub to: Place,
}

impl Perform for Link {
    fn describe(&self) -> String {
        "link".to_owned()
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
pub struct LinkUndo {}

impl LinkUndo {
    pub fn undo(&self, _cx: &StepContext<'_>) -> Result<Undone> {
        Err(Error::internal("not built"))
    }
}
