//! The data of a plan.

use super::transport::TransportSpec;
use crate::actions::Action;
use crate::actions::hotfix::HotfixPolicy;
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{RunId, StepRef};
use crate::paths::WinPath;
use crate::playbook::{Each, OnFailure, Phase, RUN_NAME, RunAs, UndoSpec};
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The form of [`InstrumentPlan`]; an agent refuses a newer one than it knows.
pub const PLAN_FORMAT: u32 = 1;

/// A run, before it happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub format: u32,
    pub run: RunId,
    pub created: Timestamp,
    /// user@host of who made it.
    pub operator: String,
    pub playbook: String,
    /// Digests of the files it was made from, by path: a change after confirmation is noticed.
    pub sources: BTreeMap<String, ContentHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kit: Option<KitSummary>,
    pub rehearsal: bool,
    pub targets: Vec<Target>,
}

impl Plan {
    /// The identity of the plan: its hash without the run's name and time.
    ///
    /// # Errors
    /// Never in practice; the writer of the format has an error type.
    pub fn digest(&self) -> Result<ContentHash> {
        let mut same = self.clone();
        same.run = RunId(String::new());
        same.created = Timestamp::UNIX_EPOCH;
        for target in &mut same.targets {
            target.plan.forget_run();
        }
        let bytes = serde_json::to_vec(&same).map_err(|e| Error::internal("cannot write a plan").because(e))?;
        Ok(ContentHash::of(&bytes))
    }
}

/// The kit a plan uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KitSummary {
    pub version: String,
    /// Where the controller reads it.
    pub folder: PathBuf,
    /// Components that came from another release than asked for: component to release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub borrowed: BTreeMap<String, String>,
}

/// One instrument of a plan: how to reach it, and what it is to do. Only [`Target::plan`] goes there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    pub transport: TransportSpec,
    pub plan: InstrumentPlan,
}

/// Everything one agent needs to know for a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstrumentPlan {
    pub format: u32,
    pub run: RunId,
    /// The inventory's name, for example `NDXLARMOR`.
    pub instrument: String,
    /// The host name the agent must find itself on.
    pub host: String,
    pub playbook: String,
    pub operator: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kit: Option<String>,
    pub rehearsal: bool,
    pub places: BTreeMap<String, WinPath>,
    pub accounts: BTreeMap<String, Account>,
    /// The instrument's variables, for templates that can only be rendered there.
    pub vars: BTreeMap<String, serde_json::Value>,
    pub components: BTreeMap<String, ComponentPlan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<super::Pull>,
    /// Names of the secrets that steps use; their values come over the link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    pub hold: Hold,
    /// Nothing is stopped when no `sync` or `hotfix` step has anything to change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_if_differs: bool,
    /// What a release does with installed hotfixes.
    #[serde(default, skip_serializing_if = "HotfixPolicy::is_usual")]
    pub hotfixes: HotfixPolicy,
    pub steps: Vec<PlanStep>,
}

impl InstrumentPlan {
    /// A plan with nothing in it but for whom it is. The host has the instrument's name.
    pub fn empty(run: RunId, instrument: &str, playbook: &str, operator: &str) -> Self {
        Self {
            format: PLAN_FORMAT,
            run,
            instrument: instrument.to_owned(),
            host: instrument.to_owned(),
            playbook: playbook.to_owned(),
            operator: operator.to_owned(),
            kit: None,
            rehearsal: false,
            places: BTreeMap::new(),
            accounts: BTreeMap::new(),
            vars: BTreeMap::new(),
            components: BTreeMap::new(),
            pull: None,
            secrets: Vec::new(),
            hold: Hold::No,
            only_if_differs: false,
            hotfixes: HotfixPolicy::default(),
            steps: Vec::new(),
        }
    }

    /// The identity of the instrument's plan, without the run's name.
    ///
    /// # Errors
    /// Never in practice; the writer of the format has an error type.
    pub fn digest(&self) -> Result<ContentHash> {
        let mut same = self.clone();
        same.forget_run();
        let bytes = serde_json::to_vec(&same).map_err(|e| Error::internal("cannot write a plan").because(e))?;
        Ok(ContentHash::of(&bytes))
    }

    /// Takes the name of the run out, so that what is left depends on the sources alone.
    pub(super) fn forget_run(&mut self) {
        self.run = RunId(String::new());
        self.vars.remove(RUN_NAME);
    }

    /// The component of the kit with this name.
    ///
    /// # Errors
    /// When the plan has no such component.
    pub fn component(&self, name: &str) -> Result<&ComponentPlan> {
        self.components
            .get(name)
            .ok_or_else(|| Error::new(ErrorKind::BadInput, format!("the kit of this plan has no component `{name}`")))
    }
}

/// A component, as far as the agent must know it beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentPlan {
    pub version: String,
    /// The release folder it is read from.
    pub release: String,
    /// The hash of its manifest, which is a blob like any other.
    pub manifest: ContentHash,
    pub files: u64,
    pub bytes: u64,
}

/// An account of the instrument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub user: String,
    /// True when its steps need somebody logged on under it.
    pub logged_on: bool,
}

/// When `apply` may begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// As soon as everything is staged.
    No,
    /// When the controller says so; without its word until `limit`, the run ends with nothing changed.
    UntilReleased { limit: Span },
    /// Never: the run ends after `stage` (the command `stage`).
    AfterStage,
}

/// A step of a plan. Everything that can be known beforehand is rendered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanStep {
    /// Unique within the plan: phase, number from 1, action: `apply.04.sync`.
    pub id: String,
    pub name: String,
    pub phase: Phase,
    pub action: Action,
    pub run_as: RunAs,
    /// An expression over names known only at the instrument; what was decidable before is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Why the step will not run, decided when the plan was made (`when`, tags).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<String>,
    pub retries: u32,
    pub timeout: Span,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    pub on_failure: OnFailure,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<UndoSpec>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<WinPath>,
    /// Where templates are left that only the instrument can render.
    #[serde(default, skip_serializing_if = "LateTemplates::is_empty")]
    pub late: LateTemplates,
}

impl PlanStep {
    pub fn to_ref(&self) -> StepRef {
        StepRef { id: self.id.clone(), name: self.name.clone(), phase: self.phase, action: self.action.name().to_owned() }
    }
}

/// JSON pointers to strings of a step that are still templates: into its serialised `action`, and below `/undo` into its
/// serialised `undo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LateTemplates(pub Vec<String>);

impl LateTemplates {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
