//! A terminal for commands that ask on one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

/// The other side of a terminal that a command runs on.
pub(crate) struct Terminal {
    side: File,
    /// All that the command has written to it so far.
    pub(crate) shown: String,
}

impl Terminal {
    /// Starts a command with standard input and standard error on a new terminal.
    pub(crate) fn start(command: &mut Command) -> (Child, Self) {
        let (mut ours, mut theirs) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: both numbers are places for a descriptor; the rest may be null.
        let made = unsafe { libc::openpty(&raw mut ours, &raw mut theirs, none, none.cast(), none.cast()) };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the call has just made the two descriptors, and nobody else has them.
        let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        for side in [&ours, &theirs] {
            rustix::io::fcntl_setfd(side, rustix::io::FdFlags::CLOEXEC).expect("a terminal that children do not inherit");
        }
        let input = theirs.try_clone().expect("a second handle of the terminal");
        let child = command.stdin(Stdio::from(input)).stderr(Stdio::from(theirs)).spawn().expect("the command starts");
        // The command must not keep the terminal open on this side.
        command.stdin(Stdio::null()).stderr(Stdio::null());
        (child, Self { side: File::from(ours), shown: String::new() })
    }

    /// Reads until the command has written a text.
    pub(crate) fn until(&mut self, text: &str) {
        let mut fresh = [0; 4096];
        while !self.shown.contains(text) {
            let length = self.side.read(&mut fresh).unwrap_or(0);
            assert!(length > 0, "the command ended before it wrote {text:?}:\n{}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&fresh[..length]));
        }
    }

    /// Types a line.
    pub(crate) fn answer(&mut self, line: &str) {
        self.side.write_all(format!("{line}\n").as_bytes()).expect("the terminal takes a line");
    }

    /// Types a line once what is typed is no longer shown: what came before that is thrown away.
    pub(crate) fn answer_hidden(&mut self, line: &str) {
        while rustix::termios::tcgetattr(&self.side).expect("a terminal").local_modes.contains(rustix::termios::LocalModes::ECHO)
        {
            std::thread::yield_now();
        }
        self.answer(line);
    }

    /// Reads to the end: until no process has the terminal any more.
    pub(crate) fn rest(&mut self) {
        let mut fresh = [0; 4096];
        while let Ok(length @ 1..) = self.side.read(&mut fresh) {
            self.shown.push_str(&String::from_utf8_lossy(&fresh[..length]));
        }
    }
}
