//! External programs as jobs: detached, output spooled, exit code recorded, found again after a crash.

use super::detach::{self, Leader};
use super::lock::try_lock;
use super::output::Output;
use super::program::{self, shown};
use crate::actions::{Deadline, JobEnd, JobSpec, Jobs, Progress};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files::{expect_room_beside, read_json, write_json};
use crate::locks::locked;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Lines of output kept for the report.
const TAIL_LINES: usize = 40;

/// Bytes of a line that is passed on; a longer one comes in pieces.
const LONGEST_LINE: usize = 64 * 1024;

/// How often output is looked at and the deadline is remembered.
const POLL: Duration = Duration::from_millis(50);

/// How long a program may take to end after it was asked to, before it is ended.
const GRACE: Duration = Duration::from_secs(5);

/// How long output that is on its way is waited for after the end of a program.
const SETTLE: Duration = Duration::from_secs(2);

/// What the wrapper writes when the program has ended, or could not be started.
#[derive(Debug, Serialize, Deserialize)]
struct Exit {
    code: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

/// The jobs of one attempt of a step. The same calls in the same order find the same jobs again after a crash.
#[derive(Debug)]
pub(crate) struct RunJobs {
    /// `jobs/` in the run's folder.
    folder: PathBuf,
    /// The executable whose `agent job` wraps programs.
    executable: PathBuf,
    /// Attempt and item, or the undoing of which intention.
    scope: String,
    calls: Mutex<HashMap<String, u32>>,
}

impl RunJobs {
    pub(crate) fn new(run_dir: &Path, executable: &Path, scope: String) -> Self {
        Self { folder: run_dir.join("jobs"), executable: executable.to_path_buf(), scope, calls: Mutex::default() }
    }

    fn folder_for(&self, id: &str) -> PathBuf {
        let mut calls = locked(&self.calls);
        let call = calls.entry(id.to_owned()).or_insert(0);
        *call += 1;
        self.folder.join(format!("{id}.{}.{call}", self.scope))
    }

    fn start(&self, dir: &Path, job: &JobSpec) -> Result<Receiver<()>> {
        std::fs::create_dir_all(dir).cannot(|| format!("make the folder {}", dir.display()))?;
        let order = serde_json::to_vec(job).map_err(|e| Error::internal("cannot write a job").because(e))?;
        let mut command = Command::new(&self.executable);
        command.args(["agent", "job"]).arg(dir).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        detach::own_session(&mut command);
        let mut child = command.spawn().cannot(|| format!("start {}", self.executable.display()))?;
        std::fs::write(dir.join("pid"), Leader::of(&child).to_string()).cannot(|| format!("write into {}", dir.display()))?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(&order).cannot(|| format!("hand over the job {}", job.id))?;
        }
        let (ended, end) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // What matters stands in `exit.json`; this only wakes the one who waits.
            let _ = child.wait();
            let _ = ended.send(());
        });
        Ok(end)
    }
}

impl Jobs for RunJobs {
    fn run(&self, job: JobSpec, progress: &dyn Progress, deadline: &Deadline) -> Result<JobEnd> {
        let dir = self.folder_for(&job.id);
        let found = Found::look_back(&dir)?;
        let end = match found {
            Found::Alive => None,
            Found::Ended(_) if !job.repeatable => None,
            Found::Lost if !job.repeatable => {
                return Err(Error::step_failed(format!(
                    "`{}` was interrupted when the machine or the worker went down, and whether it did its work is unknown",
                    shown(&job)
                ))
                .with_output(tail_of(&dir.join("output.log"))));
            }
            Found::None | Found::Ended(_) | Found::Lost => {
                // What an earlier life left there would be taken for this one's.
                let _ = std::fs::remove_dir_all(&dir);
                Some(self.start(&dir, &job)?)
            }
        };
        Waiting { job: &job, dir: &dir, end, progress, deadline }.wait()
    }
}

/// What is known of a job.
enum Found {
    None,
    Alive,
    Ended(Exit),
    /// It was started, does not run, and left no exit code.
    Lost,
}

impl Found {
    /// What an earlier life of the worker left. A wrapper that has its order and not yet its lock is waited for:
    /// another one beside it would run the program twice, and what it is about to do is not lost.
    fn look_back(dir: &Path) -> Result<Self> {
        let begun = Instant::now();
        loop {
            let found = Self::look(dir)?;
            let starting = matches!(found, Self::None | Self::Lost) && leader_in(dir).is_some_and(Leader::is_alive);
            if !starting || begun.elapsed() > GRACE {
                return Ok(found);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn look(dir: &Path) -> Result<Self> {
        // The lock first, and once: a job that ends between the two looks has written its exit code before it let go,
        // and one that begins between them is none yet.
        let lock = dir.join("lock");
        let begun = lock.exists();
        let alive = begun && try_lock(&lock)?.is_none();
        match read_json(&dir.join("exit.json"))? {
            Some(exit) => Ok(Self::Ended(exit)),
            None if alive => Ok(Self::Alive),
            None if begun => Ok(Self::Lost),
            None => Ok(Self::None),
        }
    }
}

struct Waiting<'a> {
    job: &'a JobSpec,
    dir: &'a Path,
    end: Option<Receiver<()>>,
    progress: &'a dyn Progress,
    deadline: &'a Deadline,
}

impl Waiting<'_> {
    fn wait(&self) -> Result<JobEnd> {
        let what = format!("`{}`", shown(self.job));
        let output = self.dir.join("output.log");
        let mut reader = LineReader::new(&output);
        let begun = Instant::now();
        loop {
            let ended = self.has_ended()?;
            reader.forward(self.progress);
            if ended {
                return self.judge(output);
            }
            if self.deadline.is_cancelled() || self.deadline.is_over() {
                end_group(self.dir);
                let (kind, text) = if self.deadline.is_cancelled() {
                    (ErrorKind::Cancelled, format!("cancelled while waiting for {what}"))
                } else {
                    (ErrorKind::TimedOut, format!("{what} took longer than {} s and was ended", self.deadline.limit().as_secs()))
                };
                return Err(Error::new(kind, text).with_output(tail_of(&output)));
            }
            self.progress.waiting(&what, begun.elapsed(), self.deadline.limit());
        }
    }

    /// Waits a moment for the end.
    fn has_ended(&self) -> Result<bool> {
        match &self.end {
            // A wrapper stays after its program's end while the program's own children still write.
            Some(end) => {
                Ok(!matches!(end.recv_timeout(POLL), Err(RecvTimeoutError::Timeout)) || self.dir.join("exit.json").exists())
            }
            None => match Found::look(self.dir)? {
                Found::Alive => {
                    std::thread::sleep(POLL);
                    Ok(false)
                }
                _ => Ok(true),
            },
        }
    }

    fn judge(&self, output: PathBuf) -> Result<JobEnd> {
        match Found::look(self.dir)? {
            Found::Ended(Exit { error: Some(error), .. }) => Err(error),
            Found::Ended(Exit { code, .. }) => Ok(JobEnd { exit_code: code, tail: tail_of(&output), output }),
            _ => {
                // Only the wrapper may be gone: its program must not go on while the step is undone.
                end_group(self.dir);
                // Nor can it write down how its program ended where there is no room.
                expect_room_beside(&output).map_err(|e| e.context(format!("how `{}` ended is not known", shown(self.job))))?;
                Err(Error::step_failed(format!("`{}` was ended from outside", shown(self.job))).with_output(tail_of(&output)))
            }
        }
    }
}

/// Passes on whole lines of a file that grows.
struct LineReader<'a> {
    path: &'a Path,
    at: u64,
    rest: Vec<u8>,
}

impl<'a> LineReader<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, at: 0, rest: Vec::new() }
    }

    fn forward(&mut self, progress: &dyn Progress) {
        let Ok(mut file) = File::open(self.path) else { return };
        if file.seek(SeekFrom::Start(self.at)).is_err() {
            return;
        }
        let mut fresh = Vec::new();
        // What cannot be read now is read the next time.
        let Ok(read) = file.take(1 << 20).read_to_end(&mut fresh) else { return };
        self.at += read as u64;
        for part in fresh.split_inclusive(|b| *b == b'\n') {
            self.rest.extend_from_slice(part);
            // A program that never ends its line must not fill the memory.
            if part.ends_with(b"\n") || self.rest.len() >= LONGEST_LINE {
                progress.output(String::from_utf8_lossy(&self.rest).trim_end());
                self.rest.clear();
            }
        }
    }
}

fn tail_of(output: &Path) -> Vec<String> {
    let Ok(mut file) = File::open(output) else { return Vec::new() };
    let length = file.metadata().map_or(0, |m| m.len());
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024))).is_err() || file.read_to_end(&mut bytes).is_err() {
        return Vec::new();
    }
    let mut tail = VecDeque::new();
    for line in String::from_utf8_lossy(&bytes).lines() {
        tail.push_back(line.trim_end().to_owned());
        if tail.len() > TAIL_LINES {
            tail.pop_front();
        }
    }
    tail.into()
}

/// The wrapper's process, when it was written down.
pub(super) fn leader_in(dir: &Path) -> Option<Leader> {
    std::fs::read_to_string(dir.join("pid")).ok()?.trim().parse().ok()
}

/// Ends the wrapper, its program and what they started, politely at first.
fn end_group(dir: &Path) {
    let Some(leader) = leader_in(dir) else { return };
    leader.end(false);
    let begun = Instant::now();
    while begun.elapsed() < GRACE && matches!(try_lock(&dir.join("lock")), Ok(None)) {
        std::thread::sleep(POLL);
    }
    leader.end(true);
}

/// The wrapper around one program: reads the order from standard input, runs it, writes down how it ended.
///
/// # Errors
/// When the order or the folder cannot be used.
pub fn run_job(dir: &Path) -> Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).cannot(|| "read the job from standard input")?;
    let job: JobSpec = serde_json::from_str(&text).map_err(|e| Error::usage("standard input holds no job").because(e))?;
    let alive = lock_of(dir)?;
    let mut output = Output::open(&dir.join("output.log"), &job.secrets)?;
    let exit = match program::run(&job, &mut output) {
        Ok(code) => Exit { code, error: None },
        Err(error) => Exit { code: -1, error: Some(error) },
    };
    output.settle(SETTLE);
    write_json(&dir.join("exit.json"), &exit)?;
    drop(alive);
    output.finish();
    Ok(())
}

/// Takes the lock of a job. Whoever looks whether it is held holds it for a moment.
fn lock_of(dir: &Path) -> Result<File> {
    let begun = Instant::now();
    loop {
        if let Some(lock) = try_lock(&dir.join("lock"))? {
            return Ok(lock);
        }
        if begun.elapsed() > SETTLE {
            return Err(Error::new(ErrorKind::Refused, format!("the job in {} runs already", dir.display())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<usize>>);

    impl Progress for Heard {
        fn waiting(&self, _what: &str, _elapsed: Duration, _limit: Duration) {}
        fn advanced(&self, _done: u64, _total: u64, _unit: crate::events::Unit) {}
        fn output(&self, line: &str) {
            locked(&self.0).push(line.len());
        }
        fn note(&self, _text: &str) {}
        fn remind(&self, _text: &str) {}
        fn hand_changes(&self, _component: &str, _files: Option<u64>, _archive: Option<&str>) {}
    }

    #[test]
    fn a_wrapper_that_has_begun_and_has_not_its_lock_yet_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().to_path_buf();
        File::create(dir.join("lock")).unwrap();
        std::fs::write(dir.join("pid"), std::process::id().to_string()).unwrap();
        let ending = dir.join("exit.json");
        let wrapper = std::thread::spawn(move || write_json(&ending, &Exit { code: 7, error: None }).unwrap());
        assert!(matches!(Found::look_back(&dir).unwrap(), Found::Ended(Exit { code: 7, .. })));
        wrapper.join().unwrap();
    }

    #[test]
    fn lines_are_passed_on_whole_and_endless_ones_in_pieces() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("output.log");
        let heard = Heard::default();
        let mut reader = LineReader::new(&path);
        std::fs::write(&path, "one\r\nthree").expect("write");
        reader.forward(&heard);
        assert_eq!(*locked(&heard.0), [3], "a line that is not whole waits");
        std::fs::write(&path, format!("one\r\nthree\n{}", "x".repeat(300_000))).expect("write");
        reader.forward(&heard);
        let all = locked(&heard.0).clone();
        assert_eq!(all[1], 5);
        assert!(all.len() > 2, "a line without an end is not kept in memory until it has one");
        assert!(reader.rest.len() <= LONGEST_LINE);
    }
}
