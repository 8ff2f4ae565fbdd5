//! `check: git`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::actions::external::{self, External};
use crate::actions::git::path_in;
use crate::error::{Error, Result, first_named};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The state of a git work tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitCheck {
    /// The work tree.
    pub at: Place,
    /// The branch that must be checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// No uncommitted changes.
    #[serde(default)]
    pub clean: bool,
}

impl Look for GitCheck {
    fn wish(&self) -> String {
        let branch = self.branch.as_ref().map(|b| format!("on branch {b}"));
        let clean = self.clean.then(|| "without uncommitted changes".to_owned());
        let wishes: Vec<String> = branch.into_iter().chain(clean).collect();
        let wishes = if wishes.is_empty() { "a git work tree".to_owned() } else { wishes.join(" and ") };
        format!("{} to be {wishes}", self.at)
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let path = cx.path(&self.at)?;
        let args = ["status", "--porcelain=v2", "--branch", "--untracked-files=all"].map(str::to_owned).to_vec();
        let mut program = External::program(cx, &Place("git".to_owned()), args)?.at(Some(cx.native(&self.at)?));
        // Looking must not write the index of a work tree that somebody uses, nor ask anybody anything.
        program.env = [("GIT_OPTIONAL_LOCKS", "0"), ("GIT_TERMINAL_PROMPT", "0"), ("LC_ALL", "C")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let seen = external::look(cx, "git", program)?;
        if seen.exit_code != 0 {
            return Ok(Finding::Fails(not_a_work_tree(&path.to_string(), &seen.tail)));
        }
        Ok(self.judge(path.as_str(), &seen.output))
    }
}

impl GitCheck {
    fn judge(&self, path: &str, status: &str) -> Finding {
        let branch = status.lines().find_map(|l| l.strip_prefix("# branch.head ")).unwrap_or("(unknown)");
        if let Some(wanted) = &self.branch
            && wanted != branch
        {
            let error = Error::step_failed(format!("{path} is on branch {branch}, and {wanted} is wanted"));
            return Finding::Fails(error.next(format!("commit what is there and run `git checkout {wanted}` in it")));
        }
        let changes: Vec<&str> = status.lines().filter(|l| !l.starts_with('#')).map(changed_path).collect();
        if self.clean && !changes.is_empty() {
            let error = Error::step_failed(format!("{path} has {} uncommitted changes", changes.len()));
            let error = error.with_output(first_named(&changes));
            return Finding::Fails(error.next("commit them, or put them aside, as the instrument's account"));
        }
        let summary = format!("{path} is on branch {branch}, {} uncommitted changes", changes.len());
        Finding::Holds(summary, serde_json::json!({ "branch": branch, "changes": changes }))
    }
}

/// The path in a line of the status; of a renamed file the new one.
fn changed_path(line: &str) -> &str {
    path_in(line).unwrap_or(line).split('\t').next().unwrap_or(line)
}

fn not_a_work_tree(path: &str, tail: &[String]) -> Error {
    let text = tail.join("\n");
    let error = Error::step_failed(format!("git cannot tell the state of {path}")).with_output(tail.to_vec());
    if text.contains("dubious ownership") {
        return error.next("the tree belongs to another account: run the step `as: instrument`");
    }
    error.next("see that the folder is a git work tree and that git is installed")
}
