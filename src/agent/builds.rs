//! The builds of the executable in an agent's home: `bin/<build>/`.

use super::home::Home;
use super::journal;
use super::resume::Resume;
use crate::actions::task;
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::protocol::INCOMING;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// In a run's folder: the build that began it, and finishes it.
const BUILD_OF_RUN: &str = "build";

/// Builds that stay beside the newest one although no run needs them: going back to one is not bringing it anew.
const SPARE: usize = 1;

/// What was being brought and did not arrive is removed after this time.
const STALE: Duration = Duration::from_secs(3600);

fn executable(home: &Home, build: &str) -> PathBuf {
    home.folder().join("bin").join(build).join(format!("ibexdeploy{}", std::env::consts::EXE_SUFFIX))
}

/// Puts the running executable, which somebody brought into `bin/`, where its build belongs, and removes builds that
/// nobody needs any more.
///
/// # Errors
/// When it is not the build that was sent, or the home cannot be used.
pub fn install(root: Option<&Path>, build: &ContentHash) -> Result<()> {
    let this = std::env::current_exe().cannot(|| "find this executable")?;
    let home = Home::open(root)?;
    let arrived = ContentHash::of_file(&this)?;
    if arrived != *build {
        return Err(Error::new(
            ErrorKind::Integrity,
            format!("what arrived as {} is not the build that was sent", this.display()),
        )
        .because(format!("sent was {}, here is {}", build.short(), arrived.short()))
        .next("try again; if it happens again, look at the disk of this machine"));
    }
    let place = executable(&home, &build.short());
    let folder = place.parent().unwrap_or(home.folder());
    std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))?;
    if let Err(e) = std::fs::rename(&this, &place) {
        // Another controller has just brought the same one, and it runs already.
        if ContentHash::of_file(&place).ok() != Some(*build) {
            return Err(Error::io(format!("put the agent into its place {}", place.display()), &e));
        }
        std::fs::remove_file(&this).cannot(|| format!("remove {}", this.display()))?;
    }
    prune(&home, &build.short());
    Ok(())
}

/// Notes in a run's folder which build began it.
///
/// # Errors
/// When it cannot be written.
pub(super) fn note(run: &Path, build: &str) -> Result<()> {
    std::fs::write(run.join(BUILD_OF_RUN), build).cannot(|| format!("write into {}", run.display()))
}

/// The executable that a new worker is started from: that of the build which began the run that is not finished, while
/// it is there, else this one.
///
/// # Errors
/// When this executable cannot be found.
pub(super) fn for_worker(home: &Home) -> Result<PathBuf> {
    let began = needed(home).into_iter().map(|build| executable(home, &build)).find(|path| path.is_file());
    began.map_or_else(|| std::env::current_exe().cannot(|| "find this executable"), Ok)
}

/// The builds that began runs which are not finished.
fn needed(home: &Home) -> BTreeSet<String> {
    let runs = std::fs::read_dir(home.runs()).into_iter().flatten().flatten().map(|entry| entry.path());
    runs.filter_map(|run| {
        let journal = run.join("journal.jsonl");
        // Every new worker asks: the note of the end spares it the whole journal of each run there ever was.
        if journal::is_over(&journal) {
            return None;
        }
        let build = std::fs::read_to_string(run.join(BUILD_OF_RUN)).ok()?;
        let unfinished = match journal::read(&journal) {
            Ok(loaded) => Resume::from_journal(&loaded).finished.is_none(),
            // Not readable now; a build too many does no harm.
            Err(_) => true,
        };
        unfinished.then_some(build)
    })
    .collect()
}

/// The builds that the scheduler's tasks start.
fn of_tasks(home: &Home) -> BTreeSet<String> {
    let files = std::fs::read_dir(home.folder().join(task::STORED)).into_iter().flatten().flatten();
    let build = |entry: std::fs::DirEntry| files::read_json::<task::StoredTask>(&entry.path()).ok().flatten()?.build;
    files.filter_map(build).collect()
}

/// Removes what was being brought by controllers that did not come back.
pub(super) fn remove_stale(home: &Home) {
    for entry in std::fs::read_dir(home.folder().join("bin")).into_iter().flatten().flatten() {
        let changed = entry.metadata().and_then(|data| data.modified());
        let stale = changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE));
        if stale && entry.file_name().to_string_lossy().starts_with(INCOMING) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Removes builds that nobody needs. What cannot be removed (it runs, on Windows) goes next time.
fn prune(home: &Home, newest: &str) {
    let mut needed = needed(home);
    needed.extend(of_tasks(home));
    let mut others: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(home.folder().join("bin")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(changed) = entry.metadata().and_then(|data| data.modified()) else { continue };
        if !name.starts_with(INCOMING) && entry.path().is_dir() && name != newest && !needed.contains(&name) {
            others.push((changed, entry.path()));
        }
    }
    remove_stale(home);
    others.sort();
    others.truncate(others.len().saturating_sub(SPARE));
    for (_, folder) in others {
        let _ = std::fs::remove_dir_all(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path())).unwrap();
        (folder, home)
    }

    fn put(home: &Home, build: &str, age: u64) -> PathBuf {
        let path = executable(home, build);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, build).unwrap();
        let changed = SystemTime::now() - Duration::from_secs(age);
        opened(path.parent().unwrap()).set_modified(changed).unwrap();
        path
    }

    /// A folder, opened so that its times can be set.
    fn opened(folder: &Path) -> std::fs::File {
        let mut how = std::fs::OpenOptions::new();
        #[cfg(not(windows))]
        how.read(true);
        #[cfg(windows)]
        {
            use std::os::windows::fs::OpenOptionsExt;
            use windows_sys::Win32::Storage::FileSystem::{FILE_FLAG_BACKUP_SEMANTICS, FILE_WRITE_ATTRIBUTES};
            how.access_mode(FILE_WRITE_ATTRIBUTES).custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
        }
        how.open(folder).unwrap()
    }

    fn begin(home: &Home, run: &str, build: &str) {
        let folder = home.runs().join(run);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("journal.jsonl"), "").unwrap();
        note(&folder, build).unwrap();
    }

    #[test]
    fn builds_that_no_run_needs_go_and_one_spare_stays() {
        let (_folder, home) = home();
        let [newest, spare, old, needed] =
            [("new", 0), ("spare", 10), ("old", 20), ("needed", 30)].map(|(b, a)| put(&home, b, a));
        begin(&home, "20261101-101010-aaaaaa", "needed");
        prune(&home, "new");
        assert!(newest.exists() && spare.exists() && needed.exists());
        assert!(!old.exists());
    }

    #[test]
    fn what_did_not_arrive_goes_when_it_is_old() {
        let (_folder, home) = home();
        let bin = home.folder().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let [old, fresh] = [("incoming-1", STALE.as_secs() + 60), ("incoming-2", 60)].map(|(name, age)| {
            let path = bin.join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            path
        });
        let build = put(&home, "build", STALE.as_secs() * 2);
        remove_stale(&home);
        assert!(!old.exists() && fresh.exists() && build.exists());
    }

    #[test]
    fn a_run_is_finished_by_the_build_that_began_it() {
        let (_folder, home) = home();
        let this = std::env::current_exe().unwrap();
        assert_eq!(for_worker(&home).unwrap(), this);
        begin(&home, "20261101-101010-aaaaaa", "gone");
        assert_eq!(for_worker(&home).unwrap(), this, "a build that is not there any more cannot");
        let there = put(&home, "there", 0);
        begin(&home, "20261101-101011-aaaaaa", "there");
        assert_eq!(for_worker(&home).unwrap(), there);
    }
}
