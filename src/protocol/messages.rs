//! The messages.

use crate::actions::backup::catalogue::BackupRecord;
use crate::actions::hotfix::HotfixState;
use crate::content::ContentHash;
use crate::error::Error;
use crate::events::{Outcome, RunId};
use crate::plan::InstrumentPlan;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The controller's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerHello {
    pub protocol: u32,
    /// Hash of the controller's executable.
    pub build: String,
    /// user@host of the operator.
    pub operator: String,
}

/// The agent's first message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentHello {
    pub protocol: u32,
    pub build: String,
    /// `windows` or `sandbox`.
    pub platform: String,
    pub host: String,
    /// The sandbox's root, or nothing on a real machine.
    #[serde(default)]
    pub root: Option<String>,
    /// The agent's clock.
    pub now: Option<Timestamp>,
}

/// Messages that any build understands from any other, so that a run can always be followed, cancelled and undone.
/// Their encoding is fixed by a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrozenRequest {
    Hello(ControllerHello),
    /// Send the events of a run from this number on, and go on sending. `run` empty: of the newest run.
    EventsSince {
        run: String,
        from: u64,
    },
    /// Stop the run: `now` rolls back at once, else the open step is finished first.
    Cancel {
        run: String,
        now: bool,
    },
    /// Undo a run that is finished.
    Rollback {
        run: String,
        options: RollbackOptions,
    },
}

/// How far a rollback may go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackOptions {
    /// Take back the run although files were changed since; those are saved first.
    pub discard_newer: bool,
    /// Take it back also when the DAE is not in SETUP, or cannot be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub even_if_measuring: bool,
    /// Say what would happen; do nothing.
    pub preview: bool,
    /// Name of the run that does the undoing, made by the controller.
    pub as_run: String,
    pub operator: String,
}

/// Answers to the frozen messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FrozenReply {
    Hello(AgentHello),
    /// One event, as the JSON text of [`crate::events::Event`].
    Event {
        json: String,
    },
    /// All events there are so far were sent; `active` says whether more will come.
    UpToDate {
        active: bool,
    },
    /// The request was taken.
    Done,
    /// The request was not taken; the JSON text of [`crate::error::Error`].
    Refused {
        json: String,
    },
}

/// From the controller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ControllerMessage {
    Frozen(FrozenRequest),
    /// Run this plan. Answered by `Frozen(Done)` or `Frozen(Refused)`; then events follow as after `EventsSince`.
    /// Submitting a run that is there already goes on with it.
    Submit {
        plan: Box<InstrumentPlan>,
        secrets: Vec<(String, String)>,
        answer_yes: bool,
    },
    /// Everything is staged elsewhere too: `apply` may begin.
    Release {
        run: RunId,
    },
    /// The rest of a pack of blobs; answers [`AgentMessage::Need`].
    Pack(PackHeader),
    /// Bytes of the pack that was announced last.
    PackBytes(#[serde(with = "serde_bytes_vec")] Vec<u8>),
    /// These blobs cannot be had; why is the JSON text of an [`Error`].
    CannotSend {
        hashes: Vec<ContentHash>,
        json: String,
    },
    /// The operator's answer to an `EventKind::Question`.
    Answer {
        id: String,
        yes: bool,
    },
    Ask(Query),
    Ping,
    /// The controller leaves; the run goes on.
    Goodbye,
}

/// From the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum AgentMessage {
    Frozen(FrozenReply),
    /// Blobs that the run lacks, in the order they are wanted.
    Need {
        hashes: Vec<ContentHash>,
    },
    Reply(Box<QueryReply>),
    Pong,
}

/// What a pack holds: blobs one behind the other, compressed together as one zstd frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackHeader {
    pub blobs: Vec<(ContentHash, u64)>,
    /// Bytes of the zstd frame, which follow in `PackBytes` messages.
    pub packed: u64,
}

/// Questions that change nothing, and small requests outside a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Query {
    /// The state of the instrument. `components`: places to look at for versions, by component.
    Status { plan: Box<InstrumentPlan> },
    /// Probe every step of a plan.
    DryRun { plan: Box<InstrumentPlan> },
    /// The runs in the agent's home, the newest first.
    Runs,
    /// The stored plan of a run.
    StoredPlan { run: String },
    /// Ends a wedged worker's run lock left behind; refused while a run is alive unless `force`.
    Unlock { force: bool },
    /// Removes data of old runs, keeping the newest `keep` finished ones.
    Prune { keep: u32 },
    /// The hotfixes in place, the oldest first.
    Hotfixes,
    /// The backups in the place `backups`, the newest first.
    Backups { plan: Box<InstrumentPlan> },
}

/// Answers to [`Query`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum QueryReply {
    Status(Box<StatusReport>),
    DryRun {
        steps: Vec<DryRunStep>,
        facts: BTreeMap<String, serde_json::Value>,
    },
    Runs(Vec<RunRecord>),
    StoredPlan(Box<InstrumentPlan>),
    RollbackPreview(RollbackPreview),
    Done {
        summary: String,
    },
    /// It could not be answered.
    Failed(Error),
    Hotfixes(Vec<HotfixState>),
    Backups(Vec<BackupRecord>),
}

/// What undoing a run would touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackPreview {
    /// The runs that would be undone, the newest first.
    pub runs: Vec<String>,
    /// Files changed since, which `--discard-newer` would save and discard.
    pub newer: Vec<String>,
}

/// A step, as a dry run found it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DryRunStep {
    pub id: String,
    /// `run`, `skip` or `unknown`.
    pub verdict: String,
    pub summary: String,
    pub items: Vec<String>,
    pub fetch_bytes: u64,
    pub error: Option<Error>,
}

impl DryRunStep {
    /// A step that there is nothing to do for.
    pub fn skipped(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            verdict: "skip".to_owned(),
            summary: String::new(),
            items: Vec::new(),
            fetch_bytes: 0,
            error: None,
        }
    }
}

/// A run in the agent's home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    pub run: RunId,
    pub instrument: String,
    pub playbook: String,
    #[serde(default)]
    pub kit: Option<String>,
    pub operator: String,
    pub started: Timestamp,
    /// Nothing while it is not finished.
    pub outcome: Option<Outcome>,
    /// The run that undid this one.
    pub undone_by: Option<RunId>,
    /// What is wrong with its journal, if anything.
    pub damage: Option<String>,
}

/// Who works on the instrument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// user@host of the operator.
    pub owner: String,
    pub run: RunId,
    pub playbook: String,
    pub since: Timestamp,
}

/// A component that a release put in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledComponent {
    pub version: String,
    pub manifest: ContentHash,
    pub run: RunId,
    pub at: Timestamp,
    pub to: crate::paths::WinPath,
}

/// The state of an instrument.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    pub facts: BTreeMap<String, serde_json::Value>,
    /// Versions found on disk, by place that holds a `VERSION.txt`.
    pub versions: BTreeMap<String, String>,
    pub installed: BTreeMap<String, InstalledComponent>,
    pub last_run: Option<RunRecord>,
    pub lock: Option<LockInfo>,
    /// By component: files changed by hand; nothing when there is no baseline.
    pub hand_changes: BTreeMap<String, Option<Vec<String>>>,
    /// Free bytes by drive.
    pub free: BTreeMap<String, u64>,
    pub memory: u64,
    pub pending_reboot: Option<String>,
    pub logged_on: Vec<String>,
    /// The oldest first.
    #[serde(default)]
    pub hotfixes: Vec<HotfixState>,
}

/// Byte strings as MessagePack `bin`, without another crate.
mod serde_bytes_vec {
    use serde::{Deserializer, Serializer, de};
    use std::fmt;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<Vec<u8>, E> {
                Ok(v.to_vec())
            }
            fn visit_byte_buf<E: de::Error>(self, v: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(v)
            }
        }
        d.deserialize_byte_buf(Bytes)
    }
}
