//! `git`: a work tree of the site brought up to date, committed, tagged, pushed.

mod again;
mod before;
pub mod clone;
mod names;
mod program;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
mod tree;

pub use before::GitUndo;
pub(super) use before::remind_to_push;
pub use names::expect_ref_name;
pub(super) use tree::path_in;

use super::moves::shown;
use super::{Applied, Deadline, Difference, FetchStats, Perform, Probe, StepContext, UndoRecord};
use crate::error::{Error, Result};
use crate::events::Outcome;
use crate::paths::Place;
use crate::playbook::Phase;
use again::Merge;
use before::{Before, Seen, Works, file_of, remote_branch};
use program::{Git as Program, Reach};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tree::{State, git_dir, refuse_unfinished, wait_for_locks};

/// Brings a git work tree up to date: commits what is uncommitted, merges, tags, makes a branch, pushes; in this order.
/// What it merges is fetched, and tried for conflicts, during `stage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// The work tree.
    pub at: Place,
    /// Where there is no work tree, nothing is done.
    #[serde(default)]
    pub if_exists: bool,
    /// The branch that must be checked out; another one is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Commits all uncommitted work with this message. Without it, uncommitted work is an error when something is merged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Merges this, for example `origin/master`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<String>,
    /// Merges what the remote has of the branch that is checked out. Without it, commits there that are not here are an
    /// error when something is merged.
    #[serde(default)]
    pub pull: bool,
    /// Marks the result with a tag. A tag of that name at another commit stays where it is, which is noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Makes this branch at the present commit and checks it out, whatever is uncommitted. A branch of that name that is
    /// there already stays as it is, and a line under "left for you" says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_branch: Option<String>,
    /// Pushes the branch that is checked out; in `close` only. Never by force.
    #[serde(default)]
    pub push: bool,
    /// The remote's name; `origin` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// Where the remote is from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// The least time that taking a failed step back gets.
const BACK: Duration = Duration::from_secs(600);

impl Git {
    fn remote(&self) -> &str {
        self.remote.as_deref().unwrap_or("origin")
    }

    /// True when something comes from the remote.
    fn takes(&self) -> bool {
        self.merge.is_some() || self.pull
    }

    /// The names of branches and tags: where they stand in the step, what they name, the name.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
        let named = [
            ("/git/branch", "branch", &self.branch),
            ("/git/tag", "tag", &self.tag),
            ("/git/new_branch", "branch", &self.new_branch),
        ];
        named.into_iter().filter_map(|(pointer, what, name)| Some((pointer, what, name.as_deref()?)))
    }

    /// The program in the work tree; nothing when there is none and that is well.
    fn program(&self, cx: &StepContext<'_>) -> Result<Option<Program>> {
        let tree = super::volumes::resolved(&cx.native(&self.at)?)?;
        if self.if_exists && !tree.join(".git").exists() {
            return Ok(None);
        }
        if !tree.is_dir() {
            return Err(Error::step_failed(format!("{} does not exist", shown(cx, &tree)))
                .next("correct `at`, clone the repository there, or say `if_exists: true`"));
        }
        Ok(Some(Program::new(tree)))
    }

    /// The work tree's state, when it is one that may be worked on.
    fn look(&self, cx: &StepContext<'_>, git: &Program) -> Result<(std::path::PathBuf, State)> {
        self.names().try_for_each(|(_, what, name)| expect_ref_name(what, name))?;
        let dir = git_dir(cx, git)?;
        wait_for_locks(cx, git, &dir)?;
        refuse_unfinished(cx, git, &dir)?;
        let state = State::of(cx, git)?;
        let tree = shown(cx, &git.tree);
        if state.head.is_none() {
            return Err(Error::step_failed(format!("{tree} has no commit yet")).next("make the first one by hand"));
        }
        if let Some(wanted) = &self.branch
            && state.branch.as_ref() != Some(wanted)
        {
            let error = Error::step_failed(format!("{tree} is on {}, and {wanted} is wanted", state.shown_branch()));
            return Err(error.next(format!("commit what is there and run `git checkout {wanted}` in it")));
        }
        if self.takes() && self.commit.is_none() && !state.changes.is_empty() {
            let error = Error::step_failed(format!("{tree} has {} uncommitted changes", state.changes.len()));
            return Err(error.with_output(state.named()).next("commit them at the instrument, or let the step do it: `commit:`"));
        }
        Ok((dir, state))
    }

    fn fetch(&self, cx: &StepContext<'_>, git: &Program) -> Result<()> {
        git.repeat(cx, "fetch", Reach::Remote, &["fetch", "--quiet", "--no-tags", self.remote()]).map(drop)
    }

    /// What is to be merged: by name, where it is not in the branch already.
    fn merges(&self, cx: &StepContext<'_>, git: &Program, state: &State) -> Result<Vec<Merge>> {
        let mut merges = Vec::new();
        if !self.takes() {
            return Ok(merges);
        }
        if let Some(branch) = &state.branch
            && remote_branch(cx, git, self.remote(), branch)?.is_some()
        {
            let own = format!("{}/{branch}", self.remote());
            let missing = git.count(cx, &format!("HEAD..refs/remotes/{own}"))?;
            if missing > 0 && !self.pull {
                let tree = shown(cx, &git.tree);
                return Err(Error::step_failed(format!("{own} has {missing} commits that are not in {tree}")).next(format!(
                    "look at them with `git log HEAD..{own}`; where they are wanted: `git merge {own}`; where the \
                        settings were taken back on purpose, by a restore: `git merge -s ours -m \"Take back the release\" {own}`"
                )));
            }
            if missing > 0 {
                merges.push(Merge::of(&own));
            }
        }
        if let Some(with) = &self.merge {
            let known = git.value(cx, &format!("{with}^{{commit}}"))?;
            if known.is_none() {
                return Err(Error::step_failed(format!("there is no {with} in {}", shown(cx, &git.tree)))
                    .next("correct `merge`, for example `origin/master`"));
            }
            let missing = git.count(cx, &format!("HEAD..{with}"))?;
            merges.extend(Merge::wanted(cx, git, state.branch.as_deref(), with, missing)?);
        }
        Ok(merges)
    }

    /// What there is to do, decided by what is there now.
    fn works(&self, cx: &StepContext<'_>, git: &Program, state: &State) -> Result<Works> {
        let mut works = Works {
            commit: self.commit.is_some() && !state.changes.is_empty(),
            merges: self.merges(cx, git, state)?,
            ..Works::default()
        };
        if let Some(url) = &self.url {
            let now = git.url(cx, self.remote())?;
            works.url = (now.as_ref() != Some(url)).then(|| url.clone());
        }
        if let Some(name) = self.new_branch.as_ref().filter(|name| state.branch.as_ref() != Some(*name)) {
            match git.value(cx, &format!("refs/heads/{name}"))? {
                None => works.branch = Some(name.clone()),
                Some(_) => cx.progress.remind(&format!(
                    "{} has a branch {name} already, which stays as it is: {} is checked out",
                    shown(cx, &git.tree),
                    state.shown_branch()
                )),
            }
        }
        if let Some(tag) = &self.tag {
            let there = git.value(cx, &format!("refs/tags/{tag}^{{commit}}"))?;
            let stays = there == state.head && !works.commit && works.merges.is_empty();
            match there {
                None => works.tag = Some(tag.clone()),
                Some(_) if stays => {}
                Some(_) => {
                    cx.progress.note(&format!("{} has a tag {tag} already, which stays where it is", shown(cx, &git.tree)))
                }
            }
        }
        Ok(works)
    }

    /// Does what was decided. Each call of git is found again after a crash.
    fn carry_out(&self, cx: &StepContext<'_>, git: &Program, works: &Works) -> Result<()> {
        if works.commit {
            git.once(cx, "add", Reach::Local, &["add", "--all"])?;
            let message = self.commit.as_deref().unwrap_or_default();
            git.once(cx, "commit", Reach::Local, &["commit", "--quiet", "--message", message])?;
        }
        for (n, merge) in works.merges.iter().enumerate() {
            merge.make(cx, git, &format!("merge-{n}"))?;
        }
        if let Some(name) = &works.branch {
            git.once(cx, "branch", Reach::Local, &["checkout", "--quiet", "-b", name])?;
        }
        if let Some(tag) = &works.tag {
            git.once(cx, "tag", Reach::Local, &["tag", "--no-sign", tag])?;
        }
        if let Some(url) = &works.url {
            let there = git.url(cx, self.remote())?;
            let how = if there.is_some() { "set-url" } else { "add" };
            git.once(cx, "url", Reach::Local, &["remote", how, self.remote(), url])?;
        }
        Ok(())
    }

    /// Pushes the branch that is checked out; what was done.
    fn push(&self, cx: &StepContext<'_>, git: &Program) -> Result<Option<String>> {
        let state = State::of(cx, git)?;
        let tree = shown(cx, &git.tree);
        let Some(branch) = &state.branch else {
            return Err(Error::step_failed(format!("{tree} has a detached head: there is no branch to push"))
                .next("check the machine's branch out and push it by hand"));
        };
        let remote = self.remote();
        if self.new_branch.as_ref() == Some(branch) && self.is_there_with_other_commits(cx, git, branch)? {
            return Ok(Some(format!("{remote} has {branch} already")));
        }
        let refs = format!("HEAD:refs/heads/{branch}");
        let seen = git.repeat(cx, "push", Reach::Remote, &["push", "--set-upstream", remote, &refs])?;
        let nothing = seen.output.contains("Everything up-to-date");
        Ok((!nothing).then(|| format!("{branch} pushed")))
    }

    /// A branch that the remote has from an earlier release of the same version is followed, and never overwritten.
    fn is_there_with_other_commits(&self, cx: &StepContext<'_>, git: &Program, branch: &str) -> Result<bool> {
        self.fetch(cx, git)?;
        let remote = self.remote();
        if remote_branch(cx, git, remote, branch)?.is_none() {
            return Ok(false);
        }
        let own = format!("{remote}/{branch}");
        git.repeat(cx, "track", Reach::Local, &["branch", "--quiet", "--set-upstream-to", &own])?;
        let missing = git.count(cx, &format!("HEAD..refs/remotes/{own}"))?;
        if missing > 0 {
            let tree = shown(cx, &git.tree);
            cx.progress.remind(&format!("{own} has {missing} commits that are not in {tree}: look whether they are needed"));
        }
        Ok(missing > 0)
    }

    /// Undoes a failed attempt at once, so that the work tree is as it was whatever comes next.
    fn take_back(cx: &StepContext<'_>, undo: &GitUndo, error: Error) -> Error {
        let deadline = Deadline::after(BACK, Arc::default());
        super::taken_back(error, undo.take_back_at_once(&StepContext { deadline: &deadline, ..*cx }))
    }

    /// Begins the step, or goes on with it after a crash; nothing when there is nothing to do.
    fn begin(&self, cx: &StepContext<'_>, git: &Program, file: &Path) -> Result<Option<(Before, GitUndo)>> {
        if let Some(begun) = Before::read(file)? {
            return Ok(Some(begun));
        }
        if self.takes() && !self.fetched_file(cx, &git.tree).exists() {
            self.fetch(cx, git)?;
        }
        let (dir, state) = self.look(cx, git)?;
        let works = self.works(cx, git, &state)?;
        if works.is_empty() {
            return Ok(None);
        }
        let seen = Seen { dir, remote: self.remote().to_owned(), state, works };
        Before::keep(cx, git, seen, file).map(Some)
    }

    fn fetched_file(&self, cx: &StepContext<'_>, tree: &Path) -> std::path::PathBuf {
        cx.data_file(&format!("{}.fetched", super::volumes::target_key(tree)))
    }
}

impl Perform for Git {
    fn describe(&self) -> String {
        let mut what = Vec::new();
        what.extend(self.commit.as_ref().map(|_| "commit".to_owned()));
        what.extend(self.pull.then(|| "pull".to_owned()));
        what.extend(self.merge.as_ref().map(|with| format!("merge {with}")));
        what.extend(self.tag.as_ref().map(|_| "tag".to_owned()));
        what.extend(self.new_branch.as_ref().map(|_| "branch".to_owned()));
        what.extend(self.push.then(|| "push".to_owned()));
        format!("git {} in {}", what.join(", "), self.at)
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let Some(git) = self.program(cx)? else {
            let summary = format!("{} is no work tree", self.at);
            return Ok(Probe { difference: Difference::None, summary, ..Probe::default() });
        };
        let (_, state) = self.look(cx, &git)?;
        let works = self.works(cx, &git, &state)?;
        let mut what: Vec<String> = Vec::new();
        what.extend(works.commit.then(|| format!("{} changes to commit", state.changes.len())));
        what.extend(works.merges.iter().map(Merge::planned));
        what.extend(works.tag.iter().map(|tag| format!("to be tagged {tag}")));
        what.extend(works.branch.iter().map(|branch| format!("to be branched as {branch}")));
        what.extend(self.push.then(|| "to be pushed".to_owned()));
        let difference = match (what.is_empty(), self.takes()) {
            (false, _) => Difference::Some,
            // A dry run does not fetch.
            (true, true) => Difference::Unknown,
            (true, false) => Difference::None,
        };
        let summary = match difference {
            Difference::Some => what.join(", "),
            Difference::Unknown => "up to date with what was fetched last".to_owned(),
            Difference::None => "already as wanted".to_owned(),
        };
        Ok(Probe { difference, summary, items: state.named(), fetch_bytes: 0 })
    }

    /// Fetches, and finds out whether the step can be done, while IBEX runs.
    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        let Some(git) = self.program(cx)?.filter(|_| self.takes() && cx.step.phase != Phase::Close) else {
            return Ok(FetchStats::default());
        };
        let (_, state) = self.look(cx, &git)?;
        self.fetch(cx, &git)?;
        crate::files::write(&self.fetched_file(cx, &git.tree), b"fetched\n")?;
        let merges = self.merges(cx, &git, &state)?;
        merges.iter().try_for_each(|merge| merge.try_out(cx, &git))?;
        Ok(FetchStats::default())
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let Some(git) = self.program(cx)? else {
            let summary = format!("{} is no work tree", self.at);
            return Ok(Applied { outcome: Outcome::Skipped, summary, result: serde_json::Value::Null });
        };
        let git = git.that_commits(cx)?;
        let file = file_of(cx, &git.tree);
        let mut done = Vec::new();
        if let Some((before, undo)) = self.begin(cx, &git, &file)? {
            cx.undo_log.intend(UndoRecord::Git(undo.clone()))?;
            self.carry_out(cx, &git, &before.works).map_err(|error| Self::take_back(cx, &undo, error))?;
            undo.finished(&State::of(cx, &git)?)?;
            let works = before.works;
            done.extend(works.commit.then(|| format!("{} changes committed", before.state.changes.len())));
            done.extend(works.merges.iter().map(Merge::done));
            done.extend(works.tag.iter().map(|tag| format!("tagged {tag}")));
            done.extend(works.branch.iter().map(|branch| format!("branch {branch} made")));
            done.extend(works.url.iter().map(|_| format!("{} set", self.remote())));
        }
        if self.push {
            done.extend(self.push(cx, &git)?);
        }
        let head = git.line(cx, "head", &["rev-parse", "HEAD"])?;
        let result = json!({ "commit": head, "done": done });
        let applied = if done.is_empty() { Applied::ok("already as wanted") } else { Applied::changed(done.join(", ")) };
        Ok(applied.with_result(result))
    }
}
