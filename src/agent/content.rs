//! Content that a run lacks: asked of the controllers that are there, or read from where the plan says.

use super::pull::{Shelf, copy_to_others};
use crate::actions::{Content, Deadline, FetchStats, Progress, Want};
use crate::content::{BlobSink, ContentHash};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::events::Unit;
use crate::locks::locked;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often a blob that came damaged is asked for in all.
const ATTEMPTS: u32 = 2;

/// Hashes in one message: far below the largest frame.
const NEED_AT_ONCE: usize = 50_000;

/// Where a session meets the step that waits for content.
#[derive(Debug)]
pub(crate) struct Desk {
    state: Mutex<State>,
    /// Rung for the waiting step.
    bell: Condvar,
    /// Rung for the sessions.
    calls: watch::Sender<u64>,
}

impl Default for Desk {
    fn default() -> Self {
        Self { state: Mutex::default(), bell: Condvar::new(), calls: watch::channel(0).0 }
    }
}

#[derive(Debug, Default)]
struct State {
    wanted: HashMap<ContentHash, Wanted>,
    /// In the order they were wanted.
    order: Vec<ContentHash>,
    /// What the feeding session has not been asked for yet.
    to_ask: Vec<ContentHash>,
    /// Sessions that may have content, the one that is asked last.
    feeders: Vec<u64>,
    /// Blobs that a session is writing to a file at this moment: no other one writes them too.
    claimed: HashSet<ContentHash>,
    failed: Option<Error>,
    /// Of the wanted blobs: how many have not come, and the bytes of those that have.
    missing: usize,
    bytes: u64,
}

#[derive(Debug)]
struct Wanted {
    size: u64,
    to: Vec<PathBuf>,
    /// For a blob that is wanted in memory.
    memory: Option<Vec<u8>>,
    done: bool,
    asked: u32,
}

impl Desk {
    /// Wakes the step that waits for content.
    pub(crate) fn ring(&self) {
        self.bell.notify_all();
    }

    // -- the sessions' side --

    /// A session whose controller may have content; it is asked first. Gives what to watch for calls.
    pub(crate) fn join(&self, session: u64) -> watch::Receiver<u64> {
        let mut state = locked(&self.state);
        state.feeders.retain(|f| *f != session);
        state.feeders.push(session);
        state.ask_again();
        drop(state);
        self.call();
        self.calls.subscribe()
    }

    /// The session is gone, or has nothing to give: another one is asked.
    pub(crate) fn leave(&self, session: u64) {
        let mut state = locked(&self.state);
        let was_asked = state.feeders.last() == Some(&session);
        state.feeders.retain(|f| *f != session);
        if was_asked {
            state.ask_again();
        }
        drop(state);
        self.call();
    }

    /// What this session's controller should be asked for now.
    pub(crate) fn needs_of(&self, session: u64) -> Vec<Vec<ContentHash>> {
        let mut state = locked(&self.state);
        if state.feeders.last() != Some(&session) {
            return Vec::new();
        }
        let ask = std::mem::take(&mut state.to_ask);
        for hash in &ask {
            if let Some(wanted) = state.wanted.get_mut(hash) {
                wanted.asked += 1;
            }
        }
        ask.chunks(NEED_AT_ONCE).map(<[ContentHash]>::to_vec).collect()
    }

    /// A pack broke: what it should have brought is asked for again, once.
    pub(crate) fn damaged(&self, hashes: &[ContentHash], error: &Error) {
        let mut state = locked(&self.state);
        for hash in hashes {
            let Some(wanted) = state.wanted.get(hash).filter(|w| !w.done) else { continue };
            if error.kind() != ErrorKind::Integrity || wanted.asked >= ATTEMPTS {
                state.failed.get_or_insert_with(|| error.clone());
            } else if !state.to_ask.contains(hash) {
                state.to_ask.push(*hash);
            }
        }
        drop(state);
        self.call();
        self.ring();
    }

    /// The link broke before these came: they are asked for again, and that time does not count.
    pub(crate) fn give_back(&self, hashes: &[ContentHash]) {
        let mut state = locked(&self.state);
        for hash in hashes {
            let Some(wanted) = state.wanted.get_mut(hash).filter(|w| !w.done) else { continue };
            wanted.asked = wanted.asked.saturating_sub(1);
            if !state.to_ask.contains(hash) {
                state.to_ask.push(*hash);
            }
        }
        drop(state);
        self.call();
    }

    /// The controller of a session does not have these. `binding`: it began the run, so nobody else will.
    pub(crate) fn cannot_have(&self, session: u64, hashes: &[ContentHash], error: Error, binding: bool) {
        let state = locked(&self.state);
        let concerned = hashes.iter().any(|h| state.wanted.get(h).is_some_and(|w| !w.done));
        drop(state);
        if !concerned {
            return;
        }
        if binding {
            locked(&self.state).failed.get_or_insert(error);
            self.ring();
        } else {
            self.leave(session);
        }
    }

    fn call(&self) {
        self.calls.send_modify(|n| *n += 1);
    }

    fn arrived(&self, hash: &ContentHash, memory: Option<Vec<u8>>) {
        let mut state = locked(&self.state);
        let Some(wanted) = state.wanted.get_mut(hash).filter(|w| !w.done) else { return };
        wanted.done = true;
        wanted.memory = memory;
        let size = wanted.size;
        state.bytes += size;
        state.missing -= 1;
        let all_is_there = state.missing == 0;
        drop(state);
        // How far it is, the step asks now and then: waking it for each of thousands of files would take longer than the files.
        if all_is_there {
            self.ring();
        }
    }

    /// Begins to write a blob: nothing when it is not wanted (any more) or another session writes it. The file is made
    /// while nobody can stop wanting it, so that none appears in folders that are being removed.
    fn claim(self: &Arc<Self>, hash: &ContentHash) -> Result<Option<BlobWriter>> {
        let mut state = locked(&self.state);
        let Some(to) = state.wanted.get(hash).filter(|w| !w.done).map(|w| w.to.first().cloned()) else { return Ok(None) };
        let Some(at) = to else { return Ok(Some(BlobWriter::Memory(Vec::new()))) };
        if state.claimed.contains(hash) {
            return Ok(None);
        }
        let file = create(&at)?;
        state.claimed.insert(*hash);
        Ok(Some(BlobWriter::File { file, at, desk: Arc::clone(self), hash: *hash, finished: false }))
    }

    /// The session has written the blob, or has given it up: then it is asked for again.
    fn unclaim(&self, hash: &ContentHash) {
        let mut state = locked(&self.state);
        let was_claimed = state.claimed.remove(hash);
        let missing = state.wanted.get(hash).is_some_and(|w| !w.done);
        let ask = was_claimed && missing && !state.to_ask.contains(hash);
        if ask {
            state.to_ask.push(*hash);
        }
        drop(state);
        if ask {
            self.call();
        }
    }

    /// Where a blob is to be written: nothing when it is not wanted (any more), an empty list for memory.
    fn destinations(&self, hash: &ContentHash) -> Option<Vec<PathBuf>> {
        locked(&self.state).wanted.get(hash).filter(|w| !w.done).map(|w| w.to.clone())
    }

    // -- the step's side --

    fn bring(
        &self,
        wanted: Vec<(ContentHash, Wanted)>,
        progress: &dyn Progress,
        deadline: &Deadline,
    ) -> Result<HashMap<ContentHash, Wanted>> {
        let total: u64 = wanted.iter().map(|(_, w)| w.size).sum();
        {
            let mut state = locked(&self.state);
            state.order = wanted.iter().map(|(h, _)| *h).collect();
            state.wanted = wanted.into_iter().collect();
            (state.failed, state.missing, state.bytes) = (None, state.wanted.len(), 0);
            state.ask_again();
        }
        self.call();
        let outcome = self.wait(total, progress, deadline);
        let mut state = locked(&self.state);
        (state.order, state.to_ask) = (Vec::new(), Vec::new());
        let wanted = std::mem::take(&mut state.wanted);
        outcome.map(|()| wanted)
    }

    fn wait(&self, total: u64, progress: &dyn Progress, deadline: &Deadline) -> Result<()> {
        let start = Instant::now();
        let mut state = locked(&self.state);
        loop {
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            let missing = state.missing;
            if missing == 0 {
                return Ok(());
            }
            let what = if state.feeders.is_empty() {
                format!("a controller to send {missing} files")
            } else {
                format!("{missing} files from the controller")
            };
            if deadline.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, format!("cancelled while waiting for {what}")));
            }
            if deadline.is_over() {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    format!("gave up waiting for {what} after {} s", start.elapsed().as_secs()),
                )
                .next("resume the run from a controller that has the kit"));
            }
            let (bytes, alone) = (state.bytes, state.feeders.is_empty());
            drop(state);
            if alone {
                progress.waiting(&what, start.elapsed(), deadline.limit());
            } else {
                progress.advanced(bytes, total, Unit::Bytes);
            }
            let pause = deadline.left().min(Duration::from_millis(250));
            let again = locked(&self.state);
            // Looked at once more under the lock, so that a bell between the two looks is not missed.
            state = if again.failed.is_some() || again.missing == 0 {
                again
            } else {
                self.bell.wait_timeout(again, pause).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }
}

impl State {
    fn ask_again(&mut self) {
        let open = |hash: &&ContentHash| self.wanted.get(*hash).is_some_and(|w| !w.done);
        self.to_ask = self.order.iter().filter(open).copied().collect();
        for wanted in self.wanted.values_mut() {
            wanted.asked = 0;
        }
    }
}

/// Writes the blobs of packs where they are wanted, on whichever desk that is.
#[derive(Debug)]
pub(crate) struct DeskSink(pub(crate) Vec<Arc<Desk>>);

/// One blob on its way to a file, to memory, or to nowhere.
#[derive(Debug)]
pub(crate) enum BlobWriter {
    File { file: std::fs::File, at: PathBuf, desk: Arc<Desk>, hash: ContentHash, finished: bool },
    Memory(Vec<u8>),
    Nowhere,
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::File { file, .. } => file.write(bytes),
            Self::Memory(memory) => memory.write(bytes),
            Self::Nowhere => Ok(bytes.len()),
        }
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Self::File { at, desk, hash, finished, .. } = self {
            if !*finished {
                // What was not verified must not stay; a file that cannot be removed is written over by the next attempt.
                let _ = std::fs::remove_file(at);
            }
            desk.unclaim(hash);
        }
    }
}

impl BlobSink for DeskSink {
    type Writer = BlobWriter;

    fn open(&mut self, hash: &ContentHash, _size: u64) -> Result<BlobWriter> {
        for desk in &self.0 {
            if let Some(writer) = desk.claim(hash)? {
                return Ok(writer);
            }
        }
        Ok(BlobWriter::Nowhere)
    }

    fn verified(&mut self, hash: &ContentHash, _size: u64, mut writer: BlobWriter) -> Result<()> {
        let memory = match &mut writer {
            BlobWriter::Nowhere => return Ok(()),
            BlobWriter::Memory(memory) => Some(std::mem::take(memory)),
            BlobWriter::File { at, finished, .. } => {
                *finished = true;
                for desk in &self.0 {
                    copy_to_others(at, &desk.destinations(hash).unwrap_or_default())?;
                }
                None
            }
        };
        for desk in &self.0 {
            desk.arrived(hash, memory.clone());
        }
        Ok(())
    }
}

fn create(at: &Path) -> Result<std::fs::File> {
    std::fs::File::create(at).cannot(|| format!("write {}", at.display()))
}

/// The content of one step: from the desk, or from the folder of releases.
pub(crate) struct RunContent<'a> {
    pub(crate) desk: &'a Desk,
    /// The folder of releases, when the plan pulls.
    pub(crate) shelf: Option<Arc<Shelf>>,
    /// Told what a fetch is going to bring: files and bytes.
    pub(crate) announce: &'a (dyn Fn(u64, u64) + Sync),
}

impl std::fmt::Debug for RunContent<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunContent").field("shelf", &self.shelf).finish_non_exhaustive()
    }
}

impl Content for RunContent<'_> {
    fn fetch(&self, wants: Vec<Want>, progress: &dyn Progress, deadline: &Deadline) -> Result<FetchStats> {
        let deadline = &deadline.unless_stopping();
        let files = wants.iter().map(|w| w.to.len() as u64).sum();
        let mut sizes = BTreeMap::new();
        for want in &wants {
            sizes.insert(want.hash, want.size);
        }
        let fetched_bytes = sizes.values().sum();
        (self.announce)(files, fetched_bytes);
        let on_shelf = |want: &Want| self.shelf.as_ref().is_some_and(|shelf| shelf.has(&want.component));
        let (pulled, sent): (Vec<Want>, Vec<Want>) = wants.into_iter().partition(on_shelf);
        if let Some(shelf) = self.shelf.as_ref().filter(|_| !pulled.is_empty()) {
            shelf.pull(&pulled, fetched_bytes, progress, deadline)?;
        }
        if !sent.is_empty() {
            self.desk.bring(merged(sent), progress, deadline)?;
        }
        Ok(FetchStats { files, fetched_bytes, copied_bytes: 0 })
    }

    fn blob(&self, hash: &ContentHash, progress: &dyn Progress, deadline: &Deadline) -> Result<Vec<u8>> {
        let wanted = Wanted { size: 0, to: Vec::new(), memory: None, done: false, asked: 0 };
        let mut brought = self.desk.bring(vec![(*hash, wanted)], progress, &deadline.unless_stopping())?;
        brought
            .remove(hash)
            .and_then(|w| w.memory)
            .ok_or_else(|| Error::internal(format!("the blob {} came and is not there", hash.short())))
    }
}

/// One entry a blob, with all files it goes to, in the order of the wants.
fn merged(wants: Vec<Want>) -> Vec<(ContentHash, Wanted)> {
    let mut at: HashMap<ContentHash, usize> = HashMap::new();
    let mut all: Vec<(ContentHash, Wanted)> = Vec::new();
    for want in wants {
        if want.to.is_empty() {
            continue;
        }
        let index = *at.entry(want.hash).or_insert_with(|| {
            all.push((want.hash, Wanted { size: want.size, to: Vec::new(), memory: None, done: false, asked: 0 }));
            all.len() - 1
        });
        all[index].1.to.extend(want.to);
    }
    all
}
