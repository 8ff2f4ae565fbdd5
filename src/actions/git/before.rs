//! What a work tree was like before a step changed it, and the way back to that.

use super::again::{self, Merge};
use super::program::{Git, Reach, url_key};
use super::tree::{Change, State, clear_own_locks, is_merging};
use crate::actions::moves::{Stamp, make_folder, rename, shown};
use crate::actions::remove::moves_file_of;
use crate::actions::writes::copy_exactly;
use crate::actions::{Action, StepContext, Undone, volumes};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files::{self, sync_folder};
use crate::plan::PlanStep;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A work tree before a step, and what the step is going to do; a file of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) tree: PathBuf,
    /// The folder with the repository.
    pub(super) dir: PathBuf,
    pub(super) remote: String,
    pub(super) state: State,
    pub(super) works: Works,
    /// The copy of the index; nothing when there was none.
    index: Option<PathBuf>,
    /// Files with uncommitted work.
    kept: Vec<Kept>,
    refs: Vec<RefBefore>,
    /// What the remote had of the branch, as far as it was known.
    remote_head: Option<String>,
    /// Where the remote was; nothing when there was no such remote.
    url: Option<String>,
}

/// What a step is going to do, as decided once: after a crash it is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Works {
    /// Takes up all uncommitted work.
    pub(super) commit: bool,
    pub(super) merges: Vec<Merge>,
    pub(super) branch: Option<String>,
    pub(super) tag: Option<String>,
    /// Where the remote will be.
    pub(super) url: Option<String>,
}

impl Works {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A file with uncommitted work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    /// What was there; nothing when the file was deleted.
    seen: Option<Stamp>,
    copy: PathBuf,
}

/// A branch or tag that the step makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RefBefore {
    name: String,
    was: Option<String>,
}

/// How to take a step back: the file that holds what was there before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitUndo {
    /// The native path of the work tree.
    tree: PathBuf,
    file: PathBuf,
    hash: ContentHash,
}

impl Before {
    /// Copies what a commit does not have (the index, uncommitted work) and writes everything down, on disk when this
    /// returns. Changes nothing.
    ///
    /// # Errors
    /// When something cannot be read or written: then the step must not begin.
    pub(super) fn keep(cx: &StepContext<'_>, git: &Git, seen: Seen, file: &Path) -> Result<(Self, GitUndo)> {
        let Seen { dir, remote, state, works } = seen;
        // A retry has a folder of its own.
        let name = file.file_stem().unwrap_or_default();
        let area = volumes::step_areas(cx, &git.tree)?.undo.join(name);
        std::fs::create_dir_all(&area).cannot(|| format!("make the folder {}", area.display()))?;
        let there = dir.join("index");
        let index = there.exists().then(|| area.join("index"));
        if let Some(copy) = &index {
            copy_exactly(cx, &there, copy)?;
        }
        let kept = keep_files(cx, &git.tree, &state.changes, &area)?;
        sync_folder(&area)?;
        let made = works.branch.iter().map(|b| format!("refs/heads/{b}"));
        let mut refs = Vec::new();
        for name in made.chain(works.tag.iter().map(|t| format!("refs/tags/{t}"))) {
            refs.push(RefBefore { was: git.value(cx, &name)?, name });
        }
        let remote_head = match &state.branch {
            Some(branch) => remote_branch(cx, git, &remote, branch)?,
            None => None,
        };
        let url = git.url(cx, &remote)?;
        let before = Self { tree: git.tree.clone(), dir, remote, state, works, index, kept, refs, remote_head, url };
        let bytes = serde_json::to_vec(&before).map_err(|e| Error::internal("cannot write a work tree's state").because(e))?;
        files::write(file, &bytes)?;
        let undo = GitUndo { tree: before.tree.clone(), file: file.to_path_buf(), hash: ContentHash::of(&bytes) };
        Ok((before, undo))
    }

    /// Reads what an earlier life of the step wrote.
    ///
    /// # Errors
    /// When it is damaged.
    pub(super) fn read(file: &Path) -> Result<Option<(Self, GitUndo)>> {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format!("read {}", file.display()), &e)),
        };
        let before: Self = serde_json::from_slice(&bytes)
            .map_err(|e| Error::new(ErrorKind::Integrity, format!("{} is damaged", file.display())).because(e))?;
        let undo = GitUndo { tree: before.tree.clone(), file: file.to_path_buf(), hash: ContentHash::of(&bytes) };
        Ok(Some((before, undo)))
    }

    /// What is not as before; files that are new since and that git does not know do not count.
    fn differences(&self, cx: &StepContext<'_>, git: &Git, now: &State, reverted: bool) -> Result<Vec<String>> {
        let tree = shown(cx, &self.tree);
        let mut left = Vec::new();
        if now.branch != self.state.branch {
            left.push(format!("{tree} is on {}, not on {}", now.shown_branch(), self.state.shown_branch()));
        }
        if !reverted && now.head != self.state.head {
            left.push(format!("{tree} is not at the commit {}", self.state.head.as_deref().unwrap_or("none")));
        }
        if is_merging(&self.dir) {
            left.push(format!("a merge is begun in {tree}"));
        }
        for change in self.state.changes.iter().filter(|c| !now.changes.contains(c)) {
            left.push(format!("{tree}: the uncommitted work on {} is not as it was", change.paths.join(", ")));
        }
        for change in now.changes.iter().filter(|c| !c.is_untracked() && !self.state.changes.contains(c)) {
            left.push(format!("{tree}: {} is not as committed", change.paths.join(", ")));
        }
        for kept in &self.kept {
            if Stamp::of(&kept.path)? != kept.seen {
                left.push(format!("{} is not what it was", shown(cx, &kept.path)));
            }
        }
        for r in &self.refs {
            if git.value(cx, &r.name)? != r.was {
                left.push(format!("{tree}: {} is not what it was", r.name));
            }
        }
        if self.works.url.is_some() && git.url(cx, &self.remote)? != self.url {
            left.push(format!("{tree}: the remote {} is not where it was", self.remote));
        }
        Ok(left)
    }

    /// Brings everything back. `undoing` is a file that is there while that is under way: what an interrupted undo left
    /// half done is nobody's work.
    fn put_back(&self, cx: &StepContext<'_>, git: &Git, after: Option<&State>, undoing: &Path) -> Result<Undone> {
        clear_own_locks(cx, git, &self.dir)?;
        let now = State::of(cx, git)?;
        let as_before = "the work tree is as before";
        if self.differences(cx, git, &now, false)?.is_empty() {
            return Ok(Undone { summary: as_before.to_owned(), left: Vec::new() });
        }
        let pushed = self.is_pushed(cx, git, after)?;
        if !undoing.exists() {
            if let Some(after) = after.filter(|after| now.head != after.head || now.changes != after.changes) {
                self.save_since(cx, git, &now, after, pushed)?;
            }
            files::write(undoing, b"an undo is under way\n")?;
        }
        if pushed {
            self.revert(cx, git)?
        } else {
            self.reset(cx, git)?
        }
        for kept in &self.kept {
            kept.restore(cx, &self.tree)?;
        }
        if let Some(copy) = &self.index {
            let part = self.dir.join("index.part");
            copy_exactly(cx, copy, &part)?;
            rename(cx, &part, &self.dir.join("index"))?;
        }
        self.restore_refs(cx, git)?;
        let left = self.differences(cx, git, &State::of(cx, git)?, pushed)?;
        std::fs::remove_file(undoing).cannot(|| format!("remove {}", undoing.display()))?;
        let summary = if pushed { "taken back by a new commit, as it was pushed" } else { as_before };
        Ok(Undone { summary: summary.to_owned(), left })
    }

    /// True when what the step made is at the remote already: then history is not rewritten.
    fn is_pushed(&self, cx: &StepContext<'_>, git: &Git, after: Option<&State>) -> Result<bool> {
        let (Some(branch), Some(made)) = (&self.state.branch, after.and_then(|a| a.head.as_ref())) else { return Ok(false) };
        let there = remote_branch(cx, git, &self.remote, branch)?;
        if Some(made) == self.state.head.as_ref() || there.is_none() || there == self.remote_head {
            return Ok(false);
        }
        let known = format!("refs/remotes/{}/{branch}", self.remote);
        Ok(git.look(cx, "pushed", &["merge-base", "--is-ancestor", made, &known])?.exit_code == 0)
    }

    /// Keeps what others have made since: nobody has it anywhere else.
    fn save_since(&self, cx: &StepContext<'_>, git: &Git, now: &State, after: &State, pushed: bool) -> Result<()> {
        let name = format!("ibexdeploy-{}", cx.plan.run);
        let there = git.value(cx, &format!("refs/heads/{name}"))?;
        if there.is_some() || is_merging(&self.dir) {
            return Ok(());
        }
        if now.changes != after.changes && !now.changes.is_empty() {
            git.repeat(cx, "since-add", Reach::Local, &["add", "--all"])?;
            let message = format!("Found when {} was taken back", cx.plan.run);
            git.repeat(cx, "since-commit", Reach::Local, &["commit", "--quiet", "--no-verify", "--message", &message])?;
        }
        if !pushed {
            git.repeat(cx, "since-branch", Reach::Local, &["branch", "--no-track", &name, "HEAD"])?;
            let tree = shown(cx, &self.tree);
            cx.progress.remind(&format!("what was changed in {tree} after the run is kept there as branch {name}"));
        }
        Ok(())
    }

    /// Branch, commit, index and work tree as they were committed.
    fn reset(&self, cx: &StepContext<'_>, git: &Git) -> Result<()> {
        let Some(head) = &self.state.head else { return Err(Error::internal("a repository without a commit was changed")) };
        match &self.state.branch {
            Some(branch) => git.repeat(cx, "head", Reach::Local, &["symbolic-ref", "HEAD", &format!("refs/heads/{branch}")])?,
            None => git.repeat(cx, "head", Reach::Local, &["update-ref", "--no-deref", "HEAD", head])?,
        };
        git.repeat(cx, "reset", Reach::Local, &["reset", "--hard", "--quiet", head])?;
        Ok(())
    }

    /// A new commit with the files that were there before.
    fn revert(&self, cx: &StepContext<'_>, git: &Git) -> Result<()> {
        let Some(head) = &self.state.head else { return Err(Error::internal("a repository without a commit was changed")) };
        git.repeat(cx, "revert-tree", Reach::Local, &["read-tree", "--reset", "-u", head])?;
        let same = git.look(cx, "revert-same", &["diff", "--cached", "--quiet", "HEAD"])?.exit_code == 0;
        if !same {
            let message = again::message(cx.plan.run.as_str(), head, self.state.branch.as_deref().unwrap_or_default());
            git.repeat(cx, "revert", Reach::Local, &["commit", "--quiet", "--no-verify", "--message", &message])?;
        }
        remind_to_push(cx, &self.tree);
        Ok(())
    }

    fn restore_refs(&self, cx: &StepContext<'_>, git: &Git) -> Result<()> {
        for r in &self.refs {
            match &r.was {
                Some(was) => git.repeat(cx, "ref-back", Reach::Local, &["update-ref", &r.name, was])?,
                None => git.repeat(cx, "ref-gone", Reach::Local, &["update-ref", "-d", &r.name])?,
            };
        }
        match (&self.works.url, &self.url) {
            (None, _) => {}
            (Some(_), Some(url)) => drop(git.repeat(cx, "url-back", Reach::Local, &["config", &url_key(&self.remote), url])?),
            (Some(_), None) => {
                // It fails when the remote was not made yet, which is as wanted; the verification says if not.
                git.look(cx, "remote-gone", &["remote", "remove", &self.remote])?;
            }
        }
        Ok(())
    }
}

/// Tells that a work tree (a native path) has a commit which takes back what its remote has.
pub(in crate::actions) fn remind_to_push(cx: &StepContext<'_>, tree: &Path) {
    // A work tree that was there already was not cloned, and has no moves.
    let cloned = |step: &PlanStep| match &step.action {
        Action::Clone(clone) => cx
            .native(&clone.to)
            .is_ok_and(|to| moves_file_of(cx, &step.id, &to).exists() && volumes::resolved(&to).is_ok_and(|to| to == tree)),
        _ => false,
    };
    let shown = shown(cx, tree);
    // The clone is taken back as well: soon there is no folder to push from.
    let text = if cx.plan.steps.iter().any(cloned) {
        format!("what was pushed from {shown} stays in the repository that it was cloned from")
    } else {
        format!("{shown} was pushed, and is taken back by a new commit: push it with `git push`")
    };
    cx.progress.remind(&text);
}

/// What was seen, and what is to be done about it.
pub(super) struct Seen {
    pub(super) dir: PathBuf,
    pub(super) remote: String,
    pub(super) state: State,
    pub(super) works: Works,
}

/// The commit that the remote has of a branch, as far as it is known here.
///
/// # Errors
/// When git cannot be asked.
pub(super) fn remote_branch(cx: &StepContext<'_>, git: &Git, remote: &str, branch: &str) -> Result<Option<String>> {
    git.value(cx, &format!("refs/remotes/{remote}/{branch}"))
}

fn keep_files(cx: &StepContext<'_>, tree: &Path, changes: &[Change], area: &Path) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for path in changes.iter().flat_map(|c| &c.paths) {
        let path = path.split('/').fold(tree.to_path_buf(), |folder, name| folder.join(name));
        let copy = area.join(kept.len().to_string());
        let seen = Stamp::of(&path)?;
        match seen {
            // A repository inside this one keeps its own work.
            Some(Stamp::Folder) => continue,
            Some(Stamp::File { .. }) => copy_exactly(cx, &path, &copy)?,
            Some(Stamp::Link) => {
                let to = std::fs::read_link(&path).cannot(|| format!("read the link {}", shown(cx, &path)))?;
                files::write(&copy, to.to_string_lossy().as_bytes())?;
            }
            None => {}
        }
        kept.push(Kept { path, seen, copy });
    }
    Ok(kept)
}

impl Kept {
    fn restore(&self, cx: &StepContext<'_>, tree: &Path) -> Result<()> {
        let there = Stamp::of(&self.path)?;
        match self.seen {
            _ if there == self.seen && !matches!(there, Some(Stamp::Link)) => return Ok(()),
            None => return std::fs::remove_file(&self.path).cannot(|| format!("remove {}", shown(cx, &self.path))),
            Some(_) => {}
        }
        make_folder(cx, self.path.parent().unwrap_or(tree))?;
        let part = self.copy.with_extension("part");
        if self.seen == Some(Stamp::Link) {
            let to = std::fs::read_to_string(&self.copy).cannot(|| format!("read {}", self.copy.display()))?;
            if there.is_some() {
                std::fs::remove_file(&self.path).cannot(|| format!("remove {}", shown(cx, &self.path)))?;
            }
            return crate::actions::writes::make_link(cx, &self.path, Path::new(&to));
        }
        copy_exactly(cx, &self.copy, &part)?;
        rename(cx, &part, &self.path)
    }
}

impl GitUndo {
    /// The native path of the work tree.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// The work tree, when its branch has other commits than the step left. Reads files, and calls no git.
    ///
    /// # Errors
    /// When what the step wrote is damaged.
    pub fn newer_commits(&self) -> Result<Option<PathBuf>> {
        let (Some((before, _)), Some(after)) = (Before::read(&self.file)?, self.after()?) else { return Ok(None) };
        let Some(branch) = &after.branch else { return Ok(None) };
        let now = read_ref(&before.dir, &format!("refs/heads/{branch}"));
        Ok((now.is_some() && now != after.head).then(|| self.tree.clone()))
    }

    /// Puts branch, commit, index, work tree, branches and tags back as they were, and verifies that.
    ///
    /// # Errors
    /// When git fails, or what was kept is damaged; calling it again goes on.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        if self.back_file().exists() {
            return Ok(Undone { summary: "it was taken back at once".to_owned(), left: Vec::new() });
        }
        let Some((before, found)) = Before::read(&self.file)? else {
            return Err(Error::new(ErrorKind::Integrity, format!("{} is gone", self.file.display())));
        };
        if found.hash != self.hash {
            return Err(Error::new(ErrorKind::Integrity, format!("{} has changed", self.file.display())));
        }
        let git = Git::new(before.tree.clone()).that_commits(cx)?;
        before.put_back(cx, &git, self.after()?.as_ref(), &self.file.with_extension("undoing"))
    }

    /// Takes a step back that has failed, so that the next attempt finds the work tree as this one did.
    ///
    /// # Errors
    /// As [`GitUndo::undo`].
    pub(super) fn take_back_at_once(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let undone = self.undo(cx)?;
        if undone.left.is_empty() {
            files::write(&self.back_file(), b"the attempt was taken back\n")?;
        }
        Ok(undone)
    }

    /// Remembers how the step left the work tree, so that an undo sees what others have changed since.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn finished(&self, state: &State) -> Result<()> {
        files::write_json(&self.file.with_extension("after"), state)
    }

    fn after(&self) -> Result<Option<State>> {
        files::read_json(&self.file.with_extension("after"))
    }

    fn back_file(&self) -> PathBuf {
        self.file.with_extension("back")
    }
}

/// The commit of a branch, by the files that git keeps it in.
fn read_ref(dir: &Path, name: &str) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(dir.join(name)) {
        return Some(text.trim().to_owned());
    }
    let packed = std::fs::read_to_string(dir.join("packed-refs")).ok()?;
    packed.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ').map(str::to_owned))
}

/// The file for the next attempt of a step: the first that was not taken back.
pub(super) fn file_of(cx: &StepContext<'_>, tree: &Path) -> PathBuf {
    let key = volumes::target_key(tree);
    let mut attempt = 1;
    loop {
        let file = cx.data_file(&format!("{key}-{attempt}.git"));
        if !file.with_extension("back").exists() {
            return file;
        }
        attempt += 1;
    }
}
