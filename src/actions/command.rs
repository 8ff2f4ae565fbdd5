//! `command`: a program or shell line as a job.

use super::{Applied, Perform, Probe, StepContext, Undone};
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

/// Runs an external program as a job that outlives a lost link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// A line for the command interpreter (`cmd.exe /c`; `sh -c` in a sandbox). One of `run` and `program` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// A program, started without an interpreter: a place, or a name found by `PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Place>,
    /// Arguments of `program`, each passed as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables to add. `{secret: NAME}` gives one of the inventory's secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// A secret that the program reads from its standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_secret: Option<String>,
    /// Exit codes that mean success; 0 unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<i32>,
    /// The output, or the file `log`, must contain this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<String>,
    /// A log file that the program writes; its end is shown on failure and searched for `success`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Place>,
    /// Skipped when this exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creates: Option<Place>,
    /// Skipped when this line succeeds (exit code 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<String>,
    /// Changes nothing: its outcome is `ok`, and it needs no undo.
    #[serde(default)]
    pub read_only: bool,
}

/// The value of an environment variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvValue {
    /// Plain text: `{value: ...}`.
    Value(String),
    /// The name of a secret: `{secret: ...}`.
    Secret(String),
}

impl Perform for Command {
    fn describe(&self) -> String {
        "command".to_owned()
    }
    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Err(Error::internal("not built"))
    }
    fn apply(&self, _cx: &StepContext<'_>) -> Result<Applied> {
        Err(Error::internal("not built"))
    }
}

/// Runs the program of a step's `undo:`.
///
/// # Errors
/// When it cannot be run or fails.
pub fn undo_by_command(_command: &Command, _cx: &StepContext<'_>) -> Result<Undone> {
    Err(Error::internal("not built"))
}
