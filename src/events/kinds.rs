//! The kinds of event.

use super::Outcome;
use crate::error::Error;
use crate::playbook::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A step, as events name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StepRef {
    /// Unique within the plan, for example `apply.04.sync`.
    pub id: String,
    /// The words of the playbook, or made from the action.
    pub name: String,
    pub phase: Phase,
    /// The action's name, for example `sync`.
    pub action: String,
}

/// From which version to which one a component went; either side is empty when unknown or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// A step and the time it took, for the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongStep {
    pub name: String,
    pub ms: u64,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// Where its zips are on the instrument.
    pub folder: String,
    pub zips: u64,
    pub files: u64,
    /// Bytes of the zips.
    pub bytes: u64,
    /// Files that are not in it because they could not be read.
    #[serde(default)]
    pub unreadable: u64,
}

/// What happened. Durations are milliseconds by a monotonic clock; sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventKind {
    // -- the run as a whole (controller) --
    RunStarted {
        playbook: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kit: Option<String>,
        /// user@host of the operator.
        operator: String,
        instruments: Vec<String>,
        rehearsal: bool,
        /// The plan's digest as hex.
        plan: String,
    },
    RunFinished {
        /// The process's exit code, as documented in `docs/operating.md`.
        exit_code: u8,
        ms: u64,
        /// Why instruments were not started, when the failure limit, the deadline or the operator stopped the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stopped: Option<String>,
    },

    // -- one instrument, as the controller sees it --
    /// Waiting for a free place in the pool, for the canary or for its batch.
    Queued {
        why: String,
    },
    Connecting {
        attempt: u32,
    },
    /// The agent is missing there, and is being brought.
    Bringing,
    Connected {
        agent: String,
        platform: String,
        host: String,
    },
    LinkLost {
        why: String,
        /// Until the next attempt.
        retry_ms: u64,
    },
    /// Bytes that went over the link for this instrument so far (compressed).
    Sent {
        bytes: u64,
    },

    // -- one instrument, from its own journal --
    Accepted {
        playbook: String,
        operator: String,
        plan: String,
        steps: u32,
    },
    Facts {
        facts: BTreeMap<String, serde_json::Value>,
    },
    PhaseStarted {
        phase: Phase,
    },
    PhaseFinished {
        phase: Phase,
        ms: u64,
    },
    /// Everything is staged; waiting for the word to apply, or for the DAE to be idle.
    Held {
        why: String,
    },
    Released,
    StepStarted {
        step: StepRef,
        attempt: u32,
    },
    /// The step waits for something with a deadline.
    StepWaiting {
        step: StepRef,
        what: String,
        elapsed_ms: u64,
        limit_ms: u64,
    },
    StepProgress {
        step: StepRef,
        done: u64,
        total: u64,
        unit: Unit,
    },
    StepOutput {
        step: StepRef,
        line: String,
    },
    StepFinished {
        step: StepRef,
        outcome: Outcome,
        /// What was done or found, in a few words.
        summary: String,
        ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Error>,
        /// In a dry run: what would change, a line each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        items: Vec<String>,
    },
    /// What staging has to bring, before it starts.
    StagingNeeds {
        files: u64,
        bytes: u64,
    },
    Staged {
        files: u64,
        /// Came over the link or from the share.
        fetched_bytes: u64,
        /// Was on the instrument already and was copied there.
        copied_bytes: u64,
        ms: u64,
    },
    OutageStarted,
    OutageEnded {
        ms: u64,
    },
    RollbackStarted {
        because: String,
    },
    StepUndone {
        step: StepRef,
        outcome: Outcome,
        summary: String,
        ms: u64,
    },
    RollbackFinished {
        ok: bool,
        /// What could not be put back, each named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<String>,
    },
    /// For the list "left for you".
    Reminder {
        text: String,
    },
    /// Changes made by hand since the last release were found; with `archive` they were saved.
    HandChanges {
        component: String,
        /// `None`: there is no baseline yet, so whether there are any is unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        files: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        archive: Option<String>,
    },
    /// A backup is there and was read back.
    BackedUp(BackedUp),
    Question {
        id: String,
        text: String,
    },
    /// The worker came back after it was killed or the machine restarted.
    Recovered {
        how: String,
    },
    Note {
        text: String,
    },
    InstrumentFinished {
        outcome: Outcome,
        /// By component.
        #[serde(default)]
        versions: BTreeMap<String, VersionChange>,
        outage_ms: u64,
        /// The longest steps of the outage, the longest first.
        #[serde(default)]
        longest: Vec<LongStep>,
        ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Error>,
    },
}

/// What progress counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Bytes,
    Files,
    Items,
}
