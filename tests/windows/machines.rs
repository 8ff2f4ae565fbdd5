//! Wine instruments of one test: `scripts/fleet` starts and removes them.

use crate::command::{Ended, Watched, wait_within};
use crate::windows_build::WindowsBuild;
use ibexdeploy::rehearsal::{KitShape, make_kits};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_ibexdeploy");
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
/// The releases: what is installed, and what is not yet.
pub(crate) const OLDER: &str = "26.8.0";
pub(crate) const NEWER: &str = "26.9.0";
/// No wait of these tests takes longer than this unless something hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Asks again until there is an answer.
///
/// # Panics
/// With `what` when the limit is over.
pub(crate) fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    wait_within(LIMIT, what, ask)
}

/// Machines, releases, inventory and state of one test.
pub(crate) struct Machines {
    dir: tempfile::TempDir,
    pub(crate) names: Vec<String>,
}

impl Machines {
    /// As many instruments, with the older of two small releases, NDXLARMOR and NDXZOOM among them. Nothing where Wine or the
    /// Windows build is missing.
    pub(crate) fn up(count: usize, transport: &str) -> Option<Self> {
        Self::up_with(count, transport, &[])
    }

    /// The same with further options of `scripts/fleet up`.
    pub(crate) fn up_with(count: usize, transport: &str, options: &[&str]) -> Option<Self> {
        let build = WindowsBuild::find()?.executable;
        let dir = tempfile::Builder::new().prefix("ibw").tempdir_in("/tmp").expect("a folder in /tmp");
        make_kits(&dir.path().join("releases"), &KitShape::small().without_git()).expect("kits can be made");
        let agents = dir.path().join("agents");
        std::fs::create_dir(&agents).expect("a folder");
        std::os::unix::fs::symlink(build, agents.join("ibexdeploy-x86_64-windows.exe")).expect("a link");
        let mut machines = Self { dir, names: Vec::new() };
        let mut up = machines.script("up");
        up.args([&count.to_string(), "--transport", transport, "--bin", BINARY]).args(options);
        let done = up.arg("--kits").arg(machines.dir().join("releases")).output().expect("it starts");
        assert!(done.status.success(), "scripts/fleet: {}", String::from_utf8_lossy(&done.stderr));
        let folders = std::fs::read_dir(machines.fleet().join("wine")).expect("instruments").flatten();
        machines.names = folders.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        machines.names.sort();
        machines.names.iter().for_each(|name| machines.link_root(name));
        Some(machines)
    }

    /// A folder with the drive and the agent's home where a sandbox has them.
    fn link_root(&self, name: &str) {
        let root = self.root(name);
        std::fs::create_dir_all(&root).expect("a folder");
        let drive = self.fleet().join("wine").join(name).join("drive_c");
        std::os::unix::fs::symlink(drive.join("ProgramData/ibexdeploy"), root.join(".ibexdeploy")).expect("a link");
        std::os::unix::fs::symlink(drive, root.join("c")).expect("a link");
    }

    fn script(&self, command: &str) -> Command {
        let mut script = Command::new(Path::new(REPOSITORY).join("scripts/fleet"));
        script.args([command, "--dir"]).arg(self.fleet()).stdin(Stdio::null());
        // Where the tests' own executable lies, whoever runs it.
        script.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder"));
        script
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of `scripts/fleet`.
    pub(crate) fn fleet(&self) -> PathBuf {
        self.dir().join("fleet")
    }

    pub(crate) fn kits(&self) -> PathBuf {
        self.fleet().join("kits")
    }

    pub(crate) fn inventory(&self) -> PathBuf {
        self.fleet().join("inventory.yaml")
    }

    pub(crate) fn prefix(&self, name: &str) -> PathBuf {
        self.fleet().join("wine").join(name)
    }

    /// The machine with the folders of a sandbox: its drive is `c`, its agent's home `.ibexdeploy`.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.dir().join("roots").join(name)
    }

    /// A file or folder on its drive C.
    pub(crate) fn on_c(&self, name: &str, below: &str) -> PathBuf {
        self.root(name).join("c").join(below)
    }

    /// The controller with the options that keep it to these machines.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(arguments, &self.inventory())
    }

    /// The same with another inventory.
    pub(crate) fn command_of(&self, arguments: &[&str], inventory: &Path) -> Command {
        let mut command = Command::new(BINARY);
        command.current_dir(REPOSITORY).args(arguments).arg("--inventory").arg(inventory);
        command.arg("--kits").arg(self.kits()).arg("--state").arg(self.dir().join("state"));
        command.arg("--agent-dir").arg(self.dir().join("agents"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end with JSON output.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).args(["--output", "json"]))
    }

    /// The same, which must go well.
    pub(crate) fn runs_well(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {}{}", ended.story(), self.logs());
        ended
    }

    /// Starts it with JSON output, to be watched and interrupted.
    pub(crate) fn start(&self, arguments: &[&str]) -> Watched {
        Watched::start(self.command(arguments).args(["--output", "json"]))
    }

    /// What the workers have said last.
    pub(crate) fn logs(&self) -> String {
        let log = |name: &String| {
            let text = std::fs::read_to_string(self.root(name).join(".ibexdeploy/worker.log")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("\n{name}: {}", lines[lines.len().saturating_sub(12)..].join("\n"))
        };
        self.names.iter().map(log).collect()
    }

    /// Installed files that are not as in a release.
    pub(crate) fn unlike(&self, name: &str, version: &str) -> Vec<String> {
        // The programs that virtual environments are made by leave their own files there.
        crate::command::unlike(&self.root(name), &self.kits().join(version), &[])
            .into_iter()
            .filter(|path| !path.contains("/.venv/"))
            .collect()
    }

    /// All installed files with their hashes, by `sha256sum`.
    pub(crate) fn installed(&self, name: &str) -> BTreeMap<String, String> {
        crate::command::tree(&self.on_c(name, "Instrument/Apps"))
    }

    /// A program of Wine's on the machine.
    fn wine(&self, name: &str, folder: &str, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["60", "wine"]).args(words).current_dir(self.on_c(name, folder)).env_clear();
        command.envs([("PATH", "/usr/bin:/bin"), ("WINEDEBUG", "-all"), ("LC_ALL", "C.UTF-8")]);
        command.env("WINEPREFIX", self.prefix(name)).env("HOME", self.prefix(name)).stdin(Stdio::null());
        command
    }

    /// Runs a line in the machine's own cmd.exe, as a person at its console would.
    pub(crate) fn console(&self, name: &str, folder: &str, line: &str) {
        // What it starts goes on, and would keep a pipe of ours open.
        let mut command = self.wine(name, folder, &["cmd.exe", "/d", "/s", "/c", line]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("wine starts");
        assert!(status.success(), "{line}: {status}");
    }

    /// Runs one of the system's programs that starts no others, which must end well, and gives what it said.
    pub(crate) fn program(&self, name: &str, words: &[&str]) -> String {
        let done = self.wine(name, "", words).output().expect("wine starts");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{words:?}: {}: {said}{}", done.status, String::from_utf8_lossy(&done.stderr));
        said
    }

    pub(crate) fn start_ibex(&self, name: &str) {
        self.console(name, "Instrument/Apps/EPICS", "start_ibex_server.bat");
        wait_for("IBEX starts", || self.ibex(name));
    }

    /// The process of the server, while it runs.
    pub(crate) fn ibex(&self, name: &str) -> Option<u32> {
        self.processes_of(name, "ibex_server.exe").into_iter().next()
    }

    /// The processes of one of its programs.
    pub(crate) fn processes_of(&self, name: &str, program: &str) -> Vec<u32> {
        self.processes(name, |line| line.contains(program))
    }

    /// The workers of the agent, as services of the machine or not.
    pub(crate) fn workers(&self, name: &str) -> Vec<u32> {
        self.processes(name, |line| {
            line.contains("ibexdeploy.exe") && [" agent worker", " agent service"].iter().any(|w| line.contains(w))
        })
    }

    /// All processes of the agent: relays, workers, wrappers of jobs.
    pub(crate) fn agents(&self, name: &str) -> Vec<u32> {
        self.processes(name, |line| line.contains("ibexdeploy.exe") && line.contains(" agent "))
    }

    /// Linux' numbers of the machine's processes whose command line fits.
    fn processes(&self, name: &str, fits: impl Fn(&str) -> bool) -> Vec<u32> {
        let prefix = format!("WINEPREFIX={}", self.prefix(name).display()).into_bytes();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("the table of processes").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let of_windows = line.trim_start_matches('"').starts_with(r"C:\");
            if of_windows && fits(&line) && environment.split(|b| *b == 0).any(|word| word == prefix) {
                found.push(pid);
            }
        }
        found
    }

    /// Entries of the journal of the newest run.
    pub(crate) fn journal(&self, name: &str) -> Vec<Value> {
        let Ok(runs) = std::fs::read_dir(self.root(name).join(".ibexdeploy/runs")) else { return Vec::new() };
        let mut files: Vec<PathBuf> = runs.flatten().map(|e| e.path().join("journal.jsonl")).filter(|p| p.exists()).collect();
        files.sort();
        let Some(newest) = files.pop() else { return Vec::new() };
        let text = std::fs::read_to_string(newest).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).map(|v| v["e"].clone()).collect()
    }

    /// How the newest run ended.
    pub(crate) fn outcome(&self, name: &str) -> Option<String> {
        let journal = self.journal(name);
        let last = journal.iter().rev().find(|e| e["event"]["event"] == "instrument_finished")?;
        Some(last["event"]["outcome"].as_str().unwrap_or_default().to_owned())
    }

    /// What the newest backup of the server says in its VERSION.txt, by another program's reading.
    pub(crate) fn zipped_version(&self, name: &str) -> Option<String> {
        let backups = std::fs::read_dir(self.on_c(name, "data/old")).ok()?.flatten().map(|e| e.path());
        let mut zips: Vec<_> = backups.map(|folder| folder.join("EPICS.zip")).filter(|zip| zip.exists()).collect();
        zips.sort_by_key(|zip| zip.metadata().and_then(|m| m.modified()).ok());
        let said = Command::new("unzip").arg("-p").arg(zips.pop()?).arg("VERSION.txt").output().expect("unzip runs");
        String::from_utf8_lossy(&said.stdout).split_whitespace().next().map(str::to_owned)
    }

    /// Nothing of a run is left: the agent ends, nobody holds the machine, nothing staged lies about.
    pub(crate) fn is_quiet(&self, name: &str) {
        wait_for("the agent ends", || self.agents(name).is_empty().then_some(()));
        assert!(!self.root(name).join(".ibexdeploy/lock.json").exists(), "{name} is held");
        let drive = self.prefix(name).join("drive_c");
        let listed =
            Command::new("find").arg(&drive).args(["-type", "d", "-path", "*/.ibexdeploy/*/stage"]).output().expect("find");
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "", "{name}: staged content is left");
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let done = self.script("down").output();
        let ended = done.as_ref().is_ok_and(|done| done.status.success());
        if !ended && !std::thread::panicking() {
            panic!("scripts/fleet down: {done:?}");
        }
    }
}

/// Paths that are not the same in both.
pub(crate) fn differences(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<String> {
    let paths: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    paths.into_iter().filter(|p| a.get(*p) != b.get(*p)).map(|p| format!("{p}: {:?} / {:?}", a.get(p), b.get(p))).collect()
}
