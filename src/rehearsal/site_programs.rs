//! Site programs of a sandbox on Windows: what scripts of the shell are on Linux, this executable plays there. A batch file
//! of two lines calls it, and its name says which part it has.

use super::sandbox::HOME;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::platform::windows::{launch, plain, processes};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The same for all parts.
const LAUNCHER: &str = include_str!("scripts/launcher.bat");

/// The process that stands for the running server.
const SERVER_LOOP: &str = "server_loop.bat";

/// The programs by their path in the server's folder.
pub(super) const SERVER_FILES: [(&str, &str); 5] = [
    ("start_ibex_server.bat", LAUNCHER),
    ("stop_ibex_server.bat", LAUNCHER),
    ("create_icp_binaries.bat", LAUNCHER),
    ("ioc_tools/caget.bat", LAUNCHER),
    ("ioc_tools/server_loop.bat", LAUNCHER),
];

/// How often is looked whether something has come about.
const POLL: Duration = Duration::from_millis(50);

/// How long the server may take to start, and to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server ends by itself after this time, so that a rehearsal leaves nothing running on the machine for good.
const LONGEST: Duration = Duration::from_secs(7200);

/// How a part ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Played {
    pub output: String,
    pub errors: String,
    pub exit_code: u8,
}

impl Played {
    fn said(line: impl Into<String>) -> Self {
        Self { output: line.into() + "\n", ..Self::default() }
    }
}

/// Plays the program at `script`.
///
/// # Errors
/// When there is no such part, or it cannot do its work.
pub fn play(script: &Path, arguments: &[String]) -> Result<Played> {
    let script = script.canonicalize().cannot(|| format!("find {}", script.display()))?;
    let name = script.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let folder = script.parent().unwrap_or(&script);
    match name.as_str() {
        "start_ibex_server.bat" => Server::of(folder)?.start(folder),
        "stop_ibex_server.bat" => Server::of(folder)?.stop(),
        "create_icp_binaries.bat" => put_icp_in_place(folder),
        "caget.bat" => caget(&Server::of(folder.parent().unwrap_or(folder))?, arguments),
        SERVER_LOOP => Server::of(folder.parent().unwrap_or(folder))?.run(),
        _ => Err(Error::usage(format!("no part is known for {}", script.display()))
            .next("start_ibex_server.bat, stop_ibex_server.bat, create_icp_binaries.bat and caget.bat are played")),
    }
}

/// Ends the server of a sandbox that is to be removed: files in use cannot be.
///
/// # Errors
/// When it does not end.
pub(super) fn end_server(root: &Path) -> Result<()> {
    Server::below(root).stop().map(drop)
}

/// The server of a sandbox. It runs as long as somebody holds its lock.
struct Server {
    var: PathBuf,
}

impl Server {
    /// That of the server's folder. The sandbox's root is told by `IBEX_ROOT`, else found from the server's usual place.
    fn of(folder: &Path) -> Result<Self> {
        let root = match std::env::var_os("IBEX_ROOT") {
            Some(root) => PathBuf::from(root),
            None => folder.ancestors().nth(4).unwrap_or(folder).to_owned(),
        };
        if !root.join(HOME).is_dir() {
            return Err(Error::usage(format!("{} is no sandbox", plain(&root).display()))
                .next("set IBEX_ROOT to the folder of the sandbox"));
        }
        Ok(Self::below(&root))
    }

    fn below(root: &Path) -> Self {
        Self { var: root.join("c").join("Instrument").join("Var") }
    }

    /// The server ends when this file goes.
    fn pid_file(&self) -> PathBuf {
        self.var.join("ibex_server.pid")
    }

    /// With this file, a machine that restarts starts IBEX by itself.
    fn marker(&self) -> PathBuf {
        self.var.join("tmp").join("ibex_running.txt")
    }

    /// The lock that the running server holds, when nobody does.
    fn lock(&self) -> Result<Option<File>> {
        let path = self.var.join("ibex_server.lock");
        let what = || format!("open the lock {}", path.display());
        std::fs::create_dir_all(&self.var).cannot(what)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path).cannot(what)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(Error::io(what(), &e)),
        }
    }

    fn runs(&self) -> Result<bool> {
        Ok(self.lock()?.is_none())
    }

    fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()
    }

    /// Waits until it runs, with its number written down, or until it does not.
    fn wait(&self, for_running: bool) -> Result<bool> {
        let begun = Instant::now();
        loop {
            let runs = self.runs()?;
            if runs == for_running && (!runs || self.pid().is_some()) {
                return Ok(true);
            }
            if begun.elapsed() > PATIENCE {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
    }

    fn start(&self, folder: &Path) -> Result<Played> {
        let played = if self.runs()? {
            format!("IBEX server is already running (process {})", self.pid().unwrap_or_default())
        } else {
            files::remove(&self.pid_file())?;
            let this = std::env::current_exe().cannot(|| "find this executable")?;
            let script = plain(&folder.join("ioc_tools").join(SERVER_LOOP)).display().to_string();
            launch::detached(&this, &["agent".to_owned(), "stand-in".to_owned(), script])?;
            if !self.wait(true)? {
                return Err(Error::new(ErrorKind::TimedOut, "IBEX server did not start"));
            }
            format!("IBEX server started (process {})", self.pid().unwrap_or_default())
        };
        files::write_unflushed(&self.marker(), b"running\r\n")?;
        Ok(Played::said(played))
    }

    fn stop(&self) -> Result<Played> {
        let ran = self.runs()?;
        let pid = self.pid();
        files::remove(&self.pid_file())?;
        if ran && !self.wait(false)? {
            pid.map_or(Ok(()), processes::end)?;
            if !self.wait(false)? {
                return Err(Error::new(ErrorKind::TimedOut, "IBEX server does not end"));
            }
        }
        files::remove(&self.marker())?;
        Ok(Played::said(if ran { "IBEX server stopped" } else { "IBEX server is not running" }))
    }

    /// Stands for the running server, until its number is taken away.
    fn run(&self) -> Result<Played> {
        let Some(_held) = self.lock()? else {
            return Ok(Played { errors: "IBEX server is already running\n".to_owned(), exit_code: 1, ..Played::default() });
        };
        files::write_unflushed(&self.pid_file(), std::process::id().to_string().as_bytes())?;
        let begun = Instant::now();
        while self.pid_file().exists() && begun.elapsed() < LONGEST {
            std::thread::sleep(POLL);
        }
        Ok(Played::default())
    }

    /// The value of a PV; nothing when it is not connected.
    fn value_of(&self, pv: &str) -> Result<Option<String>> {
        if !self.runs()? {
            return Ok(None);
        }
        let set = std::fs::read_to_string(self.var.join("sandbox_pvs.txt")).unwrap_or_default();
        let set = set.lines().filter_map(|line| line.split_once('=')).find(|(name, _)| *name == pv);
        let state = pv == "DAE:RUNSTATE_STR" || pv.ends_with(":DAE:RUNSTATE_STR");
        Ok(set.map(|(_, value)| value.to_owned()).or_else(|| state.then(|| "SETUP".to_owned())))
    }
}

/// Prints values of PVs as caget does. They stand in `Var\sandbox_pvs.txt`, lines NAME=VALUE.
fn caget(server: &Server, arguments: &[String]) -> Result<Played> {
    let mut played = Played::default();
    let mut terse = false;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-t" => terse = true,
            // These have a value.
            "-w" | "-p" | "-F" | "-#" => drop(words.next()),
            option if option.starts_with('-') => {}
            pv => match server.value_of(pv)? {
                Some(value) if terse => played.output += &format!("{value}\n"),
                Some(value) => played.output += &format!("{pv:<30} {value}\n"),
                None => {
                    played.errors += &format!("Channel connect timed out: '{pv}' not found.\n");
                    played.exit_code = 1;
                }
            },
        }
    }
    Ok(played)
}

/// Puts the data acquisition program for this machine in place; the kit's own is the right one already.
fn put_icp_in_place(server: &Path) -> Result<Played> {
    let (from, to) = (server.join("isisicp").join("isisicp.exe"), server.join("ICP_Binaries").join("isisicp.exe"));
    let wanted = std::fs::read(&from).cannot(|| format!("read {}", from.display()))?;
    if std::fs::read(&to).ok().as_ref() != Some(&wanted) {
        files::write_unflushed(&to, &wanted)?;
    }
    Ok(Played::said("ICP binaries are in place"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sandbox with the server's scripts.
    fn sandbox() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let server = folder.path().join("c\\Instrument\\Apps\\EPICS");
        std::fs::create_dir_all(folder.path().join(HOME)).unwrap();
        for (path, text) in SERVER_FILES {
            files::write_unflushed(&server.join(path), text.as_bytes()).unwrap();
        }
        (folder, server)
    }

    #[test]
    fn the_server_runs_while_its_lock_is_held_and_pvs_are_read_meanwhile() {
        let (folder, server) = sandbox();
        let caget = |words: &[&str]| {
            play(&server.join("ioc_tools\\caget.bat"), &words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let off = caget(&["-S", "-w", "5", "IN:LARMOR:DAE:RUNSTATE_STR"]);
        assert_eq!(off.exit_code, 1);
        assert_eq!(off.errors, "Channel connect timed out: 'IN:LARMOR:DAE:RUNSTATE_STR' not found.\n");
        let stopped = |text: &str| assert_eq!(play(&server.join("stop_ibex_server.bat"), &[]).unwrap().output, text);
        stopped("IBEX server is not running\n");
        std::thread::scope(|scope| {
            let run = scope.spawn(|| Server::below(folder.path()).run().unwrap());
            assert!(Server::below(folder.path()).wait(true).unwrap());
            files::write_unflushed(&folder.path().join("c\\Instrument\\Var\\sandbox_pvs.txt"), b"X=a = b  c\r\n").unwrap();
            assert_eq!(caget(&["-t", "IN:LARMOR:DAE:RUNSTATE_STR", "X"]).output, "SETUP\na = b  c\n");
            assert_eq!(caget(&["X", "Y"]).exit_code, 1);
            let again = play(&server.join("start_ibex_server.bat"), &[]).unwrap();
            assert_eq!(again.output, format!("IBEX server is already running (process {})\n", std::process::id()));
            assert!(Server::below(folder.path()).marker().exists());
            stopped("IBEX server stopped\n");
            assert_eq!(run.join().unwrap(), Played::default());
        });
        assert!(!Server::below(folder.path()).marker().exists());
    }

    #[test]
    fn what_is_no_part_is_named() {
        let (_folder, server) = sandbox();
        let other = server.join("other.bat");
        std::fs::write(&other, "").unwrap();
        assert!(play(&other, &[]).unwrap_err().to_string().contains("other.bat"));
        assert!(play(&server.join("none.bat"), &[]).is_err());
    }
}
