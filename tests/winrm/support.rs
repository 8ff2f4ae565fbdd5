//! Sandboxes behind WinRM services.

use crate::command::{Ended, Watched};
pub(crate) use crate::service::{HOST, PASSWORD, Service, Settings, USER};
use ibexdeploy::rehearsal::{KitShape, make_kits};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_ibexdeploy");
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
/// The release that sandboxes do not have yet.
pub(crate) const NEWER: &str = "26.9.0";

/// What can go wrong there.
impl Service {
    /// Lets something go wrong later, as the service's `/_bench/inject` takes it.
    pub(crate) fn inject(&self, fault: &Value) {
        self.ask("POST", "/_bench/inject", &fault.to_string());
    }

    /// The machine restarts at once: its shells and connections are gone, and for a while it is.
    pub(crate) fn reboot(&self) {
        self.ask("POST", "/_bench/reboot", "");
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
}

impl Settings {
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
        self.reach_with(instruments, settings, &json!("push"));
    }

    /// The same with the setting `kits`.
    pub(crate) fn reach_with(&self, instruments: &[&str], settings: &Settings, kits: &Value) {
        let shipped = std::fs::read_to_string(Path::new(REPOSITORY).join("inventory/ndx.yaml")).expect("the shipped inventory");
        let mut text = shipped.split_once("\ninstruments:").expect("instruments").0.to_owned();
        text.push_str("\ninstruments:\n");
        for name in instruments {
            let settings = settings.clone().with("root", self.root(name).display().to_string());
            let _ = writeln!(
                text,
                "  {name}: {{transport: {{winrm: {}}}, kits: {kits}, secrets: {{word: {{env: IBEXDEPLOY_TEST_WORD}}}}}}",
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

/// Makes a certificate for a host, with a key and a signature as OpenSSL's `req` takes them; its file and that of its key.
pub(crate) fn certificate(folder: &Path, name: &str, host: &str, options: &[&str]) -> (String, String) {
    let file = |ending: &str| folder.join(format!("{name}.{ending}")).display().to_string();
    let (certificate, key) = (file("pem"), file("key"));
    let kind = if host.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
    let (subject, names) = (format!("/CN={host}"), format!("subjectAltName={kind}:{host}"));
    let about = ["-subj", &subject, "-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE"];
    let to = ["-days", "2", "-keyout", &key, "-out", &certificate];
    openssl(&[&["req", "-x509", "-nodes"], options, &about, &to].concat());
    (certificate, key)
}

pub(crate) fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).stdin(Stdio::null()).output().expect("openssl runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
