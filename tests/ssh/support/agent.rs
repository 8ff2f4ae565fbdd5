//! A real `ssh-agent`.

use super::{output_of, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Holds keys until it is dropped.
pub(crate) struct SshAgent {
    socket: PathBuf,
    child: Child,
    /// Answers for the passphrase of a key.
    dir: tempfile::TempDir,
}

impl SshAgent {
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("ibxa").tempdir_in("/tmp").expect("a folder in /tmp");
        let socket = dir.path().join("socket");
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(&socket).stdin(Stdio::null()).stdout(Stdio::null());
        let child = agent.spawn().expect("ssh-agent (Debian package openssh-client)");
        wait_for("the SSH agent", || socket.exists().then_some(()));
        Self { socket, child, dir }
    }

    /// Takes a key in.
    pub(crate) fn add(&self, key: &Path, passphrase: &str) {
        let askpass = self.dir.path().join("askpass");
        std::fs::write(&askpass, format!("#!/bin/sh\necho '{passphrase}'\n")).expect("a script");
        std::fs::set_permissions(&askpass, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("rights of a file");
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).stdin(Stdio::null());
        output_of(add.env("SSH_ASKPASS", askpass).env("SSH_ASKPASS_REQUIRE", "force"));
    }

    /// Lets a command know of it.
    pub(crate) fn tell(&self, command: &mut Command) {
        command.env("SSH_AUTH_SOCK", &self.socket);
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
