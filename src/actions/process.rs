//! `process`: programs that run, or do not.

use super::{Applied, Perform, Probe, StepContext};
use crate::error::{Error, Result};
use crate::paths::Place;
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Waits until programs have ended (or are running), and may end those that stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Programs whose executable, script or working folder lies in one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under: Vec<Place>,
    /// Programs with one of these names, for example `ibex-client.exe`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<String>,
    /// `none`: they have ended. `running`: there is at least one.
    pub state: ProcessState,
    /// How long to wait; 30 s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// Ends what is still there after the wait. A shell that only stands in a folder is named, never ended.
    #[serde(default)]
    pub kill: bool,
}

/// Whether the programs should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    None,
    Running,
}

impl Perform for Process {
    fn describe(&self) -> String {
        "process".to_owned()
    }
    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Err(Error::internal("not built"))
    }
    fn apply(&self, _cx: &StepContext<'_>) -> Result<Applied> {
        Err(Error::internal("not built"))
    }
}
