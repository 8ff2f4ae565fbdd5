//! `check: service`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::actions::service::ServiceState;
use crate::error::{Error, Result};
use crate::platform::ServiceStatus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A service's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceCheck {
    /// The service's name.
    pub name: String,
    /// The state it must be in.
    pub is: crate::actions::service::ServiceState,
}

impl Look for ServiceCheck {
    fn wish(&self) -> String {
        format!("service {} to be {}", self.name, self.wanted().word())
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let found = cx.platform.service(&self.name)?;
        let word = found.map_or("absent", ServiceStatus::word);
        let absent_will_do = self.wanted() == ServiceStatus::Stopped && found.is_none();
        if found == Some(self.wanted()) || absent_will_do {
            return Ok(Finding::Holds(format!("service {} is {word}", self.name), word.into()));
        }
        let error = Error::step_failed(format!("service {} is {word}, and {} is wanted", self.name, self.wanted().word()));
        Ok(Finding::Fails(
            error.next(format!("bring it there by a step `service: {{name: {}, state: ...}}`, or by hand", self.name)),
        ))
    }
}

impl ServiceCheck {
    /// A restart cannot be seen afterwards; that it runs can.
    fn wanted(&self) -> ServiceStatus {
        match self.is {
            ServiceState::Stopped => ServiceStatus::Stopped,
            ServiceState::Running | ServiceState::Restarted => ServiceStatus::Running,
        }
    }
}
