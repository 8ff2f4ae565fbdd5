//! Parts of a migration as the account that the settings belong to.

use crate::actions::StepContext;
use crate::actions::external::{self, External};
use crate::error::{Error, IoContext, Result};
use crate::migrate::work::{Answer, Task};
use crate::playbook::RunAs;

/// Does a task, here or in a process of the step's account.
pub(super) fn run(cx: &StepContext<'_>, task: &Task) -> Result<Answer> {
    if cx.step.run_as == RunAs::Admin {
        return task.run();
    }
    let program = std::env::current_exe().cannot(|| "find this executable")?;
    let order = serde_json::to_string(task).map_err(|e| Error::internal("cannot write a task").because(e))?;
    let external = External {
        program: program.display().to_string(),
        args: vec!["agent".to_owned(), "migrate".to_owned()],
        stdin: Some(order),
        ..External::default()
    };
    let seen = external::answer(cx, "migrate", external)?;
    // What the process wrote to its standard error stands in the output as well, on lines of its own.
    let answer = seen.output.lines().rev().find_map(|line| serde_json::from_str::<Result<Answer>>(line).ok());
    answer.unwrap_or_else(|| Err(external::failed(cx, "migrate", seen.exit_code, &seen.tail)))
}
