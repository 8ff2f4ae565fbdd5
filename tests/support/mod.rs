//! A small fleet of sandboxes for tests that drive the real binary.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The instruments that tests use, all of the shipped inventory.
pub const NAMES: [&str; 2] = ["NDXLARMOR", "NDXZOOM"];

/// Sandboxes, kits and state of one test, in a folder with a short path (socket paths are limited).
pub struct Fleet {
    dir: tempfile::TempDir,
}

/// How a command ended.
pub struct Ended {
    pub code: i32,
    /// Parsed lines of `--output json`.
    pub events: Vec<Value>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The last event of a kind for an instrument.
    pub fn last(&self, instrument: &str, kind: &str) -> Option<&Value> {
        self.events.iter().rev().find(|e| e["event"] == kind && e["instrument"] == instrument)
    }

    /// The outcome of an instrument.
    pub fn outcome(&self, instrument: &str) -> String {
        self.last(instrument, "instrument_finished").map_or_else(String::new, |e| e["outcome"].as_str().unwrap_or("").to_owned())
    }

    /// Everything, for the message of a failed assertion.
    pub fn story(&self) -> String {
        format!("exit code {}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

impl Fleet {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("ibx").tempdir_in("/tmp").expect("a folder in /tmp");
        Self { dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The sandbox of an instrument.
    pub fn root(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The binary with the options that keep it inside this fleet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"));
        command
            .args(arguments)
            .arg(format!("--rehearse={}", self.dir().display()))
            .arg("--state")
            .arg(self.dir().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the binary to its end with JSON output.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).args(["--output", "json"]).output().expect("the binary starts");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        Ended {
            code: output.status.code().unwrap_or(-1),
            events: stdout.lines().filter_map(|l| serde_json::from_str(l).ok()).collect(),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts the binary with JSON output, to be watched and interrupted.
    pub fn start(&self, arguments: &[&str]) -> Watched {
        let mut child = self
            .command(arguments)
            .args(["--output", "json"])
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Watched { child, lines }
    }

    /// Path to content hash of a folder, by `sha256sum`, so that our own hashing judges nothing.
    pub fn tree(folder: &Path) -> BTreeMap<String, String> {
        let output = Command::new("sh")
            .args(["-c", "find . -type f -print0 | sort -z | xargs -0 -r sha256sum; find . -type l -printf 'link:%l  %p\\n'"])
            .current_dir(folder)
            .output()
            .expect("find and sha256sum run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|l| l.split_once("  "))
            .map(|(hash, path)| (path.trim_start_matches("./").to_owned(), hash.to_owned()))
            .collect()
    }
}

/// A running command.
pub struct Watched {
    pub child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watched {
    /// Reads events until one fits; nothing when the command ends first.
    pub fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("its output can be read") == 0 {
                return None;
            }
            if let Ok(event) = serde_json::from_str::<Value>(&line)
                && fits(&event)
            {
                return Some(event);
            }
        }
    }
}
