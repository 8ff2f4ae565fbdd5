//! What a step can do: one file per action, each with its arguments, probe, apply, verify and undo.

pub mod ask;
pub mod backup;
pub mod check;
pub mod command;
pub mod copy;
pub mod file;
pub mod git;
pub mod hotfix;
pub mod link;
pub mod migrate;
pub mod moves;
pub mod mysql;
pub mod notify;
pub mod os_patch;
pub mod package;
pub mod process;
pub mod reboot;
pub mod remind;
pub mod remove;
pub mod restore;
pub mod retention;
pub mod service;
pub mod since;
pub mod snapshot;
pub mod sync;
pub mod task;
pub mod vhd;
pub mod volumes;
pub mod writes;

mod context;
mod external;
mod installer;
mod job;
#[cfg(test)]
#[cfg(unix)]
mod small_tests;
#[cfg(test)]
#[cfg(unix)]
mod testing;
mod undo;

pub use context::{
    Applied, AskOperator, Content, Deadline, Difference, FetchStats, Jobs, Perform, Probe, Progress, SpaceNeed, StepContext,
    UndoLog, Undone, Want,
};
pub use job::{JobEnd, JobSpec};

use context::taken_back;
pub use undo::UndoRecord;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An action with its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Ask(ask::Ask),
    Backup(backup::Backup),
    Check(Box<check::Check>),
    Clone(git::clone::Clone),
    Command(command::Command),
    Copy(copy::Copy),
    File(file::File),
    Git(git::Git),
    Hotfix(hotfix::Hotfix),
    Link(link::Link),
    Migrate(migrate::Migrate),
    Mysql(Box<mysql::Mysql>),
    Notify(notify::Notify),
    OsPatch(os_patch::OsPatch),
    Package(package::Package),
    Process(process::Process),
    Reboot(reboot::Reboot),
    Remind(remind::Remind),
    Remove(remove::Remove),
    Restore(restore::Restore),
    Retention(retention::Retention),
    Service(service::Service),
    Snapshot(snapshot::Snapshot),
    Sync(sync::Sync),
    Task(task::Task),
    Vhd(vhd::Vhd),
}

impl Action {
    /// The name playbooks use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ask(_) => "ask",
            Self::Backup(_) => "backup",
            Self::Check(_) => "check",
            Self::Clone(_) => "clone",
            Self::Command(_) => "command",
            Self::Copy(_) => "copy",
            Self::File(_) => "file",
            Self::Git(_) => "git",
            Self::Hotfix(_) => "hotfix",
            Self::Link(_) => "link",
            Self::Migrate(_) => "migrate",
            Self::Mysql(_) => "mysql",
            Self::Notify(_) => "notify",
            Self::OsPatch(_) => "os_patch",
            Self::Package(_) => "package",
            Self::Process(_) => "process",
            Self::Reboot(_) => "reboot",
            Self::Remind(_) => "remind",
            Self::Remove(_) => "remove",
            Self::Restore(_) => "restore",
            Self::Retention(_) => "retention",
            Self::Service(_) => "service",
            Self::Snapshot(_) => "snapshot",
            Self::Sync(_) => "sync",
            Self::Task(_) => "task",
            Self::Vhd(_) => "vhd",
        }
    }

    /// True for what a run with `only_if_differs` is made for: where none of these has anything to change, nothing is stopped.
    pub fn is_the_purpose(&self) -> bool {
        match self {
            Self::Mysql(_) | Self::Sync(_) => true,
            Self::Hotfix(hotfix) => hotfix.changes_files(),
            // Only of one with a name can it be said that it is there.
            Self::Package(package) => package.product.is_some(),
            _ => false,
        }
    }

    /// The action as the agent works with it.
    pub fn performer(&self) -> &dyn Perform {
        match self {
            Self::Ask(a) => a,
            Self::Backup(a) => a,
            Self::Check(a) => &**a,
            Self::Clone(a) => a,
            Self::Command(a) => a,
            Self::Copy(a) => a,
            Self::File(a) => a,
            Self::Git(a) => a,
            Self::Hotfix(a) => a,
            Self::Link(a) => a,
            Self::Migrate(a) => a,
            Self::Mysql(a) => &**a,
            Self::Notify(a) => a,
            Self::OsPatch(a) => a,
            Self::Package(a) => a,
            Self::Process(a) => a,
            Self::Reboot(a) => a,
            Self::Remind(a) => a,
            Self::Remove(a) => a,
            Self::Restore(a) => a,
            Self::Retention(a) => a,
            Self::Service(a) => a,
            Self::Snapshot(a) => a,
            Self::Sync(a) => a,
            Self::Task(a) => a,
            Self::Vhd(a) => a,
        }
    }
}
