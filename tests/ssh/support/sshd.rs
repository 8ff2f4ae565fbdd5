//! A real SSH server of one test.

use super::processes::Process;
use super::{LocalUser, descendants, is_root, output_of, told, wait_for};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// Where `sshd` lies; the search path of an ordinary user does not lead there.
const SSHD: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];

/// An OpenSSH server on a port of its own, with keys and configuration in a folder of its own. Ends with its sessions.
pub(crate) struct Sshd {
    dir: tempfile::TempDir,
    user: String,
    host_keys: Vec<String>,
    port: u16,
    child: Option<Child>,
}

/// How a server shall be.
pub(crate) struct SshdBuilder {
    host_keys: Vec<String>,
    lines: Vec<String>,
    user: Option<String>,
    authorized: Vec<String>,
    /// What serves files; nothing where nothing does.
    sftp: Option<String>,
}

impl SshdBuilder {
    /// The kinds of host keys it has, as `ssh-keygen -t` names them; `ed25519` unless given.
    pub(crate) fn host_keys(mut self, kinds: &[&str]) -> Self {
        self.host_keys = kinds.iter().map(|&k| k.to_owned()).collect();
        self
    }

    /// A line of its configuration. The first line of a keyword counts, so this is stronger than what the fixture writes.
    pub(crate) fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// The program that serves files, instead of the server itself; with `None` nothing does.
    pub(crate) fn sftp(mut self, program: Option<&str>) -> Self {
        self.sftp = program.map(str::to_owned);
        self
    }

    /// What runs instead of anything that a client asks for.
    pub(crate) fn force_command(self, command: &str) -> Self {
        self.line(format!("ForceCommand {command}"))
    }

    /// Who logs in. Unless given, whoever runs the tests, in an empty home folder.
    pub(crate) fn user(mut self, user: &LocalUser) -> Self {
        self.user = Some(user.name().to_owned());
        self
    }

    /// Lets users in by password, which needs the system's own log-in.
    pub(crate) fn passwords(self) -> Self {
        self.line("UsePAM yes").line("PasswordAuthentication yes")
    }

    /// Lets users in who answer questions; there is one, for the password.
    pub(crate) fn keyboard_interactive(self) -> Self {
        self.line("UsePAM yes").line("KbdInteractiveAuthentication yes")
    }

    /// A public key that may log in as well, as a line of `authorized_keys`.
    pub(crate) fn authorized_key(mut self, line: impl Into<String>) -> Self {
        self.authorized.push(line.into());
        self
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(self) -> Sshd {
        let dir = tempfile::Builder::new().prefix("ibxd").tempdir_in("/tmp").expect("a folder in /tmp");
        // The server reads the authorized keys as the user who logs in.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("rights of a folder");
        std::fs::create_dir(dir.path().join("home")).expect("a folder");
        for kind in &self.host_keys {
            keygen(&dir.path().join(format!("host_{kind}")), kind, "");
        }
        keygen(&dir.path().join("id_ed25519"), "ed25519", "");
        let mut authorized = std::fs::read_to_string(dir.path().join("id_ed25519.pub")).expect("a public key");
        authorized.extend(self.authorized.iter().map(|line| format!("{line}\n")));
        std::fs::write(dir.path().join("authorized_keys"), authorized).expect("a file");
        if is_root() {
            // The folder that the server locks itself into; the system's own would have made it.
            std::fs::create_dir_all("/run/sshd").expect("the folder /run/sshd");
        }
        let user = self.user.clone().unwrap_or_else(|| output_of(Command::new("id").arg("-un")).trim().to_owned());
        let mut sshd = Sshd { dir, user, host_keys: self.host_keys.clone(), port: 0, child: None };
        std::fs::write(sshd.dir().join("sshd_config"), self.config(sshd.dir())).expect("a file");
        sshd.start_on(0);
        sshd
    }

    fn config(&self, dir: &Path) -> String {
        let shown = dir.display();
        let mut text: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        for kind in &self.host_keys {
            let _ = writeln!(text, "HostKey {shown}/host_{kind}");
        }
        if self.user.is_none() {
            // The settings of this user's own shell are no part of a test.
            let _ = writeln!(text, "SetEnv HOME={shown}/home");
        }
        if let Some(program) = &self.sftp {
            let _ = writeln!(text, "Subsystem sftp {program}");
        }
        text + &format!(
            "ListenAddress 127.0.0.1\nPidFile none\nAuthorizedKeysFile {shown}/authorized_keys\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\n\
             PrintMotd no\nPrintLastLog no\nMaxStartups 200:30:400\nLogLevel DEBUG1\n"
        )
    }
}

impl Sshd {
    /// One that lets its own key in as whoever runs the tests.
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    pub(crate) fn builder() -> SshdBuilder {
        SshdBuilder {
            host_keys: vec!["ed25519".to_owned()],
            lines: Vec::new(),
            user: None,
            authorized: Vec::new(),
            sftp: Some("internal-sftp".to_owned()),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Who logs in.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The folder of this server, open to all users: keys, configuration, log.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The private key that it lets in; the public one has `.pub` added.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir().join("id_ed25519")
    }

    /// The host key of a kind as it stands in files of known hosts: `ssh-ed25519 AAAA...`.
    pub(crate) fn host_key(&self, kind: &str) -> String {
        let text = std::fs::read_to_string(self.dir().join(format!("host_{kind}.pub"))).expect("a host key of that kind");
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// A file of known hosts with all its keys.
    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.dir().join("known_hosts")
    }

    /// Has its keys known at another port as well: a proxy's.
    pub(crate) fn known_at(&self, port: u16) {
        let lines: String = self.host_keys.iter().map(|kind| format!("[127.0.0.1]:{port} {}\n", self.host_key(kind))).collect();
        let file = OpenOptions::new().append(true).create(true).open(self.known_hosts());
        file.and_then(|mut f| f.write_all(lines.as_bytes())).expect("known hosts can be added");
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read(self.log_file()).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// The real client, ready for a command, at the server's own port or a proxy's.
    pub(crate) fn ssh(&self, port: u16) -> Command {
        self.ssh_as(&self.user, port, &["-o", "BatchMode=yes", "-i", &self.key().display().to_string()])
    }

    /// The real client without a key; the password comes from a program.
    pub(crate) fn ssh_with_password(&self, user: &LocalUser, method: &str) -> Command {
        let only = format!("PreferredAuthentications={method}");
        let mut command = self.ssh_as(user.name(), self.port, &["-o", &only, "-o", "NumberOfPasswordPrompts=1"]);
        command.env("SSH_ASKPASS", user.askpass()).env("SSH_ASKPASS_REQUIRE", "force");
        command
    }

    fn ssh_as(&self, user: &str, port: u16, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-p", &port.to_string(), "-l", user]).args(options);
        for option in ["IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "ConnectTimeout=20"] {
            command.args(["-o", option]);
        }
        command.arg("-o").arg(format!("UserKnownHostsFile={}", self.known_hosts().display()));
        command.arg("127.0.0.1").stdin(Stdio::null());
        command
    }

    /// The server's processes, one or two for each open connection.
    pub(crate) fn connections(&self) -> Vec<Process> {
        let below = self.child.as_ref().map(|c| descendants(c.id())).unwrap_or_default();
        below.into_iter().filter(|p| p.name.starts_with("sshd")).collect()
    }

    /// True while somebody is connected.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.connections().is_empty()
    }

    /// Ends all open connections, as a server does that is ended in their midst; what runs at their other end stays.
    pub(crate) fn drop_connections(&self) {
        let open = self.connections();
        open.iter().for_each(|p| p.signal(Signal::KILL));
        wait_for("the end of the server's connections", || (!open.iter().any(Process::is_alive)).then_some(()));
    }

    /// Stops listening and ends its connections, as a machine that goes down.
    pub(crate) fn stop(&mut self) {
        let open = self.connections();
        if let Some(mut child) = self.child.take() {
            // It may be dead already; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
        }
        open.iter().for_each(|p| p.signal(Signal::KILL));
    }

    /// Starts again after [`Sshd::stop`], on the same port with the same keys.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "it was not stopped");
        self.start_on(self.port);
    }

    /// Lets in who has the private half of a key, from now on.
    pub(crate) fn let_in(&self, public_key: &Path) {
        let line = std::fs::read(public_key).expect("a public key");
        let file = OpenOptions::new().append(true).open(self.dir().join("authorized_keys"));
        file.and_then(|mut f| f.write_all(&line)).expect("a key can be added");
    }

    /// As a machine that was set up anew: stopped, and started on the same port with other host keys.
    pub(crate) fn set_up_anew(&mut self) {
        self.stop();
        for kind in &self.host_keys {
            let file = self.dir().join(format!("host_{kind}"));
            for old in [&file, &file.with_extension("pub")] {
                std::fs::remove_file(old).expect("a host key");
            }
            keygen(&file, kind, "");
        }
        self.start_again();
    }

    /// The fingerprint of its host key of a kind, by `ssh-keygen`.
    pub(crate) fn fingerprint(&self, kind: &str) -> String {
        fingerprint(&self.dir().join(format!("host_{kind}.pub")))
    }

    /// Starts it on a port; with 0, on any that is free.
    fn start_on(&mut self, wanted: u16) {
        for _ in 0..5 {
            let port = if wanted == 0 { free_port() } else { wanted };
            let begin = self.log().len();
            let mut child = self.spawn(port);
            // Its own word for it: whoever answers on that port may be another test's server.
            let listens = format!("Server listening on 127.0.0.1 port {port}.");
            let answers = wait_for("the SSH server that listens", || {
                if self.log()[begin..].contains(&listens) {
                    return Some(true);
                }
                child.try_wait().expect("the server's state").map(|_| false)
            });
            if answers {
                self.port = port;
                self.child = Some(child);
                if wanted == 0 {
                    self.known_at(port);
                }
                return;
            }
            let said = self.log().split_off(begin);
            assert!(wanted == 0 && said.contains("Address already in use"), "sshd ended:\n{said}");
        }
        panic!("five free ports were taken by others, one after the other");
    }

    fn spawn(&self, port: u16) -> Child {
        let program = SSHD.iter().find(|p| Path::new(p).exists()).expect("sshd (Debian package openssh-server)");
        let mut command = Command::new(program);
        command.arg("-f").arg(self.dir().join("sshd_config")).args(["-o", &format!("Port={port}")]);
        // Newer servers turn away who failed to log in a few times, and tests do little else.
        let lenient = ["-o", "PerSourcePenalties=no"];
        let mut check = Command::new(program);
        check.args(["-t", "-f"]).arg(self.dir().join("sshd_config"));
        let checked = check.output().expect("sshd starts");
        assert!(checked.status.success(), "{}", told(&checked));
        if check.args(lenient).output().is_ok_and(|o| o.status.success()) {
            command.args(lenient);
        }
        command.arg("-D").arg("-E").arg(self.log_file());
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("sshd starts")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let below = self.child.as_ref().map(|c| descendants(c.id())).unwrap_or_default();
        self.stop();
        below.iter().for_each(|p| p.signal(Signal::KILL));
    }
}

/// Makes a pair of keys; `passphrase` may be empty.
pub(crate) fn keygen(file: &Path, kind: &str, passphrase: &str) {
    keygen_with(file, &["-t", kind], passphrase);
}

/// The same with further options.
pub(crate) fn keygen_with(file: &Path, options: &[&str], passphrase: &str) {
    let mut keygen = Command::new("ssh-keygen");
    output_of(keygen.arg("-q").args(options).args(["-N", passphrase, "-C", "ibexdeploy-test", "-f"]).arg(file));
}

/// `SHA256:...` of a key's file, by `ssh-keygen`.
pub(crate) fn fingerprint(file: &Path) -> String {
    let said = output_of(Command::new("ssh-keygen").arg("-lf").arg(file));
    said.split_whitespace().nth(1).expect("a fingerprint").to_owned()
}

/// A port that nobody listens on, below those that the system gives to connections and to whoever asks for any port: it
/// stays free until its server begins to listen.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const PORTS: std::ops::Range<u16> = 12_000..32_000;
    // Tests that run at once are processes of their own; they begin in different places.
    let first = u16::try_from(std::process::id() * 131 % 20_000).expect("a small number");
    (0..PORTS.end - PORTS.start)
        .map(|_| PORTS.start + (first + NEXT.fetch_add(1, Ordering::Relaxed) % 20_000) % 20_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
