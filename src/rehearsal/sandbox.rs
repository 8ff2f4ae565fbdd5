//! Sandboxes: folders that stand for instruments.

use crate::error::{Error, IoContext, Result};
use crate::kit::Release;
use crate::paths::{Drives, WinPath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The agent's folder in a sandbox.
pub const HOME: &str = ".ibexdeploy";

/// An instrument that a sandbox shall stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    /// For example `NDXLARMOR`.
    pub name: String,
    pub host: String,
    pub places: BTreeMap<String, WinPath>,
}

/// Who a sandbox is: `<root>/.ibexdeploy/identity.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub name: String,
    pub host: String,
}

/// What `platform/` simulates, when the sandbox is made: `<root>/.ibexdeploy/sandbox.json`. The platform adds what is
/// not said here, and keeps the file from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    pub services: BTreeMap<String, SandboxService>,
    /// Users with a session.
    pub logged_on: Vec<String>,
    /// Bytes.
    pub memory: u64,
    /// Updates of the operating system that are offered.
    pub updates: Vec<SandboxUpdate>,
}

/// A simulated update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxUpdate {
    pub id: String,
    pub title: String,
    pub bytes: u64,
    /// How its installer ends.
    pub exit_code: i32,
    /// Offered only once that one is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A simulated service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxService {
    pub running: bool,
    /// Starts with the machine.
    pub automatic: bool,
}

impl Default for SandboxState {
    fn default() -> Self {
        Self {
            services: BTreeMap::from([("MYSQL80".to_owned(), SandboxService { running: true, automatic: true })]),
            logged_on: vec!["spudulike".to_owned()],
            memory: 16 << 30,
            updates: offered(),
        }
    }
}

/// What a machine is typically offered: one that needs a restart, one that does not, and one that comes after the restart.
fn offered() -> Vec<SandboxUpdate> {
    let update = |id: &str, title: &str, bytes, exit_code, after: Option<&str>| SandboxUpdate {
        id: id.to_owned(),
        title: title.to_owned(),
        bytes,
        exit_code,
        after: after.map(str::to_owned),
    };
    vec![
        update("KB5048652", "Cumulative update for Windows", 640_000_000, 3010, None),
        update("KB890830", "Windows Malicious Software Removal Tool", 71_000_000, 0, None),
        update("KB5049613", "Cumulative update for .NET Framework", 78_000_000, 3010, Some("KB5048652")),
    ]
}

/// A sandbox on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    pub spec: SandboxSpec,
    pub root: PathBuf,
}

/// The place that each component is installed to, and the folder inside the component that is its tree.
const INSTALLED: [(&str, Option<&str>, &str); 3] =
    [("EPICS", None, "server"), ("Client", Some("Client"), "client"), ("genie_python_3", None, "python")];

impl Sandbox {
    /// The sandbox of an instrument in the folder of sandboxes, whether it exists or not.
    pub fn at(folder: &Path, spec: &SandboxSpec) -> Self {
        Self { root: folder.join(&spec.name), spec: spec.clone() }
    }

    /// True when it was made to the end.
    pub fn exists(&self) -> bool {
        self.state_file().exists()
    }

    /// Makes it: its places as folders, who it is, and its state.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn make(&self, state: &SandboxState) -> Result<()> {
        for place in self.spec.places.values() {
            make_folder(&self.native(place)?)?;
        }
        for folder in ["C:\\Instrument\\Var\\tmp", "C:\\Instrument\\Var\\logs", "C:\\Instrument\\Var\\Autosave", "C:\\data"] {
            make_folder(&self.native(&WinPath::parse(folder)?)?)?;
        }
        make_folder(&self.root.join(HOME))?;
        let identity = Identity { name: self.spec.name.clone(), host: self.spec.host.clone() };
        write_json(&self.root.join(HOME).join("identity.json"), &identity)?;
        write_json(&self.state_file(), state)
    }

    /// Refuses a folder that holds something else than a sandbox.
    ///
    /// # Errors
    /// When it does.
    pub fn check_place(&self) -> Result<()> {
        let is_empty = || self.root.read_dir().is_ok_and(|mut inside| inside.next().is_none());
        if !self.root.exists() || self.root.join(HOME).is_dir() || is_empty() {
            return Ok(());
        }
        Err(Error::usage(format!("{} is no sandbox: it holds something else", self.root.display()))
            .next("nothing was changed there; rehearse in a folder of its own: --rehearse=DIR"))
    }

    /// Removes it, and nothing that is no sandbox.
    ///
    /// # Errors
    /// When what lies there is something else, or cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.check_place()?;
        // It would end by itself, but not if the sandbox is there again at once.
        super::mysql::end_all(&self.root)?;
        #[cfg(windows)]
        if self.root.join(HOME).is_dir() {
            super::site_programs::end_server(&self.root)?;
        }
        crate::files::remove_folder(&self.root)
    }

    fn state_file(&self) -> PathBuf {
        self.root.join(HOME).join("sandbox.json")
    }

    /// Puts a release in place by copying, as if it had been there for long.
    ///
    /// # Errors
    /// When files cannot be copied.
    pub fn install(&self, release: &Release) -> Result<()> {
        for (component, inner, place) in INSTALLED {
            let (Some(from), Some(to)) = (release.component(component), self.spec.places.get(place)) else { continue };
            let from = inner.map_or_else(|| from.to_path_buf(), |inner| from.join(inner));
            super::copy_tree(&from, &self.native(to)?)?;
        }
        Ok(())
    }

    /// The native path of a Windows path in this sandbox.
    ///
    /// # Errors
    /// Never for paths with a drive or a share.
    pub fn native(&self, path: &WinPath) -> Result<PathBuf> {
        Drives::Sandbox { root: self.root.clone() }.native(path)
    }

    /// The native path of one of its places.
    ///
    /// # Errors
    /// When it has no such place.
    pub fn place(&self, name: &str) -> Result<PathBuf> {
        let path = self.spec.places.get(name).ok_or_else(|| Error::usage(format!("{} has no place `{name}`", self.spec.name)))?;
        self.native(path)
    }

    /// Gives PVs values for the sandbox's `caget`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_pvs(&self, pvs: &[(&str, &str)]) -> Result<()> {
        let file = self.native(&WinPath::parse("C:\\Instrument\\Var\\sandbox_pvs.txt")?)?;
        let text: String = pvs.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        std::fs::write(&file, text).cannot(|| format!("write {}", file.display()))
    }
}

/// Makes the sandboxes that are not there yet, several at a time, and installs `installed` into the new ones.
///
/// # Errors
/// The first that is met. A sandbox that was not made to the end is made again the next time.
pub fn make_sandboxes(folder: &Path, specs: &[SandboxSpec], installed: Option<&Release>) -> Result<Vec<Sandbox>> {
    let sandboxes: Vec<_> = specs.iter().map(|spec| Sandbox::at(folder, spec)).collect();
    let has_git = installed.and_then(|release| release.component("EPICS")).is_some_and(|server| server.join(".git").exists());
    let pattern = match has_git && !sandboxes.iter().all(Sandbox::exists) {
        true => Some(super::settings::Pattern::make(folder)?),
        false => None,
    };
    super::in_parallel(&sandboxes, |sandbox| {
        if sandbox.exists() {
            return Ok(());
        }
        sandbox.remove()?;
        // First: from here on the folder is known as a sandbox, however far it gets.
        make_folder(&sandbox.root.join(HOME))?;
        if let Some(release) = installed {
            sandbox.install(release)?;
        }
        if let Some(pattern) = &pattern {
            super::settings::make(sandbox, pattern)?;
        }
        super::seci::make(sandbox)?;
        // Last: `sandbox.json` says that all is there.
        sandbox.make(&SandboxState::default())
    })?;
    Ok(sandboxes)
}

fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).cannot(|| format!("make the folder {}", folder.display()))
}

fn write_json<T: Serialize>(file: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::internal(format!("cannot write {}", file.display())).because(e))?;
    std::fs::write(file, text + "\n").cannot(|| format!("write {}", file.display()))
}
