//! What a sandbox only simulates: services, sessions, memory, the boot id. Kept in `sandbox.json`.

use super::disks::SimulatedDisk;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::platform::ScheduledTask;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

/// The simulated part of a machine. A test or a person may edit the file; it is read fresh each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Made once, and anew by every restart.
    pub(super) boot_id: String,
    pub(super) services: BTreeMap<String, SimulatedService>,
    /// Users with a session.
    pub(super) logged_on: Vec<String>,
    /// Why a restart is pending.
    pub(super) pending_reboot: Option<String>,
    /// Installed memory in bytes.
    pub(super) memory: u64,
    /// The scheduler's tasks; nobody starts them by themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tasks: Vec<ScheduledTask>,
    /// A restart ends the agent's own programs as well, as on a real machine: whoever reaches it next starts them again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) restart_ends_agent: bool,
    /// Updates of the operating system, in the order in which they are offered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) updates: Vec<SimulatedUpdate>,
    /// Virtual disks that are attached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) disks: Vec<SimulatedDisk>,
    /// Who may read shares, with passwords that are no secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) share_accounts: BTreeMap<String, String>,
}

/// An update that only exists in the state file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SimulatedUpdate {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) bytes: u64,
    /// How its installer ends. 3010 and 1641 want a restart, and 1641 begins it; another one than 0 is a failure.
    pub(super) exit_code: i32,
    /// It wants a restart, whatever its exit code says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) needs_restart: bool,
    /// Offered only once that one is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
    /// So many attempts find another installation at work.
    pub(super) busy: u32,
    /// Its installer never ends.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) hangs: bool,
    /// It is offered again although its installer ended well.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) offered_again: bool,
    pub(super) installed: bool,
    /// Installed, once the machine has restarted.
    pub(super) waits_for_restart: bool,
    /// How often its installer was started.
    pub(super) started: u32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            boot_id: String::new(),
            services: BTreeMap::from([("MYSQL80".to_owned(), SimulatedService::default())]),
            logged_on: vec!["spudulike".to_owned()],
            pending_reboot: None,
            memory: 16 << 30,
            tasks: Vec::new(),
            restart_ends_agent: false,
            updates: Vec::new(),
            disks: Vec::new(),
            share_accounts: BTreeMap::new(),
        }
    }
}

/// A service of the state file. One without a program is only simulated; that of another one really runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SimulatedService {
    pub(super) running: bool,
    /// Starts with the machine.
    pub(super) automatic: bool,
    /// A real process that stands for the service: the service runs as long as this one lives, and stopping ends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<u32>,
    /// Asked to stop, it stays at stopping until its process is ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) stubborn: bool,
    /// A stubborn service, or one with a program, that was asked to stop.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) stopping: bool,
    /// Why it refuses to start, when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broken: Option<String>,
    /// What is started: a native path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) program: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) arguments: Vec<String>,
    /// An automatic one comes after everything else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) delayed: bool,
    /// The system would start it again when it ends by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) restarts: bool,
}

impl Default for SimulatedService {
    fn default() -> Self {
        Self {
            running: true,
            automatic: true,
            pid: None,
            stubborn: false,
            stopping: false,
            broken: None,
            program: None,
            arguments: Vec::new(),
            delayed: false,
            restarts: false,
        }
    }
}

/// The door to the state file.
#[derive(Debug, Clone)]
pub(super) struct StateFile {
    home: PathBuf,
}

impl StateFile {
    pub(super) fn new(home: PathBuf) -> Self {
        Self { home }
    }

    /// The state as it is now; made when there is none yet.
    pub(super) fn read(&self) -> Result<State> {
        let _lock = self.lock()?;
        match self.load()? {
            Some(state) => Ok(state),
            None => {
                let state = completed(State::default());
                self.store(&state)?;
                Ok(state)
            }
        }
    }

    /// Changes the state; nobody else changes it in between.
    pub(super) fn change(&self, change: impl FnOnce(&mut State) -> Result<()>) -> Result<()> {
        let _lock = self.lock()?;
        let mut state = match self.load()? {
            Some(state) => state,
            None => completed(State::default()),
        };
        change(&mut state)?;
        self.store(&state)
    }

    fn path(&self) -> PathBuf {
        self.home.join("sandbox.json")
    }

    fn lock(&self) -> Result<File> {
        std::fs::create_dir_all(&self.home).cannot(|| format!("make {}", self.home.display()))?;
        let path = self.home.join("sandbox.lock");
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).cannot(|| format!("open {}", path.display()))?;
        file.lock().cannot(|| format!("lock {}", path.display()))?;
        Ok(file)
    }

    /// The state in the file, with a boot id even when somebody wrote a file without one.
    fn load(&self) -> Result<Option<State>> {
        let path = self.path();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format!("read {}", path.display()), &e)),
        };
        let state: State = serde_json::from_str(&text).map_err(|e| {
            Error::new(ErrorKind::Integrity, format!("the sandbox's state file {} cannot be read", path.display()))
                .because(e)
                .next("correct the file, or remove it: it is made again with a running MYSQL80 and a new boot id")
        })?;
        if state.boot_id.is_empty() {
            let state = completed(state);
            self.store(&state)?;
            return Ok(Some(state));
        }
        Ok(Some(state))
    }

    fn store(&self, state: &State) -> Result<()> {
        let path = self.path();
        let text =
            serde_json::to_string_pretty(state).map_err(|e| Error::internal("cannot write the sandbox's state").because(e))?;
        files::write_unflushed(&path, (text + "\n").as_bytes())
    }
}

fn completed(mut state: State) -> State {
    if state.boot_id.is_empty() {
        state.boot_id = new_boot_id();
    }
    state
}

/// A boot id that no start of any machine has had.
pub(super) fn new_boot_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
