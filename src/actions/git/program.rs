//! The `git` program: how it is called, and what its complaints mean.

use crate::actions::external::{self, External, Seen};
use crate::actions::moves::shown;
use crate::actions::{Deadline, StepContext};
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Place;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a call that stays on this machine may take.
const LOCAL: Duration = Duration::from_secs(300);
/// How long a call that speaks with a remote may take.
const REMOTE: Duration = Duration::from_secs(180);

/// Nobody is asked for anything, no editor opens, and messages are those that are looked for below.
const ENVIRONMENT: [(&str, &str); 7] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GCM_INTERACTIVE", "never"),
    ("SSH_ASKPASS_REQUIRE", "never"),
    ("GIT_EDITOR", "true"),
    ("GIT_SEQUENCE_EDITOR", "true"),
    ("GIT_MERGE_AUTOEDIT", "no"),
    ("LC_ALL", "C"),
];

/// Settings for every call: nothing goes on in the background once it has returned, and names are shown as they are.
const SETTINGS: [&str; 8] =
    ["-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "core.quotePath=false", "-c", "advice.detachedHead=false"];

/// Git in one work tree.
#[derive(Debug, Clone)]
pub(super) struct Git {
    /// The native path of the work tree.
    pub(super) tree: PathBuf,
    /// Further settings: who commits.
    settings: Vec<String>,
    /// What messages call the work tree, where that is not where it lies.
    called: Option<String>,
}

/// What a call needs of its caller.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reach {
    Local,
    /// It speaks with a remote.
    Remote,
    /// It brings a whole repository: the step's own limit counts.
    Long,
}

impl Git {
    pub(super) fn new(tree: PathBuf) -> Self {
        Self { tree, settings: Vec::new(), called: None }
    }

    /// The same with another name for messages: a work tree that is to be renamed there.
    #[must_use]
    pub(super) fn called(mut self, name: String) -> Self {
        self.called = Some(name);
        self
    }

    /// The same with a name for its commits, where the account has none of its own.
    ///
    /// # Errors
    /// When git cannot be asked.
    pub(super) fn that_commits(mut self, cx: &StepContext<'_>) -> Result<Self> {
        let own = self.look(cx, "identity", &["config", "--get", "user.email"])?;
        if own.exit_code != 0 {
            for setting in ["user.name=ibexdeploy".to_owned(), format!("user.email=ibexdeploy@{}", cx.plan.host)] {
                self.settings.extend(["-c".to_owned(), setting]);
            }
        }
        Ok(self)
    }

    fn external(&self, cx: &StepContext<'_>, arguments: &[&str]) -> Result<External> {
        let settings = SETTINGS.iter().map(|s| (*s).to_owned()).chain(self.settings.iter().cloned());
        let arguments = settings.chain(arguments.iter().map(|a| (*a).to_owned())).collect();
        let mut program = External::program(cx, &Place("git".to_owned()), arguments)?.at(Some(self.tree.clone()));
        program.env = ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Ok(program)
    }

    /// Runs git to look, whatever its exit code; looking writes no index of a tree that somebody uses.
    ///
    /// # Errors
    /// When git cannot be started or came to its deadline.
    pub(super) fn look(&self, cx: &StepContext<'_>, purpose: &str, arguments: &[&str]) -> Result<Seen> {
        let mut program = self.external(cx, arguments)?;
        program.env.push(("GIT_OPTIONAL_LOCKS".to_owned(), "0".to_owned()));
        let deadline = cx.deadline.within(LOCAL);
        external::look(&StepContext { deadline: &deadline, ..*cx }, &format!("git-{purpose}"), program).map_err(not_there)
    }

    /// The first line that git writes; nothing when it ends with an exit code that says so.
    ///
    /// # Errors
    /// As [`Git::look`].
    pub(super) fn line(&self, cx: &StepContext<'_>, purpose: &str, arguments: &[&str]) -> Result<Option<String>> {
        let seen = self.look(cx, purpose, arguments)?;
        let line = seen.output.lines().next().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty());
        Ok(line.filter(|_| seen.exit_code == 0))
    }

    /// The commit or object that a name stands for; nothing when there is no such name.
    ///
    /// # Errors
    /// As [`Git::look`].
    pub(super) fn value(&self, cx: &StepContext<'_>, name: &str) -> Result<Option<String>> {
        self.line(cx, "ref", &["rev-parse", "--verify", "--quiet", name])
    }

    /// How many commits a range has.
    ///
    /// # Errors
    /// When there is no such range, and as [`Git::look`].
    pub(super) fn count(&self, cx: &StepContext<'_>, range: &str) -> Result<u64> {
        let arguments = ["rev-list", "--count", range, "--"];
        let seen = self.look(cx, "count", &arguments)?;
        let number = seen.output.lines().last().and_then(|l| l.trim().parse().ok());
        number.filter(|_| seen.exit_code == 0).ok_or_else(|| self.failed(cx, &arguments, seen.exit_code, &seen.tail))
    }

    /// Where a remote leads; nothing when there is no such remote.
    ///
    /// # Errors
    /// As [`Git::look`].
    pub(super) fn url(&self, cx: &StepContext<'_>, remote: &str) -> Result<Option<String>> {
        self.line(cx, "url", &["config", "--get", &url_key(remote)])
    }

    /// Runs git in a way that may be repeated: what it does is done once, however often it is asked to.
    ///
    /// # Errors
    /// When it fails, with what that means.
    pub(super) fn repeat(&self, cx: &StepContext<'_>, purpose: &str, reach: Reach, arguments: &[&str]) -> Result<Seen> {
        let deadline = limit(cx, reach);
        let bounded = StepContext { deadline: &deadline, ..*cx };
        let program = self.external(cx, arguments)?;
        let seen = external::look(&bounded, &format!("git-{purpose}"), program).map_err(not_there)?;
        if seen.exit_code == 0 { Ok(seen) } else { Err(self.failed(cx, arguments, seen.exit_code, &seen.tail)) }
    }

    /// Runs git once: after a crash its process, or how it ended, is found again under `id`.
    ///
    /// # Errors
    /// When it fails, with what that means.
    pub(super) fn once(&self, cx: &StepContext<'_>, id: &str, reach: Reach, arguments: &[&str]) -> Result<()> {
        let deadline = limit(cx, reach);
        let bounded = StepContext { deadline: &deadline, ..*cx };
        let program = self.external(cx, arguments)?;
        let end = external::run(&bounded, format!("{}.{id}", cx.step.id), program).map_err(not_there)?;
        if end.exit_code == 0 { Ok(()) } else { Err(self.failed(cx, arguments, end.exit_code, &end.tail)) }
    }

    /// The error of a call, by what git said.
    pub(super) fn failed(&self, cx: &StepContext<'_>, arguments: &[&str], exit_code: i32, tail: &[String]) -> Error {
        let call = arguments.first().copied().unwrap_or_default();
        let tree = self.called.clone().unwrap_or_else(|| shown(cx, &self.tree));
        let output = external::redacted(cx, tail);
        let trouble = Trouble::of(&output);
        trouble.error(&tree, call, exit_code, &output).with_output(output)
    }
}

/// The setting that says where a remote leads.
pub(super) fn url_key(remote: &str) -> String {
    format!("remote.{remote}.url")
}

fn limit(cx: &StepContext<'_>, reach: Reach) -> Deadline {
    match reach {
        Reach::Local => cx.deadline.within(LOCAL),
        Reach::Remote => cx.deadline.within(REMOTE),
        Reach::Long => cx.deadline.clone(),
    }
}

/// Adds what to do when there is no git.
fn not_there(error: Error) -> Error {
    let text = error.to_string();
    if error.kind() == ErrorKind::Io && text.contains("git") {
        return error.next("install Git for Windows at the instrument, or see that the account's PATH leads to it");
    }
    error
}

/// What a complaint of git means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// Another git is at work, or one was ended in the middle.
    Locked {
        file: String,
    },
    ForeignOwner,
    NoRepository,
    /// The remote has commits that are not here.
    Rejected,
    RemoteAway,
    Conflict {
        files: Vec<String>,
    },
    Overwrites,
    Unknown,
}

impl Trouble {
    fn of(output: &[String]) -> Self {
        let text = output.join("\n");
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
        let locked = text.lines().find(|l| l.contains(".lock") && (l.contains("File exists") || l.contains("Unable to create")));
        if let Some(line) = locked {
            return Self::Locked { file: line.split('\'').nth(1).unwrap_or_default().to_owned() };
        }
        let conflicts: Vec<String> = text.lines().filter_map(conflict_in).collect();
        if !conflicts.is_empty() {
            return Self::Conflict { files: conflicts };
        }
        match () {
            () if says(&["dubious ownership"]) => Self::ForeignOwner,
            () if says(&["not a git repository"]) => Self::NoRepository,
            () if says(&["[rejected]", "non-fast-forward", "fetch first"]) => Self::Rejected,
            () if says(&["would be overwritten by merge"]) => Self::Overwrites,
            () if says(&REMOTE_AWAY) || text.lines().any(|l| l.starts_with("fatal: repository '")) => Self::RemoteAway,
            () => Self::Unknown,
        }
    }

    fn error(&self, tree: &str, call: &str, exit_code: i32, output: &[String]) -> Error {
        match self {
            Self::Locked { file } => locked(tree, file),
            Self::ForeignOwner => Error::step_failed(format!("the work tree {tree} belongs to another account"))
                .next("run the step `as: instrument`, or give the folder to the account that uses it"),
            Self::NoRepository => {
                Error::step_failed(format!("{tree} is no git work tree")).next("correct `at`, or say `if_exists: true`")
            }
            Self::Rejected => Error::step_failed(format!("the remote of {tree} has commits that are not here"))
                .next("look at them with `git log HEAD..@{upstream}`; merge them by hand or with `pull: true`, and push again"),
            Self::Overwrites => {
                Error::step_failed(format!("the merge would overwrite uncommitted work in {tree}: nothing was merged"))
                    .next("commit it, or let the step do that with `commit:`")
            }
            Self::RemoteAway => Error::step_failed(format!("the remote of {tree} cannot be reached"))
                .because(output.iter().find(|l| l.contains("fatal:")).cloned().unwrap_or_else(|| format!("git {call} failed")))
                .next("see that the server of the git repositories is up, and that the account may read it")
                .temporary(),
            Self::Conflict { files } => {
                Error::step_failed(format!("merging in {tree} has conflicts in {}; nothing was merged", files.join(", ")))
                    .next("merge by hand at the instrument, commit and push, then run it again")
            }
            Self::Unknown => Error::step_failed(format!("`git {call}` in {tree} ended with exit code {exit_code}"))
                .next("read what git says, put it right in the work tree, and run it again"),
        }
    }
}

const REMOTE_AWAY: [&str; 11] = [
    "Could not read from remote repository",
    "does not appear to be a git repository",
    "unable to access",
    "Could not resolve host",
    "Connection timed out",
    "Connection refused",
    "Connection reset",
    "Authentication failed",
    "could not read Username",
    "terminal prompts disabled",
    "Permission denied (publickey",
];

/// The file of a line like `CONFLICT (content): Merge conflict in blocks.xml`.
fn conflict_in(line: &str) -> Option<String> {
    let rest = line.strip_prefix("CONFLICT ")?;
    let what = rest.split_once("): ").map_or(rest, |(_, what)| what);
    let file = what.strip_prefix("Merge conflict in ").or_else(|| what.split_whitespace().next());
    file.map(str::to_owned)
}

/// The error of a lock that nobody lets go of.
pub(super) fn locked(tree: &str, file: &str) -> Error {
    Error::step_failed(format!("another git works in {tree}, or was ended in the middle: {file} is there"))
        .next("see that no git runs at the instrument, then delete that file and run it again")
        .temporary()
}

/// The error of a merge that has conflicts, before anything was merged.
pub(super) fn conflicts(cx: &StepContext<'_>, tree: &Path, with: &str, files: Vec<String>, output: Vec<String>) -> Error {
    Trouble::Conflict { files }.error(&shown(cx, tree), "merge", 1, &[]).because(format!("it is {with}")).with_output(output)
}

/// The files that a trial merge names as conflicting.
pub(super) fn conflicting_files(lines: &[String]) -> Vec<String> {
    lines.iter().filter_map(|line| conflict_in(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_git_are_understood() {
        let of = |text: &str| Trouble::of(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        let lock = "fatal: Unable to create '/s/.git/index.lock': File exists.\n\nAnother git process seems to be running";
        assert_eq!(of(lock), Trouble::Locked { file: "/s/.git/index.lock".to_owned() });
        assert_eq!(of("fatal: detected dubious ownership in repository at '/s'"), Trouble::ForeignOwner);
        assert_eq!(of("fatal: not a git repository (or any of the parent directories): .git"), Trouble::NoRepository);
        assert_eq!(of(" ! [rejected]        NDXA -> NDXA (fetch first)"), Trouble::Rejected);
        let away = "fatal: '/gone' does not appear to be a git repository\nfatal: Could not read from remote repository.";
        assert_eq!(of(away), Trouble::RemoteAway);
        let conflict =
            "Auto-merging a.xml\nCONFLICT (content): Merge conflict in a.xml\nCONFLICT (modify/delete): b.txt deleted in X";
        assert_eq!(of(conflict), Trouble::Conflict { files: vec!["a.xml".to_owned(), "b.txt".to_owned()] });
        assert_eq!(of("fatal: repository '/gone' does not exist"), Trouble::RemoteAway);
        assert_eq!(of("fatal: something new"), Trouble::Unknown);
    }
}
