//! An operator's PC: a Wine prefix of its own, with ibexdeploy and a copy of the repository's inventory and playbooks.

use crate::command::{Ended, wait_within};
use crate::windows_build::WindowsBuild;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// No wait of these tests takes longer than this unless something hangs.
const LIMIT: Duration = Duration::from_secs(240);

/// The PC of one test.
pub(crate) struct Operator {
    dir: tempfile::TempDir,
}

impl Operator {
    /// Sets the PC up; nothing, and a line that says what is missing, where there is no Wine or no Windows build.
    pub(crate) fn new() -> Option<Self> {
        let WindowsBuild { executable, prefix } = WindowsBuild::find()?;
        let dir = tempfile::Builder::new().prefix("ibo").tempdir_in("/tmp").expect("a folder in /tmp");
        let operator = Self { dir };
        let copy = Path::new(REPOSITORY).join("tests/lab/wine/instrument.py");
        run(Command::new("python3").arg("-B").arg(copy).arg(prefix).arg(operator.prefix()));
        operator.mend_the_word_start();
        // Without a server that stays, every program starts a machine anew.
        quietly(operator.wine("wineserver").arg("-p"));
        let told = ["reg", "add", r"HKCU\Software\Wine\DllOverrides", "/v", "start.exe", "/d", "native", "/f"];
        quietly(operator.wine("wine").args(told));
        std::fs::create_dir_all(operator.program().parent().expect("a folder")).expect("a folder");
        run(Command::new("cp").arg(executable).arg(operator.program()));
        std::fs::create_dir_all(operator.repository()).expect("a folder");
        for part in ["inventory", "playbooks", "docs"] {
            run(Command::new("cp").arg("-r").arg(Path::new(REPOSITORY).join(part)).arg(operator.repository()));
        }
        Some(operator)
    }

    /// Wine takes `start_ibex_server.bat` for its command `start`, Windows does not; `tests/lab/wine/start.c` says how that is
    /// mended.
    fn mend_the_word_start(&self) {
        let system = self.drive().join("windows/system32");
        std::fs::rename(system.join("start.exe"), system.join("start-wine.exe")).expect("Wine's own");
        let source = Path::new(REPOSITORY).join("tests/lab/wine/start.c");
        run(Command::new("x86_64-w64-mingw32-gcc").args(["-O2", "-s", "-o"]).arg(system.join("start.exe")).arg(source));
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn prefix(&self) -> PathBuf {
        self.dir().join("prefix")
    }

    /// What the PC calls `C:\`.
    pub(crate) fn drive(&self) -> PathBuf {
        self.prefix().join("drive_c")
    }

    /// Where ibexdeploy is installed; the path has spaces.
    pub(crate) fn program(&self) -> PathBuf {
        self.drive().join("Program Files/ibexdeploy/ibexdeploy.exe")
    }

    /// A copy of the repository: its inventory, playbooks and documents; the path has spaces.
    pub(crate) fn repository(&self) -> PathBuf {
        self.drive().join("IBEX deployment")
    }

    /// The operator's own folder.
    pub(crate) fn profile(&self) -> PathBuf {
        let users = std::fs::read_dir(self.drive().join("users")).expect("users").flatten().map(|e| e.path());
        users.into_iter().find(|user| !user.ends_with("Public")).expect("an operator")
    }

    /// Where runs, and the sandboxes of rehearsals, are kept.
    pub(crate) fn state(&self) -> PathBuf {
        self.profile().join("AppData/Local/ibexdeploy")
    }

    /// The folder of a sandbox.
    pub(crate) fn sandbox(&self, name: &str) -> PathBuf {
        self.state().join("rehearsal").join(name)
    }

    /// A program of Wine, for this PC.
    pub(crate) fn wine(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("IBEXDEPLOY_")) {
            command.env_remove(name);
        }
        command.env("WINEPREFIX", self.prefix()).env("WINEDEBUG", "-all").env_remove("DISPLAY").stdin(Stdio::null());
        command
    }

    /// ibexdeploy on this PC, in the repository's folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.wine("wine");
        command.arg(self.program()).args(arguments).current_dir(self.repository());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs ibexdeploy to its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.ended(self.command(arguments))
    }

    /// Runs a command of this PC to its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub(crate) fn ended(&self, command: Command) -> Ended {
        // It writes to files: in Wine whatever it leaves running, such as the server of a sandbox, keeps a pipe open.
        let [out, errors] = ["output", "errors"].map(|name| self.dir().join(name));
        let file = |path: &Path| std::fs::File::create(path).expect("a file");
        let mut limited = Command::new("timeout");
        limited.args(["--kill-after=10", &LIMIT.as_secs().to_string()]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            limited.current_dir(folder);
        }
        let status = limited.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&errors)).status().expect("timeout starts");
        let [stdout, stderr] =
            [out, errors].map(|path| String::from_utf8_lossy(&std::fs::read(path).expect("text")).into_owned());
        let events = stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let ended = Ended { code: status.code().unwrap_or(-1), events, stdout, stderr };
        assert_ne!(ended.code, 124, "it hangs\n{}", ended.story());
        ended
    }

    /// Runs it with JSON output; it must end well.
    pub(crate) fn runs_well(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(&[arguments, &["--output", "json"]].concat());
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.story());
        ended
    }
}

impl Drop for Operator {
    /// Ends all that runs on the PC.
    fn drop(&mut self) {
        for option in ["-k", "-w"] {
            // It may be gone already.
            let _ = self.wine("wineserver").arg(option).status();
        }
    }
}

/// Runs a program that must end well, and that leaves others running: they would keep a pipe of ours open.
fn quietly(command: &mut Command) {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it starts");
    assert!(status.success(), "{command:?}: {status}");
}

/// Runs a program that must end well.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Looks until there is something to see.
///
/// # Panics
/// With `what` when the limit is over.
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(LIMIT, what, look)
}
