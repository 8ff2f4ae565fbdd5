//! A migration up to the point where only renames are left, as an order that another process can carry out: on an
//! instrument the settings belong to an account of their own, and git works as that account alone.

use super::chain::Chain;
use super::git::{RefMoves, RemoteMove, Repo, TakenBack, move_refs, point_remote, take_back_refs};
use super::run::{Left, LeftWhat, Passed, Site, migrate};
use super::tree::{FileChange, Tree};
use crate::error::{Error, Result};
use crate::paths::RelPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is to be migrated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// The native folder of the settings.
    pub folder: PathBuf,
    /// How errors name it.
    pub shown: String,
    pub chain: Chain,
    /// The machine's name; that of the branch or the folder when it is not known.
    pub machine: Option<String>,
    /// The native folder of the server.
    pub server: Option<PathBuf>,
    /// The version to end at; the newest when none is named.
    pub to: Option<String>,
    /// Makes the commits, when it is a git work tree.
    pub commit: bool,
    /// Refuses a git work tree in which tracked files have changes that are not committed, also without `commit`.
    pub clean: bool,
    /// Looks where remotes outside of the settings lead, which are to lead elsewhere.
    pub remotes: bool,
}

/// A migration that only has to be put in place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prepared {
    pub from: String,
    pub to: String,
    /// The machine it was made for.
    pub machine: String,
    pub passed: Vec<Passed>,
    pub left: Vec<Left>,
    pub files: BTreeMap<RelPath, FileChange>,
    /// Folders to delete with all that is in them.
    pub deleted: Vec<RelPath>,
    pub refs: Option<RefMoves>,
    pub remotes: Vec<RemoteMove>,
}

impl Prepared {
    /// True when nothing is to be done.
    pub fn is_done(&self) -> bool {
        self.passed.is_empty()
    }
}

/// Computes a migration, and makes its commits out of sight.
///
/// # Errors
/// As [`migrate`] and [`Repo::record`]; nothing was changed.
pub fn prepare(order: &Order) -> Result<Prepared> {
    super::local::expect_finished(&order.folder, &order.shown)?;
    let mut tree = Tree::open(&order.folder, &order.shown)?;
    let repo = Repo::at(&order.folder);
    if order.clean
        && let Some(repo) = &repo
    {
        repo.branch()?;
        repo.expect_clean()?;
    }
    let newest_commit = |path: &RelPath| repo.as_ref().map_or(Ok(None), |repo| repo.newest_commit(path));
    let machine = machine(order, repo.as_ref());
    let site = Site { machine, server: order.server.clone(), has_history: repo.is_some(), newest_commit: &newest_commit };
    let mut migrated = migrate(&mut tree, &order.chain, &site, order.to.as_deref())?;
    if let Some(repo) = &repo {
        // Steps before this one may commit what is not known yet; what git ignores nobody commits.
        repo.expect_known(tree.deleted_folders(), order.clean || order.commit)?;
    }
    let refs = match &repo {
        Some(repo) if order.commit && !migrated.passed.is_empty() => Some(repo.record(&migrated)?),
        _ => None,
    };
    let remotes = if order.remotes { take_remotes(order, &mut migrated.left)? } else { Vec::new() };
    Ok(Prepared {
        from: migrated.from,
        to: migrated.to,
        machine: site.machine.clone(),
        passed: migrated.passed,
        left: migrated.left,
        files: tree.changes(),
        deleted: tree.deleted_folders().to_vec(),
        refs,
        remotes,
    })
}

/// Whose settings these are: as said, else by the branch, which has the machine's name, else by the folder.
fn machine(order: &Order, repo: Option<&Repo>) -> String {
    let folder = || order.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    order.machine.clone().or_else(|| repo.and_then(|repo| repo.branch().ok())).unwrap_or_else(folder)
}

/// The remotes that can be pointed elsewhere from here; those that cannot stay in the list of what is left.
fn take_remotes(order: &Order, left: &mut Vec<Left>) -> Result<Vec<RemoteMove>> {
    let mut moves = Vec::new();
    let mut rest = Vec::new();
    for entry in left.drain(..) {
        let LeftWhat::Remote { folder, remote, url } = &entry.what else {
            rest.push(entry);
            continue;
        };
        let folder = order.folder.join(folder);
        match Repo::at(&folder).map(|repo| repo.remote(remote)).transpose()?.flatten() {
            Some(old) if old == *url => {}
            Some(old) => moves.push(RemoteMove { folder, remote: remote.clone(), old, new: url.clone() }),
            None => rest.push(entry),
        }
    }
    *left = rest;
    Ok(moves)
}

/// What another process can be asked to do for a migration.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Prepare(Order),
    /// Shows the commits that were made, and points remotes elsewhere.
    Show(Shown),
    /// Takes that back.
    TakeBack(Shown),
}

/// References that are moved, and remotes that lead elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    pub refs: Option<RefMoves>,
    pub remotes: Vec<RemoteMove>,
}

/// What a [`Task`] gives.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Prepared(Box<Prepared>),
    Shown,
    /// What could not be taken back.
    TakenBack(TakenBack),
}

impl Task {
    /// Does it.
    ///
    /// # Errors
    /// As the functions that it calls.
    pub fn run(&self) -> Result<Answer> {
        match self {
            Self::Prepare(order) => prepare(order).map(|prepared| Answer::Prepared(Box::new(prepared))),
            Self::Show(shown) => {
                shown.refs.as_ref().map_or(Ok(()), move_refs)?;
                shown.remotes.iter().try_for_each(|remote| point_remote(remote, false))?;
                Ok(Answer::Shown)
            }
            Self::TakeBack(shown) => {
                shown.remotes.iter().rev().try_for_each(|remote| point_remote(remote, true))?;
                shown.refs.as_ref().map_or(Ok(TakenBack::default()), take_back_refs).map(Answer::TakenBack)
            }
        }
    }

    /// Reads a task as text, does it, and gives what came of it as text.
    ///
    /// # Errors
    /// When the text is no task. A task that fails is an answer.
    pub fn run_text(text: &str) -> Result<String> {
        let task: Self = serde_json::from_str(text).map_err(|e| Error::internal("this is no task of a migration").because(e))?;
        serde_json::to_string(&task.run()).map_err(|e| Error::internal("cannot write an answer").because(e))
    }
}
