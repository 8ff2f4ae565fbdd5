//! `reboot`: restart the machine and see it come back.

use super::{Applied, Perform, Probe, StepContext};
use crate::error::{Error, Result};
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Restarts the machine; the worker goes on by itself afterwards. It counts as done when the boot id is a new one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reboot {
    /// Why, for the system's log and the people at the screen.
    pub reason: String,
    /// Only when the system says that a restart is pending.
    #[serde(default)]
    pub if_pending: bool,
    /// How long the people at the screen are warned before; none unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn: Option<Span>,
}

impl Perform for Reboot {
    fn describe(&self) -> String {
        "reboot".to_owned()
    }
    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Err(Error::internal("not built"))
    }
    fn apply(&self, _cx: &StepContext<'_>) -> Result<Applied> {
        Err(Error::internal("not built"))
    }
}
