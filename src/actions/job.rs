//! An external program, as an action asks for it and as it is told how it ended.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A program to run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct JobSpec {
    /// Unique within the run: the step's id, with a suffix for helpers (`apply.03.command.unless`).
    pub id: String,
    pub program: String,
    pub args: Vec<String>,
    pub folder: Option<PathBuf>,
    /// Added to the agent's own environment; may hold secrets, so it is handed over through a pipe.
    pub env: Vec<(String, String)>,
    /// Fed to the program's standard input; may be a secret.
    pub stdin: Option<String>,
    /// A file that is its standard input, where there is too much of it for `stdin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_file: Option<PathBuf>,
    /// The secrets among the above: they are kept out of the spooled output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Run in the session of this user instead of as the agent.
    pub user: Option<String>,
    /// May be started again when it was interrupted by a crash (it only looks).
    pub repeatable: bool,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    pub exit_code: i32,
    /// The last lines of its output, at most 40, decoded leniently.
    pub tail: Vec<String>,
    /// The whole output.
    pub output: PathBuf,
}
