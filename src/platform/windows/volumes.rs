//! Volumes and links.

use super::processes::resolved;
use super::system::{last_error, raw, verbatim, wide_path};
use crate::error::{Error, ErrorKind, IoContext, Result};
use std::fs::{File, OpenOptions};
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use windows_sys::Win32::Foundation::{GENERIC_READ, GENERIC_WRITE};
use windows_sys::Win32::Storage::FileSystem::{
    FlushFileBuffers, GetDiskFreeSpaceExW, GetVolumeNameForVolumeMountPointW, GetVolumePathNameW,
};

/// The nearest folder or file of the path that exists, with its links followed.
fn existing(path: &Path) -> Result<PathBuf> {
    for candidate in path.ancestors() {
        match std::fs::metadata(candidate) {
            Ok(metadata) => {
                let folder = if metadata.is_dir() { candidate } else { candidate.parent().unwrap_or(candidate) };
                return folder.canonicalize().cannot(|| format!("follow {}", folder.display()));
            }
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(Error::io(format!("look at {}", candidate.display()), &e)),
        }
    }
    Err(Error::new(ErrorKind::Io, format!("nothing of {} exists", path.display())))
}

/// Free bytes on the volume that holds the path.
///
/// # Errors
/// When the system does not tell.
pub(super) fn free_space(path: &Path) -> Result<u64> {
    let folder = existing(path)?;
    let mut free = 0;
    let name = wide_path(&folder);
    // SAFETY: the name ends with a zero; the first number is written to a place of ours, the others are not asked for.
    let told = unsafe { GetDiskFreeSpaceExW(name.as_ptr(), &raw mut free, std::ptr::null_mut(), std::ptr::null_mut()) };
    if told == 0 {
        return Err(last_error(format!("ask for the free space of {}", folder.display())));
    }
    Ok(free)
}

/// Where the volume of a folder is mounted, with a backslash at the end.
fn mount_point(folder: &Path) -> Result<Vec<u16>> {
    let name = wide_path(folder);
    let mut buffer = vec![0_u16; name.len() + 64];
    // SAFETY: the name ends with a zero, and the buffer is as long as it is said to be.
    if unsafe { GetVolumePathNameW(name.as_ptr(), buffer.as_mut_ptr(), buffer.len() as u32) } == 0 {
        return Err(last_error(format!("find the volume of {}", folder.display())));
    }
    Ok(buffer)
}

/// The system's own name of a volume (`\\?\Volume{...}\`); nothing for the share of another machine.
fn volume_name(mount_point: &[u16]) -> Option<PathBuf> {
    let mut buffer = [0_u16; 64];
    // SAFETY: the name ends with a zero, and the buffer is as long as it is said to be.
    let told = unsafe { GetVolumeNameForVolumeMountPointW(mount_point.as_ptr(), buffer.as_mut_ptr(), buffer.len() as u32) };
    (told != 0).then(|| PathBuf::from(super::system::text_of(&buffer)))
}

/// A number that is the same for two paths on one volume. Made from the volume's name, since a copy of a virtual disk
/// has the serial number of its original.
///
/// # Errors
/// When the system does not tell.
pub(super) fn volume_of(path: &Path) -> Result<u64> {
    let at = mount_point(&existing(path)?)?;
    let name = volume_name(&at).unwrap_or_else(|| PathBuf::from(super::system::text_of(&at)));
    let hash = blake3::hash(name.to_string_lossy().to_lowercase().as_bytes());
    Ok(hash.as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Writes what is in memory of the path's volume to its disk. Where the volume itself may not be opened (that takes an
/// administrator), every file below the path is flushed.
///
/// # Errors
/// When the disk refuses.
pub(super) fn flush(path: &Path) -> Result<()> {
    let at = mount_point(&existing(path)?)?;
    if let Some(name) = volume_name(&at) {
        let volume = name.to_string_lossy().trim_end_matches('\\').to_owned();
        match OpenOptions::new().access_mode(GENERIC_READ | GENERIC_WRITE).open(&volume) {
            Ok(volume) if flush_handle(&volume) => return Ok(()),
            Ok(_) => tracing::debug!(volume, error = %std::io::Error::last_os_error(), "the volume is not flushed as a whole"),
            Err(error) => tracing::debug!(volume, %error, "the volume is not flushed as a whole"),
        }
    }
    for entry in walkdir::WalkDir::new(path) {
        let entry = entry.map_err(|e| Error::new(ErrorKind::Io, format!("cannot list {}", path.display())).because(e))?;
        if entry.file_type().is_file() {
            flush_file(entry.path())?;
        }
    }
    Ok(())
}

fn flush_file(path: &Path) -> Result<()> {
    // A file that is read-only, or that a program runs from, cannot be opened to be written; it was written by others.
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => file.sync_all().cannot(|| format!("flush {}", path.display())),
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "not flushed");
            Ok(())
        }
    }
}

fn flush_handle(file: &File) -> bool {
    // SAFETY: the file is open.
    unsafe { FlushFileBuffers(raw(file)) != 0 }
}

/// Makes a junction, or a symbolic link where the folder is on another machine, which a junction cannot lead to.
///
/// # Errors
/// When it is refused; nothing is left then.
pub(super) fn make_link(at: &Path, to: &Path) -> Result<()> {
    let what = || format!("make the link {} to {}", at.display(), to.display());
    if std::fs::symlink_metadata(at).is_ok() {
        return Err(Error::new(ErrorKind::Refused, format!("{} is there already", at.display())));
    }
    let far = verbatim(to).to_string_lossy().starts_with("\\\\?\\UNC\\");
    let made = if far { std::os::windows::fs::symlink_dir(to, at) } else { junction::create(plain(to), at) };
    // Some systems say that they made one and made a folder.
    let leads =
        made.is_ok() && std::fs::symlink_metadata(at).is_ok_and(|m| m.file_type().is_symlink()) && (far || leads_to(at, to));
    if leads {
        return Ok(());
    }
    let _ = std::fs::remove_dir(at);
    match made {
        Err(e) => Err(Error::io(what(), &e)),
        Ok(()) => Err(Error::new(ErrorKind::Io, format!("cannot {}", what()))
            .because("the system says that it made the link, and there is none")
            .next("the file system must have junctions, as NTFS does")),
    }
}

/// A link may lead to what is not there yet.
fn leads_to(at: &Path, to: &Path) -> bool {
    junction::get_target(at).is_ok_and(|target| resolved(&target) == resolved(to))
}

/// The path without `\\?\`, as programs and links are given it.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let Some(text) = path.to_str() else { return path.to_path_buf() };
    match text.strip_prefix("\\\\?\\") {
        Some(rest) => match rest.strip_prefix("UNC\\") {
            Some(share) => PathBuf::from(format!("\\\\{share}")),
            None if rest.as_bytes().get(1) == Some(&b':') => PathBuf::from(rest),
            None => path.to_path_buf(),
        },
        None => path.to_path_buf(),
    }
}

/// A program's argument with the paths in it as programs understand them.
pub(crate) fn plain_argument(text: &str) -> String {
    text.replace("\\\\?\\UNC\\", "\\\\").replace("\\\\?\\", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_the_same_for_what_lies_on_it() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("not\\yet\\there");
        assert_eq!(volume_of(folder.path()).unwrap(), volume_of(&below).unwrap());
        assert!(free_space(&below).unwrap() > 0);
        std::fs::write(folder.path().join("x"), "x").unwrap();
        flush(folder.path()).unwrap();
    }

    #[test]
    fn paths_lose_the_prefix_that_programs_do_not_understand() {
        for (path, bare) in [
            ("\\\\?\\C:\\a", "C:\\a"),
            ("\\\\?\\UNC\\srv\\x", "\\\\srv\\x"),
            ("C:\\a", "C:\\a"),
            ("\\\\?\\Volume{1}\\a", "\\\\?\\Volume{1}\\a"),
        ] {
            assert_eq!(plain(Path::new(path)), PathBuf::from(bare));
        }
        assert_eq!(plain_argument("--datadir=\\\\?\\C:\\a"), "--datadir=C:\\a");
        assert_eq!(plain_argument("\\\\?\\UNC\\srv\\x"), "\\\\srv\\x");
    }

    #[test]
    fn a_link_is_made_or_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("versions");
        std::fs::create_dir(&to).unwrap();
        std::fs::write(to.join("x"), "x").unwrap();
        let at = folder.path().join("link");
        match make_link(&at, &to) {
            Ok(()) => {
                assert_eq!(std::fs::read(at.join("x")).unwrap(), b"x");
                assert!(make_link(&at, &to).is_err());
            }
            // Wine has no junctions.
            Err(error) => {
                assert!(error.to_string().contains("link"), "{error}");
                assert!(std::fs::symlink_metadata(&at).is_err());
            }
        }
    }
}
