//! Bringing the agent's executable to a machine that lacks it.

use super::super::begun::Begun;
use super::super::builds::Build;
use super::super::lines;
use super::super::remote::RemoteHome;
use super::connect::{Connected, Limit, SAYS_FAILURE, words};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::protocol::{INCOMING, STREAM_MARK};
use ssh2::{ErrorCode, FileStat, OpenFlags, OpenType, Sftp};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes handed to libssh2 at a time; it sends them as many packets, and waits for their answers together.
const PIECE: usize = 512 * 1024;

/// No piece may take longer: a link that is slower than this carries no release, and one that is dead says nothing at all.
const PIECE_LIMIT: Duration = Duration::from_secs(30);

/// How long the new executable may take to put itself in its place.
const INSTALL_LIMIT: Duration = Duration::from_secs(60);

impl Begun {
    /// A name that nobody else uses.
    fn fresh(&self, home: &RemoteHome) -> String {
        let suffix = if *home == RemoteHome::Windows { ".exe" } else { "" };
        let name = format!("bin/{INCOMING}{:016x}{suffix}", RandomState::new().build_hasher().finish());
        self.names().push(name.clone());
        name
    }

    fn is_gone(&self, name: &str) {
        self.names().retain(|n| n != name);
    }

    /// Removes what earlier attempts have left.
    fn remove(&self, sftp: &Sftp, home: &RemoteHome) {
        let names = self.names().clone();
        for name in names {
            match sftp.unlink(Path::new(&home.file(&name))) {
                Ok(()) => self.is_gone(&name),
                Err(e) if e.code() == ErrorCode::SFTP(NO_SUCH_FILE) => self.is_gone(&name),
                // The server of a dead connection may still have it open. Agents remove what is old.
                Err(e) => tracing::debug!(name, error = %e, "what an earlier attempt left stays for now"),
            }
        }
    }
}

/// SFTP's word for it.
const NO_SUCH_FILE: i32 = 2;

/// Sends the executable and lets it install itself below the home. `begun`: of this instrument.
///
/// # Errors
/// When it cannot be written or started there. Nothing half done stays behind, or the next attempt removes it.
pub(super) fn bring(connected: &Connected, home: &RemoteHome, build: &Build, begun: &Begun) -> Result<()> {
    let sftp = open_sftp(connected)?;
    check_platform(&sftp, home)?;
    make_folders(&sftp, home)?;
    begun.remove(&sftp, home);
    let name = begun.fresh(home);
    let file = PathBuf::from(home.file(&name));
    let brought = send(connected, &sftp, build, &file).and_then(|()| install(connected, home, &name, &build.hash));
    match &brought {
        Ok(()) => begun.is_gone(&name),
        Err(e) if e.kind() == ErrorKind::Unreachable => {}
        // It may have installed itself after all.
        Err(_) => {
            Limit::of(PIECE_LIMIT).arm(&connected.session, "taking the agent back")?;
            begun.remove(&sftp, home);
        }
    }
    brought
}

/// Breaks a connection off that does not answer: closing what is open on it would wait for answers once more.
fn broken_off<T>(connected: &Connected, result: Result<T>) -> Result<T> {
    if result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unreachable) {
        // It may be closed already.
        let _ = connected.socket.shutdown(Shutdown::Both);
    }
    result
}

fn open_sftp(connected: &Connected) -> Result<Sftp> {
    Limit::of(PIECE_LIMIT).arm(&connected.session, "opening SFTP")?;
    connected.session.sftp().map_err(|e| {
        Error::new(ErrorKind::NoAgent, "the server has no SFTP, by which the agent would be brought").because(words(&e)).next(
            "switch the server's sftp subsystem on, see that the account may use it (ForceCommand) and that its login shell \
                 writes nothing, or put the agent there yourself and write `agent: preinstalled`",
        )
    })
}

/// A Windows server names its folders with drives.
fn check_platform(sftp: &Sftp, home: &RemoteHome) -> Result<()> {
    let here = sftp.realpath(Path::new(".")).map_err(|e| cannot("find the account's folder", &e))?;
    let text = here.to_string_lossy();
    let windows = text.as_bytes().get(2) == Some(&b':');
    match home {
        RemoteHome::Windows if !windows => Err(Error::new(ErrorKind::NoAgent, "it is no Windows machine")
            .because(format!("its SFTP server is in {text}"))
            .next("a Linux machine that stands for an instrument needs `root:` in its transport's settings")),
        RemoteHome::Unix { .. } if windows => Err(Error::new(ErrorKind::NoAgent, "it is a Windows machine")
            .because(format!("its SFTP server is in {text}"))
            .next("take `root:` out of its transport's settings")),
        _ => Ok(()),
    }
}

/// Makes the home and its `bin`, for the account alone. The root of a sandbox must be there: it is what the inventory names.
fn make_folders(sftp: &Sftp, home: &RemoteHome) -> Result<()> {
    if let RemoteHome::Unix { root } = home {
        match sftp.stat(Path::new(root)) {
            Ok(stat) if stat.is_dir() => {}
            Ok(_) => return Err(no_root(root, "it is not a folder")),
            Err(e) => return Err(no_root(root, words(&e))),
        }
    }
    for folder in [home.folder(), home.file("bin")] {
        let path = Path::new(&folder);
        if sftp.stat(path).is_err() {
            // Somebody else may make it at the same time.
            if let Err(e) = sftp.mkdir(path, 0o700)
                && sftp.stat(path).is_err()
            {
                return Err(cannot(&format!("make the folder {folder}"), &e));
            }
        }
    }
    Ok(())
}

fn no_root(root: &str, why: &str) -> Error {
    Error::new(ErrorKind::NoAgent, format!("the folder {root} cannot be used there: {why}"))
        .next("`root:` in the inventory names the folder that stands for the instrument's drives: make it, or correct it")
}

fn send(connected: &Connected, sftp: &Sftp, build: &Build, file: &Path) -> Result<()> {
    let mut from = std::fs::File::open(&build.path).cannot(|| format!("read {}", build.path.display()))?;
    let size = from.metadata().cannot(|| format!("look at {}", build.path.display()))?.len();
    tracing::debug!(bytes = size, to = %file.display(), "bringing the agent");
    let shown = format!("write {}", file.display());
    let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE | OpenFlags::EXCLUSIVE;
    let mut to = sftp.open_mode(file, flags, 0o700, OpenType::File).map_err(|e| cannot(&shown, &e))?;
    let arrived = broken_off(connected, write(connected, &mut from, &mut to, size, &shown))?;
    make_executable(sftp, file, arrived)
}

/// Writes the whole file; returns what the server says of it.
fn write(connected: &Connected, from: &mut impl Read, to: &mut ssh2::File, size: u64, shown: &str) -> Result<FileStat> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).cannot(|| "read the agent's executable")?;
        if read == 0 {
            break;
        }
        Limit::of(PIECE_LIMIT).arm(&connected.session, "bringing the agent")?;
        to.write_all(&piece[..read]).map_err(|e| not_written(connected, shown, size, &e))?;
    }
    Limit::of(PIECE_LIMIT).arm(&connected.session, "bringing the agent")?;
    // Not every server knows fsync; the hash is checked in any case.
    let _ = to.fsync();
    let arrived = to.stat().map_err(|e| cannot(shown, &e))?;
    to.close().map_err(|e| cannot(shown, &e))?;
    if arrived.size != Some(size) {
        let short = std::io::Error::other(format!("{} of {size} bytes arrived", arrived.size.unwrap_or(0)));
        return Err(not_written(connected, shown, size, &short));
    }
    Ok(arrived)
}

/// A server's umask may have taken the right away.
fn make_executable(sftp: &Sftp, file: &Path, stat: FileStat) -> Result<()> {
    if stat.perm.is_some_and(|mode| mode & 0o100 != 0) {
        return Ok(());
    }
    let mode = FileStat { size: None, uid: None, gid: None, perm: Some(0o700), atime: None, mtime: None };
    match sftp.setstat(file, mode) {
        // Windows has no such right.
        Err(e) if stat.perm.is_some() => Err(cannot(&format!("make {} executable", file.display()), &e)),
        _ => Ok(()),
    }
}

fn not_written(connected: &Connected, what: &str, size: u64, e: &std::io::Error) -> Error {
    // The socket cannot send or receive, or was closed, or an answer did not come.
    const BROKEN: [i32; 4] = [-7, -43, -13, -9];
    let last = ssh2::Error::last_session_error(&connected.session);
    if last.is_some_and(|e| matches!(e.code(), ErrorCode::Session(code) if BROKEN.contains(&code))) {
        return Error::new(ErrorKind::Unreachable, "the connection broke while the agent was being brought").because(e);
    }
    // SFTP has one word for all failures of the disk.
    Error::new(ErrorKind::NoAgent, format!("cannot {what}"))
        .because(if e.to_string() == "failure" { SAYS_FAILURE.to_owned() } else { e.to_string() })
        .next(format!("see whether {} MB are free there, and whether the account may write", size.div_ceil(1_000_000)))
}

fn cannot(what: &str, e: &ssh2::Error) -> Error {
    // The server's own word, or a connection that broke.
    let kind = if matches!(e.code(), ErrorCode::SFTP(_)) { ErrorKind::NoAgent } else { ErrorKind::Unreachable };
    Error::new(kind, format!("cannot {what} on the machine"))
        .because(words(e))
        .next("see that the account owns the agent's home, and that the disk is neither full nor read-only")
}

/// Starts what was brought: it checks its own hash and goes where it belongs.
fn install(connected: &Connected, home: &RemoteHome, name: &str, build: &ContentHash) -> Result<()> {
    let limit = Limit::of(INSTALL_LIMIT);
    let failed = |e: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Unreachable, "the agent that was brought could not be started").because(e)
    };
    limit.arm(&connected.session, "installing the agent")?;
    let mut channel = connected.session.channel_session().map_err(|e| failed(&e))?;
    let command = home.command(name, &format!("install --build {build}"));
    tracing::debug!(command, "starting");
    channel.exec(&command).map_err(|e| failed(&e))?;
    let (mut out, mut said) = (Vec::new(), Vec::new());
    limit.arm(&connected.session, "installing the agent")?;
    let read = channel.read_to_end(&mut out).and_then(|_| channel.stderr().read_to_end(&mut said));
    broken_off(connected, read.map_err(|e| failed(&e)))?;
    // The exit code is not asked for: some shells hide it. The mark is what only the agent says.
    if out.windows(STREAM_MARK.len()).any(|part| part == STREAM_MARK) {
        return Ok(());
    }
    out.extend_from_slice(&said);
    let said = lines(&out);
    if said.iter().any(|line| line.starts_with("error: ")) {
        // Its own words: it runs.
        return Err(Error::new(ErrorKind::NoAgent, "the agent that was brought cannot be at home on that machine")
            .with_output(said)
            .next("put right what it says about `root:` and the folder .ibexdeploy below it"));
    }
    Err(Error::new(ErrorKind::NoAgent, "the agent that was brought does not run on that machine")
        .with_output(said)
        .next("its last words say why: a wrong architecture, a disk mounted `noexec`, antivirus or AppLocker, a shell that lets nothing run"))
}
