//! What a work tree is like: branch, commit, uncommitted work, and what stands in the way.

use super::program::{self, Git};
use crate::actions::StepContext;
use crate::actions::moves::shown;
use crate::error::{Error, ErrorKind, Result, first_named};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another git may hold a lock before it counts as one that was left behind.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// What is checked out, and what is uncommitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The branch; nothing when the head is detached.
    pub(super) branch: Option<String>,
    /// The commit; nothing in a repository without any.
    pub(super) head: Option<String>,
    /// Lines of `git status --porcelain=v2`, which say how the index and the work tree differ from the commit.
    pub(super) changes: Vec<Change>,
}

/// A path that is not as committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    /// Everything that git says of it.
    pub(super) line: String,
    /// With `/`, below the work tree; of a renamed file both names.
    pub(super) paths: Vec<String>,
}

impl Change {
    /// True for a file that git does not know.
    pub(super) fn is_untracked(&self) -> bool {
        self.line.starts_with("? ")
    }
}

impl State {
    /// Asks git.
    ///
    /// # Errors
    /// When there is no work tree, or it may not be used.
    pub(super) fn of(cx: &StepContext<'_>, git: &Git) -> Result<Self> {
        let arguments = ["status", "--porcelain=v2", "--branch", "--untracked-files=all", "--ignore-submodules=none", "-z"];
        let seen = git.look(cx, "status", &arguments)?;
        if seen.exit_code != 0 {
            return Err(git.failed(cx, &arguments, seen.exit_code, &seen.tail));
        }
        Ok(Self::read(&seen.output))
    }

    fn read(status: &str) -> Self {
        let mut state = Self { branch: None, head: None, changes: Vec::new() };
        let mut parts = status.split('\0');
        while let Some(part) = parts.next() {
            // A warning may stand in front.
            let part = part.rsplit('\n').next().unwrap_or(part);
            if let Some(head) = part.strip_prefix("# branch.oid ") {
                state.head = (head != "(initial)").then(|| head.to_owned());
            } else if let Some(branch) = part.strip_prefix("# branch.head ") {
                state.branch = (branch != "(detached)").then(|| branch.to_owned());
            } else if let Some(path) = path_in(part) {
                let mut paths = vec![path.to_owned()];
                let mut line = part.to_owned();
                if part.starts_with("2 ")
                    && let Some(before) = parts.next()
                {
                    paths.push(before.to_owned());
                    line = format!("{line}\t{before}");
                }
                state.changes.push(Change { line, paths });
            }
        }
        state
    }

    /// The branch for messages.
    pub(super) fn shown_branch(&self) -> String {
        self.branch.clone().unwrap_or_else(|| "no branch (detached head)".to_owned())
    }

    /// The first changed paths, for messages.
    pub(super) fn named(&self) -> Vec<String> {
        first_named(&self.changes.iter().flat_map(|change| change.paths.first()).collect::<Vec<_>>())
    }
}

/// The path in a line of `git status --porcelain=v2`: it stands behind a fixed number of fields for each kind of line.
/// Nothing for other lines.
pub(in crate::actions) fn path_in(line: &str) -> Option<&str> {
    let fields = match line.as_bytes() {
        [b'1', b' ', ..] => 9,
        [b'2', b' ', ..] => 10,
        [b'u', b' ', ..] => 11,
        [b'?', b' ', ..] => 2,
        _ => return None,
    };
    line.splitn(fields, ' ').last()
}

/// The folder with the repository of a work tree.
///
/// # Errors
/// When there is none, or it may not be used.
pub(super) fn git_dir(cx: &StepContext<'_>, git: &Git) -> Result<PathBuf> {
    let arguments = ["rev-parse", "--absolute-git-dir"];
    let seen = git.look(cx, "dir", &arguments)?;
    match seen.output.lines().next() {
        Some(line) if seen.exit_code == 0 => Ok(PathBuf::from(line.trim())),
        _ => Err(git.failed(cx, &arguments, seen.exit_code, &seen.tail)),
    }
}

/// What is begun and not finished in a repository, by the file or folder that says so.
const UNFINISHED: [(&str, &str); 6] = [
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("BISECT_LOG", "a bisection"),
];

/// Refuses a repository in which something is begun and not finished.
///
/// # Errors
/// When that is so.
pub(super) fn refuse_unfinished(cx: &StepContext<'_>, git: &Git, dir: &Path) -> Result<()> {
    let Some((_, what)) = UNFINISHED.iter().find(|(file, _)| dir.join(file).exists()) else { return Ok(()) };
    Err(Error::step_failed(format!("{what} is begun and not finished in {}", shown(cx, &git.tree)))
        .next("finish or abort it at the instrument, then run it again"))
}

/// True when a merge is begun and not finished.
pub(super) fn is_merging(dir: &Path) -> bool {
    dir.join("MERGE_HEAD").exists()
}

/// The lock files of the parts that a step may change.
fn locks(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["index.lock", "HEAD.lock", "packed-refs.lock"].iter().map(|f| dir.join(f)).collect();
    let refs = walkdir::WalkDir::new(dir.join("refs").join("heads")).into_iter().filter_map(|e| e.ok());
    found.extend(refs.map(|e| e.into_path()).filter(|p| p.extension().is_some_and(|e| e == "lock")));
    found.retain(|p| p.exists());
    found
}

/// Waits a while until no git holds a lock.
///
/// # Errors
/// When one stays.
pub(super) fn wait_for_locks(cx: &StepContext<'_>, git: &Git, dir: &Path) -> Result<()> {
    let waits = cx.deadline.within(LOCK_WAIT);
    match waits.wait_for("another git to finish", cx.progress, || Ok(locks(dir).is_empty().then_some(()))) {
        Err(e) if e.kind() == ErrorKind::TimedOut => {
            let file = locks(dir).first().map(|p| shown(cx, p)).unwrap_or_default();
            Err(program::locked(&shown(cx, &git.tree), &file))
        }
        other => other,
    }
}

/// Removes the locks that a git of ours left when the machine went down: before the step began there were none.
///
/// # Errors
/// When one cannot be removed.
pub(super) fn clear_own_locks(cx: &StepContext<'_>, git: &Git, dir: &Path) -> Result<()> {
    if wait_for_locks(cx, git, dir).is_ok() {
        return Ok(());
    }
    for lock in locks(dir) {
        cx.progress.note(&format!("removed {}, which a git that was ended left behind", shown(cx, &lock)));
        match std::fs::remove_file(&lock) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove {}", shown(cx, &lock)), &e));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_with_renames_and_odd_names() {
        let status = "# branch.oid abc\0# branch.head NDXA\0# branch.ab +1 -0\0\
            1 .M N... 100644 100644 100644 aa bb with a space.txt\0\
            2 R. N... 100644 100644 100644 aa bb R100 new.txt\0old.txt\0warning: x\n? un/tracked\0";
        let state = State::read(status);
        assert_eq!((state.branch.as_deref(), state.head.as_deref()), (Some("NDXA"), Some("abc")));
        let paths: Vec<Vec<String>> = state.changes.iter().map(|c| c.paths.clone()).collect();
        assert_eq!(paths, [vec!["with a space.txt"], vec!["new.txt", "old.txt"], vec!["un/tracked"]]);
        assert!(state.changes[2].is_untracked() && !state.changes[0].is_untracked());
        let detached = State::read("# branch.oid (initial)\0# branch.head (detached)\0");
        assert_eq!(detached, State { branch: None, head: None, changes: Vec::new() });
    }
}
