//! Puts a migration in place in a folder at hand, all of it or nothing: also when the process is killed in the middle.
//!
//! Everything new is written into one folder beside the settings first, then a list of all renames, and only then is
//! anything moved. While the list is there the migration counts for nothing: [`put_back_unfinished`] takes it back, and
//! nobody else migrates these settings. It is removed when files, branch and tags are those of the new version.

use super::git::{RefMoves, are_shown, move_refs, take_back_refs};
use super::run::VERSION_FILE;
use super::work::Prepared;
use crate::agent::lock::try_lock;
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result, first_named};
use crate::files::{self, remove_folder, sync_folder};
use crate::paths::RelPath;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The folder for what comes and what goes; in the settings, so that everything is a rename.
const ASIDE: &str = ".ibexdeploy-migration";
/// The list of the renames in it.
const LIST: &str = "list.json";
/// Where folders are kept that a migration deleted, and that no git has.
const DELETED: &str = ".ibexdeploy-deleted";

/// The renames of a migration, in their order.
#[derive(Debug, Serialize, Deserialize)]
struct List {
    moves: Vec<Move>,
    refs: Option<RefMoves>,
}

/// A path that changes. The old one goes to `old/N` of the folder, the new one comes from `new/N`.
#[derive(Debug, Serialize, Deserialize)]
struct Move {
    path: RelPath,
    /// Something is there before.
    old: bool,
    /// What comes.
    new: Option<ContentHash>,
}

/// Writes the files, then shows the commits. When anything fails, everything is as it was. Gives the folder in which
/// deleted folders are kept that git does not have, where there are any.
///
/// # Errors
/// When a file has changed since the migration was computed, cannot be written, or git refuses.
pub fn put_in_place(folder: &Path, prepared: &Prepared) -> Result<Option<PathBuf>> {
    let aside = Aside::new(folder);
    std::fs::create_dir(&aside.folder).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => busy(folder),
        _ => Error::io(format!("make a folder in {}", folder.display()), &e),
    })?;
    let lock = aside.lock()?;
    let list = aside.write(folder, prepared).inspect_err(|_| aside.forget())?;
    let placed = list.moves.iter().enumerate().try_for_each(|(n, m)| aside.place(folder, n, m));
    let shown = placed.and_then(|()| list.refs.as_ref().map_or(Ok(()), move_refs));
    if let Err(error) = shown {
        return Err(match aside.put_back(folder, &list).and_then(|()| aside.finish(lock)) {
            Ok(()) => error,
            Err(back) => error.because(&back).next(next_of(&back)),
        });
    }
    let kept = aside.keep_deleted(folder, &list)?;
    aside.finish(lock)?;
    Ok(kept)
}

/// Takes back a migration of this folder that was ended in the middle; says what it did, when there was one.
///
/// # Errors
/// When one is under way, or something has changed since, so that it cannot be taken back; nothing was changed then.
pub fn put_back_unfinished(folder: &Path) -> Result<Option<&'static str>> {
    let aside = Aside::new(folder);
    if !aside.folder.is_dir() {
        return Ok(None);
    }
    let lock = aside.lock()?;
    let list = match files::read_json::<List>(&aside.list()) {
        Ok(Some(list)) => list,
        Ok(None) => {
            // It had not begun, or was over.
            drop(lock);
            return remove_folder(&aside.folder).map(|()| None);
        }
        Err(e) => {
            let next =
                format!("compare the files with those in {}, put back what is missing, and delete it", aside.folder.display());
            return Err(e.next(next));
        }
    };
    if list.refs.as_ref().map_or(Ok(false), are_shown)? {
        aside.finish(lock)?;
        return Ok(Some("a migration that was ended in the middle had been put in place: it was finished"));
    }
    aside.put_back(folder, &list)?;
    aside.finish(lock)?;
    Ok(Some("a migration that was ended in the middle was put back first"))
}

/// Refuses a folder with a migration that was ended in the middle: what its version file says is not true.
///
/// # Errors
/// When there is one.
pub fn expect_finished(folder: &Path, shown: &str) -> Result<()> {
    if !Aside::new(folder).list().exists() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, format!("a migration of {shown} was ended in the middle, or is under way"))
        .next("run `ibexdeploy migrate --dir` on that folder, where it lies: it puts everything back first"))
}

fn busy(folder: &Path) -> Error {
    Error::new(ErrorKind::Refused, format!("another migration of {} is under way", folder.display()))
        .temporary()
        .next("wait until it has ended")
}

fn next_of(error: &Error) -> String {
    error.details().next.clone().unwrap_or_else(|| "run it again, which puts back the rest".to_owned())
}

/// The folder beside the settings.
struct Aside {
    folder: PathBuf,
}

impl Aside {
    fn new(settings: &Path) -> Self {
        Self { folder: settings.join(ASIDE) }
    }

    fn list(&self) -> PathBuf {
        self.folder.join(LIST)
    }

    fn old(&self, number: usize) -> PathBuf {
        self.folder.join("old").join(number.to_string())
    }

    fn new_file(&self, number: usize) -> PathBuf {
        self.folder.join("new").join(number.to_string())
    }

    /// Held by the one process that works here.
    fn lock(&self) -> Result<File> {
        try_lock(&self.folder.join("lock"))?.ok_or_else(|| busy(self.folder.parent().unwrap_or(&self.folder)))
    }

    /// Brings what is new beside the settings, and writes down the renames, on disk when this returns.
    fn write(&self, folder: &Path, prepared: &Prepared) -> Result<List> {
        let inside = |path: &RelPath| prepared.deleted.iter().any(|deleted| path.is_within(deleted));
        let mut moves: Vec<Move> =
            prepared.deleted.iter().map(|path| Move { path: path.clone(), old: true, new: None }).collect();
        // The version comes last: it says that all the others are there.
        let is_version = |path: &RelPath| path.as_str().eq_ignore_ascii_case(VERSION_FILE);
        let (version, others): (Vec<_>, Vec<_>) = prepared.files.iter().partition(|(path, _)| is_version(path));
        for made in ["old", "new"] {
            let made = self.folder.join(made);
            std::fs::create_dir(&made).cannot(|| format!("make the folder {}", made.display()))?;
        }
        for (path, change) in others.into_iter().chain(version) {
            let at = path.under(folder);
            expect_unchanged(&at, change.before.as_deref())?;
            if change.after.is_none() && inside(path) {
                continue;
            }
            if let Some(bytes) = &change.after {
                let new = self.new_file(moves.len());
                files::write(&new, bytes)?;
                if change.before.is_some() {
                    let rights = std::fs::metadata(&at).cannot(|| format!("look at {}", at.display()))?.permissions();
                    std::fs::set_permissions(&new, rights).cannot(|| format!("give {} its rights", at.display()))?;
                }
            }
            let new = change.after.as_deref().map(ContentHash::of);
            moves.push(Move { path: path.clone(), old: change.before.is_some() && !inside(path), new });
        }
        let list = List { moves, refs: prepared.refs.clone() };
        files::write_json(&self.list(), &list)?;
        sync_folder(folder)?;
        Ok(list)
    }

    fn place(&self, folder: &Path, number: usize, m: &Move) -> Result<()> {
        let at = m.path.under(folder);
        if m.old {
            rename(&at, &self.old(number))?;
        }
        if m.new.is_some() {
            rename(&self.new_file(number), &at)?;
        }
        Ok(())
    }

    /// Puts everything back as it was; repeating it goes on. What somebody has changed since is found first, and then
    /// nothing is moved.
    fn put_back(&self, folder: &Path, list: &List) -> Result<()> {
        let mut changed = Vec::new();
        for (number, m) in list.moves.iter().enumerate() {
            let at = m.path.under(folder);
            if self.is_placed(number, m) && at.exists() && !holds(&at, m.new.as_ref())? {
                changed.push(m.path.clone());
            }
        }
        if !changed.is_empty() {
            let error = Error::new(ErrorKind::Refused, "files were changed after the migration was ended in the middle");
            return Err(error.with_output(first_named(&changed)).next(format!(
                "put these files aside and run it again, which puts back the old ones; {} has them",
                self.folder.display()
            )));
        }
        for (number, m) in list.moves.iter().enumerate().rev() {
            if !self.is_placed(number, m) {
                continue;
            }
            let at = m.path.under(folder);
            if m.new.is_some() && at.exists() {
                rename(&at, &self.new_file(number))?;
            }
            if m.old {
                rename(&self.old(number), &at)?;
            }
        }
        let left = list.refs.as_ref().map_or(Ok(Vec::new()), |refs| take_back_refs(refs).map(|back| back.left))?;
        if !left.is_empty() {
            return Err(Error::step_failed(format!("not everything is as it was: {}", left.join("; ")))
                .next(format!("look at the branch, then delete {} when all is well", self.folder.display())));
        }
        Ok(())
    }

    /// True once a move was begun: the old one is aside, or where there was none, the new one is in place.
    fn is_placed(&self, number: usize, m: &Move) -> bool {
        if m.old { self.old(number).exists() } else { !self.new_file(number).exists() }
    }

    /// Folders that were deleted, and that no commit has, stay beside the settings.
    fn keep_deleted(&self, folder: &Path, list: &List) -> Result<Option<PathBuf>> {
        let deleted: Vec<usize> = list.moves.iter().enumerate().filter(|(_, m)| m.new.is_none()).map(|(n, _)| n).collect();
        if list.refs.is_some() || deleted.is_empty() {
            return Ok(None);
        }
        let free = |n: &usize| !folder.join(format!("{DELETED}-{n}")).exists();
        let kept = (1..).find(free).map(|n| folder.join(format!("{DELETED}-{n}"))).unwrap_or_else(|| folder.join(DELETED));
        for number in deleted {
            let to = list.moves[number].path.under(&kept);
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent).cannot(|| format!("make the folder {}", parent.display()))?;
            }
            rename(&self.old(number), &to)?;
        }
        Ok(Some(kept))
    }

    /// From here on the migration is over.
    fn finish(&self, lock: File) -> Result<()> {
        files::remove(&self.list())?;
        sync_folder(&self.folder)?;
        // An open file keeps its folder on Windows.
        drop(lock);
        self.forget();
        Ok(())
    }

    /// Removes what is of no use any more; what stays is removed by the next call.
    fn forget(&self) {
        let _ = remove_folder(&self.folder);
    }
}

/// True when a file has this content.
fn holds(at: &Path, hash: Option<&ContentHash>) -> Result<bool> {
    let Some(hash) = hash.filter(|_| at.is_file()) else { return Ok(false) };
    let bytes = std::fs::read(at).cannot(|| format!("read {}", at.display()))?;
    Ok(ContentHash::of(&bytes) == *hash)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).cannot(|| format!("move {} to {}", from.display(), to.display()))
}

/// The file must still be what the migration was computed from.
///
/// # Errors
/// When it is not.
pub fn expect_unchanged(at: &Path, before: Option<&[u8]>) -> Result<()> {
    let now = match std::fs::read(at) {
        Ok(bytes) => Some(bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(Error::io(format!("read {}", at.display()), &e)),
    };
    if now.as_deref() == before {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, format!("{} has changed while the migration was computed", at.display()))
        .temporary()
        .next("see that no program writes to the settings, and migrate again; nothing was changed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::tree::FileChange;
    use std::collections::BTreeMap;

    fn look(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let all = walkdir::WalkDir::new(folder).into_iter().flatten().filter(|e| e.file_type().is_file());
        all.map(|e| (e.path().to_path_buf(), std::fs::read(e.path()).unwrap())).collect()
    }

    #[test]
    fn whenever_it_is_killed_the_next_call_puts_everything_back() {
        let of = |before: Option<&str>, after: Option<&str>| FileChange {
            before: before.map(|text| text.as_bytes().to_vec()),
            after: after.map(|text| text.as_bytes().to_vec()),
        };
        let path = |text: &str| RelPath::parse(text).unwrap();
        let prepared = Prepared {
            from: "1".to_owned(),
            to: "2".to_owned(),
            machine: "NDXEMU".to_owned(),
            passed: Vec::new(),
            left: Vec::new(),
            files: BTreeMap::from([
                (path("configurations/blocks.xml"), of(Some("old"), Some("new"))),
                (path(VERSION_FILE), of(Some("1"), Some("2"))),
                (path("configurations/made.xml"), of(None, Some("made"))),
                (path("configurations/galil/a.cmd"), of(Some("a"), None)),
            ]),
            deleted: vec![path("configurations/galil")],
            refs: None,
            remotes: Vec::new(),
        };
        for renames in 0..7 {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path();
            std::fs::create_dir_all(folder.join("configurations/galil")).unwrap();
            for (path, change) in &prepared.files {
                change.before.iter().for_each(|bytes| std::fs::write(path.under(folder), bytes).unwrap());
            }
            std::fs::write(folder.join("configurations/galil/unknown.cmd"), "x").unwrap();
            let before = look(folder);
            let aside = Aside::new(folder);
            std::fs::create_dir(&aside.folder).unwrap();
            let list = aside.write(folder, &prepared).unwrap();
            assert_eq!(list.moves.last().map(|m| m.path.as_str()), Some(VERSION_FILE), "the version comes last");
            let mut left = renames;
            for (n, m) in list.moves.iter().enumerate() {
                let at = m.path.under(folder);
                for (wanted, from, to) in [(m.old, at.clone(), aside.old(n)), (m.new.is_some(), aside.new_file(n), at)] {
                    if wanted && left > 0 {
                        rename(&from, &to).unwrap();
                        left -= 1;
                    }
                }
            }
            assert!(expect_finished(folder, "it").is_err());
            assert!(put_back_unfinished(folder).unwrap().is_some(), "after {renames}");
            assert_eq!(look(folder), before, "after {renames}");
            assert_eq!(put_back_unfinished(folder).unwrap(), None);
            let kept = put_in_place(folder, &prepared).unwrap().unwrap();
            assert_eq!(std::fs::read_to_string(kept.join("configurations/galil/unknown.cmd")).unwrap(), "x");
            assert_eq!(std::fs::read_to_string(folder.join(VERSION_FILE)).unwrap(), "2");
        }
    }
}
