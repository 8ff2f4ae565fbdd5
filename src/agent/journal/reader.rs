//! Reading a journal: everything that is whole, and words for what is not.

use super::Entry;
use crate::error::{Error, Result};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::path::{Path, PathBuf};

/// A journal as it was found.
#[derive(Debug, Default)]
pub struct Loaded {
    pub entries: Vec<Entry>,
    /// What is lost, a sentence each; a last line that was not written to its end is none.
    pub damage: Vec<String>,
    /// Bytes up to the end of the last line that is whole; what follows was torn off by a crash.
    pub whole: u64,
}

impl Loaded {
    /// The number the next entry gets.
    pub fn next_number(&self) -> u64 {
        self.entries.iter().map(|e| e.n).max().unwrap_or(0) + 1
    }

    /// The damage in one line, or nothing.
    pub fn damage_text(&self) -> Option<String> {
        (!self.damage.is_empty()).then(|| self.damage.join("; "))
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    c: &'a str,
    #[serde(borrow)]
    e: &'a RawValue,
}

/// Reads the journal in a file.
///
/// # Errors
/// When the file cannot be read at all.
pub fn read(path: &Path) -> Result<Loaded> {
    let bytes = std::fs::read(path).map_err(|e| {
        Error::io(format!("read the journal {}", path.display()), &e)
            .next("without its journal nobody knows what the run did: release again, or restore a backup")
    })?;
    let mut loaded = parse(&bytes);
    loaded.miss_end(number_in(&end_file(path)).max(number_in(&intent_file(path))));
    Ok(loaded)
}

/// Where it stands that a run is over: beside its journal, with the number of its last entry. Without it, a journal
/// that lost its end could not be told from one whose worker was killed, and the run would be begun again.
fn end_file(journal: &Path) -> PathBuf {
    journal.with_file_name("ended")
}

/// Where the number of the last intent stands, beside the journal. Without it, a journal of an open run that was cut off or
/// emptied could not be told from one of a run that has changed nothing yet.
fn intent_file(journal: &Path) -> PathBuf {
    journal.with_file_name("intended")
}

fn number_in(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// True when the run of this journal is noted to be over, whatever the journal itself can still tell.
pub fn is_over(journal: &Path) -> bool {
    number_in(&end_file(journal)).is_some()
}

/// Notes that a run is over with the entry of this number.
pub(super) fn note_end(journal: &Path, n: u64) {
    if let Err(error) = std::fs::write(end_file(journal), n.to_string()) {
        // The journal itself says it as well.
        tracing::warn!(%error, "the end of a run is not noted beside its journal");
    }
}

/// Notes that something is about to change by the entry of this number, which is on disk already.
pub(super) fn note_intent(journal: &Path, n: u64) {
    if let Err(error) = std::fs::write(intent_file(journal), n.to_string()) {
        // Only a journal that is damaged later would miss it.
        tracing::warn!(%error, "an intent is not noted beside the journal");
    }
}

/// Reads a journal's bytes, whatever they are.
pub fn parse(bytes: &[u8]) -> Loaded {
    let mut loaded = Loaded::default();
    let mut start = 0;
    let mut number = 0_usize;
    while let Some(length) = bytes[start..].iter().position(|b| *b == b'\n') {
        let line = &bytes[start..start + length];
        start += length + 1;
        number += 1;
        match read_line(line) {
            Ok(entry) => loaded.take(entry),
            Err(why) => loaded.damage.push(format!("line {number} of the journal is lost: {why}")),
        }
    }
    loaded.whole = start as u64;
    loaded
}

impl Loaded {
    /// Entries up to the one that ended the run were there.
    fn miss_end(&mut self, last: Option<u64>) {
        let next = self.next_number();
        if let Some(last) = last.filter(|last| *last >= next) {
            self.damage.push(format!("entries {next} to {last} of the journal are lost"));
        }
    }

    fn take(&mut self, entry: Entry) {
        let expected = self.next_number();
        if entry.n > expected {
            self.damage.push(format!("entries {expected} to {} of the journal are lost", entry.n - 1));
        }
        self.entries.push(entry);
    }
}

fn read_line(line: &[u8]) -> std::result::Result<Entry, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not text".to_owned())?;
    let line: Line<'_> = serde_json::from_str(text).map_err(|_| "it is not a line of a journal".to_owned())?;
    let raw = line.e.get();
    if line.c != format!("{:08x}", crc32fast::hash(raw.as_bytes())) {
        return Err("its checksum does not match".to_owned());
    }
    Entry::from_json(raw)
}
