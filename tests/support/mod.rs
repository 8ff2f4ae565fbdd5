//! A small fleet of sandboxes for tests that drive the real binary.

mod command;
#[cfg(target_os = "linux")]
pub(crate) mod dice;
#[cfg(target_os = "linux")]
pub(crate) mod moments;
pub(crate) mod sandbox;

pub(crate) use command::{Ended, Watched};
use ibexdeploy::rehearsal::{KitShape, make_kits};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Sandboxes, kits and state of one test, in a folder with a short path (socket paths are limited).
pub(crate) struct Fleet {
    dir: tempfile::TempDir,
}

impl Fleet {
    /// A fleet with two releases in its kits folder; sandboxes are made by the first command, with the older one.
    pub(crate) fn new(shape: &KitShape) -> Self {
        let fleet = Self::empty();
        make_kits(&fleet.kits(), shape).expect("kits can be made");
        fleet
    }

    /// A fleet without kits.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("ibx").tempdir_in("/tmp").expect("a folder in /tmp");
        std::fs::create_dir_all(dir.path().join("kits")).expect("a folder for kits");
        Self { dir }
    }

    /// The folder of releases.
    pub(crate) fn kits(&self) -> PathBuf {
        self.dir().join("kits")
    }

    /// Files of the installed components that are not as in a release, apart from paths that begin with one of `keep`.
    pub(crate) fn unlike(&self, name: &str, version: &str, keep: &[&str]) -> Vec<String> {
        command::unlike(&self.root(name), &self.kits().join(version), keep)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The sandbox of an instrument.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The binary with the options that keep it inside this fleet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(arguments, "state")
    }

    /// The same for an operator with a state folder of their own, named inside the fleet.
    pub(crate) fn command_of(&self, arguments: &[&str], state: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"));
        // The shipped inventory and playbooks, as a user of a fresh clone has them.
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .arg(format!("--rehearse={}", self.dir().display()))
            .arg("--kits")
            .arg(self.kits())
            .arg("--state")
            .arg(self.dir().join(state))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the binary to its end with JSON output.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with_state(arguments, "state")
    }

    /// Runs the binary as another operator would, with a state folder of their own inside the fleet.
    pub(crate) fn run_with_state(&self, arguments: &[&str], state: &str) -> Ended {
        Ended::of(self.command_of(arguments, state).args(["--output", "json"]))
    }

    /// Starts the binary with JSON output, to be watched and interrupted.
    pub(crate) fn start(&self, arguments: &[&str]) -> Watched {
        Watched::start(self.command(arguments).args(["--output", "json"]))
    }

    /// Path to content hash of a folder, by `sha256sum`, so that our own hashing judges nothing.
    pub(crate) fn tree(folder: &Path) -> BTreeMap<String, String> {
        command::tree(folder)
    }
}

/// For tests that make things go wrong.
impl Fleet {
    /// A small kit, and sandboxes with its older release that have IBEX running.
    pub(crate) fn running(names: &[&str]) -> Self {
        let fleet = Self::new(&KitShape::small().without_git());
        fleet.make(names);
        for name in names {
            fleet.start_ibex(name);
        }
        fleet
    }

    /// Makes sandboxes by asking for their state.
    pub(crate) fn make(&self, names: &[&str]) {
        let made = self.run(&["status", &names.join(",")]);
        assert_eq!(made.code, 0, "{}", made.story());
    }

    pub(crate) fn start_ibex(&self, name: &str) {
        sandbox::start_ibex(&self.root(name));
    }

    /// The process of the server, while it runs.
    pub(crate) fn ibex(&self, name: &str) -> Option<String> {
        sandbox::ibex(&self.root(name))
    }

    /// The folder of the server.
    pub(crate) fn server(&self, name: &str) -> PathBuf {
        self.root(name).join("c/Instrument/Apps/EPICS")
    }

    /// All installed files.
    pub(crate) fn apps(&self, name: &str) -> BTreeMap<String, String> {
        Self::tree(&self.root(name).join("c/Instrument/Apps"))
    }

    /// Adds lines at the end of a script of a release.
    pub(crate) fn add_to_script(&self, version: &str, script: &str, lines: &str) {
        let path = self.kits().join(version).join("EPICS").join(script);
        let text = std::fs::read_to_string(&path).expect("a script of the kit");
        std::fs::write(&path, format!("{text}{lines}\n")).expect("a script can be changed");
    }
}

/// A small disk in the place of a folder of a sandbox.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Moves the drive c to a disk with about `room` bytes left; nothing, and a line that says so, where mounting is not
    /// permitted.
    pub(crate) fn under(fleet: &Fleet, name: &str, room: u64) -> Option<Self> {
        Self::at(fleet, fleet.root(name).join("c"), room)
    }

    /// The same for the whole sandbox, with the agent's home. No agent may be at work there.
    pub(crate) fn under_all(fleet: &Fleet, name: &str, room: u64) -> Option<Self> {
        Self::at(fleet, fleet.root(name), room)
    }

    /// The same for a folder of the sandbox.
    pub(crate) fn folder(fleet: &Fleet, name: &str, folder: &str, room: u64) -> Option<Self> {
        Self::at(fleet, fleet.root(name).join(folder), room)
    }

    /// Takes away all room that is left, also from who is writing.
    pub(crate) fn fill(&self) {
        // It may have become fuller in between, and a disk does not become smaller than what it holds.
        sandbox::wait_for("the disk becomes full", || {
            let size = format!("remount,size={}", used(&self.0));
            mount(&["-o", &size], &self.0).then_some(())
        });
    }

    /// Gives it so much room.
    pub(crate) fn give_room(&self, room: u64) {
        assert!(mount(&["-o", &format!("remount,size={}", used(&self.0) + room)], &self.0), "a larger disk");
    }

    /// The same for another drive.
    pub(crate) fn drive(fleet: &Fleet, name: &str, drive: &str, room: u64) -> Option<Self> {
        Self::at(fleet, fleet.root(name).join(drive), room)
    }

    fn at(fleet: &Fleet, folder: PathBuf, room: u64) -> Option<Self> {
        let aside = fleet.dir().join("before");
        std::fs::rename(&folder, &aside).expect("the folder can be moved");
        std::fs::create_dir(&folder).expect("a folder to mount on");
        if !mount(&["-t", "tmpfs", "-o", "size=64m", "tmpfs"], &folder) {
            eprintln!("skipped: a disk cannot be mounted here");
            return None;
        }
        let disk = Self(folder.clone());
        let copied = Command::new("cp").arg("-a").arg(aside.join(".")).arg(&folder).status().expect("cp");
        assert!(copied.success());
        disk.give_room(room);
        Some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the sandbox's server may stand in it until it notices.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Bytes that a disk holds.
fn used(disk: &Path) -> u64 {
    let df = Command::new("df").args(["--output=used", "-B1"]).arg(disk).output().expect("df");
    let used = String::from_utf8_lossy(&df.stdout).lines().nth(1).and_then(|l| l.trim().parse().ok());
    used.expect("a number of bytes")
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    Command::new("mount").args(arguments).arg(at).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
