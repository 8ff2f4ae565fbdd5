//! `check: process`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::actions::process::{ProcessState, Wanted, list, standing_error};
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Programs that must or must not be there; see the action `process`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessCheck {
    /// Programs whose executable, script or working folder lies in one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under: Vec<Place>,
    /// Programs with one of these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<String>,
    /// Whether they must be there.
    pub is: crate::actions::process::ProcessState,
}

impl Look for ProcessCheck {
    fn wish(&self) -> String {
        let mut what: Vec<&str> = self.under.iter().map(Place::as_str).collect();
        what.extend(self.named.iter().map(String::as_str));
        format!("programs of {} to be {}", what.join(", "), self.is.word())
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let wanted = Wanted::new(cx, &self.under, &self.named)?;
        let mut found = wanted.find(cx)?;
        match self.is {
            ProcessState::None if found.is_empty() => Ok(Finding::holds(format!("no {}", wanted.words()))),
            ProcessState::None => Ok(Finding::Fails(standing_error(&found).unwrap_or_else(|| {
                Error::step_failed(format!("{} still running, and no {} should be", list(&found), wanted.words()))
                    .next("stop IBEX, or end them by a step `process` with `kill: true`")
            }))),
            ProcessState::Running => {
                found.retain(|f| f.stands_in.is_none());
                if !found.is_empty() {
                    return Ok(Finding::holds(format!("{} running", list(&found))));
                }
                let error = Error::step_failed(format!("no {} running", wanted.words()));
                Ok(Finding::Fails(error.next("see why it did not start: its log, and the step that starts it")))
            }
        }
    }
}
