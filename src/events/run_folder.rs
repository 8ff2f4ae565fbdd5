//! What the controller keeps of a run: `<state>/runs/<id>/{plan.json, events.jsonl, ibexdeploy.log, summary.json}`.

use super::log::is_locked;
use super::{EventLog, EventWriter, RunId, RunState, Summary};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::nearest::nearest;
use crate::plan::Plan;
use serde::Serialize;
use std::env;
use std::path::{Path, PathBuf};

/// The controller's folder of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    id: RunId,
    path: PathBuf,
}

/// Makes sure that this controller can keep what it does, before anything is done.
///
/// # Errors
/// [`ErrorKind::BadInput`] when the state folder cannot be made or written.
pub fn check_state_folder(state: &Path) -> Result<()> {
    let runs = state.join("runs");
    let tried = std::fs::create_dir_all(&runs).and_then(|()| tempfile::tempfile_in(&runs));
    tried.map(drop).map_err(|e| unwritable(state, &e))
}

/// Makes the state folder, where there is none, and closes it to all but its owner, administrators and the system: it may lie
/// in a folder that everybody can read. What fails here shows where the folder is written.
#[cfg(windows)]
pub fn own_state_folder(state: &Path) {
    if !state.exists()
        && std::fs::create_dir_all(state).is_ok()
        && let Err(error) = crate::platform::windows::rights::close_to_others(state)
    {
        // A file system without rights, such as a stick's.
        tracing::warn!(%error, "the state folder stays open to others");
    }
}

fn unwritable(state: &Path, error: &std::io::Error) -> Error {
    Error::bad_input(format!("cannot write the state folder {}", state.display()))
        .because(error)
        .next("make it writable, or name another with --state DIR or IBEXDEPLOY_STATE; nothing was touched")
}

/// Where runs, logs and caches of this controller are kept: `option` when there is one, else the user's state folder.
///
/// # Errors
/// When the system names no such folder.
pub fn state_folder(option: Option<&Path>) -> Result<PathBuf> {
    if let Some(folder) = option {
        return Ok(folder.to_owned());
    }
    user_state_folder(|name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
}

fn user_state_folder(var: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let (first, home, below) = if cfg!(windows) {
        ("LOCALAPPDATA", "USERPROFILE", r"AppData\Local")
    } else {
        ("XDG_STATE_HOME", "HOME", ".local/state")
    };
    var(first)
        // The rule for XDG folders: a relative one does not count.
        .filter(|folder| folder.is_absolute())
        .or_else(|| var(home).map(|home| home.join(below)))
        .map(|folder| folder.join("ibexdeploy"))
        .ok_or_else(|| {
            Error::usage(format!("no state folder: neither {first} nor {home} is set")).next("name a folder with --state DIR")
        })
}

impl RunFolder {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// When the state folder cannot be written, or the run is there already.
    pub fn create(state: &Path, run: &RunId) -> Result<Self> {
        let runs = state.join("runs");
        std::fs::create_dir_all(&runs).map_err(|e| unwritable(state, &e))?;
        let path = runs.join(run.as_str());
        std::fs::create_dir(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => Error::new(ErrorKind::Refused, format!("the run {run} is there already"))
                .next(format!("go on with it: ibexdeploy runs resume {run}")),
            _ => unwritable(state, &e),
        })?;
        Ok(Self { id: run.clone(), path })
    }

    /// The run with this name, or the only one whose name begins so.
    ///
    /// # Errors
    /// When no run or more than one is meant; the nearest name is told.
    pub fn open(state: &Path, id: &str) -> Result<Self> {
        let all = Self::list(state)?;
        if let Some(exact) = all.iter().find(|f| f.id.as_str() == id) {
            return Ok(exact.clone());
        }
        let meant: Vec<&Self> = all.iter().filter(|f| !id.is_empty() && f.id.as_str().starts_with(id)).collect();
        match meant.as_slice() {
            [one] => Ok((*one).clone()),
            [] => {
                let near = nearest(id, all.iter().map(|f| f.id.as_str()));
                let next = match (near, all.first()) {
                    (Some(near), _) => format!("did you mean {near}? `ibexdeploy runs list` shows all"),
                    (None, Some(newest)) => format!("the newest is {}; `ibexdeploy runs list` shows all", newest.id),
                    (None, None) => format!("there are no runs in {}; --state names another folder", state.display()),
                };
                Err(Error::usage(format!("there is no run `{id}`")).next(next))
            }
            [first, second, ..] => {
                Err(Error::usage(format!("`{id}` begins the names of {} runs: {}, {} ...", meant.len(), first.id, second.id))
                    .next("write more of the name"))
            }
        }
    }

    /// [`RunFolder::open`], or the newest run without a name.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn open_or_newest(state: &Path, id: Option<&str>) -> Result<Self> {
        match id {
            Some(id) => Self::open(state, id),
            None => Self::list(state)?.into_iter().next().ok_or_else(|| {
                Error::usage(format!("there are no runs in {}", state.display()))
                    .next("`ibexdeploy release PATTERN --rehearse` makes one; --state names another folder")
            }),
        }
    }

    /// All runs, the newest first.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn list(state: &Path) -> Result<Vec<Self>> {
        let runs = state.join("runs");
        let entries = match std::fs::read_dir(&runs) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| {
                Error::bad_input(format!("cannot read the folder of runs {}", runs.display()))
                    .because(e)
                    .next("make it readable, or name another state folder with --state DIR or IBEXDEPLOY_STATE")
            })?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.cannot(|| format!("read the folder of runs {}", runs.display()))?;
            if entry.path().is_dir()
                && let Ok(name) = entry.file_name().into_string()
            {
                all.push(Self { id: RunId(name), path: entry.path() });
            }
        }
        all.sort_by(|a, b| b.id.cmp(&a.id));
        Ok(all)
    }

    pub fn id(&self) -> &RunId {
        &self.id
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where `tracing` writes, as JSON lines.
    pub fn log_file(&self) -> PathBuf {
        self.path.join("ibexdeploy.log")
    }

    fn events_file(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    fn lock_file(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// Keeps the plan.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_plan(&self, plan: &Plan) -> Result<()> {
        self.save("plan.json", plan)
    }

    /// The plan as it was kept.
    ///
    /// # Errors
    /// When there is none, or it is not readable.
    pub fn plan(&self) -> Result<Plan> {
        let path = self.path.join("plan.json");
        let bytes = std::fs::read(&path).cannot(|| format!("read the plan of the run {}", self.id))?;
        serde_json::from_slice(&bytes).map_err(|e| {
            Error::new(ErrorKind::Integrity, format!("the plan in {} is damaged", path.display()))
                .because(e)
                .next("each instrument has its own part: `ibexdeploy runs resume --of PATTERN` goes on from there")
        })
    }

    /// The writer of this run's events.
    ///
    /// # Errors
    /// See [`EventWriter::open`].
    pub fn writer(&self) -> Result<EventWriter> {
        EventWriter::open(&self.events_file(), &self.lock_file())
    }

    /// True while a controller on this machine leads the run.
    pub fn is_led(&self) -> bool {
        is_locked(&self.lock_file())
    }

    /// The events, as far as they can be read.
    ///
    /// # Errors
    /// When the file cannot be read at all. A run that ended before its first event has none.
    pub fn read(&self) -> Result<EventLog> {
        let path = self.events_file();
        if path.exists() { EventLog::read(&path) } else { Ok(EventLog::default()) }
    }

    /// Keeps the run in a few numbers, for `runs list`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_summary(&self, state: &RunState) -> Result<()> {
        self.save("summary.json", &state.summary(&self.id))
    }

    /// The run in a few numbers; made from the events when none was kept or the run went on since.
    ///
    /// # Errors
    /// When the events cannot be read.
    pub fn summary(&self) -> Result<Summary> {
        let path = self.path.join("summary.json");
        let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        if modified(&path) >= modified(&self.events_file())
            && let Ok(bytes) = std::fs::read(&path)
            && let Ok(summary) = serde_json::from_slice(&bytes)
        {
            return Ok(summary);
        }
        Ok(RunState::of(&self.read()?.events).summary(&self.id))
    }

    /// True when no controller saw the run to its end.
    ///
    /// # Errors
    /// See [`RunFolder::summary`].
    pub fn is_unfinished(&self) -> Result<bool> {
        let summary = self.summary()?;
        Ok(summary.exit_code.is_none() || summary.open > 0)
    }

    /// Removes the folder with all that is in it.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] while a controller leads the run; when files cannot be removed.
    pub fn remove(&self) -> Result<()> {
        if self.is_led() {
            return Err(Error::new(ErrorKind::Refused, format!("the run {} is going on", self.id)));
        }
        std::fs::remove_dir_all(&self.path).cannot(|| format!("remove {}", self.path.display()))
    }

    /// Writes beside the file and renames, so that a reader never sees half of it.
    fn save<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        files::write_pretty_json(&self.path.join(name), value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::made_up::Story;
    use tempfile::TempDir;

    fn run(id: &str) -> RunId {
        RunId(id.to_owned())
    }

    #[test]
    fn runs_are_found_by_name_and_by_its_beginning() -> Result<()> {
        let state = TempDir::new().unwrap();
        for id in ["20261101-080000-aaaaaa", "20261102-080000-bbbbbb", "20261102-090000-cccccc"] {
            RunFolder::create(state.path(), &run(id))?;
        }
        let ids: Vec<String> = RunFolder::list(state.path())?.iter().map(|f| f.id().to_string()).collect();
        assert_eq!(ids, ["20261102-090000-cccccc", "20261102-080000-bbbbbb", "20261101-080000-aaaaaa"]);
        assert_eq!(RunFolder::open(state.path(), "20261101")?.id().as_str(), "20261101-080000-aaaaaa");
        assert_eq!(RunFolder::open_or_newest(state.path(), None)?.id().as_str(), "20261102-090000-cccccc");

        let two = RunFolder::open(state.path(), "20261102").unwrap_err();
        assert!(two.to_string().contains("begins the names of 2 runs"), "{two}");
        let wrong = RunFolder::open(state.path(), "20261101-080000-aaabaa").unwrap_err();
        assert_eq!(
            wrong.details().next.as_deref(),
            Some("did you mean 20261101-080000-aaaaaa? `ibexdeploy runs list` shows all")
        );
        assert!(RunFolder::open(state.path(), "").is_err());
        Ok(())
    }

    #[test]
    fn a_run_is_made_once() -> Result<()> {
        let state = TempDir::new().unwrap();
        let folder = RunFolder::create(state.path(), &run("r1"))?;
        assert_eq!(RunFolder::create(state.path(), &run("r1")).unwrap_err().kind(), ErrorKind::Refused);
        let _writer = folder.writer()?;
        assert!(folder.is_led());
        assert_eq!(folder.remove().unwrap_err().kind(), ErrorKind::Refused);
        Ok(())
    }

    #[test]
    fn a_state_folder_that_cannot_be_written_is_told() {
        let state = TempDir::new().unwrap();
        let file = state.path().join("file");
        std::fs::write(&file, "").unwrap();
        let e = RunFolder::create(&file, &run("r1")).unwrap_err();
        assert!(e.to_string().starts_with("cannot write the state folder"), "{e}");
        assert!(e.details().next.as_deref().is_some_and(|n| n.contains("--state")), "{e:?}");
    }

    #[test]
    fn without_runs_there_is_a_hint() {
        let state = TempDir::new().unwrap();
        assert_eq!(RunFolder::list(state.path()).unwrap(), []);
        assert!(RunFolder::open_or_newest(state.path(), None).unwrap_err().to_string().contains("there are no runs"));
    }

    #[test]
    fn the_summary_follows_the_events() -> Result<()> {
        let state = TempDir::new().unwrap();
        let folder = RunFolder::create(state.path(), &run("20261123-220000-abcdef"))?;
        assert!(folder.is_unfinished()?, "a run without events is not finished");
        let mut story = Story::begin(&["NDXLOQ"], false);
        story.changed("NDXLOQ", 60_000).finish(0, None);
        let mut writer = folder.writer()?;
        for event in &story.events {
            writer.append(event)?;
        }
        let from_events = folder.summary()?;
        assert_eq!((from_events.exit_code, from_events.instruments), (Some(0), 1));
        folder.save_summary(&RunState::of(&story.events))?;
        assert_eq!(folder.summary()?, from_events);
        assert!(!folder.is_unfinished()?);
        Ok(())
    }

    #[test]
    fn the_users_state_folder() {
        let with = |wanted: &'static [(&'static str, &'static str)]| {
            user_state_folder(|name| wanted.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v)))
        };
        assert!(with(&[]).unwrap_err().to_string().contains("no state folder"));
        if !cfg!(windows) {
            assert_eq!(with(&[("HOME", "/home/me")]).unwrap(), Path::new("/home/me/.local/state/ibexdeploy"));
            assert_eq!(with(&[("XDG_STATE_HOME", "/s"), ("HOME", "/home/me")]).unwrap(), Path::new("/s/ibexdeploy"));
            assert_eq!(with(&[("XDG_STATE_HOME", "s"), ("HOME", "/h")]).unwrap(), Path::new("/h/.local/state/ibexdeploy"));
        }
    }
}
