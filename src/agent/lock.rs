//! One worker per home: an operating system lock decides, the text beside it only informs.

use super::home::Home;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files::{read_json, write_json};
use crate::protocol::LockInfo;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// Takes a file's lock; nothing when another process holds it. The system frees it when the process ends, however it does.
///
/// # Errors
/// When the file cannot be opened or the file system knows no locks.
pub fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .cannot(|| format!("open the lock {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(Error::io(format!("lock {}", path.display()), &e)),
    }
}

/// Who works on the instrument, as the last run wrote it; nothing when nobody does.
///
/// # Errors
/// When the text is there and cannot be read.
pub fn holder(home: &Home) -> Result<Option<LockInfo>> {
    read_json(&home.folder().join("lock.json"))
}

/// True while a worker is in the middle of a run. Where one died in it, nobody is at work until the next one starts.
///
/// # Errors
/// As [`holder`] and [`try_lock`].
pub fn is_at_work(home: &Home) -> Result<bool> {
    Ok(holder(home)?.is_some() && try_lock(&home.folder().join("lock"))?.is_none())
}

/// Writes down who works on the instrument.
///
/// # Errors
/// When it cannot be written.
pub fn write_holder(home: &Home, info: &LockInfo) -> Result<()> {
    write_json(&home.folder().join("lock.json"), info)
}

/// Says that nobody works on the instrument any more.
pub fn clear_holder(home: &Home) {
    // A text that stays behind is replaced by the next run.
    let _ = std::fs::remove_file(home.folder().join("lock.json"));
}

/// The refusal that a second operator gets.
pub fn refusal(host: &str, info: &LockInfo) -> Error {
    Error::new(
        ErrorKind::Refused,
        format!("{} has {host} with the run {} ({}) since {:.0}", info.owner, info.run, info.playbook, info.since),
    )
    .on_host(host)
    .next(format!("wait until it is over, or follow it with `ibexdeploy runs resume --of {host}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_does_not_get_the_lock() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("lock");
        let first = try_lock(&path)?;
        assert!(first.is_some());
        assert!(try_lock(&path)?.is_none());
        drop(first);
        assert!(try_lock(&path)?.is_some());
        Ok(())
    }

    #[test]
    fn the_refusal_names_owner_host_run_and_time() {
        let info = LockInfo {
            owner: "ann@desk".into(),
            run: crate::events::RunId("20261123-101112-abcdef".into()),
            playbook: "release".into(),
            since: jiff::Timestamp::UNIX_EPOCH,
        };
        insta::assert_snapshot!(
            refusal("NDXLARMOR", &info),
            @"NDXLARMOR: ann@desk has NDXLARMOR with the run 20261123-101112-abcdef (release) since 1970-01-01T00:00:00Z"
        );
    }
}
