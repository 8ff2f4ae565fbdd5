//! The git side of a migration: a commit and a tag for each version, made out of sight and shown all at once.
//!
//! Commits are made with an index and a work tree of their own. Until [`move_refs`], which is one transaction of git's, the
//! branch, its tags, the index and the files are as they were; what was made until then is garbage that git collects.

use super::run::Migrated;
use crate::error::{Error, ErrorKind, IoContext, Result, first_named};
use crate::paths::RelPath;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long one call of git may take: none of these asks a server or a person.
const LIMIT: Duration = Duration::from_secs(120);

/// Variables that would lead git to another repository than the folder's own.
const FOREIGN: [&str; 6] = ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX"];

/// A git work tree.
#[derive(Debug, Clone)]
pub struct Repo {
    folder: PathBuf,
}

/// What happens to the references of a repository, and how it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefMoves {
    pub folder: PathBuf,
    pub branch: String,
    pub old: String,
    pub new: String,
    pub tags: Vec<TagMove>,
    /// Changed paths that the index had before.
    pub known: Vec<RelPath>,
    /// Changed paths that it did not have.
    pub added: Vec<RelPath>,
}

/// What came of taking a migration back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// What could not be put back.
    pub left: Vec<String>,
    /// Work trees whose migration was pushed, so that it was taken back by a commit, which is to be pushed too.
    pub to_push: Vec<PathBuf>,
}

/// How a branch stands to a migration.
enum Standing {
    /// It ends with the migration.
    Migrated,
    /// It is as before, or has a commit that says so.
    TakenBack,
    /// The remote has the migration, and nothing came after it that still counts. What others may have is not rewritten.
    Pushed,
    /// Somebody else went on.
    Moved,
}

/// A tag, and what it named before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagMove {
    pub name: String,
    pub old: Option<String>,
    pub new: String,
}

/// A remote that leads elsewhere, and where it led.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteMove {
    pub folder: PathBuf,
    pub remote: String,
    pub old: String,
    pub new: String,
}

impl Repo {
    /// The work tree whose top is this folder; nothing when it is none.
    pub fn at(folder: &Path) -> Option<Self> {
        folder.join(".git").exists().then(|| Self { folder: folder.to_path_buf() })
    }

    fn git(&self, args: &[&str]) -> Git {
        let mut command = Command::new("git");
        command.args(args).current_dir(&self.folder);
        Git::new(command, args)
    }

    /// Who commits here. The branch of an instrument's settings has the machine's name.
    fn committer(&self, branch: &str) -> Result<Committer> {
        let (code, _) = self.git(&["var", "GIT_COMMITTER_IDENT"]).run()?;
        Ok(if code == 0 { Committer::Account } else { Committer::Ours { address: format!("ibexdeploy@{branch}") } })
    }

    /// When something below a path was last committed, in seconds since 1970.
    ///
    /// # Errors
    /// When git cannot tell.
    pub fn newest_commit(&self, path: &RelPath) -> Result<Option<i64>> {
        let shown = self.git(&["log", "-1", "--format=%ct", "--", path.as_str()]).text()?;
        Ok(shown.trim().parse().ok())
    }

    /// The branch that is checked out.
    ///
    /// # Errors
    /// When none is.
    pub fn branch(&self) -> Result<String> {
        let (code, output) = self.git(&["symbolic-ref", "--quiet", "--short", "HEAD"]).run()?;
        if code != 0 {
            return Err(Error::step_failed(format!("{} is not on a branch", self.folder.display()))
                .next("check out the branch of the instrument"));
        }
        Ok(lossy(&output).trim().to_owned())
    }

    /// Refuses a work tree with uncommitted changes of tracked files: they would become part of a migration's commits.
    ///
    /// # Errors
    /// When there are any, naming some.
    pub fn expect_clean(&self) -> Result<()> {
        let status = self.git(&["status", "--porcelain", "-z", "--untracked-files=no"]).bytes()?;
        let changed: Vec<String> = status.split(|b| *b == 0).filter(|entry| !entry.is_empty()).map(lossy).collect();
        if changed.is_empty() {
            return Ok(());
        }
        Err(Error::step_failed(format!("{} has {} uncommitted changes", self.folder.display(), changed.len()))
            .with_output(first_named(&changed))
            .next("commit them, or put them aside, and migrate again; nothing was changed"))
    }

    /// Refuses to delete folders with files that no commit has: ignored ones, and with `all` also those that are only not
    /// added yet.
    ///
    /// # Errors
    /// When there are any, naming some.
    pub fn expect_known(&self, folders: &[RelPath], all: bool) -> Result<()> {
        if folders.is_empty() {
            return Ok(());
        }
        let mut args = vec!["ls-files", "-z", "--others"];
        if !all {
            args.extend(["--ignored", "--exclude-standard"]);
        }
        args.push("--");
        args.extend(folders.iter().map(RelPath::as_str));
        let unknown: Vec<String> = names(&self.git(&args).bytes()?).into_iter().collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(Error::step_failed(format!(
            "the migration deletes folders that hold {} files which git does not have",
            unknown.len()
        ))
        .with_output(first_named(&unknown))
        .next("commit them, or move them elsewhere, and migrate again; nothing was changed"))
    }

    /// Makes the commits of a migration, and says which references are to be moved. Changes nothing that can be seen.
    ///
    /// # Errors
    /// When the work tree is not clean, or git refuses.
    pub fn record(&self, migrated: &Migrated) -> Result<RefMoves> {
        let branch = self.branch()?;
        self.expect_clean()?;
        let old = self.git(&["rev-parse", "--verify", "HEAD"]).text()?.trim().to_owned();
        let ignored = self.ignored(migrated)?;
        let scratch = tempfile::tempdir().cannot(|| "make a folder for git")?;
        let git_dir = self.git(&["rev-parse", "--absolute-git-dir"]).text()?;
        let side = Aside { repo: self, committer: self.committer(&branch)?, scratch: scratch.path(), git_dir };
        side.git(&["read-tree", &old])?.text()?;
        let known: BTreeSet<String> = names(&side.git(&["ls-files", "-z"])?.bytes()?);
        let existing = self.tags()?;
        let tag = |name: String, new: &str| TagMove { old: existing.get(&name).cloned(), name, new: new.to_owned() };

        let mut head = old.clone();
        let mut tags = Vec::new();
        for passed in &migrated.passed {
            let files: BTreeMap<_, _> = passed.files.iter().filter(|(path, _)| !ignored.contains(path.as_str())).collect();
            head = side.commit(&files, &head, &format!("IBEX Upgrade from {}", passed.from))?;
            tags.push(tag(format!("{branch}_{}_upgrade", passed.from), &head));
        }
        head = side.commit(&BTreeMap::new(), &head, &format!("IBEX Upgrade to {}", migrated.to))?;
        tags.push(tag(format!("{branch}_{}", migrated.to), &head));

        let changed: BTreeSet<&RelPath> =
            migrated.passed.iter().flat_map(|p| p.files.keys()).filter(|path| !ignored.contains(path.as_str())).collect();
        let (known, added) = changed.into_iter().cloned().partition(|path| known.contains(path.as_str()));
        Ok(RefMoves { folder: self.folder.clone(), branch, old, new: head, tags, known, added })
    }

    /// Changed paths that git is told to ignore.
    fn ignored(&self, migrated: &Migrated) -> Result<BTreeSet<String>> {
        let paths: BTreeSet<&RelPath> = migrated.passed.iter().flat_map(|passed| passed.files.keys()).collect();
        let (code, output) = self.git(&["check-ignore", "-z", "--stdin"]).input(list(paths)).run_to(&[0, 1])?;
        Ok(if code == 0 { names(&output) } else { BTreeSet::new() })
    }

    fn tags(&self) -> Result<BTreeMap<String, String>> {
        let refs = self.git(&["for-each-ref", "--format=%(objectname) %(refname:strip=2)", "refs/tags"]).text()?;
        Ok(refs.lines().filter_map(|l| l.split_once(' ')).map(|(id, name)| (name.to_owned(), id.to_owned())).collect())
    }

    fn value(&self, reference: &str) -> Result<Option<String>> {
        let (code, output) = self.git(&["rev-parse", "--quiet", "--verify", reference]).run_to(&[0, 1])?;
        Ok((code == 0).then(|| lossy(&output).trim().to_owned()))
    }

    /// How a branch stands to a migration.
    fn standing(&self, now: &str, moves: &RefMoves) -> Result<Standing> {
        if now == moves.old {
            return Ok(Standing::TakenBack);
        }
        let has =
            |tree: &str| Ok::<_, Error>(self.value(&format!("{now}^{{tree}}"))? == self.value(&format!("{tree}^{{tree}}"))?);
        let pushed = !self.git(&["for-each-ref", "--count=1", "--contains", &moves.new, "refs/remotes"]).text()?.is_empty();
        if !pushed {
            return Ok(if now == moves.new { Standing::Migrated } else { Standing::Moved });
        }
        let follows = self.git(&["merge-base", "--is-ancestor", &moves.new, now]).run_to(&[0, 1, 128])?.0 == 0;
        match follows {
            true if has(&moves.new)? => Ok(Standing::Pushed),
            true if has(&moves.old)? => Ok(Standing::TakenBack),
            _ => Ok(Standing::Moved),
        }
    }

    /// True when the index holds what a commit does.
    fn index_is(&self, commit: &str) -> Result<bool> {
        Ok(self.git(&["diff-index", "--cached", "--quiet", commit, "--"]).run_to(&[0, 1])?.0 == 0)
    }

    /// Where a remote leads; nothing when there is no such remote.
    ///
    /// # Errors
    /// When git cannot tell.
    pub fn remote(&self, name: &str) -> Result<Option<String>> {
        let key = format!("remote.{name}.url");
        let (code, output) = self.git(&["config", "--local", "--get", &key]).run_to(&[0, 1])?;
        Ok((code == 0).then(|| lossy(&output).trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// Shows what [`Repo::record`] made, after the files are in place: the index, then branch and tags in one transaction.
/// Doing it again does nothing.
///
/// # Errors
/// When somebody has moved the branch in the meantime, or git refuses: then no reference has moved.
pub fn move_refs(moves: &RefMoves) -> Result<()> {
    let repo = Repo { folder: moves.folder.clone() };
    // The index comes first: it is what another git that is at work holds.
    if !repo.index_is(&moves.new)? {
        let paths = moves.known.iter().chain(&moves.added);
        repo.git(&["update-index", "--add", "--remove", "-z", "--stdin"]).input(list(paths)).text()?;
    }
    let branch = format!("refs/heads/{}", moves.branch);
    if repo.value(&branch)?.as_deref() == Some(&moves.new) {
        return Ok(());
    }
    let mut lines = format!("update {branch} {} {}\n", moves.new, moves.old);
    for tag in &moves.tags {
        lines.push_str(&match &tag.old {
            Some(old) => format!("update refs/tags/{} {} {old}\n", tag.name, tag.new),
            None => format!("create refs/tags/{} {}\n", tag.name, tag.new),
        });
    }
    repo.git(&["update-ref", "-m", "migration of the settings", "--stdin"]).input(lines.into_bytes()).text().map(|_| ())
}

/// True when the branch has the commits of a migration.
///
/// # Errors
/// When git cannot be run.
pub fn are_shown(moves: &RefMoves) -> Result<bool> {
    let repo = Repo { folder: moves.folder.clone() };
    Ok(repo.value(&format!("refs/heads/{}", moves.branch))?.as_deref() == Some(&moves.new))
}

/// Takes back what [`move_refs`] did, after the files are as they were. Gives what could not be taken back.
///
/// # Errors
/// When git cannot be run.
pub fn take_back_refs(moves: &RefMoves) -> Result<TakenBack> {
    let repo = Repo { folder: moves.folder.clone() };
    let branch = format!("refs/heads/{}", moves.branch);
    let (mut left, mut to_push) = (Vec::new(), Vec::new());
    let mut lines = String::new();
    let now = repo.value(&branch)?.unwrap_or_default();
    match repo.standing(&now, moves)? {
        Standing::Migrated => lines.push_str(&format!("update {branch} {} {now}\n", moves.old)),
        Standing::TakenBack => {}
        Standing::Pushed => {
            let commit = repo.git(&["commit-tree", &format!("{}^{{tree}}", moves.old), "-p", &now, "-F", "-"]);
            let commit = commit.signed_by(&repo.committer(&moves.branch)?).input(b"Take back the migration".to_vec()).text()?;
            lines.push_str(&format!("update {branch} {} {now}\n", commit.trim()));
            to_push.push(moves.folder.clone());
        }
        Standing::Moved => left.push(format!("the branch {} of {} has been moved since", moves.branch, moves.folder.display())),
    }
    for tag in &moves.tags {
        let name = format!("refs/tags/{}", tag.name);
        match (repo.value(&name)?, &tag.old) {
            (Some(now), Some(old)) if now == tag.new && now != *old => lines.push_str(&format!("update {name} {old} {now}\n")),
            (Some(now), None) if now == tag.new => lines.push_str(&format!("delete {name} {now}\n")),
            (now, old) if now == *old => {}
            _ => left.push(format!("the tag {} of {} has been moved since", tag.name, moves.folder.display())),
        }
    }
    if !lines.is_empty() {
        repo.git(&["update-ref", "-m", "migration taken back", "--stdin"]).input(lines.into_bytes()).text()?;
    }
    if !repo.index_is(&moves.old)? {
        repo.git(&["update-index", "--force-remove", "-z", "--stdin"]).input(list(&moves.added)).text()?;
        repo.git(&["update-index", "--add", "--remove", "-z", "--stdin"]).input(list(&moves.known)).text()?;
    }
    Ok(TakenBack { left, to_push })
}

/// Lets a remote lead to its new address, or back to its old one.
///
/// # Errors
/// When git refuses.
pub fn point_remote(moves: &RemoteMove, back: bool) -> Result<()> {
    let repo = Repo { folder: moves.folder.clone() };
    let url = if back { &moves.old } else { &moves.new };
    repo.git(&["config", "--local", &format!("remote.{}.url", moves.remote), url]).text().map(|_| ())
}

/// Who commits.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Committer {
    /// The account has a name of its own in git.
    Account,
    /// It has none: a migration is no reason to fail for that, as little as any other commit of a release.
    Ours { address: String },
}

/// An index and a work tree beside the real ones.
struct Aside<'a> {
    repo: &'a Repo,
    committer: Committer,
    scratch: &'a Path,
    git_dir: String,
}

impl Aside<'_> {
    fn git(&self, args: &[&str]) -> Result<Git> {
        let tree = self.scratch.join("tree");
        std::fs::create_dir_all(&tree).cannot(|| format!("make the folder {}", tree.display()))?;
        let mut command = Command::new("git");
        command.args(args).current_dir(&tree);
        let mut git = Git::new(command, args);
        git.command.env("GIT_DIR", self.git_dir.trim_end_matches(['\r', '\n']));
        git.command.env("GIT_WORK_TREE", &tree).env("GIT_INDEX_FILE", self.scratch.join("index"));
        Ok(git)
    }

    /// A commit with these files behind another one; gives its name.
    fn commit(&self, files: &BTreeMap<&RelPath, &Option<Vec<u8>>>, parent: &str, message: &str) -> Result<String> {
        for (path, bytes) in files {
            self.place(path, bytes.as_deref())?;
        }
        if !files.is_empty() {
            self.git(&["update-index", "--add", "--remove", "-z", "--stdin"])?.input(list(files.keys().copied())).text()?;
        }
        let tree = self.git(&["write-tree"])?.text()?;
        let commit = self.git(&["commit-tree", tree.trim(), "-p", parent, "-F", "-"])?.signed_by(&self.committer);
        let commit = commit.input(message.as_bytes().to_vec());
        Ok(commit.text()?.trim().to_owned())
    }

    fn place(&self, path: &RelPath, bytes: Option<&[u8]>) -> Result<()> {
        let at = path.under(&self.scratch.join("tree"));
        let Some(bytes) = bytes else {
            return match std::fs::remove_file(&at) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(format!("remove {}", at.display()), &e)),
                _ => Ok(()),
            };
        };
        let write = || -> std::io::Result<()> {
            if let Some(folder) = at.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(&at, bytes)?;
            // Whether a file is a program is kept.
            match std::fs::metadata(path.under(&self.repo.folder)) {
                Ok(real) => std::fs::set_permissions(&at, real.permissions()),
                Err(_) => Ok(()),
            }
        };
        write().cannot(|| format!("write {}", at.display()))
    }
}

/// Paths for `-z --stdin`.
fn list<'a>(paths: impl IntoIterator<Item = &'a RelPath>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for path in paths {
        bytes.extend_from_slice(path.as_str().as_bytes());
        bytes.push(0);
    }
    bytes
}

fn names(output: &[u8]) -> BTreeSet<String> {
    output.split(|b| *b == 0).filter(|name| !name.is_empty()).map(lossy).collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// One call of the program.
struct Git {
    command: Command,
    /// For errors: `git write-tree`.
    what: String,
    input: Vec<u8>,
}

/// What git answers about the repository that a folder lies in.
///
/// # Errors
/// When git is not there, refuses, or does not end in time.
pub(crate) fn answer(folder: &Path, args: &[&str]) -> Result<Vec<u8>> {
    let mut command = Command::new("git");
    command.args(args).current_dir(folder);
    Git::new(command, args).bytes()
}

impl Git {
    fn new(mut command: Command, args: &[&str]) -> Self {
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, what: format!("git {}", args.first().copied().unwrap_or_default()), input: Vec::new() }
    }

    fn signed_by(mut self, committer: &Committer) -> Self {
        if let Committer::Ours { address } = committer {
            for (name, address_of) in [("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"), ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")] {
                self.command.env(name, "ibexdeploy").env(address_of, address);
            }
        }
        self
    }

    fn input(mut self, input: Vec<u8>) -> Self {
        self.input = input;
        self
    }

    fn text(self) -> Result<String> {
        Ok(lossy(&self.bytes()?))
    }

    fn bytes(self) -> Result<Vec<u8>> {
        Ok(self.run_to(&[0])?.1)
    }

    /// Exit code and output; another code than these is an error.
    fn run_to(self, codes: &[i32]) -> Result<(i32, Vec<u8>)> {
        let what = self.what.clone();
        let folder = self.command.get_current_dir().map(|f| f.display().to_string()).unwrap_or_default();
        let Ended { code, output, errors } = self.ended()?;
        if codes.contains(&code) {
            return Ok((code, output));
        }
        let said = lossy(&errors);
        let next = if said.contains("dubious ownership") {
            "the tree belongs to another account: migrate as that account"
        } else {
            "read what git says, and put it right; nothing was changed"
        };
        Err(Error::step_failed(format!("`{what}` ended with exit code {code} in {folder}"))
            .with_output(said.lines().map(str::to_owned).collect())
            .next(next))
    }

    fn run(self) -> Result<(i32, Vec<u8>)> {
        let Ended { code, output, .. } = self.ended()?;
        Ok((code, output))
    }

    fn ended(mut self) -> Result<Ended> {
        let what = self.what.clone();
        let mut child = self.command.spawn().map_err(|e| {
            let error = Error::io(format!("start `{what}`"), &e);
            if e.kind() == std::io::ErrorKind::NotFound {
                error.next("install git, and see that PATH leads to it")
            } else {
                error
            }
        })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = self.input;
        std::thread::spawn(move || {
            // A program that does not read to the end says so by its exit code.
            let _ = stdin.map(|mut stdin| stdin.write_all(&input));
        });
        let output = reader(stdout);
        let errors = reader(stderr);
        let late = |child: &mut std::process::Child| {
            // It is ended, whatever it was at; what counts is that it took too long.
            let _ = child.kill();
            let _ = child.wait();
            Error::new(ErrorKind::TimedOut, format!("gave up waiting for `{what}` after {} s", LIMIT.as_secs()))
        };
        let Ok(output) = output.recv_timeout(LIMIT) else { return Err(late(&mut child)) };
        let Ok(errors) = errors.recv_timeout(LIMIT) else { return Err(late(&mut child)) };
        let status = child.wait().cannot(|| format!("wait for `{what}`"))?;
        let code = status.code().ok_or_else(|| Error::step_failed(format!("`{what}` was ended by a signal")))?;
        Ok(Ended { code, output: output.cannot(|| format!("read from `{what}`"))?, errors: errors.unwrap_or_default() })
    }
}

struct Ended {
    code: i32,
    output: Vec<u8>,
    errors: Vec<u8>,
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<std::io::Result<Vec<u8>>> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes));
        // Nobody waits any more after the deadline.
        let _ = send.send(read.map(|_| bytes));
    });
    receive
}
