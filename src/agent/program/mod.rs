//! The one program that a job is about: started, fed, waited for.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::{Stream, run};
#[cfg(windows)]
pub(super) use windows::{Stream, run};

use crate::actions::JobSpec;
use crate::error::{IoContext, Result};
use std::fs::File;

/// Program and arguments, for people.
pub(super) fn shown(job: &JobSpec) -> String {
    let mut line = job.program.clone();
    for arg in &job.args {
        line.push(' ');
        line.push_str(arg);
    }
    line
}

/// What is done first, for errors.
fn starting(job: &JobSpec) -> String {
    match &job.folder {
        Some(folder) => format!("start `{}` in {}", shown(job), folder.display()),
        None => format!("start `{}`", shown(job)),
    }
}

/// The file that is the program's input, where there is one.
fn input_file(job: &JobSpec) -> Result<Option<File>> {
    job.stdin_file.as_ref().map(|path| File::open(path).cannot(|| format!("read {}", path.display()))).transpose()
}
