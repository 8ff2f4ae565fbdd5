//! A real Channel Access server for tests: caproto, in the virtual environment that `scripts/test` makes.

use crate::support::Fleet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Where `scripts/test` puts caproto.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("channel-access/bin")
}

/// The server; ends with the test.
pub(crate) struct Ioc {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Ioc {
    /// A server that has these variables. Nothing, and a line that says so, where caproto is not installed.
    pub(crate) fn start(values: &[(&str, &str)]) -> Option<Self> {
        let python = tools().join("python");
        if !python.exists() {
            eprintln!("skipped: there is no Channel Access server; scripts/test installs caproto from PyPI");
            return None;
        }
        let free = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its number").port();
        drop(free);
        let mut child = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/ioc/ioc.py"))
            .env("EPICS_CA_SERVER_PORT", port.to_string())
            .env("EPICS_CAS_AUTO_BEACON_ADDR_LIST", "no")
            .env("EPICS_CAS_BEACON_ADDR_LIST", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let (input, output) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        let mut ioc = Self { child, input, output: BufReader::new(output), port };
        ioc.expect("ready");
        for (name, value) in values {
            ioc.set(name, value);
        }
        Some(ioc)
    }

    /// Returns when clients see the value.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        writeln!(self.input, "{name}={value}").expect("the server listens");
        self.expect(&format!("set {name}"));
    }

    /// Takes a variable away.
    pub(crate) fn remove(&mut self, name: &str) {
        writeln!(self.input, "-{name}").expect("the server listens");
        self.expect(&format!("set {name}"));
    }

    fn expect(&mut self, wanted: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the server answers");
        assert_eq!(line.trim_end(), wanted);
    }

    /// Gives both releases of the kit a `caget` that asks this server, with `after` as further lines of its script, where
    /// `PUT NAME VALUE` sets a value. Called before the sandboxes are made.
    pub(crate) fn give_caget(&self, fleet: &Fleet, after: &str) {
        let (tools, port) = (tools().display().to_string(), self.port);
        let script = format!(
            "#!/bin/sh\n\
             export EPICS_CA_SERVER_PORT={port} EPICS_CA_ADDR_LIST=127.0.0.1 EPICS_CA_AUTO_ADDR_LIST=no\n\
             # Scalars in brackets are caproto's; the real program writes the value alone.\n\
             '{tools}/caproto-get' --no-repeater --no-color \"$@\" | sed 's/^\\([^ ]*  *\\)\\[\\(.*\\)\\]$/\\1\\2/'\n\
             {after}\n",
            after = after.replace("PUT", &format!("'{tools}/caproto-put' --no-repeater --no-color"))
        );
        for release in std::fs::read_dir(fleet.kits()).expect("the kits").flatten() {
            let file = release.path().join("EPICS/caget");
            std::fs::write(&file, &script).expect("a file of the kit");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("a program");
        }
    }
}

impl Drop for Ioc {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
