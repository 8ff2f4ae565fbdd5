//! Puts a migration in place in a folder at hand, all of it or nothing.

use super::git::{move_refs, take_back_refs};
use super::work::Prepared;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::paths::RelPath;
use std::path::{Path, PathBuf};

/// Writes the files, then shows the commits. When anything fails, everything is as it was.
///
/// # Errors
/// When a file has changed since the migration was computed, cannot be written, or git refuses.
pub fn put_in_place(folder: &Path, prepared: &Prepared) -> Result<()> {
    let aside = tempfile::Builder::new()
        .prefix(".ibexdeploy-")
        .tempdir_in(folder)
        .cannot(|| format!("make a folder in {}", folder.display()))?;
    let mut moves = Moves { aside: aside.path(), done: Vec::new() };
    let placed = moves.all(folder, prepared).and_then(|()| prepared.refs.as_ref().map_or(Ok(()), move_refs));
    let Err(error) = placed else { return Ok(()) };
    let mut lost = moves.back();
    if let Some(refs) = &prepared.refs {
        match take_back_refs(refs) {
            Ok(taken_back) => lost.extend(taken_back.left),
            Err(e) => lost.push(e.to_string()),
        }
    }
    if lost.is_empty() {
        return Err(error);
    }
    // What could not be put back is kept.
    let kept = aside.keep();
    let next = format!("not everything is as it was: {}; the old files are in {}", lost.join("; "), kept.display());
    Err(error.next(next))
}

/// Renames that were done, to be taken back in the opposite order.
struct Moves<'a> {
    aside: &'a Path,
    done: Vec<(PathBuf, PathBuf)>,
}

impl Moves<'_> {
    fn all(&mut self, folder: &Path, prepared: &Prepared) -> Result<()> {
        let inside = |path: &RelPath| prepared.deleted.iter().any(|deleted| path.is_within(deleted));
        for (path, change) in &prepared.files {
            let at = path.under(folder);
            expect_unchanged(&at, change.before.as_deref())?;
            if change.before.is_some() && !inside(path) {
                self.out(&at)?;
            }
            if let Some(bytes) = &change.after {
                self.bring(&at, bytes)?;
            }
        }
        prepared.deleted.iter().try_for_each(|path| self.out(&path.under(folder)))
    }

    fn name(&self) -> PathBuf {
        self.aside.join(self.done.len().to_string())
    }

    fn out(&mut self, at: &Path) -> Result<()> {
        let to = self.name();
        self.rename(at.to_path_buf(), to)
    }

    fn bring(&mut self, at: &Path, bytes: &[u8]) -> Result<()> {
        let new = self.aside.join("new");
        std::fs::write(&new, bytes).cannot(|| format!("write {}", new.display()))?;
        if let Some((from, old)) = self.done.last()
            && from == at
        {
            let rights = std::fs::metadata(old).cannot(|| format!("look at {}", old.display()))?.permissions();
            std::fs::set_permissions(&new, rights).cannot(|| format!("give {} its rights", at.display()))?;
        }
        self.rename(new, at.to_path_buf())
    }

    fn rename(&mut self, from: PathBuf, to: PathBuf) -> Result<()> {
        std::fs::rename(&from, &to).cannot(|| format!("move {} to {}", from.display(), to.display()))?;
        self.done.push((from, to));
        Ok(())
    }

    /// Takes the renames back; gives what could not be.
    fn back(&mut self) -> Vec<String> {
        let undo = |(from, to): (PathBuf, PathBuf)| match std::fs::rename(&to, &from) {
            Ok(()) => None,
            Err(e) => Some(format!("cannot move {} back to {}: {e}", to.display(), from.display())),
        };
        self.done.drain(..).rev().filter_map(undo).collect()
    }
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
