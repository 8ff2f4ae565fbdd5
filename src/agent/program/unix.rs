use super::{input_file, shown, starting};
use crate::actions::JobSpec;
use crate::agent::output::Output;
use crate::error::{IoContext, Result};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// An open stream of a program.
pub(in crate::agent) type Stream = OwnedFd;

/// Runs the program to its end, and gives its exit code as a shell would.
pub(in crate::agent) fn run(job: &JobSpec, output: &mut Output) -> Result<i32> {
    let mut command = Command::new(&job.program);
    command.args(&job.args).envs(job.env.iter().map(|(k, v)| (k, v)));
    let [out, errors] = output.streams()?;
    command.stdout(out).stderr(errors);
    command.stdin(match (&job.stdin, input_file(job)?) {
        (Some(_), _) => Stdio::piped(),
        (None, Some(file)) => file.into(),
        (None, None) => Stdio::null(),
    });
    if let Some(folder) = &job.folder {
        command.current_dir(folder);
    }
    let child = command.spawn().cannot(|| starting(job));
    // It holds the other end of the output, which is at its end only when all have let go of it.
    drop(command);
    let mut child = child?;
    if let (Some(mut input), Some(text)) = (child.stdin.take(), &job.stdin) {
        // A program that does not read its input is judged by its exit code.
        let _ = input.write_all(text.as_bytes());
    }
    let status = child.wait().cannot(|| format!("wait for `{}`", shown(job)))?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}
