//! `check: output`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::actions::external::{self, External};
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A program's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputCheck {
    /// The working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// A line for the command interpreter.
    pub run: String,
    /// The output must contain this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Exit codes that will do; 0 unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<i32>,
}

impl Look for OutputCheck {
    fn wish(&self) -> String {
        match &self.contains {
            Some(text) => format!("`{}` to say `{text}`", self.run),
            None => format!("`{}` to succeed", self.run),
        }
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let at = self.at.as_ref().map(|at| cx.native(at)).transpose()?;
        let seen = external::look(cx, "look", External::line(cx, &self.run).at(at))?;
        let fine = if self.exit_codes.is_empty() { seen.exit_code == 0 } else { self.exit_codes.contains(&seen.exit_code) };
        if !fine {
            return Ok(Finding::Fails(external::failed(cx, &self.run, seen.exit_code, &seen.tail)));
        }
        if let Some(text) = &self.contains
            && !seen.output.contains(text)
        {
            let error = Error::step_failed(format!("`{}` does not say `{text}`", self.run)).with_output(seen.tail);
            return Ok(Finding::Fails(error.next("read its output: what it says instead tells why")));
        }
        let summary = format!("`{}` ended with exit code {}", self.run, seen.exit_code);
        let output = cx.secrets.redact(seen.output.trim_end());
        Ok(Finding::Holds(summary, serde_json::json!({ "exit_code": seen.exit_code, "output": output })))
    }

    fn runs_a_line(&self) -> bool {
        true
    }
}
