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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::made_up::Story;
    use insta::assert_snapshot;
    use tempfile::TempDir;

    fn events() -> Vec<Event> {
        let mut story = Story::begin(&["NDXLOQ"], false);
        story.changed("NDXLOQ", 60_000).finish(0, None);
        story.events
    }

    fn lines(events: &[Event]) -> Vec<Vec<u8>> {
        events.iter().map(|e| serde_json::to_vec(e).unwrap()).collect()
    }

    fn read(lines: &[Vec<u8>], end: &str) -> (EventLog, String) {
        let mut bytes = lines.join(&b"\n"[..]);
        bytes.extend_from_slice(end.as_bytes());
        let log = EventLog::parse(&bytes);
        let said = log.damage.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        (log, said)
    }

    #[test]
    fn what_was_written_reads_back() -> Result<()> {
        let folder = TempDir::new().unwrap();
        let (path, lock) = (folder.path().join("events.jsonl"), folder.path().join("lock"));
        let events = events();
        let mut writer = EventWriter::open(&path, &lock)?;
        for (at, event) in events.iter().enumerate() {
            writer.append(event)?;
            assert_eq!(EventLog::read(&path)?.events.len(), at + 1, "an event is on disk when append returns");
        }
        let log = EventLog::read(&path)?;
        assert_eq!((log.events, log.damage), (events, vec![]));
        Ok(())
    }

    #[test]
    fn one_writer_at_a_time() -> Result<()> {
        let folder = TempDir::new().unwrap();
        let (path, lock) = (folder.path().join("events.jsonl"), folder.path().join("lock"));
        let writer = EventWriter::open(&path, &lock)?;
        assert!(is_locked(&lock));
        assert_eq!(EventWriter::open(&path, &lock).unwrap_err().kind(), ErrorKind::Refused);
        drop(writer);
        assert!(!is_locked(&lock));
        EventWriter::open(&path, &lock)?;
        Ok(())
    }

    #[test]
    fn writing_goes_on_behind_a_torn_line() -> Result<()> {
        let folder = TempDir::new().unwrap();
        let (path, lock) = (folder.path().join("events.jsonl"), folder.path().join("lock"));
        let events = events();
        EventWriter::open(&path, &lock)?.append(&events[0])?;
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(br#"{"v":1,"run":"2026"#);
        std::fs::write(&path, bytes).unwrap();
        EventWriter::open(&path, &lock)?.append(&events[1])?;
        let log = EventLog::read(&path)?;
        assert_eq!(log.events, &events[..2]);
        assert_eq!((log.damage.len(), log.damage[0].lines), (1, (2, 2)));
        Ok(())
    }

    #[test]
    fn a_torn_end_is_told() {
        let mut lines = lines(&events()[..3]);
        let cut = lines[2].len() / 2;
        lines[2].truncate(cut);
        let (log, said) = read(&lines, "");
        assert_eq!(log.events.len(), 2);
        assert_snapshot!(said, @r"line 3 (the last) was cut off: what happened after 2026-11-23T22:00:01Z is lost here");
    }

    #[test]
    fn damage_in_the_middle_names_what_is_lost() {
        let mut lines = lines(&events()[..8]);
        lines[2] = vec![0, 0xff, 0xfe];
        lines[3].truncate(20);
        lines[6] = br#"{"v":9,"happened":"something new"}"#.to_vec();
        let (log, said) = read(&lines, "\n");
        assert_eq!(log.events.len(), 5);
        assert_snapshot!(said, @r"
        lines 3 to 4 cannot be read (expected value at line 1 column 1): what happened between 2026-11-23T22:00:01Z and 2026-11-23T22:00:04Z is lost here
        line 7 cannot be read (written by a newer ibexdeploy, event version 9): what happened between 2026-11-23T22:00:05Z and 2026-11-23T22:00:07Z is lost here
        ");
    }

    #[test]
    fn an_empty_file_is_no_damage() {
        assert_eq!(read(&[], "").0.damage, vec![]);
        assert_eq!(read(&[], "\n\n").0.damage, vec![]);
    }

    #[test]
    fn an_unknown_kind_is_damage() {
        let text = br#"{"v":1,"run":"r","n":0,"at":"2026-11-23T22:00:00Z","event":"danced"}"#.to_vec();
        let (log, said) = read(&[text], "\n");
        assert!(log.events.is_empty() && said.contains("danced"), "{said}");
    }

    proptest::proptest! {
        #[test]
        fn no_damage_makes_it_panic_or_lose_whole_lines(at in 0usize..4000, noise in proptest::collection::vec(0u8.., 0..40)) {
            let whole = lines(&events());
            let mut bytes = whole.join(&b"\n"[..]);
            bytes.push(b'\n');
            let at = at.min(bytes.len());
            let end = (at + noise.len()).min(bytes.len());
            let touched = bytes[at..end].iter().filter(|b| **b == b'\n').count() + 1;
            bytes.splice(at..end, noise);
            let log = EventLog::parse(&bytes);
            proptest::prop_assert!(log.events.len() + touched >= whole.len());
        }
    }
}
