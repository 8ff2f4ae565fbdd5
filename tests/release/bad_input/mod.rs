//! Bad input: each kind of it is refused with words that help, the right exit code, and nothing changed.

mod commands;
mod files;
mod journals;
mod kits;
mod machines;
mod plans;

use crate::support::Fleet;
use ibexdeploy::rehearsal::KitShape;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What every inventory of these tests begins with; an instrument is reached where its sandbox is.
const HEAD: &str = "defaults:
  host: '{{ name }}.isis.cclrc.ac.uk'
  transport: {local: {root: '../{{ name }}'}}
  accounts: {instrument: {user: spudulike, session: logged_on}}
  places: {server: C:\\Instrument\\Apps\\EPICS, client: C:\\Instrument\\Apps\\Client_E4}
";

/// Two sandboxes with the older release, and a folder for what an operator writes.
struct Site {
    fleet: Fleet,
    before: BTreeMap<String, String>,
}

impl Site {
    fn new() -> Self {
        let fleet = Fleet::new(&KitShape::small().without_git());
        fleet.make(&["NDXLARMOR", "NDXZOOM"]);
        let site = Self { fleet, before: BTreeMap::new() };
        std::fs::create_dir(site.path("")).unwrap();
        site.put("ndx.yaml", format!("{HEAD}instruments: {{NDXLARMOR: {{}}, NDXZOOM: {{}}}}\n"));
        Self { before: site.state_of_sandboxes(), ..site }
    }

    /// A path in the folder of what the operator writes.
    fn path(&self, name: &str) -> PathBuf {
        self.fleet.dir().join("site").join(name)
    }

    fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Every file of the sandboxes, apart from the log of what was asked.
    fn state_of_sandboxes(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for name in ["NDXLARMOR", "NDXZOOM"] {
            let tree = Fleet::tree(&self.fleet.root(name)).into_iter();
            let kept = tree.filter(|(path, _)| path != ".ibexdeploy/worker.log");
            all.extend(kept.map(|(path, hash)| (format!("{name}/{path}"), hash)));
        }
        all
    }

    /// The binary in the operator's folder, with no terminal.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("IBEXDEPLOY_")) {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.path("")).stdin(Stdio::null());
        command.env("IBEXDEPLOY_STATE", self.fleet.dir().join("state")).env("IBEXDEPLOY_KITS", self.fleet.kits());
        command.env("IBEXDEPLOY_INVENTORY", "ndx.yaml").env("IBEXDEPLOY_PLAYBOOKS", ".");
        command
    }

    /// Exit code and what a person reads, without what differs from run to run.
    fn said(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let text = String::from_utf8([output.stderr, output.stdout].concat()).unwrap();
        format!("exit {}\n{}", output.status.code().unwrap(), text.replace(&self.fleet.dir().display().to_string(), "DIR"))
    }

    /// The same of arguments, having made sure that nothing changed.
    fn refused(&self, arguments: &[&str]) -> String {
        let said = self.said(&mut self.command(arguments));
        assert_eq!(self.state_of_sandboxes(), self.before, "{arguments:?} changed something: {said}");
        said
    }

    /// What is said about a playbook that is to be run on a sandbox.
    fn playbook(&self, text: impl AsRef<[u8]>) -> String {
        self.put("t.yaml", text);
        self.refused(&["run", "t", "NDXLARMOR", "--yes"])
    }

    /// What is said about an inventory when a release is wanted.
    fn inventory(&self, text: impl AsRef<[u8]>) -> String {
        self.put("bad.yaml", text);
        self.refused(&["release", "--all", "--yes", "--inventory", "bad.yaml"])
    }
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}
