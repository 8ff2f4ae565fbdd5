//! `service`: a Windows service in the wanted state.

use super::{Applied, Perform, Probe, StepContext, Undone};
use crate::error::{Error, Result};
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Brings a service into a state and waits until it is so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The service's name, for example `MYSQL84`.
    pub name: String,
    /// What it should be.
    pub state: ServiceState,
    /// How long to wait for the state; 60 s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// Ends the service's process when it does not stop in time.
    #[serde(default)]
    pub kill: bool,
    /// A service that does not exist counts as stopped.
    #[serde(default)]
    pub may_be_absent: bool,
}

/// What a service should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    Running,
    Stopped,
    /// Stopped and started again.
    Restarted,
}

impl Perform for Service {
    fn describe(&self) -> String {
        "service".to_owned()
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
pub struct ServiceUndo {}

impl ServiceUndo {
    pub fn undo(&self, _cx: &StepContext<'_>) -> Result<Undone> {
        Err(Error::internal("not built"))
    }
}
