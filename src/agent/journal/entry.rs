//! What stands in a line of the journal.

use crate::actions::UndoRecord;
use crate::error::{Error, Result};
use crate::events::{EventKind, RunId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A numbered entry; numbers grow by one from 1, whatever the entry is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub n: u64,
    pub at: Timestamp,
    pub body: Body,
}

/// What an entry is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Something that controllers are told.
    Event(EventKind),
    /// How to take back what the step is about to do.
    Intend { step: String, record: UndoRecord },
    /// The intention with this number, of the run named or of this one, was taken back; `left` names what could not be.
    Undone { of: u64, run: Option<RunId>, left: Vec<String> },
    /// A step's result under its name.
    Registered { name: String, value: serde_json::Value },
    /// The guarded folders were indexed before this step.
    Quiet { step: String },
    /// The operator wants the run stopped.
    Cancel { now: bool },
    /// Questions are answered with yes.
    AnswerYes,
    /// Another run has undone this one, which was finished.
    UndoneBy { run: RunId },
    /// Versions of the components before the first change.
    Versions { before: BTreeMap<String, String> },
}

/// The form on disk: one of the optional parts is there.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Raw {
    n: u64,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<EventKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intend: Option<UndoRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undone: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of_run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registered: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    quiet: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancel_now: Option<bool>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    answer_yes: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    undone_by: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    versions_before: Option<BTreeMap<String, String>>,
}

impl Entry {
    /// The entry as JSON text.
    ///
    /// # Errors
    /// Never in practice; the writer of the format has an error type.
    pub fn to_json(&self) -> Result<String> {
        let mut raw = Raw { n: self.n, at: self.at, ..Raw::default() };
        match self.body.clone() {
            Body::Event(kind) => raw.event = Some(kind),
            Body::Intend { step, record } => (raw.step, raw.intend) = (Some(step), Some(record)),
            Body::Undone { of, run, left } => (raw.undone, raw.of_run, raw.left) = (Some(of), run, left),
            Body::Registered { name, value } => (raw.registered, raw.value) = (Some(name), Some(value)),
            Body::Quiet { step } => (raw.step, raw.quiet) = (Some(step), true),
            Body::Cancel { now } => raw.cancel_now = Some(now),
            Body::AnswerYes => raw.answer_yes = true,
            Body::UndoneBy { run } => raw.undone_by = Some(run),
            Body::Versions { before } => raw.versions_before = Some(before),
        }
        serde_json::to_string(&raw).map_err(|e| Error::internal("cannot write a journal entry").because(e))
    }

    /// Reads what [`Entry::to_json`] wrote; the error says what is wrong.
    pub(super) fn from_json(text: &str) -> std::result::Result<Self, String> {
        let raw: Raw = serde_json::from_str(text).map_err(|e| format!("it is not an entry that this build knows ({e})"))?;
        let (n, at) = (raw.n, raw.at);
        raw.body().map(|body| Self { n, at, body }).ok_or_else(|| "it holds nothing that this build knows".to_owned())
    }
}

impl Raw {
    fn body(self) -> Option<Body> {
        if let Some(kind) = self.event {
            return Some(Body::Event(kind));
        }
        if let Some(record) = self.intend {
            return Some(Body::Intend { step: self.step?, record });
        }
        if let Some(of) = self.undone {
            return Some(Body::Undone { of, run: self.of_run, left: self.left });
        }
        if let Some(name) = self.registered {
            return Some(Body::Registered { name, value: self.value.unwrap_or_default() });
        }
        if self.quiet {
            return Some(Body::Quiet { step: self.step? });
        }
        if let Some(now) = self.cancel_now {
            return Some(Body::Cancel { now });
        }
        if self.answer_yes {
            return Some(Body::AnswerYes);
        }
        if let Some(run) = self.undone_by {
            return Some(Body::UndoneBy { run });
        }
        self.versions_before.map(|before| Body::Versions { before })
    }
}
