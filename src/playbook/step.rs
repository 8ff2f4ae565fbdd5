//! The data of a playbook, as its file has it.

use crate::actions::{self, Action};
use crate::paths::Place;
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The four phases, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// IBEX runs and data taking goes on; content is fetched and verified. Nothing to undo.
    Stage,
    /// IBEX is stopped: the outage. A failure undoes it.
    Apply,
    /// Started and being checked. A failure undoes `apply` as well.
    Prove,
    /// Running on the new release: no way back from here, failures are reported.
    Close,
}

impl Phase {
    pub const ALL: [Self; 4] = [Self::Stage, Self::Apply, Self::Prove, Self::Close];

    pub fn word(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Apply => "apply",
            Self::Prove => "prove",
            Self::Close => "close",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A playbook: what to do on each instrument, in four phases.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Playbook {
    /// Its name, the same as its file's.
    pub playbook: String,
    /// What it is for, shown by `playbook list`.
    #[serde(default)]
    pub description: String,
    /// Variables with the values they have unless the inventory or `--set` says otherwise.
    #[serde(default)]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// After `stage`, the run ends well and nothing is stopped when no `sync`, `hotfix` or `mysql` step, and no `package`
    /// with a `product`, has anything to change.
    #[serde(default)]
    pub only_if_differs: bool,
    #[serde(default)]
    pub stage: Vec<Step>,
    #[serde(default)]
    pub apply: Vec<Step>,
    #[serde(default)]
    pub prove: Vec<Step>,
    #[serde(default)]
    pub close: Vec<Step>,
}

impl Playbook {
    pub fn steps(&self, phase: Phase) -> &[Step] {
        match phase {
            Phase::Stage => &self.stage,
            Phase::Apply => &self.apply,
            Phase::Prove => &self.prove,
            Phase::Close => &self.close,
        }
    }
}

/// One step: exactly one action (or `include`), and how to run it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What the reports call it; made from the action when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who runs it: `admin` (the agent itself) or `instrument` (that account's logged-on session).
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub run_as: Option<RunAs>,
    /// An expression; the step is skipped when it is false. May use variables, `facts` and registered names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Runs the step once for each item, which templates see as `item`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// Keeps the step's result under this name for later steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<String>,
    /// How often to try again after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// How long one attempt may take, for example `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Words for `--tags` and `--skip-tags`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    /// How to take the step back, where the action does not know by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<UndoSpec>,
    /// Folders that an external program of this step writes to: saved first, put back by undo.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<Place>,
    /// A file with a list of steps that stand in this one's place; relative to this file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<String>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<actions::ask::Ask>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<actions::backup::Backup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<actions::check::Check>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone: Option<actions::git::clone::Clone>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<actions::command::Command>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<actions::copy::Copy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<actions::file::File>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<actions::git::Git>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hotfix: Option<actions::hotfix::Hotfix>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<actions::link::Link>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<actions::migrate::Migrate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mysql: Option<actions::mysql::Mysql>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<actions::notify::Notify>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_patch: Option<actions::os_patch::OsPatch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<actions::package::Package>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<actions::process::Process>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<actions::reboot::Reboot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind: Option<actions::remind::Remind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<actions::remove::Remove>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<actions::restore::Restore>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<actions::retention::Retention>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<actions::service::Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<actions::snapshot::Snapshot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<actions::sync::Sync>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<actions::task::Task>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhd: Option<actions::vhd::Vhd>,
}

impl Step {
    /// The actions that are set; a valid step without `include` has exactly one.
    pub fn actions(&self) -> Vec<Action> {
        let all = [
            self.ask.clone().map(Action::Ask),
            self.backup.clone().map(Action::Backup),
            self.check.clone().map(|check| Action::Check(Box::new(check))),
            self.clone.clone().map(Action::Clone),
            self.command.clone().map(Action::Command),
            self.copy.clone().map(Action::Copy),
            self.file.clone().map(Action::File),
            self.git.clone().map(Action::Git),
            self.hotfix.clone().map(Action::Hotfix),
            self.link.clone().map(Action::Link),
            self.migrate.clone().map(Action::Migrate),
            self.mysql.clone().map(|mysql| Action::Mysql(Box::new(mysql))),
            self.notify.clone().map(Action::Notify),
            self.os_patch.clone().map(Action::OsPatch),
            self.package.clone().map(Action::Package),
            self.process.clone().map(Action::Process),
            self.reboot.clone().map(Action::Reboot),
            self.remind.clone().map(Action::Remind),
            self.remove.clone().map(Action::Remove),
            self.restore.clone().map(Action::Restore),
            self.retention.clone().map(Action::Retention),
            self.service.clone().map(Action::Service),
            self.snapshot.clone().map(Action::Snapshot),
            self.sync.clone().map(Action::Sync),
            self.task.clone().map(Action::Task),
            self.vhd.clone().map(Action::Vhd),
        ];
        all.into_iter().flatten().collect()
    }
}

/// The account a step runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunAs {
    /// The agent itself, an administrator.
    Admin,
    /// The instrument account, in its logged-on, unelevated session.
    Instrument,
}

/// What a failure of the step does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Everything done so far is undone.
    #[default]
    Rollback,
    /// The instrument stays as it is at this moment, for a person to look at.
    Stop,
    /// The failure is reported and the next step runs.
    Continue,
}

/// What a step repeats over. One of the two is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Each {
    /// Files that match `place\pattern`; `item` has `path`, `name` and `dir`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<String>,
    /// A list of values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<Vec<serde_json::Value>>,
}

/// How a step is taken back: `undo: none`, or `undo: {command: {...}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UndoSpec {
    /// It cannot be taken back, and whoever wrote the playbook knows it.
    None,
    /// A program that takes it back.
    Command(Box<actions::command::Command>),
}
