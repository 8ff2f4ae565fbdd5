//! WinRM services, and sandboxes behind them.

use crate::command::{Ended, Watched};
use ibexdeploy::rehearsal::{KitShape, make_kits};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_ibexdeploy");
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
/// The release that sandboxes do not have yet.
pub(crate) const NEWER: &str = "26.9.0";
/// What its certificate and its Kerberos service are called: as the shipped inventory calls NDXLOQ.
pub(crate) const HOST: &str = "NDXLOQ.isis.cclrc.ac.uk";
pub(crate) const USER: &str = "deploy";
pub(crate) const PASSWORD: &str = "Pass-w0rd";

/// The Python that has what the service needs; `scripts/test` makes it.
fn python() -> Option<PathBuf> {
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

    /// Lets something go wrong later, as the service's `/_bench/inject` takes it.
    pub(crate) fn inject(&self, fault: &Value) {
        self.ask("POST", "/_bench/inject", &fault.to_string());
    }

    /// The machine restarts at once: its shells and connections are gone, and for a while it is.
    pub(crate) fn reboot(&self) {
        self.ask("POST", "/_bench/reboot", "");
    }

    /// What goes on there.
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.ask("GET", "/_bench/state", "")).expect("its state as JSON")
    }

    /// Shells that are open there.
    pub(crate) fn shells(&self) -> usize {
        self.state()["shells"].as_object().expect("shells").len()
    }

    /// Faults that were asked for and have not happened yet.
    pub(crate) fn injections(&self) -> usize {
        self.state()["injections"].as_array().expect("a list").len()
    }

    /// The SHA-256 fingerprint of its certificate, as OpenSSL writes it.
    pub(crate) fn fingerprint(&self) -> String {
        let file = self.certificate.as_ref().expect("it has one");
        let shown = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", &file.display().to_string()]);
        shown.trim().split_once('=').expect("a fingerprint").1.to_owned()
    }

    /// How often an action was asked for.
    pub(crate) fn count(&self, action: &str) -> u64 {
        self.state()["counts"][action].as_u64().unwrap_or(0)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
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
pub(crate) struct Settings(BTreeMap<String, Value>);

impl Settings {
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.0.remove(key);
        self
    }
}

/// Sandboxes, releases, inventory and state of one test, in a folder with a short path.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    password: String,
}

impl Site {
    /// Two small releases, and sandboxes with the older one, behind one service.
    pub(crate) fn of(instruments: &[&str], settings: &Settings) -> Self {
        let dir = tempfile::Builder::new().prefix("ibx").tempdir_in("/tmp").expect("a folder in /tmp");
        let site = Self { dir, password: PASSWORD.to_owned() };
        make_kits(&site.kits(), &KitShape::small().without_git()).expect("kits can be made");
        let mut rehearse = Command::new(BINARY);
        rehearse.current_dir(REPOSITORY).args(["plan", "check", &instruments.join(",")]);
        rehearse.arg(format!("--rehearse={}", site.dir().join("sandboxes").display()));
        rehearse.arg("--kits").arg(site.kits()).arg("--state").arg(site.dir().join("state")).stdin(Stdio::null());
        let made = Ended::of(&mut rehearse);
        assert_eq!(made.code, 0, "{}", made.story());
        site.reach(instruments, settings);
        site.put_agents(instruments);
        site
    }

    /// The same without an agent on the instruments.
    pub(crate) fn without_agents(instruments: &[&str], settings: &Settings) -> Self {
        let site = Self::of(instruments, settings);
        for name in instruments {
            std::fs::remove_dir_all(site.root(name).join(".ibexdeploy/bin")).expect("the agent can be removed");
        }
        site
    }

    /// Writes the inventory anew, with other settings.
    pub(crate) fn reach(&self, instruments: &[&str], settings: &Settings) {
        let shipped = std::fs::read_to_string(Path::new(REPOSITORY).join("inventory/ndx.yaml")).expect("the shipped inventory");
        let mut text = shipped.split_once("\ninstruments:").expect("instruments").0.to_owned();
        text.push_str("\ninstruments:\n");
        for name in instruments {
            let settings = settings.clone().with("root", self.root(name).display().to_string());
            let _ = writeln!(
                text,
                "  {name}: {{transport: {{winrm: {}}}, secrets: {{word: {{env: IBEXDEPLOY_TEST_WORD}}}}}}",
                json!(settings.0)
            );
        }
        std::fs::write(self.dir().join("inventory.yaml"), text).expect("an inventory can be written");
    }

    /// Puts this build of the agent where the transport would bring it, so that it need not.
    pub(crate) fn put_agents(&self, names: &[&str]) {
        let build = ibexdeploy::content::ContentHash::of_file(Path::new(BINARY)).expect("the binary can be read").short();
        for name in names {
            let place = self.root(name).join(".ibexdeploy/bin").join(&build);
            std::fs::create_dir_all(&place).expect("a folder for the agent");
            let place = place.join("ibexdeploy");
            if std::fs::hard_link(BINARY, &place).is_err() {
                std::fs::copy(BINARY, &place).expect("the agent can be copied");
            }
        }
    }

    /// The password that the operator gives from now on.
    pub(crate) fn set_password(&mut self, password: &str) {
        password.clone_into(&mut self.password);
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn kits(&self) -> PathBuf {
        self.dir().join("releases")
    }

    /// The sandbox of an instrument.
    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.dir().join("sandboxes").join(name)
    }

    /// Installed files that are not as in a release.
    pub(crate) fn unlike(&self, name: &str, version: &str) -> Vec<String> {
        crate::command::unlike(&self.root(name), &self.kits().join(version), &[])
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.current_dir(REPOSITORY).args(arguments).arg("--inventory").arg(self.dir().join("inventory.yaml"));
        command.arg("--kits").arg(self.kits()).arg("--state").arg(self.dir().join("state"));
        command.env("IBEXDEPLOY_TEST_WORD", &self.password);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the binary to its end with JSON output.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(self.command(arguments).args(["--output", "json"]))
    }

    /// Starts the binary with JSON output, to be watched and interrupted.
    pub(crate) fn start(&self, arguments: &[&str]) -> Watched {
        Watched::start(self.command(arguments).args(["--output", "json"]))
    }

    /// Adds lines at the end of a script of the newer release.
    pub(crate) fn add_to_script(&self, script: &str, lines: &str) {
        let path = self.kits().join(NEWER).join("EPICS").join(script);
        let mut text = std::fs::read_to_string(&path).expect("the script");
        let _ = writeln!(text, "{lines}");
        std::fs::write(path, text).expect("the script can be changed");
    }
}

/// The files of client certificates.
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    /// Of the account `deploy`.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Of nobody that the service knows.
    pub(crate) other_certificate: PathBuf,
    pub(crate) other_key: PathBuf,
}

/// Makes an authority and two client certificates, with OpenSSL.
pub(crate) fn certificates(folder: &Path) -> Certificates {
    let file = |name: &str| folder.join(name);
    let path = |name: &str| file(name).display().to_string();
    let new_key = ["req", "-newkey", "rsa:2048", "-nodes"];
    let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
    openssl(&[&new_key[..], &["-x509", "-days", "2", "-subj", "/CN=clients", "-keyout", &ca_key, "-out", &ca]].concat());
    std::fs::write(file("extensions"), "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n").expect("a file");
    let extensions = path("extensions");
    for name in ["deploy", "other"] {
        let (key, request) = (path(&format!("{name}.key")), path(&format!("{name}.csr")));
        openssl(&[&new_key[..], &["-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &request]].concat());
        let certificate = path(&format!("{name}.pem"));
        let sign = ["x509", "-req", "-days", "2", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
        openssl(&[&sign[..], &["-extfile", &extensions, "-out", &certificate]].concat());
    }
    Certificates {
        authority: file("ca.pem"),
        certificate: file("deploy.pem"),
        key: file("deploy.key"),
        other_certificate: file("other.pem"),
        other_key: file("other.key"),
    }
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).stdin(Stdio::null()).output().expect("openssl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
