//! How the real binary is run and judged, wherever its instruments are.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Components of the kit: name, the folder inside that is the tree, the installed tree in a sandbox.
pub(crate) const COMPONENTS: [(&str, &str, &str); 3] = [
    ("EPICS", "", "c/Instrument/Apps/EPICS"),
    ("Client", "Client", "c/Instrument/Apps/Client_E4"),
    ("genie_python_3", "", "c/Instrument/Apps/Python3"),
];

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    /// Parsed lines of `--output json`.
    pub(crate) events: Vec<Value>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the binary starts");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            events: stdout.lines().filter_map(|l| serde_json::from_str(l).ok()).collect(),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The last event of a kind for an instrument.
    pub(crate) fn last(&self, instrument: &str, kind: &str) -> Option<&Value> {
        self.events.iter().rev().find(|e| e["event"] == kind && e["instrument"] == instrument)
    }

    /// The outcome of an instrument.
    pub(crate) fn outcome(&self, instrument: &str) -> String {
        self.last(instrument, "instrument_finished").map_or_else(String::new, |e| e["outcome"].as_str().unwrap_or("").to_owned())
    }

    /// Everything, for the message of a failed assertion.
    pub(crate) fn story(&self) -> String {
        format!("exit code {}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A running command.
pub(crate) struct Watched {
    pub(crate) child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Watched {
    /// Starts a command whose standard output is piped; nobody reads its standard error.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::null()).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, lines }
    }

    /// Reads events until one fits; nothing when the command ends first.
    pub(crate) fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
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

impl Drop for Watched {
    /// Ends with the test, also when that failed.
    fn drop(&mut self) {
        // It has mostly ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Files of the installed components in the sandbox `root` that are not as in a release, apart from paths that begin with
/// one of `keep`.
pub(crate) fn unlike(root: &Path, release: &Path, keep: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (component, inner, installed) in COMPONENTS {
        let want = tree(&release.join(component).join(inner));
        let have = tree(&root.join(installed));
        let paths: BTreeSet<_> = want.keys().chain(have.keys()).collect();
        let differ = |p: &&&String| want.get(**p) != have.get(**p) && !keep.iter().any(|k| p.starts_with(k));
        found.extend(paths.iter().filter(differ).map(|p| format!("{component}/{p}")));
    }
    found
}

/// Path to content hash of a folder, by `sha256sum`, so that our own hashing judges nothing.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, String> {
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

/// Asks again until there is an answer.
///
/// # Panics
/// With `what` when the limit is over.
pub(crate) fn wait_within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < limit, "{what}: not within {} s", limit.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
