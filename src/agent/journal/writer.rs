//! Writing a journal: whole lines, on disk when that is asked for.

use super::{Body, Entry, reader};
use crate::error::{Error, IoContext, Result};
use crate::events::EventKind;
use crate::files::sync_folder;
use jiff::Timestamp;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Space kept free for the end of a run whose disk is full: the words of a rollback.
const RESERVE: usize = 64 * 1024;

/// The open end of a journal.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    /// Bytes of whole lines.
    length: u64,
    next: u64,
    reserve: PathBuf,
}

impl Writer {
    /// Opens the journal in a run's folder, making it when there is none; a torn last line is cut off.
    ///
    /// # Errors
    /// When the file cannot be opened or read.
    pub fn open(folder: &Path) -> Result<(Self, reader::Loaded)> {
        let path = folder.join("journal.jsonl");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .cannot(|| format!("open the journal {}", path.display()))?;
        let loaded = reader::read(&path)?;
        file.set_len(loaded.whole).cannot(|| format!("cut a torn line off {}", path.display()))?;
        file.seek(SeekFrom::End(0)).cannot(|| format!("go to the end of {}", path.display()))?;
        if loaded.whole == 0 {
            // A new journal must still be found after a power cut: its name, and the one of the run's folder.
            sync_folder(folder)?;
            folder.parent().map_or(Ok(()), sync_folder)?;
        }
        let reserve = folder.join("reserve");
        if !reserve.exists() {
            // Without it a full disk costs the last words of the run, and nothing else.
            let _ = std::fs::write(&reserve, vec![b'.'; RESERVE]);
        }
        let writer = Self { file, path, length: loaded.whole, next: loaded.next_number(), reserve };
        Ok((writer, loaded))
    }

    /// The number the next entry gets.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Appends an entry; with `durable` it is on disk when this returns. An intention never uses the reserve: the
    /// mutation it announces would find no space either.
    ///
    /// # Errors
    /// When it cannot be written. The journal is then as before.
    pub fn append(&mut self, at: Timestamp, body: Body, durable: bool) -> Result<u64> {
        let may_use_reserve = !matches!(body, Body::Intend { .. });
        let is_last_word = matches!(body, Body::Event(EventKind::InstrumentFinished { .. }));
        let entry = Entry { n: self.next, at, body };
        let raw = entry.to_json()?;
        let line = format!("{{\"c\":\"{:08x}\",\"e\":{raw}}}\n", crc32fast::hash(raw.as_bytes()));
        let mut written = self.write(line.as_bytes(), durable);
        if written.is_err() && may_use_reserve && self.free_reserve() {
            written = self.write(line.as_bytes(), durable);
        }
        written.map_err(|e| Error::io(format!("write the journal {}", self.path.display()), &e))?;
        self.length += line.len() as u64;
        self.next += 1;
        if is_last_word {
            reader::note_end(&self.path, entry.n);
        } else if matches!(entry.body, Body::Intend { .. }) {
            reader::note_intent(&self.path, entry.n);
        }
        Ok(entry.n)
    }

    fn write(&mut self, line: &[u8], durable: bool) -> std::io::Result<()> {
        let tried = self.file.write_all(line).and_then(|()| if durable { self.file.sync_data() } else { Ok(()) });
        if tried.is_err() {
            // Half a line would spoil the next one.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
        }
        tried
    }

    /// Gives up the space kept free for the end of the run; false when that was done before.
    pub fn free_reserve(&self) -> bool {
        std::fs::remove_file(&self.reserve).is_ok()
    }

    /// Makes every further entry fail, as a disk does that is full to the last byte.
    #[cfg(test)]
    pub(crate) fn break_it(&mut self) -> std::io::Result<()> {
        self.file = File::open(&self.path)?;
        Ok(())
    }

    /// Gives the space kept for the end back.
    pub fn close(&mut self) {
        let _ = self.file.sync_data();
        // It only takes space when it stays.
        self.free_reserve();
    }
}
