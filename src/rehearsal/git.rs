//! The `.git` of the rehearsal's server and the call of the git program that makes it.

use crate::error::{Error, IoContext, Result};
use std::path::Path;
use std::process::{Command, Stdio};

/// Independent of the user's settings, and the same bytes each time: fixed names and dates, no threads.
const SETTINGS: [&str; 20] = [
    "-c",
    "user.name=IBEX build",
    "-c",
    "user.email=ibex@example.org",
    "-c",
    "commit.gpgsign=false",
    "-c",
    "core.autocrlf=false",
    "-c",
    "core.fileMode=false",
    "-c",
    "core.hooksPath=",
    "-c",
    "core.logAllRefUpdates=false",
    "-c",
    "gc.auto=0",
    "-c",
    "pack.threads=1",
    "-c",
    "init.defaultBranch=main",
];
const DATE: &str = "2026-01-01T12:00:00Z";

/// Whether this machine has the git program.
pub(super) fn is_there() -> bool {
    Command::new("git")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Makes the folder a work tree with branch `main`, or takes the one that is there, and commits all files.
pub(super) fn commit(folder: &Path, version: &str) -> Result<()> {
    if !folder.join(".git").exists() {
        run(folder, &["init", "--quiet", "--template="])?;
        run(folder, &["symbolic-ref", "HEAD", "refs/heads/main"])?;
        // So that git on the machine of a sandbox judges files as here.
        run(folder, &["config", "core.fileMode", "false"])?;
        run(folder, &["config", "core.autocrlf", "false"])?;
    }
    run(folder, &["add", "--all"])?;
    run(folder, &["commit", "--quiet", "--message", &format!("Release {version}")])?;
    tidy(folder)
}

/// Adds the branch `galil-old` to a release: the server with the Galil driver of before.
pub(super) fn keep_old_galil(folder: &Path) -> Result<()> {
    run(folder, &["checkout", "--quiet", "-b", "galil-old"])?;
    for (file, text) in [("GALIL_OLD.txt", "the old driver\r\n"), ("st.cmd", "dbLoadRecords(\"galil_old.db\")\r\niocInit\r\n")] {
        let file = folder.join("ioc/master/GALIL").join(file);
        std::fs::write(&file, text).cannot(|| format!("write {}", file.display()))?;
    }
    run(folder, &["add", "--all"])?;
    run(folder, &["commit", "--quiet", "--message", "The old Galil driver"])?;
    run(folder, &["checkout", "--quiet", "main"])?;
    tidy(folder)
}

/// What git wrote is the same bytes each time.
fn tidy(folder: &Path) -> Result<()> {
    run(folder, &["repack", "-a", "-d", "--quiet"])?;
    // The index that `add` wrote holds times and numbers of files; one read from the commit does not.
    run(folder, &["read-tree", "HEAD"])
}

/// Runs git with settings of its own, and the same names and dates each time.
pub(super) fn run(folder: &Path, arguments: &[&str]) -> Result<()> {
    let what = || format!("run git {} in {}", arguments.join(" "), folder.display());
    let output = Command::new("git")
        .args(SETTINGS)
        .args(arguments)
        .current_dir(folder)
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", if cfg!(windows) { "NUL" } else { "/dev/null" })
        .env("GIT_AUTHOR_DATE", DATE)
        .env("GIT_COMMITTER_DATE", DATE)
        .stdin(Stdio::null())
        .output()
        .cannot(what)?;
    if output.status.success() {
        return Ok(());
    }
    let lines = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    Err(Error::step_failed(format!("cannot {}: {}", what(), output.status)).with_output(lines))
}
