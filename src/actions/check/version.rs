//! `check: version`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::error::{Error, Result};
use crate::paths::Place;
use crate::platform::facts::version_in;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The first word of a `VERSION.txt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionCheck {
    /// The folder that holds `VERSION.txt`.
    pub at: Place,
    /// What it must be.
    pub is: String,
}

impl Look for VersionCheck {
    fn wish(&self) -> String {
        format!("{} to be version {}", self.at, self.is)
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let folder = cx.path(&self.at)?;
        let found = version_in(&cx.native(&self.at)?)?;
        if found.as_deref() == Some(self.is.as_str()) {
            return Ok(Finding::Holds(format!("{} is version {}", self.at, self.is), found.into()));
        }
        let found = found.map_or_else(
            || format!("there is no VERSION.txt in {folder}, or it is empty"),
            |v| format!("{folder} is version {v}"),
        );
        let error = Error::step_failed(format!("{found}, and {} is wanted", self.is));
        Ok(Finding::Fails(error.next("see which release put the folder there: `ibexdeploy status` shows it")))
    }
}
