//! `snapshot`: values before and after, and their difference in the report.

use super::{Applied, Perform, Probe, StepContext};
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps values under a name; a second snapshot of the same name reports what differs from the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The name that ties the two together; `state` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named: Option<String>,
    /// Process variables to read through the instrument's `caget`; a list of names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pvs: Vec<String>,
    /// Files whose text is compared, as places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<crate::paths::Place>,
    /// Services whose state is compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<String>,
}

impl Perform for Snapshot {
    fn describe(&self) -> String {
        "snapshot".to_owned()
    }
    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Err(Error::internal("not built"))
    }
    fn apply(&self, _cx: &StepContext<'_>) -> Result<Applied> {
        Err(Error::internal("not built"))
    }
}
