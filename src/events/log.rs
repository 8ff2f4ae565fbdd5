//! `events.jsonl`: a line an event, written before anything acts on it, and read even when it is damaged.

use super::{EVENT_VERSION, Event};
use crate::error::{Error, ErrorKind, IoContext, Result};
use jiff::Timestamp;
use serde::Serialize;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Appends events to a run's file. One writer at a time: a lock beside the file sees to it.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
    /// Held as long as this lives.
    _lock: File,
}

impl EventWriter {
    /// Opens the file for appending, making it when it is not there. A last line that was torn by a kill is ended,
    /// so that what comes is readable.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] when another controller writes this run; when the file cannot be written.
    pub fn open(path: &Path, lock: &Path) -> Result<Self> {
        let lock_file = take_lock(lock)?;
        let cannot = || format!("write the events of the run to {}", path.display());
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).cannot(cannot)?;
        if file.seek(SeekFrom::End(0)).cannot(cannot)? > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).cannot(cannot)?;
            file.read_exact(&mut last).cannot(cannot)?;
            if last != *b"\n" {
                file.write_all(b"\n").cannot(cannot)?;
            }
        }
        Ok(Self { file, path: path.to_owned(), _lock: lock_file })
    }

    /// Writes one event and returns when the system has it.
    ///
    /// # Errors
    /// When it cannot be written; then nothing may act on the event.
    pub fn append(&mut self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_vec(event).map_err(|e| Error::internal("cannot write an event").because(e))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.flush()).map_err(|e| {
            Error::io(format!("write the events of the run to {}", self.path.display()), &e)
                .next("make room there or name another folder with --state, then `ibexdeploy runs resume`: the instruments go on by themselves")
        })
    }
}

/// Takes the lock that says that a controller writes this run.
fn take_lock(path: &Path) -> Result<File> {
    let cannot = || format!("open the lock {}", path.display());
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).cannot(cannot)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(ErrorKind::Refused, "this run is led by another ibexdeploy on this machine")
                .next("wait for it, or follow it with `ibexdeploy runs show`"))
        }
        Err(TryLockError::Error(e)) => Err(Error::io(cannot(), &e)),
    }
}

/// True when a controller writes the run whose lock this is.
pub(super) fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// What a run's file holds.
#[derive(Debug, Clone, Default)]
pub struct EventLog {
    pub events: Vec<Event>,
    /// What could not be read; empty when the file is whole.
    pub damage: Vec<Damage>,
}

/// Lines that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The first and the last line, counted from 1.
    pub lines: (usize, usize),
    /// What is wrong with the first of them.
    pub why: String,
    /// The times of the last event before and the first one after, when there are such.
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
    /// The end of the file was cut off in the middle of a line, as a kill or a full disk does.
    pub torn: bool,
}

impl fmt::Display for Damage {
    /// What is lost, in one sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.lines;
        if self.torn {
            write!(f, "line {first} (the last) was cut off")?;
        } else if first == last {
            write!(f, "line {first} cannot be read ({})", self.why)?;
        } else {
            write!(f, "lines {first} to {last} cannot be read ({})", self.why)?;
        }
        match (self.after, self.before) {
            (Some(after), Some(before)) => write!(f, ": what happened between {after} and {before} is lost here"),
            (Some(after), None) => write!(f, ": what happened after {after} is lost here"),
            (None, Some(before)) => write!(f, ": what happened before {before} is lost here"),
            (None, None) => write!(f, ": nothing before or after it is left"),
        }
    }
}

impl EventLog {
    /// Reads a file of events. Damaged lines are told in [`EventLog::damage`]; they are no error.
    ///
    /// # Errors
    /// When the file cannot be opened or read at all.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).cannot(|| format!("read the events of the run in {}", path.display()))?;
        Ok(Self::parse(&bytes))
    }

    /// As [`EventLog::read`], of bytes at hand.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut log = Self::default();
        let whole = bytes.last() == Some(&b'\n');
        let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
        let count = lines.len();
        for (at, line) in lines.into_iter().enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match read_line(line) {
                Ok(event) => {
                    if let Some(damage) = log.damage.last_mut() {
                        damage.before.get_or_insert(event.at);
                    }
                    log.events.push(event);
                }
                Err(why) => log.note_damage(at + 1, why, !whole && at + 1 == count),
            }
        }
        log
    }

    fn note_damage(&mut self, line: usize, why: String, torn: bool) {
        match self.damage.last_mut() {
            Some(last) if last.lines.1 + 1 == line && !torn => last.lines.1 = line,
            _ => {
                let after = self.events.last().map(|e| e.at);
                self.damage.push(Damage { lines: (line, line), why, after, before: None, torn });
            }
        }
    }
}

fn read_line(line: &[u8]) -> std::result::Result<Event, String> {
    // What a newer build wrote may not even parse here; its version tells why.
    #[derive(serde::Deserialize)]
    struct Version {
        v: u16,
    }
    let newer = serde_json::from_slice::<Version>(line).ok().filter(|v| v.v > EVENT_VERSION);
    if let Some(Version { v }) = newer {
        return Err(format!("written by a newer ibexdeploy, event version {v}"));
    }
    serde_json::from_slice(line).map_err(|e| e.to_string())
}
