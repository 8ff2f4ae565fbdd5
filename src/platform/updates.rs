//! Updates of the operating system, and programs that are installed.

use super::{Platform, open};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// An update that the system offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// What it is asked for by; on Windows the identity of the update, for example `KB5034441`.
    pub id: String,
    pub title: String,
    /// What would be downloaded, in bytes; 0 when the system does not tell.
    #[serde(default)]
    pub bytes: u64,
}

/// An installed program, as the system lists it (Windows: "Programs and Features").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub name: String,
    /// Empty when the system knows none.
    pub version: String,
}

/// What is asked of a process of its own: searching takes minutes and installing up to hours, and either must survive
/// the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    List,
    Install { id: String },
}

/// What that process answers, on the last line of its output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Offered(Vec<Update>),
    /// The exit code of the installation.
    Installed(i32),
}

impl Task {
    /// The arguments with which this executable does the task.
    pub fn arguments(&self, root: Option<&Path>) -> Vec<String> {
        let mut words = vec!["agent".to_owned(), "updates".to_owned()];
        if let Some(root) = root {
            words.extend(["--root".to_owned(), root.display().to_string()]);
        }
        if let Self::Install { id } = self {
            words.extend(["--install".to_owned(), id.clone()]);
        }
        words
    }

    /// Does the task, and gives the line to answer with.
    ///
    /// # Errors
    /// When the line cannot be written; what went wrong with the task itself is in the line.
    pub fn answer(&self, root: Option<&Path>) -> Result<String> {
        let answer = open(root).and_then(|platform| self.run(&*platform));
        serde_json::to_string(&answer).map_err(|e| Error::internal("cannot write an answer").because(e))
    }

    fn run(&self, platform: &dyn Platform) -> Result<Answer> {
        match self {
            Self::List => platform.offered_updates().map(Answer::Offered),
            Self::Install { id } => platform.install_update(id).map(Answer::Installed),
        }
    }

    /// The answer in the output of that process; what it wrote to its standard error may stand there as well. Nothing
    /// when it did not come to one.
    pub fn read(output: &str) -> Option<Result<Answer>> {
        output.lines().rev().find_map(|line| serde_json::from_str::<Result<Answer>>(line).ok())
    }
}
