//! WinRM services of our own (`tests/lab/winrm`), and settings that reach them.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
/// What its certificate and its Kerberos service are called: as the shipped inventory calls NDXLOQ.
pub(crate) const HOST: &str = "NDXLOQ.isis.cclrc.ac.uk";
pub(crate) const USER: &str = "deploy";
pub(crate) const PASSWORD: &str = "Pass-w0rd";

/// The Python that has what the service needs; `scripts/test` makes it.
pub(crate) fn python() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder");
    let python = target.join("lab/bin/python");
    let found = python.exists();
    if !found {
        eprintln!("skipped: {} is not there; `scripts/test` makes it", python.display());
    }
    found.then_some(python)
}

/// A WinRM service of one test; it ends with it.
pub(crate) struct Service {
    process: Child,
    pub(crate) port: u16,
    /// The file of its certificate, with `--tls`.
    pub(crate) certificate: Option<PathBuf>,
    tls: bool,
}

impl Service {
    /// Starts one, or nothing where its Python is missing.
    pub(crate) fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_with(arguments, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn start_with(arguments: &[&str], environment: &[(&str, String)]) -> Option<Self> {
        let mut command = Command::new(python()?);
        command.arg("-B").arg(Path::new(REPOSITORY).join("tests/lab/winrm")).args(["--port", "0", "--bench-control"]);
        command.args(["--spn-host", HOST, "--user", &format!("BENCH:{USER}:{PASSWORD}")]).args(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("python starts");
        let mut line = String::new();
        let mut said = BufReader::new(process.stdout.take().expect("its output"));
        said.read_line(&mut line).expect("it says where it listens");
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("the service did not start: {e}: {line}"));
        Some(Self {
            process,
            port: u16::try_from(told["port"].as_u64().expect("a port")).expect("a port"),
            certificate: told["cert"].as_str().map(PathBuf::from),
            tls: told["tls"] == true,
        })
    }

    /// The settings under `transport: winrm:` that reach it.
    pub(crate) fn settings(&self) -> Settings {
        let settings = Settings::default()
            .with("user", USER)
            .with("password", "word")
            .with("address", "127.0.0.1")
            .with("port", self.port)
            .with("timeout", "20s");
        match &self.certificate {
            Some(certificate) if self.tls => settings.with("https", true).with("ca", certificate.display().to_string()),
            _ => settings.with("auth", "ntlm"),
        }
    }

    /// What goes on there.
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.ask("GET", "/_bench/state", "")).expect("its state as JSON")
    }

    /// Shells that are open there.
    pub(crate) fn shells(&self) -> usize {
        self.state()["shells"].as_object().expect("shells").len()
    }

    /// A request to `/_bench/`, which is no part of WinRM.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> String {
        assert!(!self.tls, "the bench is asked over plain HTTP");
        let mut link = TcpStream::connect(("127.0.0.1", self.port)).expect("the service listens");
        write!(link, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .expect("it takes a request");
        let mut answer = String::new();
        link.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer of HTTP");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body.to_owned()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Its own way to end also ends what its shells run.
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

/// The settings of an instrument's transport.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings(pub(crate) BTreeMap<String, Value>);

impl Settings {
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }
}
