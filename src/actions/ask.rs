//! `ask`: the operator's word before going on.

use super::{Applied, Perform, Probe, StepContext};
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks the operator a yes-or-no question; `--yes` answers it with yes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The question.
    pub question: String,
}

impl Perform for Ask {
    fn describe(&self) -> String {
        "ask".to_owned()
    }
    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Err(Error::internal("not built"))
    }
    fn apply(&self, _cx: &StepContext<'_>) -> Result<Applied> {
        Err(Error::internal("not built"))
    }
}
