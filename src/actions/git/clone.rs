//! `clone`: a repository of the site gets a work tree on the instrument.

use super::program::{Git as Program, Reach};
use super::tree::State;
use crate::actions::moves::{Moves, MovesRecord, Stamp, rename, shown};
use crate::actions::remove::{moves_file, split};
use crate::actions::volumes::{self, Areas, MADE_SINCE};
use crate::actions::{Applied, Difference, FetchStats, Perform, Probe, StepContext, UndoRecord, Undone};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The clone's name in the stage area.
const STAGED: &str = "clone";

/// Clones a git repository to a folder that is not there yet. It is cloned during `stage`, beside what runs, and renamed to
/// its place. A work tree of the same repository that is there already is left as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Clone {
    /// Where the repository is: an address or a path, as `git clone` takes it.
    pub from: String,
    /// The work tree's folder.
    pub to: Place,
    /// The branch that is checked out. Where the remote does not have it, it is made from `start`; the remote's own unless
    /// said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What a new branch begins at; `origin/master` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

/// What is at the target.
enum There {
    Nothing,
    /// A work tree of this repository.
    WorkTree,
}

impl Clone {
    fn start(&self) -> &str {
        self.start.as_deref().unwrap_or("origin/master")
    }

    /// # Errors
    /// When something else is there.
    fn there(&self, cx: &StepContext<'_>, target: &Path) -> Result<There> {
        let shown = shown(cx, target);
        if target.join(".git").exists() {
            let git = Program::new(volumes::resolved(target)?);
            let url = git.url(cx, "origin")?;
            if url.as_ref() == Some(&self.from) {
                return Ok(There::WorkTree);
            }
            let url = url.unwrap_or_else(|| "no remote".to_owned());
            return Err(Error::new(ErrorKind::Refused, format!("{shown} is a work tree of {url}, not of {}", self.from))
                .next("move it away, or correct `from`"));
        }
        let empty = || std::fs::read_dir(target).is_ok_and(|mut inside| inside.next().is_none());
        match Stamp::of(target)? {
            None => Ok(There::Nothing),
            Some(Stamp::Folder) if empty() => Ok(There::Nothing),
            Some(_) => Err(Error::new(ErrorKind::Refused, format!("{shown} is there, is not empty and is no git work tree"))
                .next("move what is in it away, and try again")),
        }
    }

    /// Clones into the stage area, unless that is done.
    fn bring(&self, cx: &StepContext<'_>, target: &Path, areas: &Areas) -> Result<FetchStats> {
        let (staged, done) = (areas.stage.join(STAGED), self.done_file(cx, target));
        if done.exists() && staged.join(".git").exists() {
            return Ok(FetchStats::default());
        }
        // The account that clones is not the agent's own.
        cx.platform.copy_rights(&volumes::nearest_folder(target)?, &areas.stage)?;
        files::remove_folder(&staged)?;
        let name = shown(cx, target);
        let outside = Program::new(areas.stage.clone()).called(name.clone());
        outside.repeat(cx, "clone", Reach::Long, &["clone", "--quiet", "--no-checkout", &self.from, STAGED])?;
        let git = Program::new(staged).called(name);
        let branch = match &self.branch {
            None => None,
            Some(branch) => Some((branch, git.value(cx, &format!("refs/remotes/origin/{branch}"))?.is_some())),
        };
        let own;
        let arguments: Vec<&str> = match branch {
            None => vec!["checkout", "--quiet"],
            Some((branch, true)) => {
                own = format!("refs/remotes/origin/{branch}");
                vec!["checkout", "--quiet", "-B", branch, "--track", &own]
            }
            Some((branch, false)) => {
                self.must_have_start(cx, &git)?;
                vec!["checkout", "--quiet", "-B", branch, "--no-track", self.start()]
            }
        };
        git.repeat(cx, "checkout", Reach::Long, &arguments)?;
        let head = git.value(cx, "HEAD")?;
        files::write_json(&done, &head)?;
        Ok(FetchStats::default())
    }

    fn must_have_start(&self, cx: &StepContext<'_>, git: &Program) -> Result<()> {
        let start = self.start();
        if git.value(cx, &format!("{start}^{{commit}}"))?.is_some() {
            return Ok(());
        }
        Err(Error::step_failed(format!("{} has no {start} that a new branch could begin at", self.from))
            .next("correct `start`, or push a first commit there"))
    }

    /// Written when the clone is complete; holds its commit.
    fn done_file(&self, cx: &StepContext<'_>, target: &Path) -> PathBuf {
        cx.data_file(&format!("{}.cloned.json", volumes::target_key(target)))
    }

    /// Writes down the moves that put the clone in its place.
    fn prepare(&self, cx: &StepContext<'_>, target: &Path, file: &Path) -> Result<(Moves, MovesRecord)> {
        let areas = volumes::areas_beside(cx, target)?;
        self.bring(cx, target, &areas)?;
        cx.platform.flush_volume(&areas.stage)?;
        let (folder, name) = split(target)?;
        let mut moves = Moves::below(&folder, &areas);
        moves.take(name.clone())?;
        moves.bring(name, STAGED)?;
        let record = moves.write(file)?;
        Ok((moves, record))
    }
}

impl Perform for Clone {
    fn describe(&self) -> String {
        format!("clone {} to {}", self.from, self.to)
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let target = cx.native(&self.to)?;
        let (difference, summary) = match self.there(cx, &target)? {
            There::WorkTree => (Difference::None, "already a work tree of it".to_owned()),
            There::Nothing => (Difference::Some, format!("{} would be cloned", self.from)),
        };
        Ok(Probe { difference, summary, ..Probe::default() })
    }

    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        let target = cx.native(&self.to)?;
        if Moves::begun(&moves_file(cx, &target))?.is_some() || matches!(self.there(cx, &target)?, There::WorkTree) {
            return Ok(FetchStats::default());
        }
        self.bring(cx, &target, &volumes::areas_beside(cx, &target)?)
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let target = cx.native(&self.to)?;
        let file = moves_file(cx, &target);
        let (moves, record) = match Moves::begun(&file)? {
            Some(begun) => begun,
            None if matches!(self.there(cx, &target)?, There::WorkTree) => {
                return Ok(Applied::ok(format!("{} is a work tree of it already", shown(cx, &target))));
            }
            None => self.prepare(cx, &target, &file)?,
        };
        let head = files::read_json::<Option<String>>(&self.done_file(cx, &target))?.flatten();
        cx.undo_log.intend(UndoRecord::Clone(CloneUndo { target: target.clone(), head, moves: record }))?;
        moves.run(cx)?;
        let state = State::of(cx, &Program::new(volumes::resolved(&target)?))?;
        Ok(Applied::changed(format!("{} is on {}", shown(cx, &target), state.shown_branch())))
    }
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CloneUndo {
    /// The work tree's native path.
    target: PathBuf,
    /// The commit that was cloned.
    head: Option<String>,
    moves: MovesRecord,
}

impl CloneUndo {
    /// Removes the work tree. One with work of its own, which nobody may have anywhere else, is moved aside and named.
    ///
    /// # Errors
    /// When git cannot be asked, or the rename is refused.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let aside = self.moves.undo.join(format!("clone.{MADE_SINCE}"));
        if !aside.exists() && self.has_own_work(cx)? {
            rename(cx, &self.target, &aside)?;
        }
        if aside.exists() {
            // The moves then find neither a clone to take back nor anything that is lost.
            std::fs::create_dir_all(self.moves.stage.join(STAGED)).cannot(|| "make a folder in the stage area")?;
        }
        self.moves.undo(cx)
    }

    fn has_own_work(&self, cx: &StepContext<'_>) -> Result<bool> {
        if !self.target.join(".git").exists() {
            return Ok(false);
        }
        let git = Program::new(self.target.clone());
        let state = State::of(cx, &git)?;
        // Commits of any branch that the remote does not have.
        let own = git.line(cx, "own", &["rev-list", "--max-count=1", "--branches", "--not", "--remotes"])?;
        Ok(state.head != self.head || !state.changes.is_empty() || own.is_some())
    }
}
