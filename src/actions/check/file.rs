//! `check: file`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file or folder must be there (or not), and may have to contain a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileCheck {
    /// The file or folder.
    pub path: Place,
    /// Text it must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// It must not exist.
    #[serde(default)]
    pub absent: bool,
}

impl Look for FileCheck {
    fn wish(&self) -> String {
        match (&self.contains, self.absent) {
            (_, true) => format!("{} to be gone", self.path),
            (Some(text), false) => format!("{} to contain `{text}`", self.path),
            (None, false) => format!("{} to exist", self.path),
        }
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        if self.absent && self.contains.is_some() {
            return Err(Error::bad_input("a file cannot be absent and contain something").next("drop `absent` or `contains`"));
        }
        let (path, native) = (cx.path(&self.path)?, cx.native(&self.path)?);
        let exists = native.try_exists().map_err(|e| Error::io(format!("look at {path}"), &e))?;
        let fails = |what: String, next: &str| Ok(Finding::Fails(Error::step_failed(what).next(next)));
        match (exists, self.absent) {
            (true, true) => return fails(format!("{path} exists, and should not"), "remove it, or the step that makes it"),
            (false, false) => return fails(format!("{path} does not exist"), "see which step or program should have made it"),
            (false, true) => return Ok(Finding::holds(format!("{path} does not exist"))),
            (true, false) => {}
        }
        let Some(wanted) = &self.contains else { return Ok(Finding::holds(format!("{path} exists"))) };
        let bytes = std::fs::read(&native).map_err(|e| Error::io(format!("read {path}"), &e))?;
        if String::from_utf8_lossy(&bytes).contains(wanted) {
            return Ok(Finding::holds(format!("{path} contains `{wanted}`")));
        }
        fails(format!("{path} does not contain `{wanted}`"), "look into the file: what it says tells why")
    }
}
