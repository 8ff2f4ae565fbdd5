//! What is to be compressed next, handed out in the order of the zip to as many threads as work on it, and never more of
//! it at a time than fits into memory.

use crate::locks::locked;
use crate::paths::RelPath;
use std::fs::{File, Metadata};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Larger files are cut into pieces of this size, so that several threads work on one file.
pub(super) const PIECE: u64 = 4 << 20;
/// Bytes read and compressed that may be in memory at a time. The next job in the order of the zip is always let in.
const MEMORY: u64 = 64 << 20;

/// A file whose pieces are being handed out.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    /// As it was when it was opened.
    pub(super) meta: Metadata,
}

/// One thing to read and compress.
#[derive(Debug)]
pub(super) struct Job {
    /// Results are written in this order.
    pub(super) number: u64,
    /// The file's place in the list.
    pub(super) file: usize,
    /// What it takes of [`MEMORY`].
    cost: u64,
    pub(super) part: Part,
}

#[derive(Debug)]
pub(super) enum Part {
    /// A file of at most [`PIECE`] bytes.
    Whole,
    Piece {
        open: Arc<OpenFile>,
        offset: u64,
        bytes: u64,
        first: bool,
        last: bool,
    },
}

/// The list of files, and how far it is worked through.
pub(super) struct Work<'a> {
    folder: &'a Path,
    files: &'a [(RelPath, u64)],
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Debug, Default)]
struct State {
    number: u64,
    next: usize,
    /// The large file that is being cut up, and how far that is.
    cutting: Option<(Arc<OpenFile>, u64)>,
    memory: u64,
    stopped: bool,
}

impl<'a> Work<'a> {
    pub(super) fn new(folder: &'a Path, files: &'a [(RelPath, u64)]) -> Self {
        Self { folder, files, state: Mutex::default(), room: Condvar::new() }
    }

    pub(super) fn path(&self, file: usize) -> &'a RelPath {
        &self.files[file].0
    }

    pub(super) fn native(&self, file: usize) -> std::path::PathBuf {
        self.path(file).under(self.folder)
    }

    /// The next job, once there is room for it; nothing when there are no more or the work was stopped.
    pub(super) fn take(&self) -> Option<Job> {
        let mut state = locked(&self.state);
        loop {
            if state.stopped || state.next >= self.files.len() {
                return None;
            }
            self.begin_cutting(&mut state);
            let bytes = match &state.cutting {
                Some((open, offset)) => (open.meta.len() - offset).min(PIECE),
                None => self.files[state.next].1.min(PIECE),
            };
            // What is read, and what becomes of it at worst.
            let cost = 2 * bytes + 4096;
            if state.memory == 0 || state.memory + cost <= MEMORY {
                return Some(state.hand_out(bytes, cost));
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Opens the next file when it is a large one. When it cannot be opened, whoever gets it finds out why.
    fn begin_cutting(&self, state: &mut State) {
        if state.cutting.is_some() || self.files[state.next].1 <= PIECE {
            return;
        }
        let opened = File::open(self.native(state.next)).and_then(|file| Ok(OpenFile { meta: file.metadata()?, file }));
        state.cutting = opened.ok().filter(|open| open.meta.is_file() && open.meta.len() > PIECE).map(|open| (Arc::new(open), 0));
    }

    /// The job's result is written, or dropped.
    pub(super) fn release(&self, cost: u64) {
        let mut state = locked(&self.state);
        state.memory = state.memory.saturating_sub(cost);
        drop(state);
        self.room.notify_all();
    }

    /// True when the last job was handed out.
    pub(super) fn is_all_out(&self) -> bool {
        locked(&self.state).next >= self.files.len()
    }

    /// Hands nothing more out.
    pub(super) fn stop(&self) {
        locked(&self.state).stopped = true;
        self.room.notify_all();
    }
}

impl Job {
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }
}

impl State {
    fn hand_out(&mut self, bytes: u64, cost: u64) -> Job {
        let (number, file) = (self.number, self.next);
        self.number += 1;
        self.memory += cost;
        let part = match self.cutting.take() {
            None => Part::Whole,
            Some((open, offset)) => {
                let (first, last) = (offset == 0, offset + bytes == open.meta.len());
                if !last {
                    self.cutting = Some((Arc::clone(&open), offset + bytes));
                }
                Part::Piece { open, offset, bytes, first, last }
            }
        };
        if self.cutting.is_none() {
            self.next += 1;
        }
        Job { number, file, cost, part }
    }
}
