//! Merges that were taken back. What was pushed is not rewritten, so a rollback takes it back by a new commit, and the
//! merge stays in the branch's history: git would say for ever that there is nothing to merge. Here such commits are
//! found, and what they took away is merged again, on the base that the first merge had.

use super::program::{self, Git, Reach};
use crate::actions::StepContext;
use crate::actions::moves::shown;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the subject of a commit begins that takes a run back. A merge that keeps its first parent's files (`git merge -s
/// ours`) counts as well when a person gives it such a subject.
const SUBJECT: &str = "Take back ";
/// Names the commit whose files such a commit brings back.
const FILES_OF: &str = "Ibexdeploy-Files-Of: ";
/// Names the branch: one that came by a merge of another machine's branch says nothing of this one.
const BRANCH: &str = "Ibexdeploy-Branch: ";

/// How many rollbacks behind one another are followed.
const DEPTH: usize = 100;

/// A merge to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Merge {
    /// By name, for example `origin/master`.
    pub(super) with: String,
    /// It was merged before, and taken back.
    pub(super) again: Option<Again>,
}

/// What is known of a merge that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Again {
    /// The newest commit that both sides had when it was not merged yet.
    base: String,
    /// The commit that the branch had before it was merged.
    onto: String,
    /// The commits that took it back, the newest first.
    taken_back: Vec<String>,
}

/// What a commit says that takes a run back and brings the files of `head` back to `branch`.
pub(super) fn message(run: &str, head: &str, branch: &str) -> String {
    format!(
        "{SUBJECT}{run}\n\nWhat the run had merged comes again with the next release or `run settings`.\n\n\
        {FILES_OF}{head}\n{BRANCH}{branch}\n"
    )
}

/// A commit that takes others back.
struct TakenBack {
    commit: String,
    files_of: String,
}

impl Merge {
    pub(super) fn of(with: &str) -> Self {
        Self { with: with.to_owned(), again: None }
    }

    /// The merge of `with` into a branch, where it brings something; `missing` is how many commits the branch has not.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub(super) fn wanted(
        cx: &StepContext<'_>,
        git: &Git,
        branch: Option<&str>,
        with: &str,
        missing: u64,
    ) -> Result<Option<Self>> {
        let again = branch.map_or(Ok(None), |branch| again(cx, git, branch, with, missing))?;
        Ok((missing > 0 || again.is_some()).then(|| Self { with: with.to_owned(), again }))
    }

    /// For a dry run.
    pub(super) fn planned(&self) -> String {
        match &self.again {
            None => format!("{} to merge", self.with),
            Some(_) => format!("{} to merge again, as its merge was taken back", self.with),
        }
    }

    /// For a result.
    pub(super) fn done(&self) -> String {
        format!("{} merged{}", self.with, if self.again.is_some() { " again, as its merge was taken back" } else { "" })
    }

    /// Tries it without touching the work tree; a git that cannot (before 2.38) finds out in `apply`.
    ///
    /// # Errors
    /// When it has conflicts.
    pub(super) fn try_out(&self, cx: &StepContext<'_>, git: &Git) -> Result<()> {
        let ours = match &self.again {
            None => "HEAD".to_owned(),
            Some(again) => {
                // The files of now behind the commit of then: what the branch would be had it not been merged.
                let commit = ["commit-tree", "HEAD^{tree}", "-p", &again.onto, "-m", "A trial"];
                expect_line(cx, git, "trial-commit", &commit)?
            }
        };
        let seen = git.look(cx, "trial", &["merge-tree", "--write-tree", "--messages", &ours, &self.with])?;
        let lines: Vec<String> = seen.output.lines().map(str::to_owned).collect();
        let files = program::conflicting_files(&lines);
        if seen.exit_code == 1 && !files.is_empty() {
            let error = program::conflicts(cx, &git.tree, &self.with, files, seen.tail);
            return Err(self.advised(cx, git, error));
        }
        Ok(())
    }

    /// Makes it; each call of git is found again by the job's name after a crash.
    ///
    /// # Errors
    /// When it has conflicts, or git refuses.
    pub(super) fn make(&self, cx: &StepContext<'_>, git: &Git, job: &str) -> Result<()> {
        let Some(again) = &self.again else {
            return git.once(cx, job, Reach::Local, &["merge", "--no-edit", &self.with]);
        };
        let head = expect_line(cx, git, "head", &["rev-parse", "HEAD"])?;
        // The index may have been copied, with other times than the files have.
        git.look(cx, "refresh", &["update-index", "-q", "--refresh"])?;
        git.once(cx, job, Reach::Local, &["merge-recursive", &again.base, "--", "HEAD", &self.with])
            .map_err(|error| self.advised(cx, git, error))?;
        let tree = expect_line(cx, git, "tree", &["write-tree"])?;
        let message = format!("Merge {} again\n\nIts merge was taken back by {}\n", self.with, again.taken_back.join(", "));
        let mut commit = vec!["commit-tree", &tree, "-p", &head];
        if git.look(cx, "new", &["merge-base", "--is-ancestor", &self.with, "HEAD"])?.exit_code != 0 {
            commit.extend(["-p", &self.with]);
        }
        commit.extend(["-m", &message]);
        let commit = expect_line(cx, git, "again", &commit)?;
        git.once(cx, &format!("{job}-commit"), Reach::Local, &["update-ref", "-m", "merge again", "HEAD", &commit, &head])
    }

    /// What to do by hand about conflicts: `git merge` would find nothing to merge.
    fn advised(&self, cx: &StepContext<'_>, git: &Git, error: Error) -> Error {
        let Some(again) = self.again.as_ref().filter(|_| error.to_string().contains("has conflicts")) else { return error };
        let by = again.taken_back.first().map_or("", String::as_str);
        error.because(format!("it was merged before, and taken back by {by}")).next(format!(
            "in {} run `git merge-recursive {} -- HEAD {}`, put the conflicts right, commit with {by} in the message and push; \
            then run it again",
            shown(cx, &git.tree),
            again.base,
            self.with
        ))
    }
}

/// How `with` is merged again, where commits took back what the branch had of it.
fn again(cx: &StepContext<'_>, git: &Git, branch: &str, with: &str, missing: u64) -> Result<Option<Again>> {
    let mut onto = "HEAD".to_owned();
    let mut taken_back = Vec::new();
    for _ in 0..DEPTH {
        let Some(found) = newest(cx, git, &onto, branch)? else { break };
        taken_back.push(found.commit);
        onto = found.files_of;
    }
    if taken_back.is_empty() || git.count(cx, &format!("{onto}..{with}"))? <= missing {
        return Ok(None);
    }
    let base = git.line(cx, "base", &["merge-base", &onto, with])?;
    Ok(base.map(|base| Again { base, onto, taken_back }))
}

/// The newest commit below `at` that takes others back, and that nobody has answered: neither by merging again nor by
/// `git revert`, whose messages name it.
fn newest(cx: &StepContext<'_>, git: &Git, at: &str, branch: &str) -> Result<Option<TakenBack>> {
    let mut below = at.to_owned();
    for _ in 0..DEPTH {
        let Some(found) = newest_below(cx, git, &below, branch)? else { break };
        let range = format!("{}..{at}", found.commit);
        let named = format!("--grep={}", found.commit);
        let seen = read(cx, git, "answers", &["log", "--fixed-strings", &named, "--format=%s", &range, "--"])?;
        if seen.lines().all(|subject| subject.starts_with(SUBJECT)) {
            return Ok(Some(found));
        }
        // What it took back, and whatever was taken back among that, is there again.
        below = found.files_of;
    }
    Ok(None)
}

/// The newest commit of a branch that takes others back.
fn newest_below(cx: &StepContext<'_>, git: &Git, at: &str, branch: &str) -> Result<Option<TakenBack>> {
    let grep = format!("--grep=^{SUBJECT}");
    let arguments = ["log", "--first-parent", "-z", &grep, "--format=%H %T %P%n%B", at, "--"];
    for text in read(cx, git, "taken-back", &arguments)?.split('\0') {
        let mut lines = text.lines();
        let mut ids = lines.next().unwrap_or_default().split(' ');
        let (Some(commit), Some(tree), Some(parent)) = (ids.next(), ids.next(), ids.next()) else { continue };
        if !lines.next().is_some_and(|subject| subject.starts_with(SUBJECT)) {
            continue;
        }
        let line = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
        let files_of = match (line(FILES_OF), ids.next()) {
            (Some(commit), _) if line(BRANCH) == Some(branch) => Some(commit),
            (None, Some(_)) if git.value(cx, &format!("{parent}^{{tree}}"))?.as_deref() == Some(tree) => Some(parent),
            _ => None,
        };
        let known = files_of.map_or(Ok(None), |name| git.value(cx, &format!("{name}^{{commit}}")))?;
        if let Some(files_of) = known {
            return Ok(Some(TakenBack { commit: commit.to_owned(), files_of }));
        }
    }
    Ok(None)
}

fn read(cx: &StepContext<'_>, git: &Git, purpose: &str, arguments: &[&str]) -> Result<String> {
    let seen = git.look(cx, purpose, arguments)?;
    if seen.exit_code == 0 { Ok(seen.output) } else { Err(git.failed(cx, arguments, seen.exit_code, &seen.tail)) }
}

fn expect_line(cx: &StepContext<'_>, git: &Git, purpose: &str, arguments: &[&str]) -> Result<String> {
    let output = read(cx, git, purpose, arguments)?;
    // Warnings may stand in front.
    let line = output.lines().last().map(str::trim).filter(|line| !line.is_empty());
    line.map(str::to_owned).ok_or_else(|| Error::step_failed(format!("`git {}` said nothing", arguments[0])))
}
