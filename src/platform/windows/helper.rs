//! Programs of the system that do small things for us.

use crate::error::{Error, ErrorKind, IoContext, Result};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::windows::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

/// How often it is looked whether a program has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// What a program wrote, and how it ended.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) success: bool,
    pub(super) code: i32,
    pub(super) output: String,
    pub(super) errors: String,
}

/// Runs a program to its end. It writes to files and not to pipes: what it starts itself may keep a pipe open for ever.
///
/// # Errors
/// When it cannot be started, or has not ended at the limit; it is ended then.
pub(super) fn run(mut command: Command, limit: Option<Duration>) -> Result<Said> {
    let name = command.get_program().to_string_lossy().into_owned();
    let spool = || tempfile::tempfile().cannot(|| format!("keep what {name} writes"));
    let (mut output, mut errors) = (spool()?, spool()?);
    let clone = |file: &File| file.try_clone().cannot(|| format!("keep what {name} writes"));
    command.stdin(Stdio::null()).stdout(clone(&output)?).stderr(clone(&errors)?).creation_flags(CREATE_NO_WINDOW);
    let mut child = command.spawn().cannot(|| format!("start {name}"))?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().cannot(|| format!("wait for {name}"))? {
            break status;
        }
        if let Some(limit) = limit.filter(|limit| begun.elapsed() > *limit) {
            // It may have ended just now.
            let _ = child.kill();
            return Err(Error::new(ErrorKind::TimedOut, format!("{name} took longer than {} s and was ended", limit.as_secs())));
        }
        std::thread::sleep(PAUSE);
    };
    let (output, errors) = (text_of(&mut output), text_of(&mut errors));
    Ok(Said { success: status.success(), code: status.code().unwrap_or(-1), output, errors })
}

fn text_of(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // What cannot be read was not said.
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_kept_and_one_that_hangs_is_ended() {
        let line = |text: &str| {
            let mut command = Command::new("cmd.exe");
            command.args(["/d", "/c", text]);
            command
        };
        let said = run(line("echo out&echo err>&2&exit 3"), None).unwrap();
        assert_eq!((said.output.trim(), said.errors.trim(), said.code, said.success), ("out", "err", 3, false));
        let error = run(line("for /l %i in (1,0,2) do @rem"), Some(Duration::from_millis(50))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
