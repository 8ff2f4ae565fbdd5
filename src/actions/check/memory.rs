//! `check: memory`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::error::{Error, Result};
use crate::units::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Installed memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryCheck {
    /// How much there must be.
    pub at_least: Size,
}

impl Look for MemoryCheck {
    fn wish(&self) -> String {
        format!("{} of memory", self.at_least)
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let installed = Size(cx.platform.memory()?);
        if installed >= self.at_least {
            return Ok(Finding::holds(format!("{installed} of memory")));
        }
        let error = Error::step_failed(format!("the machine has {installed} of memory, and {} are wanted", self.at_least));
        Ok(Finding::Fails(error.next("give the virtual machine more memory and start it again")))
    }
}
