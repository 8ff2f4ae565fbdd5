//! The file that everything was dumped to: is it complete?

use crate::error::{Error, ErrorKind, IoContext, Result};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// A dump that is shorter is a failed one, by the site's own experience.
const LEAST: u64 = 100;

/// What a dump ends with that came to its end.
const LAST: &str = "-- Dump completed";

/// `ibex_mysql_YYYY_MM_DD.sql` by the instrument's own date, with `_2` and so on for further ones of a day.
///
/// # Errors
/// Never in practice: there is always a number that is free.
pub(super) fn free_name(folder: &Path) -> Result<PathBuf> {
    let name = jiff::Zoned::now().strftime("ibex_mysql_%Y_%m_%d").to_string();
    let names = std::iter::once(format!("{name}.sql")).chain((2..).map(|n: u32| format!("{name}_{n}.sql")));
    let mut paths = names.map(|name| folder.join(name));
    paths.find(|path| path.symlink_metadata().is_err()).ok_or_else(|| Error::internal("there is no name for a dump"))
}

/// Reads a dump from its beginning to its end.
///
/// # Errors
/// When it cannot be read, ends early, or lacks a database.
pub(super) fn expect_complete(dump: &Path, databases: &[String]) -> Result<()> {
    let file = File::open(dump).cannot(|| format!("read {}", dump.display()))?;
    let bytes = file.metadata().cannot(|| format!("look at {}", dump.display()))?.len();
    let failed = |why: String| {
        Err(Error::new(ErrorKind::Integrity, format!("the dump {} is not complete", dump.display()))
            .because(why)
            .next("see that the disk has room and the server stays up, then run it again"))
    };
    if bytes < LEAST {
        return failed(format!("it has only {bytes} bytes"));
    }
    let mut missing: BTreeSet<String> = databases.iter().map(|name| format!("-- Current Database: `{name}`")).collect();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut line, mut last) = (Vec::new(), String::new());
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).cannot(|| format!("read {}", dump.display()))? == 0 {
            break;
        }
        // Only comments matter here, and rows are never taken for one: they begin with INSERT.
        if line.starts_with(b"--") {
            last = String::from_utf8_lossy(&line).trim_end().to_owned();
            missing.remove(&last);
        } else if !line.trim_ascii().is_empty() {
            last.clear();
        }
    }
    if !last.starts_with(LAST) {
        return failed(format!("it does not end with `{LAST}`"));
    }
    match missing.first() {
        Some(first) => failed(format!("it does not hold `{}`", first.trim_start_matches("-- "))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_complete_or_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("dump.sql");
        let body = "-- MariaDB dump\n--\n-- Current Database: `archive`\n--\nCREATE DATABASE `archive`;\nINSERT INTO `t` VALUES (1);\n\
            -- some more text, so that it is long enough\n\n-- Dump completed on 2026-11-28 12:00:00\n";
        let judge = |text: &str, databases: &[&str]| {
            std::fs::write(&file, text).unwrap();
            let databases: Vec<String> = databases.iter().map(|d| (*d).to_owned()).collect();
            expect_complete(&file, &databases).map_err(|e| e.with_advice())
        };
        assert!(judge(body, &["archive"]).is_ok());
        assert!(judge("", &[]).unwrap_err().contains("only 0 bytes"));
        let cut = &body[..body.find("-- Dump").unwrap()];
        assert!(judge(cut, &["archive"]).unwrap_err().contains("does not end with"), "cut short");
        assert!(judge(body, &["archive", "iocdb"]).unwrap_err().contains("Current Database: `iocdb`"));
        assert!(expect_complete(&folder.path().join("none"), &[]).is_err());
    }
}
