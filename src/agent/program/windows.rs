use super::{input_file, starting};
use crate::actions::JobSpec;
use crate::agent::output::Output;
use crate::error::{IoContext, Result};
use crate::platform::windows::launch::{self, Launch};
use std::io::{PipeWriter, Write};
use std::os::windows::io::{AsHandle, OwnedHandle};

/// An open stream of a program.
pub(in crate::agent) type Stream = OwnedHandle;

/// Runs the program to its end, and gives its exit code. What it started goes on then; where this process dies before,
/// all of that ends with it.
pub(in crate::agent) fn run(job: &JobSpec, output: &mut Output) -> Result<i32> {
    let token = job.user.as_deref().map(launch::token_for).transpose()?.flatten();
    let [out, errors] = output.streams()?;
    let (input, feed) = input(job)?;
    let launch = Launch {
        program: &job.program,
        args: &job.args,
        folder: job.folder.as_deref(),
        env: &job.env,
        streams: [input.as_handle(), out.as_handle(), errors.as_handle()],
        token: token.as_ref(),
    };
    let started = launch.start().map_err(|e| e.context(format!("cannot {}", starting(job))));
    // The program has its own ends; an output is at its end only when all have let go of it.
    drop((input, out, errors));
    let started = started?;
    if let (Some(mut feed), Some(text)) = (feed, &job.stdin) {
        // A program that does not read its input is judged by its exit code.
        let _ = feed.write_all(text.as_bytes());
    }
    let code = started.wait()?;
    started.let_go()?;
    Ok(code)
}

/// What the program reads, and the end that it is fed through.
fn input(job: &JobSpec) -> Result<(OwnedHandle, Option<PipeWriter>)> {
    if job.stdin.is_some() {
        let (reader, writer) = std::io::pipe().cannot(|| "open the input of a program")?;
        return Ok((reader.into(), Some(writer)));
    }
    let file = input_file(job)?.map_or_else(launch::nowhere, Ok)?;
    Ok((file.into(), None))
}
