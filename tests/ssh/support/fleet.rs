//! Sandboxes behind SSH servers, and the real binary for them.

use super::{Sshd, output_of};
use crate::command::{Ended, Watched};
use ibexdeploy::content::ContentHash;
use ibexdeploy::rehearsal::{KitShape, make_kits};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const BINARY: &str = env!("CARGO_BIN_EXE_ibexdeploy");
/// The release that sandboxes do not have yet.
pub(crate) const NEWER: &str = "26.9.0";

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Sandboxes, releases, inventory and state of one test, in a folder with a short path.
pub(crate) struct Fleet {
    dir: tempfile::TempDir,
    /// Whether `scripts/fleet` has started the servers, and ends them.
    scripted: bool,
    /// Secrets by name; the binary finds their values in its environment.
    secrets: BTreeMap<String, String>,
}

/// The settings under `transport: ssh:` of an instrument.
#[derive(Debug, Clone, Default)]
pub(crate) struct SshSettings(BTreeMap<String, String>);

impl SshSettings {
    /// Those that reach a server by its own key, all of them absolute.
    pub(crate) fn of(sshd: &Sshd) -> Self {
        Self::default()
            .with("user", sshd.user())
            .with("address", "127.0.0.1")
            .with_port(sshd.port())
            .with("key", sshd.key().display())
            .with("known_hosts", sshd.known_hosts().display())
            .with("timeout", "20s")
    }

    /// Sets a text, or replaces it.
    pub(crate) fn with(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        // As JSON, so that no value is taken for something else.
        self.0.insert(key.to_owned(), serde_json::Value::from(value.to_string()).to_string());
        self
    }

    /// The server's own port, or that of a proxy in front of it.
    pub(crate) fn with_port(mut self, port: u16) -> Self {
        self.0.insert("port".to_owned(), port.to_string());
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.0.remove(key);
        self
    }

    /// Sets a text that is not set yet.
    pub(super) fn or(self, key: &str, value: impl std::fmt::Display) -> Self {
        if self.0.contains_key(key) { self } else { self.with(key, value) }
    }

    /// The folder that stands for the drives, where it is set.
    pub(super) fn root(&self) -> Option<PathBuf> {
        self.0.get("root").and_then(|json| serde_json::from_str(json).ok())
    }

    /// One below the other, as an inventory has them.
    pub(super) fn lines(&self, indent: &str) -> String {
        self.0.iter().map(|(key, value)| format!("{indent}{key}: {value}\n")).collect()
    }
}

impl Fleet {
    /// The first instruments of the shipped inventory, with NDXLARMOR and NDXZOOM, by `scripts/fleet up`. There are two small
    /// releases, and the sandboxes have the older one.
    pub(crate) fn up(count: usize) -> Self {
        Self::empty().upped(count)
    }

    /// The same with nothing installed. The newer release is aside: see [`Fleet::bring_back`].
    pub(crate) fn up_empty(count: usize) -> Self {
        let fleet = Self::empty();
        fleet.set_aside(NEWER);
        fleet.upped(count)
    }

    fn upped(self, count: usize) -> Self {
        let mut fleet = self;
        fleet.scripted = true;
        output_of(fleet.script("up").arg(count.to_string()).args(["--bin", BINARY, "--kits"]).arg(fleet.kits()));
        fleet
    }

    /// Moves a release out of the folder of releases.
    pub(crate) fn set_aside(&self, version: &str) {
        std::fs::rename(self.kits().join(version), self.dir().join(version)).expect("a release can be moved");
    }

    /// Moves it back.
    pub(crate) fn bring_back(&self, version: &str) {
        std::fs::rename(self.dir().join(version), self.kits().join(version)).expect("a release can be moved back");
    }

    /// Adds lines at the end of a script of the newer release.
    pub(crate) fn add_to_script(&self, script: &str, lines: &str) {
        let file = std::fs::OpenOptions::new().append(true).open(self.kits().join(NEWER).join("EPICS").join(script));
        file.and_then(|mut f| f.write_all(format!("{lines}\n").as_bytes())).expect("a script can be changed");
    }

    /// Instruments of the shipped inventory behind servers of the test; sandboxes as by [`Fleet::up`]. `secrets` are names
    /// and values.
    pub(crate) fn of(instruments: &[(&str, SshSettings)], secrets: &[(&str, &str)]) -> Self {
        let mut fleet = Self::empty();
        fleet.secrets = secrets.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let names: Vec<&str> = instruments.iter().map(|(name, _)| *name).collect();
        let mut rehearse = Command::new(BINARY);
        rehearse.current_dir(REPOSITORY).args(["plan", "check", &names.join(",")]);
        rehearse.arg(format!("--rehearse={}", fleet.dir().join("sandboxes").display()));
        output_of(rehearse.arg("--kits").arg(fleet.kits()).arg("--state").arg(fleet.state()));
        fleet.write_inventory(instruments);
        fleet
    }

    fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("ibx").tempdir_in("/tmp").expect("a folder in /tmp");
        let fleet = Self { dir, scripted: false, secrets: BTreeMap::new() };
        make_kits(&fleet.kits(), &KitShape::small().without_git()).expect("kits can be made");
        fleet
    }

    /// Writes the inventory anew, with other settings. `root` is the instrument's sandbox unless given.
    pub(crate) fn write_inventory(&self, instruments: &[(&str, SshSettings)]) {
        let shipped = std::fs::read_to_string(Path::new(REPOSITORY).join("inventory/ndx.yaml")).expect("the shipped inventory");
        // Its defaults and groups stay.
        let mut text = shipped.split_once("\ninstruments:").expect("instruments").0.to_owned();
        text.push_str("\ninstruments:\n");
        for (name, settings) in instruments {
            let _ = writeln!(text, "  {name}:\n    transport:\n      ssh:");
            text.push_str(&settings.clone().or("root", self.root(name).display()).lines("        "));
            if !self.secrets.is_empty() {
                text.push_str("    secrets:\n");
            }
            for secret in self.secrets.keys() {
                let _ = writeln!(text, "      {secret}: {{env: {}}}", variable(secret));
            }
        }
        std::fs::write(self.inventory(), text).expect("an inventory can be written");
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Puts this build of the agent where the transport would bring it, so that it need not: a second name of the same file,
    /// where the file system has that.
    pub(crate) fn put_agents(&self, names: &[&str]) {
        for name in names {
            let place = agent_in(&self.root(name));
            std::fs::create_dir_all(place.parent().expect("a folder")).expect("a folder for the agent");
            if std::fs::hard_link(BINARY, &place).is_err() {
                std::fs::copy(BINARY, &place).expect("the agent can be copied");
            }
        }
    }

    /// The twin of this fleet: a rehearsal of the same instruments on sandboxes of their own.
    pub(crate) fn rehearse(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(BINARY);
        command.current_dir(REPOSITORY).args(arguments).arg(format!("--rehearse={}", self.dir().join("twins").display()));
        command.arg("--kits").arg(self.kits()).arg("--state").arg(self.dir().join("state-of-twins"));
        Ended::of(command.args(["--output", "json"]).stdin(Stdio::null()))
    }

    pub(crate) fn inventory(&self) -> PathBuf {
        self.dir().join("inventory.yaml")
    }

    /// The folder of releases.
    pub(crate) fn kits(&self) -> PathBuf {
        self.dir().join("releases")
    }

    /// The controller's state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// The sandbox of an instrument.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.dir().join("sandboxes").join(name)
    }

    /// Installed files that are not as in a release, apart from paths that begin with one of `keep`.
    pub(crate) fn unlike(&self, name: &str, version: &str, keep: &[&str]) -> Vec<String> {
        crate::command::unlike(&self.root(name), &self.kits().join(version), keep)
    }

    /// `scripts/fleet` for this folder.
    pub(crate) fn script(&self, what: &str) -> Command {
        let mut command = Command::new(Path::new(REPOSITORY).join("scripts/fleet"));
        command.args([what, "--dir"]).arg(self.dir()).stdin(Stdio::null());
        command
    }

    /// The real binary with this inventory, these releases and this state folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(arguments, "state")
    }

    /// The same for an operator with a state folder of their own, named inside the fleet.
    pub(crate) fn command_of(&self, arguments: &[&str], state: &str) -> Command {
        let mut command = Command::new(BINARY);
        command.current_dir(REPOSITORY).args(arguments);
        command.arg("--inventory").arg(self.inventory()).arg("--kits").arg(self.kits());
        command.arg("--state").arg(self.dir().join(state));
        command.envs(self.secrets.iter().map(|(name, value)| (variable(name), value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the binary to its end with JSON output.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).args(["--output", "json"]))
    }

    /// Runs the binary as another operator would, with a state folder of their own.
    pub(crate) fn run_of(&self, arguments: &[&str], state: &str) -> Ended {
        Ended::of(self.command_of(arguments, state).args(["--output", "json"]))
    }

    /// Starts the binary with JSON output, to be watched and interrupted.
    pub(crate) fn start(&self, arguments: &[&str]) -> Watched {
        Watched::start(self.command(arguments).args(["--output", "json"]))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if self.scripted {
            let down = self.script("down").output();
            if !down.as_ref().is_ok_and(|o| o.status.success()) {
                eprintln!("SSH servers may still run: {down:?}");
            }
        }
    }
}

/// The variable that holds a secret.
fn variable(secret: &str) -> String {
    format!("IBEXDEPLOY_TEST_{}", secret.to_uppercase())
}

/// Where this build of the agent belongs in a sandbox.
pub(crate) fn agent_in(root: &Path) -> PathBuf {
    static BUILD: OnceLock<String> = OnceLock::new();
    let build = BUILD.get_or_init(|| ContentHash::of_file(Path::new(BINARY)).expect("the binary can be read").short());
    root.join(".ibexdeploy/bin").join(build).join("ibexdeploy")
}
