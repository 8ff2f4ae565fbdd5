//! Makes archives: of a folder, or of what changed between two commits of a component's git tree.

use super::{Content, Entry, HEAD_FILE, Head, PatchPath, PatchStore, ReadPatch, write};
use crate::content::tree;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::migrate::git;
use crate::paths::{PathPatterns, RelPath};
use crate::yaml;
use std::path::{Path, PathBuf};

/// Git's mode of a file that may be run, of a link and of a submodule.
const EXECUTABLE: &str = "100755";
const LINK: &str = "120000";
const SUBMODULE: &str = "160000";

/// What changed between two commits.
#[derive(Debug, Clone)]
pub struct GitRange {
    /// A folder in the git tree of the component; paths are those of the whole tree.
    pub repository: PathBuf,
    /// `A..B`, or one commit for what that one changed.
    pub range: String,
    /// The component that the tree is.
    pub component: String,
}

/// Packs a folder that holds folders of components, and may hold a `hotfix.yaml`. `said` wins over that.
///
/// # Errors
/// When it holds links, or anything that an archive must not hold; when files cannot be read or written.
pub fn pack_folder(folder: &Path, said: &Head, to: &Path) -> Result<ReadPatch> {
    if !folder.is_dir() {
        return Err(Error::usage(format!("{} is not a folder", folder.display()))
            .next("name a folder that holds the folders of components, for example `EPICS`"));
    }
    if folder.join(".git").exists() {
        return Err(Error::usage(format!("{} is a git tree, not a folder of folders of components", folder.display()))
            .next("pack what changed in it: `ibexdeploy hotfix pack --git A..B --repo FOLDER -o PATCH.zip`"));
    }
    check_place(to)?;
    let head_file = folder.join(HEAD_FILE);
    let mut head = Head::default();
    if head_file.is_file() {
        let text = yaml::read(&head_file)?;
        head = Head::parse(&head_file.display().to_string(), &text)?;
    }
    // The archive may come to lie in the folder itself.
    let own = std::path::absolute(to).ok();
    let mut entries = Vec::new();
    let tree::Found { entries: all, special, .. } = tree::walk_all(folder, &PathPatterns::default())?;
    let no_file = |s: &tree::Special| Error::bad_input(format!("{} is {}", s.path.under(folder).display(), s.kind));
    let mut mistakes: Vec<Error> = special.iter().map(|s| no_file(s).next("leave it out, or put a file in its place")).collect();
    for found in all {
        let native = found.path.under(folder);
        let is_own = std::path::absolute(&native).ok() == own;
        if found.path.as_str() == HEAD_FILE || is_own {
            continue;
        }
        let executable = found.executable();
        match path_in(&found.path) {
            _ if found.link.is_some() => mistakes.push(
                Error::bad_input(format!("{} is a link", native.display()))
                    .next("put what it leads to in its place, or leave it out"),
            ),
            None => mistakes.push(
                Error::bad_input(format!("{} lies beside the components", native.display()))
                    .next("move it into the folder of its component, for example `EPICS`"),
            ),
            Some(path) => entries.push(Entry { path, content: Content::File(native), executable }),
        }
    }
    if let Some(error) = Error::of_all(mistakes) {
        return Err(error);
    }
    finish(over(head, said), entries, to)
}

/// Packs what changed between two commits, as the newer one has it; what it deleted goes to `deletes`.
///
/// # Errors
/// When git does not know the commits, or links or submodules changed; when the archive cannot be written.
pub fn pack_git(range: &GitRange, said: &Head, to: &Path) -> Result<ReadPatch> {
    check_place(to)?;
    let (from, until) = range.ends()?;
    let top = range.text(&["rev-parse", "--show-toplevel"])?;
    let at_top = GitRange { repository: PathBuf::from(top.trim_end()), ..range.clone() };
    let raw = at_top.bytes(&["diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-ext-diff", &from, &until])?;
    let mut head = Head { description: at_top.text(&["log", "-1", "--format=%s", &until])?.trim().to_owned(), ..Head::default() };
    let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
    for change in Change::all(&String::from_utf8_lossy(&raw)) {
        let path = match RelPath::parse(&change.path) {
            Ok(path) => PatchPath { component: range.component.clone(), path },
            Err(error) => {
                mistakes.push(error);
                continue;
            }
        };
        if [&change.old, &change.new].iter().any(|mode| mode.as_str() == LINK || mode.as_str() == SUBMODULE) {
            let what = format!("`{}` is a link or a submodule", change.path);
            mistakes.push(Error::bad_input(what).next("a hotfix brings files: choose commits without it"));
        } else if change.deleted {
            head.deletes.push(path.to_string());
        } else {
            // As git would check it out, with the line ends that the tree's attributes say.
            let content = at_top.bytes(&["cat-file", "--filters", &format!("{until}:{}", change.path)])?;
            entries.push(Entry { path, content: Content::Bytes(content), executable: change.new == EXECUTABLE });
        }
    }
    if let Some(error) = Error::of_all(mistakes) {
        return Err(error);
    }
    if entries.is_empty() && head.deletes.is_empty() {
        return Err(Error::usage(format!("nothing changed in `{}`", range.range)).next("name other commits, as `A..B`"));
    }
    finish(over(head, said), entries, to)
}

/// The folder that the archive goes to must be there: a name that was mistyped makes no folders.
fn check_place(archive: &Path) -> Result<()> {
    let folder = archive.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => Err(Error::usage(format!("there is no folder {} for the archive", folder.display()))
            .next("make it, or name another one with -o")),
        None => Ok(()),
    }
}

/// What was said on the command line in the place of what the head says.
fn over(head: Head, said: &Head) -> Head {
    let said = said.clone();
    Head {
        id: said.id.or(head.id),
        description: if said.description.is_empty() { head.description } else { said.description },
        requires: if said.requires.is_empty() { head.requires } else { said.requires },
        deletes: [head.deletes, said.deletes].concat(),
        restart: if said.restart.is_none() { head.restart } else { said.restart },
        checks: [head.checks, said.checks].concat(),
    }
}

/// Writes the archive and reads it as an instrument's operator will.
fn finish(head: Head, entries: Vec<Entry>, to: &Path) -> Result<ReadPatch> {
    let mistakes = head.mistakes().into_iter().map(|(_, error)| error);
    if let Some(error) = Error::of_all(mistakes.collect()) {
        return Err(error);
    }
    write(to, &head, entries)?;
    let scratch = tempfile::tempdir().cannot(|| "make a folder to read the archive in")?;
    PatchStore::open(scratch.path()).read(to).inspect_err(|_| {
        // Nobody shall use it; that it cannot be removed changes nothing about the error.
        let _ = std::fs::remove_file(to);
    })
}

fn path_in(path: &RelPath) -> Option<PatchPath> {
    let (component, below) = path.as_str().split_once('/')?;
    Some(PatchPath { component: component.to_owned(), path: RelPath::parse(below).ok()? })
}

/// A file that differs, as `git diff-tree --raw -z` tells it.
struct Change {
    old: String,
    new: String,
    deleted: bool,
    path: String,
}

impl Change {
    fn all(raw: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let mut parts = raw.split('\0');
        while let (Some(told), Some(path)) = (parts.next(), parts.next()) {
            let words: Vec<&str> = told.trim_start_matches(':').split(' ').collect();
            if let [old, new, _, _, kind, ..] = words[..] {
                let (old, new) = (old.to_owned(), new.to_owned());
                found.push(Self { old, new, deleted: kind == "D", path: path.to_owned() });
            }
        }
        found
    }
}

impl GitRange {
    /// The two commits of the range, as git names them.
    fn ends(&self) -> Result<(String, String)> {
        let or_head = |name: &str| if name.is_empty() { "HEAD".to_owned() } else { name.to_owned() };
        let commit = |name: &str| -> Result<String> {
            let id = self.text(&["rev-parse", "--verify", "--end-of-options", &format!("{name}^{{commit}}")])?;
            Ok(id.trim().to_owned())
        };
        if let Some((left, right)) = self.range.split_once("...") {
            let (left, right) = (commit(&or_head(left))?, commit(&or_head(right))?);
            let base = self.text(&["merge-base", &left, &right])?.trim().to_owned();
            return Ok((base, right));
        }
        if let Some((left, right)) = self.range.split_once("..") {
            return Ok((commit(&or_head(left))?, commit(&or_head(right))?));
        }
        Ok((commit(&format!("{}^", self.range))?, commit(&self.range)?))
    }

    fn text(&self, arguments: &[&str]) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.bytes(arguments)?).into_owned())
    }

    fn bytes(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        git::answer(&self.repository, arguments).map_err(|e| {
            if e.kind() != ErrorKind::StepFailed {
                return e;
            }
            let next = format!("look at the range `{}`: write `A..B`, or one commit; --repo DIR names the git tree", self.range);
            Error::usage(e.details().message.clone()).with_output(e.details().output.clone()).next(next)
        })
    }
}
