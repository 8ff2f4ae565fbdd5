//! Where the output of a job goes: straight into its log, or through a pipe that takes the job's secrets out.

use super::program::Stream;
use crate::error::{IoContext, Result};
use crate::secrets::Secrets;
use secrecy::SecretString;
use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A line that is longer is passed on in pieces.
const LONGEST_LINE: usize = 16 << 20;

/// The output of one program.
///
/// A file that the program writes itself is what a program can leave to its children and outlive its wrapper with. A
/// program that is given secrets may print them, so what it prints goes through the wrapper and reaches no disk before
/// they are out of it.
#[derive(Debug)]
pub(super) struct Output {
    log: File,
    secrets: Option<Secrets>,
    /// Closed when the last process that holds the pipe has let go of it.
    ended: Option<Receiver<()>>,
}

impl Output {
    pub(super) fn open(path: &Path, secrets: &[String]) -> Result<Self> {
        let log = File::create(path).cannot(|| format!("write {}", path.display()))?;
        let mut hidden = Secrets::default();
        for (n, secret) in secrets.iter().enumerate() {
            hidden.insert(n.to_string(), SecretString::from(secret.as_str()));
        }
        Ok(Self { log, secrets: (!secrets.is_empty()).then_some(hidden), ended: None })
    }

    /// The program's standard output and standard error. Whoever has given them to it lets go of them.
    pub(super) fn streams(&mut self) -> Result<[Stream; 2]> {
        let what = || "open the output of a program";
        let log = self.log.try_clone().cannot(what)?;
        let Some(secrets) = self.secrets.take() else {
            let errors = log.try_clone().cannot(what)?;
            return Ok([log.into(), errors.into()]);
        };
        let (reader, writer) = std::io::pipe().cannot(what)?;
        let errors = writer.try_clone().cannot(what)?;
        let (end, ended) = channel::<()>();
        std::thread::spawn(move || {
            // A disk that is full must not stop the program: the rest of its output is read and lost.
            pass_on(reader, log, &secrets);
            drop(end);
        });
        self.ended = Some(ended);
        Ok([writer.into(), errors.into()])
    }

    /// Waits for what is on its way, at most so long: children of the program may write for days.
    pub(super) fn settle(&self, limit: Duration) {
        if let Some(ended) = &self.ended {
            // Either way the job has ended.
            let _ = ended.recv_timeout(limit);
        }
    }

    /// Stays for the program's children, which must find somebody who reads what they write.
    pub(super) fn finish(self) {
        if let Some(ended) = &self.ended {
            // Nothing is ever sent: this is the end of the output.
            let _ = ended.recv();
        }
    }
}

fn pass_on(mut reader: PipeReader, mut log: File, secrets: &Secrets) {
    let mut line = Vec::new();
    let mut fresh = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = reader.read(&mut fresh) {
        let before = line.len();
        line.extend_from_slice(&fresh[..length]);
        let whole = match fresh[..length].iter().rposition(|b| *b == b'\n') {
            Some(end) => before + end + 1,
            None if line.len() > LONGEST_LINE => line.len(),
            None => continue,
        };
        let lines: Vec<u8> = line.drain(..whole).collect();
        // See above: its log is not worth the program.
        let _ = log.write_all(&clean(&lines, secrets));
    }
    let _ = log.write_all(&clean(&line, secrets));
}

fn clean(bytes: &[u8], secrets: &Secrets) -> Vec<u8> {
    secrets.redact(&String::from_utf8_lossy(bytes)).into_bytes()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_reach_the_log_and_all_else_does() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("output.log");
        let mut output = Output::open(&path, &["hunter2-hunter2".to_owned()])?;
        let [out, errors] = output.streams()?;
        let mut command = std::process::Command::new("sh");
        command
            .stdout(out)
            .stderr(errors)
            .args(["-c", "printf 'a hunter2-'; printf 'hunter2 b\\n'; echo two >&2; printf 'last hunter2-hunter2'"]);
        let mut child = command.spawn().expect("sh starts");
        drop(command);
        child.wait().expect("sh ends");
        output.finish();
        assert_eq!(std::fs::read_to_string(&path).expect("the log"), "a *** b\ntwo\nlast ***");
        Ok(())
    }
}
