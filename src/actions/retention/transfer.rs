//! One backup to the share: copied, read back, and only then removed from the instrument.

use crate::actions::StepContext;
use crate::actions::backup::catalogue::BackupFolder;
use crate::actions::backup::write::Alive;
use crate::actions::moves::{mtime_ns, rename, set_mtime, shown};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files::remove_folder;
use crate::files::sync_folder;
use crate::units::Size;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Begins the name of a folder that is half copied or half removed: no backup.
const HALF: &str = ".";
const PART: &str = ".part";

/// Files of a backup folder with their sizes, by their path below it.
type Files = BTreeMap<PathBuf, u64>;

/// Moves a backup into the folder `to`, which is made when it is missing. Gives where it is now.
///
/// # Errors
/// When it is not what was written when it was made, when the share is not there or full, or a copy is not like its
/// original: then the backup is where it was.
pub(super) fn transfer(cx: &StepContext<'_>, backup: &BackupFolder, to: &Path, alive: Alive<'_>) -> Result<PathBuf> {
    make_share_folder(cx, to)?;
    let files = files_in(&backup.path)?;
    let there = match copied_before(backup, &files, to, alive)? {
        Some(there) => there,
        None => copy(cx, backup, &files, to, alive)?,
    };
    // Half removed it must not look like a backup.
    let gone = backup.path.with_file_name(format!("{HALF}{}{PART}", backup.name));
    remove_folder(&gone)?;
    rename(cx, &backup.path, &gone)?;
    remove_folder(&gone)?;
    Ok(there)
}

/// Makes the folder on the share; the share itself has to be there.
fn make_share_folder(cx: &StepContext<'_>, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).map_err(|e| {
        Error::io(format!("make the folder {}", shown(cx, to)), &e)
            .next("check the share, and that the account that the agent runs under may write there")
    })
}

fn files_in(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    for entry in walkdir::WalkDir::new(folder).min_depth(1) {
        let failed = |e| Error::new(ErrorKind::Io, format!("cannot read {}", folder.display())).because(e);
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type();
        if kind.is_file() {
            let below = entry.path().strip_prefix(folder).unwrap_or(entry.path()).to_path_buf();
            files.insert(below, entry.metadata().map_err(failed)?.len());
        } else if !kind.is_dir() {
            return Err(Error::new(ErrorKind::Integrity, format!("{} is a link", entry.path().display()))
                .next("look at the backup: it is not as it was made"));
        }
    }
    Ok(files)
}

/// An equal copy that an earlier attempt finished, when it could not remove the original any more.
fn copied_before(backup: &BackupFolder, files: &Files, to: &Path, alive: Alive<'_>) -> Result<Option<PathBuf>> {
    let there = to.join(&backup.name);
    if !there.is_dir() || files_in(&there)? != *files {
        return Ok(None);
    }
    for path in files.keys() {
        if hash(&backup.path.join(path), alive)? != hash(&there.join(path), alive)? {
            return Ok(None);
        }
    }
    Ok(Some(there))
}

fn hash(path: &Path, alive: Alive<'_>) -> Result<ContentHash> {
    let mut hasher = blake3::Hasher::new();
    read_all(path, |bytes| {
        hasher.update(bytes);
        alive(bytes.len() as u64)
    })?;
    Ok(ContentHash::from_hasher(&hasher))
}

fn read_all(path: &Path, mut put: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let reading = || format!("read {}", path.display());
    let mut file = File::open(path).cannot(reading)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).cannot(reading)?;
        if read == 0 {
            return Ok(());
        }
        put(&buffer[..read])?;
    }
}

fn copy(cx: &StepContext<'_>, backup: &BackupFolder, files: &Files, to: &Path, alive: Alive<'_>) -> Result<PathBuf> {
    let need: u64 = files.values().sum();
    if let Ok(free) = cx.platform.free_space(to)
        && free < need
    {
        let message = format!("{} has {} free, and the backup takes {}", shown(cx, to), Size(free), Size(need));
        return Err(Error::new(ErrorKind::OutOfSpace, message).next("make room on the share"));
    }
    let part = to.join(format!("{HALF}{}{PART}", backup.name));
    remove_folder(&part)?;
    let finish = || -> Result<PathBuf> {
        for path in files.keys() {
            copy_file(backup, path, &part, alive)?;
        }
        std::fs::create_dir_all(&part).cannot(|| format!("make the folder {}", shown(cx, &part)))?;
        let there = free_name(to, &backup.name);
        rename(cx, &part, &there)?;
        sync_folder(to)?;
        Ok(there)
    };
    finish().map_err(|error| match remove_folder(&part) {
        Ok(()) => error,
        Err(left) => error.because(left),
    })
}

/// Copies a file, reads the copy back, and compares both with what the catalogue says.
fn copy_file(backup: &BackupFolder, path: &Path, part: &Path, alive: Alive<'_>) -> Result<()> {
    let (from, copy) = (backup.path.join(path), part.join(path));
    let writing = || format!("write {}", copy.display());
    if let Some(folder) = copy.parent() {
        std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))?;
    }
    let mut out = File::create(&copy).cannot(writing)?;
    let mut hasher = blake3::Hasher::new();
    read_all(&from, |bytes| {
        hasher.update(bytes);
        out.write_all(bytes).cannot(writing)?;
        alive(bytes.len() as u64)
    })?;
    out.sync_all().cannot(writing)?;
    drop(out);
    let read = ContentHash::from_hasher(&hasher);
    let known = backup.catalogue.iter().flat_map(|c| c.places.values()).find(|p| Path::new(&p.zip) == path);
    if let Some(place) = known
        && place.written.hash != read.to_string()
    {
        return Err(Error::new(ErrorKind::Integrity, format!("{} is not what was written at the backup", from.display()))
            .next("it is damaged and stays: look at the disk, and do not count on this backup"));
    }
    if hash(&copy, alive)? != read {
        return Err(Error::new(ErrorKind::Io, format!("{} is not like its original", copy.display())).next("check the share"));
    }
    let meta = from.metadata().cannot(|| format!("look at {}", from.display()))?;
    // A share that keeps no times keeps the content.
    let _ = set_mtime(&copy, mtime_ns(&meta));
    Ok(())
}

/// The backup's own name; with a number behind it when the share has another backup of that name.
fn free_name(to: &Path, name: &str) -> PathBuf {
    std::iter::once(name.to_owned())
        .chain((2..=u32::MAX).map(|n| format!("{name}_{n}")))
        .map(|name| to.join(name))
        .find(|at| at.symlink_metadata().is_err())
        .unwrap_or_else(|| to.join(name))
}
