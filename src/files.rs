//! Files that are written whole or not at all: a reader, and whoever comes after a crash, finds the old one or the new one.
//! And what goes with them.

use crate::busy;
use crate::error::{Error, ErrorKind, IoContext, Result};
#[cfg(windows)]
use crate::platform::windows::system::make_writable;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{DirEntry, File};
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// Writes a file, which is on disk when this returns. Folders that are missing are made.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes).cannot(|| writing(path)))
}

/// The same for what `fill` writes.
///
/// # Errors
/// What `fill` fails with; when the file cannot be written.
pub(crate) fn write_with(path: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let mut file = beside(path)?;
    fill(file.as_file_mut())?;
    file.as_file().sync_data().cannot(|| writing(path))?;
    put(file, path)?;
    sync_folder(folder_of(path))
}

/// Writes a file that nobody but its owner may read, on disk when this returns.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    // A temporary file is made like that.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder_of(path)).cannot(|| writing(path))?;
    file.write_all(bytes).cannot(|| writing(path))?;
    file.as_file().sync_data().cannot(|| writing(path))?;
    put(file, path)?;
    sync_folder(folder_of(path))
}

/// Removes a file or a link; one that is not there is no error.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match busy::patiently(busy::PATIENCE, || remove_one(path)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(format!("remove {}", path.display()), &e)),
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it; one that is not there is no error.
///
/// # Errors
/// When the system refuses.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    match busy::patiently(busy::PATIENCE, || remove_tree(folder)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(format!("remove {}", folder.display()), &e)),
        _ => Ok(()),
    }
}

#[cfg(not(windows))]
fn remove_one(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path)
}

#[cfg(not(windows))]
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    std::fs::remove_dir_all(folder)
}

/// Windows removes a link to a folder as a folder, and a file that is marked read-only not at all.
#[cfg(windows)]
fn remove_one(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(refused) if refused.kind() == std::io::ErrorKind::PermissionDenied => {
            if std::fs::symlink_metadata(path)?.file_type().is_symlink() {
                return std::fs::remove_dir(path).map_err(|_| refused);
            }
            if make_writable(path)? { std::fs::remove_file(path) } else { Err(refused) }
        }
        done => done,
    }
}

/// As [`remove_one`]: git marks all that it has stored as read-only.
#[cfg(windows)]
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(refused) if refused.kind() == std::io::ErrorKind::PermissionDenied => {
            let mut any = false;
            for entry in walkdir::WalkDir::new(folder).into_iter().flatten().filter(|e| !e.path_is_symlink()) {
                any |= make_writable(entry.path())?;
            }
            if any { std::fs::remove_dir_all(folder) } else { Err(refused) }
        }
        done => done,
    }
}

/// Writes what can be made anew, such as a cache: a power cut may lose it.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_unflushed(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = beside(path)?;
    file.write_all(bytes).cannot(|| writing(path))?;
    put(file, path)
}

/// What [`expect_room_beside`] writes: more than a small file takes inside a folder's own records, less than the reserve of
/// a journal.
const A_LITTLE: usize = 8 * 1024;

/// Finds out by writing whether the disk that holds a file has room for a little more.
///
/// # Errors
/// When it has not, or cannot be written.
pub(crate) fn expect_room_beside(path: &Path) -> Result<()> {
    let mut file = tempfile::Builder::new().prefix(".room-").tempfile_in(folder_of(path)).cannot(|| writing(path))?;
    file.write_all(&[0; A_LITTLE]).cannot(|| writing(path))
}

/// Writes a value as JSON, on disk when this returns.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|e| Error::internal(format!("cannot {}", writing(path))).because(e))?;
    write(path, &bytes)
}

/// The same for people to read, with a line for each value.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_pretty_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::internal(format!("cannot {}", writing(path))).because(e))?;
    write(path, &bytes)
}

/// Reads a JSON file; nothing when there is none.
///
/// # Errors
/// When it cannot be read or is not what it should be.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(format!("read {}", path.display()), &e)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::new(ErrorKind::Integrity, format!("{} is damaged", path.display()))
            .because(e)
            .next("move the file away, so that it can be made anew, or put one from a backup in its place")
    })
}

/// The first word of a text file, such as the version in a `VERSION.txt`; nothing when there is none.
pub(crate) fn first_word(file: &Path) -> Option<String> {
    first_word_of(&std::fs::read(file).ok()?)
}

/// The first word of a text, behind a byte order mark if there is one.
pub(crate) fn first_word_of(bytes: &[u8]) -> Option<String> {
    String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').split_whitespace().next().map(str::to_owned)
}

/// What lies in a folder; nothing when there is no such folder.
///
/// # Errors
/// When it cannot be listed.
pub(crate) fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let listing = || format!("list {}", folder.display());
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.cannot(listing)).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io(listing(), &e)),
    }
}

/// Makes the names in a folder last through a power cut, where the system has a call for that.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) && folder.is_dir() {
        let open = File::open(folder).cannot(|| format!("open {}", folder.display()))?;
        open.sync_all().cannot(|| format!("flush {}", folder.display()))?;
    }
    Ok(())
}

fn writing(path: &Path) -> String {
    format!("write {}", path.display())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A new file in the folder of another one, with the rights that any new file gets.
fn beside(path: &Path) -> Result<NamedTempFile> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".new-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Less what the process's mask takes away.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder).cannot(|| writing(path))
}

/// Gives a temporary file its name. Windows refuses that as long as somebody has the old one open.
fn put(file: NamedTempFile, path: &Path) -> Result<()> {
    let mut left = Some(file);
    busy::patiently(busy::PATIENCE, || match left.take().map(|file| file.persist(path)) {
        Some(Err(refused)) => {
            left = Some(refused.file);
            Err(refused.error)
        }
        _ => Ok(()),
    })
    .cannot(|| writing(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_files_are_written_whole_and_damage_is_named() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("made/on/the/way/x.json");
        assert_eq!(read_json::<Vec<u32>>(&path)?, None);
        write_json(&path, &vec![1, 2])?;
        assert_eq!(read_json::<Vec<u32>>(&path)?, Some(vec![1, 2]));
        std::fs::write(&path, "[1,").expect("write");
        assert_eq!(read_json::<Vec<u32>>(&path).unwrap_err().kind(), ErrorKind::Integrity);
        Ok(())
    }

    #[test]
    fn what_is_marked_read_only_is_removed_as_well() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tree = folder.path().join("tree");
        for path in [folder.path().join("x"), tree.join("a/b")] {
            write(&path, b"x")?;
            let mut rights = std::fs::metadata(&path).expect("a file").permissions();
            rights.set_readonly(true);
            std::fs::set_permissions(&path, rights).expect("rights");
        }
        remove(&folder.path().join("x"))?;
        remove_folder(&tree)?;
        remove_folder(&tree)?;
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
        Ok(())
    }

    #[test]
    fn what_cannot_be_filled_leaves_the_old_file_and_nothing_else() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x");
        write(&path, b"old")?;
        let failed = write_with(&path, |file| {
            file.write_all(b"half of the new").expect("written");
            Err(Error::internal("something went wrong"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).expect("the file"), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
        write_unflushed(&path, b"new")?;
        assert_eq!(std::fs::read(&path).expect("the file"), b"new");
        Ok(())
    }
}
