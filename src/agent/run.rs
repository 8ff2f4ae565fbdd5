//! The run a worker is at: its journal, its events, and what controllers have to say to it.

use super::content::Desk;
use super::journal::{self, Body, Entry};
use crate::actions::{Deadline, UndoRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{EVENT_VERSION, Event, EventKind, RunId};
use crate::locks::locked;
use crate::plan::InstrumentPlan;
use crate::secrets::Secrets;
use jiff::Timestamp;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;

/// Events that a slow controller may be behind with before it misses progress; what the journal keeps it never misses.
const LIVE_BUFFER: usize = 512;

/// What followers are woken by.
#[derive(Debug, Clone)]
pub(crate) enum Live {
    /// There is more in [`Run::events_from`], or the run is over.
    Kept,
    /// An event that is not kept.
    Passing(Arc<Event>),
}

/// A run that is not finished, as all threads of the worker share it.
pub(crate) struct Run {
    pub(crate) plan: Arc<InstrumentPlan>,
    /// `runs/<id>` in the agent's home.
    pub(crate) dir: PathBuf,
    log: Mutex<Log>,
    live: broadcast::Sender<Live>,
    /// Looked at by every wait of the open step.
    cancel_now: Arc<AtomicBool>,
    /// Looked at by waits that are not worth finishing.
    cancel_soon: Arc<AtomicBool>,
    released: AtomicBool,
    finished: AtomicBool,
    answer_yes: AtomicBool,
    answers: Mutex<BTreeMap<String, bool>>,
    secrets: Mutex<Arc<Secrets>>,
    pub(crate) desk: Arc<Desk>,
}

struct Log {
    writer: journal::Writer,
    /// The events of the journal, in order.
    events: Vec<Arc<Event>>,
    /// Why the journal could not be written the last time it was tried.
    broken: Option<Error>,
    /// The last word was said for a driver that is wedged: nothing it may still do is written down any more.
    abandoned: bool,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("run", &self.plan.run).field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Run {
    /// Opens the run in a folder that holds its plan; gives what its journal has so far.
    ///
    /// # Errors
    /// When the journal cannot be opened.
    pub(crate) fn open(dir: &Path, plan: InstrumentPlan) -> Result<(Self, journal::Loaded)> {
        let (writer, loaded) = journal::Writer::open(dir)?;
        let mut run = Self {
            plan: Arc::new(plan),
            dir: dir.to_path_buf(),
            log: Mutex::new(Log { writer, events: Vec::new(), broken: None, abandoned: false }),
            live: broadcast::channel(LIVE_BUFFER).0,
            cancel_now: Arc::default(),
            cancel_soon: Arc::default(),
            released: AtomicBool::default(),
            finished: AtomicBool::default(),
            answer_yes: AtomicBool::default(),
            answers: Mutex::default(),
            secrets: Mutex::default(),
            desk: Arc::default(),
        };
        for entry in &loaded.entries {
            run.remember(entry);
        }
        Ok((run, loaded))
    }

    fn remember(&mut self, entry: &Entry) {
        match &entry.body {
            Body::Event(kind) => {
                let event = event_of(&self.plan, entry.n, entry.at, kind.clone());
                self.log.get_mut().unwrap_or_else(PoisonError::into_inner).events.push(Arc::new(event));
                if matches!(kind, EventKind::Released) {
                    self.released.store(true, Ordering::SeqCst);
                }
            }
            Body::Cancel { now } => self.set_cancel(*now),
            Body::AnswerYes => self.answer_yes.store(true, Ordering::SeqCst),
            _ => {}
        }
    }

    pub(crate) fn id(&self) -> &RunId {
        &self.plan.run
    }

    // -- the journal --

    /// Writes an event down and tells the controllers. A journal that cannot be written does not stop a run here:
    /// what may not happen without it is announced by [`Run::intend`].
    pub(crate) fn emit(&self, kind: EventKind) {
        self.emit_with(&mut locked(&self.log), kind);
    }

    /// Says the last word in the place of the driver, which can write nothing more, and so changes nothing more
    /// that needs an undo.
    pub(crate) fn abandon(&self, last_word: EventKind) {
        let mut log = locked(&self.log);
        self.emit_with(&mut log, last_word);
        log.abandoned = true;
    }

    fn emit_with(&self, log: &mut Log, kind: EventKind) {
        if log.abandoned {
            return;
        }
        let durable = !matches!(kind, EventKind::StepStarted { .. } | EventKind::Note { .. } | EventKind::StagingNeeds { .. });
        let kind = self.clean(kind);
        let at = Timestamp::now();
        let number = match log.writer.append(at, Body::Event(kind.clone()), durable) {
            Ok(n) => n,
            Err(error) => {
                tracing::error!(%error, "an event is not in the journal");
                log.broken = Some(error);
                // Its number goes to the next entry that is kept; whoever follows is told all the same.
                0
            }
        };
        log.events.push(Arc::new(event_of(&self.plan, number, at, kind)));
        // Nobody may be listening.
        let _ = self.live.send(Live::Kept);
    }

    /// Tells the controllers something that is not worth keeping.
    pub(crate) fn emit_live(&self, kind: EventKind) {
        let kind = self.clean(kind);
        let _ = self.live.send(Live::Passing(Arc::new(event_of(&self.plan, 0, Timestamp::now(), kind))));
    }

    /// Appends an entry that is no event, on disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn note_down(&self, body: Body) -> Result<u64> {
        let mut log = locked(&self.log);
        if log.abandoned {
            return Err(Error::new(ErrorKind::Cancelled, "the run was abandoned"));
        }
        log.writer.append(Timestamp::now(), body, true)
    }

    /// Writes an intention down. Its number.
    ///
    /// # Errors
    /// When it cannot be written: then the mutation must not happen.
    pub(crate) fn intend(&self, step: &str, record: UndoRecord) -> Result<u64> {
        self.note_down(Body::Intend { step: step.to_owned(), record })
            .map_err(|e| e.context("nothing is changed without the journal, and it cannot be written"))
    }

    /// Gives up the space that is kept for the way back; false when that was done before.
    pub(crate) fn free_reserve(&self) -> bool {
        locked(&self.log).writer.free_reserve()
    }

    /// Why the journal could not be written, if that happened.
    pub(crate) fn journal_trouble(&self) -> Option<Error> {
        locked(&self.log).broken.clone()
    }

    /// The place of the first event that whoever has seen those below the number `from` lacks, and word of new ones.
    pub(crate) fn follow(&self, from: u64) -> (usize, broadcast::Receiver<Live>) {
        let log = locked(&self.log);
        let seen = log.events.iter().rposition(|e| e.n > 0 && e.n < from);
        (seen.map_or(0, |at| at + 1), self.live.subscribe())
    }

    /// The events from a place on, without those that are only shown live.
    pub(crate) fn events_from(&self, place: usize) -> Vec<Arc<Event>> {
        locked(&self.log).events.get(place..).unwrap_or_default().to_vec()
    }

    /// True once the outcome was told.
    pub(crate) fn has_said_its_last_word(&self) -> bool {
        locked(&self.log).events.last().is_some_and(|e| matches!(e.kind, EventKind::InstrumentFinished { .. }))
    }

    /// Ends the run: nothing more is written or said.
    pub(crate) fn finish(&self) {
        self.finished.store(true, Ordering::SeqCst);
        locked(&self.log).writer.close();
        // Wakes followers, who then see that it is over.
        let _ = self.live.send(Live::Kept);
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    // -- words of the operator --

    /// Stops the run; a word that cannot be written down counts all the same.
    pub(crate) fn cancel(&self, now: bool) {
        if self.cancel_soon.load(Ordering::SeqCst) && (!now || self.cancel_now.load(Ordering::SeqCst)) {
            return;
        }
        if let Err(error) = self.note_down(Body::Cancel { now }) {
            tracing::error!(%error, "the cancel is not in the journal");
        }
        self.set_cancel(now);
    }

    fn set_cancel(&self, now: bool) {
        self.cancel_soon.store(true, Ordering::SeqCst);
        if now {
            self.cancel_now.store(true, Ordering::SeqCst);
        }
        self.desk.ring();
    }

    /// True when the run is to stop at the next step.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel_soon.load(Ordering::SeqCst)
    }

    /// A deadline that the operator's cancel reaches.
    pub(crate) fn deadline(&self, limit: Duration) -> Deadline {
        Deadline::after(limit, Arc::clone(&self.cancel_now)).or_stopping(Arc::clone(&self.cancel_soon))
    }

    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }

    pub(crate) fn answer_with_yes(&self) {
        if !self.answer_yes.swap(true, Ordering::SeqCst)
            && let Err(error) = self.note_down(Body::AnswerYes)
        {
            tracing::error!(%error, "the answer is not in the journal");
        }
    }

    pub(crate) fn answer(&self, id: &str, yes: bool) {
        locked(&self.answers).insert(id.to_owned(), yes);
    }

    /// The answer to a question, once it is there.
    pub(crate) fn answer_to(&self, id: &str) -> Option<bool> {
        if self.answer_yes.load(Ordering::SeqCst) {
            return Some(true);
        }
        locked(&self.answers).get(id).copied()
    }

    // -- secrets --

    /// Takes the secrets that a controller hands over.
    pub(crate) fn take_secrets(&self, values: Vec<(String, String)>) {
        let mut secrets = locked(&self.secrets);
        let mut all = Secrets::clone(&secrets);
        for (name, value) in values {
            all.insert(name, SecretString::from(value));
        }
        *secrets = Arc::new(all);
    }

    pub(crate) fn secrets(&self) -> Arc<Secrets> {
        Arc::clone(&locked(&self.secrets))
    }

    /// The event without any secret in its texts.
    fn clean(&self, kind: EventKind) -> EventKind {
        let secrets = self.secrets();
        if secrets.names().next().is_none() {
            return kind;
        }
        let cleaned = serde_json::to_value(&kind).map(|mut value| {
            redact(&mut value, &secrets);
            value
        });
        match cleaned.and_then(serde_json::from_value) {
            Ok(kind) => kind,
            // A secret that is a word of the event's own form: the event goes without its details.
            Err(_) => EventKind::Note { text: "an event is not shown because it would show a secret".to_owned() },
        }
    }

    /// A value without any secret in its texts.
    pub(crate) fn clean_value(&self, mut value: serde_json::Value) -> serde_json::Value {
        redact(&mut value, &self.secrets());
        value
    }
}

fn redact(value: &mut serde_json::Value, secrets: &Secrets) {
    match value {
        serde_json::Value::String(text) => *text = secrets.redact(text),
        serde_json::Value::Array(all) => all.iter_mut().for_each(|v| redact(v, secrets)),
        serde_json::Value::Object(all) => {
            for (name, v) in all.iter_mut() {
                // The words of the form are no texts.
                if name != "event" && name != "kind" && name != "phase" && name != "outcome" && name != "unit" {
                    redact(v, secrets);
                }
            }
        }
        _ => {}
    }
}

/// An event of an instrument's run.
pub(crate) fn event_of(plan: &InstrumentPlan, n: u64, at: Timestamp, kind: EventKind) -> Event {
    Event { v: EVENT_VERSION, run: plan.run.clone(), instrument: Some(plan.instrument.clone()), n, at, kind }
}

/// The error of a run that the operator stopped.
pub(crate) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "cancelled by the controller")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> InstrumentPlan {
        InstrumentPlan::empty(RunId("r".into()), "NDXTEST", "p", "o")
    }

    #[test]
    fn followers_hear_also_what_the_journal_could_not_take() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (run, _) = Run::open(folder.path(), plan()).expect("a run");
        run.emit(EventKind::Released);
        let (place, _live) = run.follow(2);
        locked(&run.log).writer.break_it().expect("a journal that takes nothing");
        run.emit(EventKind::OutageStarted);
        run.emit(EventKind::OutageEnded { ms: 1 });
        let kinds: Vec<EventKind> = run.events_from(place).iter().map(|e| e.kind.clone()).collect();
        assert_eq!(kinds, [EventKind::OutageStarted, EventKind::OutageEnded { ms: 1 }]);
        assert!(run.journal_trouble().is_some());
        assert_eq!(run.follow(1).0, 0, "a follower from the beginning hears it all");
        assert_eq!(run.follow(2).0, 1, "and one that comes back what has no number");
    }
}
