//! The agent's home: where its lock, its runs and what it knows about the instrument lie.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::events::RunId;
use crate::files::{read_json, write_json};
use crate::paths::Drives;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The longest path of a local socket that every supported system takes, in bytes (`sun_path` less its final zero).
const SOCKET_PATH_LIMIT: usize = 107;

/// In a run's folder: which one it is of those that this instrument ever had.
const NUMBER_OF_RUN: &str = "number";

/// The folders and files of one agent.
#[derive(Debug, Clone)]
pub struct Home {
    folder: PathBuf,
    root: Option<PathBuf>,
}

/// Which instrument a sandbox stands for; `identity.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub name: String,
    pub host: String,
}

impl Home {
    /// The home of a sandbox, or of the machine when there is no root; made when missing.
    ///
    /// # Errors
    /// When it cannot be made, belongs to somebody else, or its path is too long for a local socket.
    pub fn open(root: Option<&Path>) -> Result<Self> {
        let root = match root {
            Some(root) => Some(std::path::absolute(root).cannot(|| format!("find the folder {}", root.display()))?),
            None => None,
        };
        let folder = match &root {
            Some(root) => root.join(".ibexdeploy"),
            #[cfg(windows)]
            None => crate::platform::windows::home(),
            #[cfg(not(windows))]
            None => {
                return Err(Error::usage("this system has no Windows drives, so the agent needs a sandbox")
                    .next("give `--root DIR`, the folder of the sandbox"));
            }
        };
        let home = Self { folder, root };
        for part in ["", "runs", "index"] {
            let path = home.folder.join(part);
            std::fs::create_dir_all(&path).cannot(|| format!("make the agent's folder {}", path.display()))?;
        }
        home.check_owner()?;
        home.check_socket_path()?;
        Ok(home)
    }

    #[cfg(unix)]
    fn check_owner(&self) -> Result<()> {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let shown = self.folder.display();
        let data = std::fs::metadata(&self.folder).cannot(|| format!("look at {shown}"))?;
        let me = rustix::process::geteuid().as_raw();
        if data.uid() != me {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("the agent's home {shown} belongs to user {}, not to user {me}", data.uid()),
            )
            .next("run as its owner, or remove the folder if nobody uses it"));
        }
        std::fs::set_permissions(&self.folder, std::fs::Permissions::from_mode(0o700))
            .cannot(|| format!("close {shown} to others"))
    }

    /// Anybody may make a folder in `ProgramData`: what is run and believed from there must be an administrator's. The
    /// instrument's account runs programs from `bin`.
    #[cfg(windows)]
    fn check_owner(&self) -> Result<()> {
        use crate::platform::windows::access_list::{self, Sid};
        use crate::platform::windows::rights;
        let rights_now = rights::of(&self.folder)?;
        let own = rights::own_account()?;
        let owner = access_list::owner(&rights_now);
        if !owner.as_ref().is_some_and(|owner| [Sid::system(), Sid::administrators(), own.clone()].contains(owner)) {
            let owner = owner.map_or_else(|| "nobody who is known".to_owned(), |owner| owner.to_string());
            return Err(Error::new(
                ErrorKind::Refused,
                format!("the agent's home {} belongs to {owner}, who is no administrator", self.folder.display()),
            )
            .next("look who made it, and remove the folder if nobody uses it"));
        }
        let bin = self.folder.join("bin");
        if access_list::list(&rights_now) != access_list::list(&access_list::for_administrators(&own)) {
            std::fs::create_dir_all(&bin).cannot(|| format!("make the agent's folder {}", bin.display()))?;
            rights::close_to_others(&self.folder)?;
            rights::open_for_reading(&bin)?;
        }
        Ok(())
    }

    fn check_socket_path(&self) -> Result<()> {
        let length = self.socket().as_os_str().len();
        if cfg!(unix) && length > SOCKET_PATH_LIMIT {
            let root = self.root.as_deref().unwrap_or(&self.folder);
            return Err(Error::bad_input(format!(
                "the path of the sandbox {} is too long: its socket would take {length} bytes of the {SOCKET_PATH_LIMIT} the system allows",
                root.display()
            ))
            .next(format!("choose a folder whose path is {} bytes shorter", length - SOCKET_PATH_LIMIT)));
        }
        Ok(())
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The sandbox's root, or nothing on a real machine.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    pub fn drives(&self) -> Drives {
        match &self.root {
            Some(root) => Drives::Sandbox { root: root.clone() },
            None => Drives::Native,
        }
    }

    /// What the worker says of itself.
    pub fn worker_log(&self) -> PathBuf {
        self.folder.join("worker.log")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.join("worker.sock")
    }

    pub fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }

    /// The folder of a run; its name must be one that [`RunId::new`] could have made.
    ///
    /// # Errors
    /// When the name could lead out of the folder of runs.
    pub fn run(&self, run: &RunId) -> Result<PathBuf> {
        let name = run.as_str();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
            return Err(Error::usage(format!("`{name}` is not the name of a run")).next("`ibexdeploy runs list` shows the runs"));
        }
        Ok(self.runs().join(name))
    }

    /// The folders of all runs, the oldest first.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn run_dirs(&self) -> Result<Vec<PathBuf>> {
        Ok(self.numbered_runs()?.into_iter().map(|(_, dir)| dir).collect())
    }

    /// Gives the run in `dir` its place after all others. The names of runs tell their order by the clocks of those who
    /// made them, and those may be years apart.
    ///
    /// # Errors
    /// When the runs cannot be listed or the number cannot be written.
    pub fn number_run(&self, dir: &Path) -> Result<()> {
        let highest = self.numbered_runs()?.last().map_or(0, |(number, _)| *number);
        write_json(&dir.join(NUMBER_OF_RUN), &(highest + 1))
    }

    /// The folders of runs with their numbers, the oldest first. Without a number, a run is older than those with one.
    fn numbered_runs(&self) -> Result<Vec<(u64, PathBuf)>> {
        let runs = self.runs();
        let listed = std::fs::read_dir(&runs).cannot(|| format!("list {}", runs.display()))?;
        let mut dirs: Vec<(u64, PathBuf)> = listed
            .filter_map(|e| e.ok().map(|e| e.path()))
            .filter(|p| p.join("plan.json").exists() || p.join("journal.jsonl").exists())
            .map(|p| (read_json(&p.join(NUMBER_OF_RUN)).ok().flatten().unwrap_or(0), p))
            .collect();
        dirs.sort();
        Ok(dirs)
    }

    /// Which instrument a sandbox stands for, when it says so.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>> {
        read_json(&self.folder.join("identity.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_path_too_long_for_a_socket_is_named_with_its_limit() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("x".repeat(110));
        let error = Home::open(Some(&root)).unwrap_err();
        assert!(error.details().message.contains("107"), "{error}");
        assert!(error.details().message.contains(root.to_str().expect("text")), "{error}");
    }

    #[test]
    fn names_of_runs_stay_inside() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::open(Some(folder.path()))?;
        for bad in ["", "..", "a/b", "a\\b", "a.b"] {
            assert!(home.run(&RunId(bad.into())).is_err(), "{bad}");
        }
        assert!(home.run(&RunId("20261123-101112-abcdef".into())).is_ok());
        Ok(())
    }

    #[test]
    fn runs_stand_in_the_order_in_which_they_came_whatever_the_clocks_of_their_makers_say() -> Result<()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::open(Some(folder.path()))?;
        let mut made = Vec::new();
        for name in ["20271123-101112-zzzzzz", "20201123-101112-aaaaaa", "20201123-101112-bbbbbb", "20190101-000000-cccccc"] {
            let dir = home.run(&RunId(name.into()))?;
            std::fs::create_dir(&dir).expect("a folder");
            home.number_run(&dir)?;
            std::fs::write(dir.join("plan.json"), "{}").expect("a plan");
            made.push(dir);
        }
        assert_eq!(home.run_dirs()?, made);
        Ok(())
    }
}
