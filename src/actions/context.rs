//! What an action gets from the agent, and what it gives back.

use super::UndoRecord;
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{BackedUp, Outcome, Unit};
use crate::paths::{Drives, Place, WinPath};
use crate::plan::{InstrumentPlan, PlanStep};
use crate::platform::Platform;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What every action can do at the instrument. All calls block; the worker gives each step a thread of its own.
///
/// Calls may be repeated: after a crash the worker starts the open step again, so `stage` and `apply` begin by
/// looking at what is there.
pub trait Perform {
    /// A few words for the plan and the reports when the step has no name, for example `sync EPICS to server`.
    fn describe(&self) -> String;

    /// Looks at the instrument and says what [`Perform::apply`] would change. Changes nothing.
    ///
    /// # Errors
    /// When it cannot be found out, or when the step could not be carried out as things stand.
    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe>;

    /// How much space the step takes on which volume until the run is over (staged content, undo data, backups).
    ///
    /// # Errors
    /// As [`Perform::probe`].
    fn space(&self, _cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
        Ok(Vec::new())
    }

    /// Brings and verifies, beside the running IBEX, all content that [`Perform::apply`] needs. Called at the end of
    /// the phase `stage` for the steps of the later phases, in order.
    ///
    /// # Errors
    /// When content cannot be had or is not what its hash says.
    fn stage(&self, _cx: &StepContext<'_>) -> Result<FetchStats> {
        Ok(FetchStats::default())
    }

    /// Makes it so and verifies it. Every mutation is preceded by [`UndoLog::intend`].
    ///
    /// # Errors
    /// When it is not so afterwards; what was changed is undone through the undo log.
    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied>;

    /// Things that undo cannot put back, said by the action itself (a reboot, a mail that is sent).
    fn cannot_undo(&self) -> bool {
        false
    }
}

/// What a probe found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Probe {
    pub difference: Difference,
    /// A few words: `113 files, 4.2 MB`, `already stopped`.
    pub summary: String,
    /// What would change, a line each, for `--dry-run -v`; may be cut with a last line that says how many more.
    pub items: Vec<String>,
    /// Bytes that would have to be brought.
    pub fetch_bytes: u64,
}

/// Whether a step has something to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Difference {
    /// All is as wanted.
    None,
    /// Something would change.
    Some,
    /// Only running it tells (a program without `creates` or `unless`).
    #[default]
    Unknown,
}

/// Space that a step takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceNeed {
    /// Any path on the volume; it need not exist yet.
    pub on: WinPath,
    pub bytes: u64,
    /// What for: `staged files of EPICS`.
    pub what: String,
}

/// What staging brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchStats {
    pub files: u64,
    /// Over the link or from the share.
    pub fetched_bytes: u64,
    /// From files on the instrument.
    pub copied_bytes: u64,
}

impl std::ops::AddAssign for FetchStats {
    fn add_assign(&mut self, other: Self) {
        self.files += other.files;
        self.fetched_bytes += other.fetched_bytes;
        self.copied_bytes += other.copied_bytes;
    }
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// `Ok`, `Changed` or `Skipped`.
    pub outcome: Outcome,
    pub summary: String,
    /// What `register` keeps.
    pub result: serde_json::Value,
}

impl Applied {
    pub fn ok(summary: impl Into<String>) -> Self {
        Self { outcome: Outcome::Ok, summary: summary.into(), result: serde_json::Value::Null }
    }

    pub fn changed(summary: impl Into<String>) -> Self {
        Self { outcome: Outcome::Changed, summary: summary.into(), result: serde_json::Value::Null }
    }

    #[must_use]
    pub fn with_result(mut self, result: serde_json::Value) -> Self {
        self.result = result;
        self
    }
}

/// How an undo ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    pub summary: String,
    /// What could not be put back, each named; empty when all is as before.
    pub left: Vec<String>,
}

/// The error of a step that was taken back at once, with what of it could not be.
pub(super) fn taken_back(error: Error, outcome: Result<Undone>) -> Error {
    match outcome {
        Ok(undone) if undone.left.is_empty() => error,
        Ok(undone) => error.because(format!("and it could not be taken back: {}", undone.left.join(", "))),
        Err(back) => error.because(format!("and it could not be taken back: {back}")),
    }
}

/// A point in time by which something must be over, with the word of the operator to cancel.
#[derive(Debug, Clone)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
    cancelled: Arc<AtomicBool>,
    /// The operator's gentle word: open work is finished first.
    stopping: Arc<AtomicBool>,
    /// The gentle word counts as well.
    heeds_stopping: bool,
}

impl Deadline {
    /// A deadline from now; `cancelled` is looked at by every wait.
    pub fn after(limit: Duration, cancelled: Arc<AtomicBool>) -> Self {
        Self { at: Instant::now() + limit, limit, cancelled, stopping: Arc::default(), heeds_stopping: false }
    }

    /// The same deadline with the flag that stands for the operator's gentle word.
    #[must_use]
    pub fn or_stopping(self, stopping: Arc<AtomicBool>) -> Self {
        Self { stopping, ..self }
    }

    /// The same deadline for what is not worth finishing once the run is to stop (waiting for others, bringing content):
    /// the gentle word cancels it already.
    #[must_use]
    pub fn unless_stopping(&self) -> Self {
        Self { heeds_stopping: true, ..self.clone() }
    }

    /// A nearer deadline with the same cancel flags; never later than this one.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        let limit = limit.min(self.left());
        Self { at: Instant::now() + limit, limit, ..self.clone() }
    }

    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    pub fn limit(&self) -> Duration {
        self.limit
    }

    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst) || (self.heeds_stopping && self.stopping.load(Ordering::SeqCst))
    }

    /// Polls `ready` until it gives a value, with pauses that grow from 5 ms to 250 ms, reporting what is waited for.
    ///
    /// # Errors
    /// What `ready` returns, [`ErrorKind::Cancelled`] on the operator's word, [`ErrorKind::TimedOut`] with `what`
    /// in its message at the deadline.
    pub fn wait_for<T>(&self, what: &str, progress: &dyn Progress, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(value) = ready()? {
                return Ok(value);
            }
            if self.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, format!("cancelled while waiting for {what}")));
            }
            if self.is_over() {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    format!("gave up waiting for {what} after {} s", start.elapsed().as_secs()),
                ));
            }
            progress.waiting(what, start.elapsed(), self.limit);
            std::thread::sleep(pause.min(self.left().max(Duration::from_millis(1))));
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }
}

/// Tells the operator how a step is getting on. Implementations limit how often they pass it on.
pub trait Progress: Send + Sync {
    fn waiting(&self, what: &str, elapsed: Duration, limit: Duration);
    fn advanced(&self, done: u64, total: u64, unit: Unit);
    /// A line that a program wrote.
    fn output(&self, line: &str);
    fn note(&self, text: &str);
    /// For the list "left for you".
    fn remind(&self, text: &str);
    /// Changes made by hand: see `EventKind::HandChanges`.
    fn hand_changes(&self, component: &str, files: Option<u64>, archive: Option<&str>);
    /// A backup is there and was read back. Only a run has a report that names it.
    fn backed_up(&self, _backup: &BackedUp) {}
}

/// The journal, as an action sees it.
pub trait UndoLog: Send + Sync {
    /// Writes down how to take back what is about to be done, and returns when that is on disk.
    ///
    /// # Errors
    /// When it cannot be written: then the mutation must not happen.
    fn intend(&self, record: UndoRecord) -> Result<()>;
}

/// Content that is wanted somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    pub hash: ContentHash,
    pub size: u64,
    /// Where the controller's kit has it, for pulling from a share: component and path inside it.
    pub component: String,
    pub path: String,
    /// The files to write; their folders exist.
    pub to: Vec<PathBuf>,
}

/// Where content comes from: the controller, or the share the plan names.
pub trait Content: Send + Sync {
    /// Brings everything wanted, each file verified against its hash before this returns.
    ///
    /// # Errors
    /// At the deadline, when no controller is there to send it, or when what comes does not match its hash.
    fn fetch(&self, wants: Vec<Want>, progress: &dyn Progress, deadline: &Deadline) -> Result<FetchStats>;

    /// A small blob in memory: a manifest, a template.
    ///
    /// # Errors
    /// As [`Content::fetch`].
    fn blob(&self, hash: &ContentHash, progress: &dyn Progress, deadline: &Deadline) -> Result<Vec<u8>>;
}

/// Asks whoever runs the run.
pub trait AskOperator: Send + Sync {
    /// The operator's answer to a yes-or-no question.
    ///
    /// # Errors
    /// At the deadline, or when the operator says no controller will answer.
    fn ask(&self, question: &str, deadline: &Deadline) -> Result<bool>;
}

/// External programs that live on when the worker dies; see `agent/jobs`.
pub trait Jobs: Send + Sync {
    /// Starts the program, or finds it again when it was started before a crash, and waits for its end.
    ///
    /// # Errors
    /// When it cannot be started, was lost with the machine, or came to its deadline (then it was ended).
    fn run(&self, job: super::JobSpec, progress: &dyn Progress, deadline: &Deadline) -> Result<super::JobEnd>;
}

/// Everything an action works with.
pub struct StepContext<'a> {
    pub plan: &'a InstrumentPlan,
    pub step: &'a PlanStep,
    pub drives: &'a Drives,
    pub platform: &'a dyn Platform,
    pub undo_log: &'a dyn UndoLog,
    pub progress: &'a dyn Progress,
    pub content: &'a dyn Content,
    pub jobs: &'a dyn Jobs,
    pub operator: &'a dyn AskOperator,
    pub secrets: &'a crate::secrets::Secrets,
    pub deadline: &'a Deadline,
    /// The agent's home, for `index/` and `installed.json`.
    pub home: &'a Path,
    /// `runs/<id>` in the agent's home, for data of this run.
    pub run_dir: &'a Path,
    /// Gathered at the start of the run.
    pub facts: &'a std::collections::BTreeMap<String, serde_json::Value>,
}

impl std::fmt::Debug for StepContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepContext")
            .field("step", &self.step.id)
            .field("instrument", &self.plan.instrument)
            .finish_non_exhaustive()
    }
}

impl StepContext<'_> {
    /// The absolute Windows path of a place.
    ///
    /// # Errors
    /// See [`Place::resolve`].
    pub fn path(&self, place: &Place) -> Result<WinPath> {
        place.resolve(&self.plan.places)
    }

    /// The native path of a place.
    ///
    /// # Errors
    /// See [`Place::resolve`] and [`Drives::native`].
    pub fn native(&self, place: &Place) -> Result<PathBuf> {
        self.drives.native(&self.path(place)?)
    }

    /// A file name for data of this step in [`StepContext::run_dir`].
    pub fn data_file(&self, suffix: &str) -> PathBuf {
        self.data_file_of(&self.step.id, suffix)
    }

    /// The same of another step.
    pub fn data_file_of(&self, step: &str, suffix: &str) -> PathBuf {
        self.run_dir.join(format!("{step}.{suffix}"))
    }
}
