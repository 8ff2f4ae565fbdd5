//! The undo log's records.

use super::{StepContext, Undone};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How to take back one mutation; written before it happens. Taking back may be repeated and judges by what it finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoRecord {
    Clone(super::git::clone::CloneUndo),
    /// The program of the step's `undo:`.
    Command(super::command::Command),
    Copy(super::copy::CopyUndo),
    File(super::file::FileUndo),
    Git(super::git::GitUndo),
    Hotfix(super::hotfix::HotfixUndo),
    /// What a vendor's installer or an update has put there: it stays.
    Installed(super::package::Stays),
    Link(super::link::LinkUndo),
    Migrate(super::migrate::MigrateUndo),
    Mysql(super::mysql::MysqlUndo),
    Remove(super::remove::RemoveUndo),
    Restore(super::restore::RestoreUndo),
    Service(super::service::ServiceUndo),
    /// The link of a `sync` that keeps versions beside each other.
    Switch(super::sync::linked::SwitchUndo),
    Sync(super::sync::SyncUndo),
    Task(super::task::TaskUndo),
    Vhd(super::vhd::VhdUndo),
    /// The folders of a step's `writes:`.
    Writes(super::writes::WritesUndo),
}

impl UndoRecord {
    /// Takes it back.
    ///
    /// # Errors
    /// When it cannot even be tried; what was tried and did not succeed is in [`Undone::left`].
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        match self {
            Self::Clone(r) => r.undo(cx),
            Self::Command(r) => super::command::undo_by_command(r, cx),
            Self::Copy(r) => r.undo(cx),
            Self::File(r) => r.undo(cx),
            Self::Git(r) => r.undo(cx),
            Self::Hotfix(r) => r.undo(cx),
            Self::Installed(r) => r.undo(cx),
            Self::Link(r) => r.undo(cx),
            Self::Migrate(r) => r.undo(cx),
            Self::Mysql(r) => r.undo(cx),
            Self::Remove(r) => r.undo(cx),
            Self::Restore(r) => r.undo(cx),
            Self::Service(r) => r.undo(cx),
            Self::Switch(r) => r.undo(cx),
            Self::Sync(r) => r.undo(cx),
            Self::Task(r) => r.undo(cx),
            Self::Vhd(r) => r.undo(cx),
            Self::Writes(r) => r.undo(cx),
        }
    }
}

/// What an action wrote down of what it found first.
///
/// # Errors
/// When the file is gone, or is another one than it was when the mutation was intended.
pub(super) fn kept_before<T: DeserializeOwned>(file: &Path, hash: ContentHash) -> Result<T> {
    let damaged = || Error::new(ErrorKind::Integrity, format!("{} is gone or has changed", file.display()));
    if ContentHash::of_file(file).ok() != Some(hash) {
        return Err(damaged());
    }
    files::read_json(file)?.ok_or_else(damaged)
}
