//! A Kerberos server of MIT's.

use crate::service::{PASSWORD, Service, USER};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const REALM: &str = "BENCH.TEST";
/// Where servers lie, which is not on everybody's path.
const PATHS: [&str; 3] = ["/usr/sbin", "/usr/bin", "/sbin"];

/// A Kerberos server of one test, with the account of the tests and the WinRM service of one host.
pub(crate) struct Kdc {
    pub(crate) folder: tempfile::TempDir,
    process: Child,
    pub(crate) port: u16,
}

fn program(name: &str) -> Option<PathBuf> {
    let found = PATHS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: {name} is not here (Debian packages krb5-kdc and krb5-admin-server)");
    }
    found
}

impl Kdc {
    /// `host`: the name of the service that it knows. Nothing where no KDC is installed.
    pub(crate) fn start(host: &str) -> Option<Self> {
        let (server, util, admin) = (program("krb5kdc")?, program("kdb5_util")?, program("kadmin.local")?);
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let client = format!(
            "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n rdns = false\n dns_canonicalize_hostname = false\n\
             [realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
        );
        std::fs::write(folder.path().join("krb5.conf"), client).expect("a file");
        let settings = format!(
            "[kdcdefaults]\n kdc_ports = {port}\n kdc_tcp_ports = {port}\n[realms]\n {REALM} = {{\n  database_name = {}\n  \
             key_stash_file = {}\n  acl_file = {}\n }}\n[logging]\n kdc = FILE:{}\n",
            at("principal"),
            at("stash"),
            at("acl"),
            at("kdc.log")
        );
        std::fs::write(folder.path().join("kdc.conf"), settings).expect("a file");
        let run = |program: &Path, arguments: &[&str]| {
            let output = with_settings(Command::new(program).args(arguments), folder.path()).output().expect("it runs");
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(&util, &["create", "-s", "-r", REALM, "-P", "master-word"]);
        let keytab = at("keytab");
        for order in [
            format!("addprinc +requires_preauth -pw {PASSWORD} {USER}"),
            format!("addprinc -randkey HTTP/{host}"),
            format!("ktadd -k {keytab} HTTP/{host}"),
        ] {
            run(&admin, &["-r", REALM, "-q", &order]);
        }
        let mut process = Command::new(&server);
        let process =
            with_settings(process.args(["-n", "-r", REALM]), folder.path()).stdout(Stdio::null()).spawn().expect("a KDC");
        let kdc = Self { folder, process, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the KDC does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(kdc)
    }

    /// A WinRM service that takes its tickets; `arguments` are further ones of the service.
    pub(crate) fn service(&self, arguments: &[&str]) -> Option<Service> {
        let of = |name: &str| self.folder.path().join(name).display().to_string();
        let environment = [("KRB5_CONFIG", of("krb5.conf")), ("KRB5_KTNAME", of("keytab"))];
        Service::start_with(&[&["--auth", "negotiate", "--kerberos"], arguments].concat(), &environment)
    }
}

fn with_settings<'c>(command: &'c mut Command, folder: &Path) -> &'c mut Command {
    command.env("KRB5_CONFIG", folder.join("krb5.conf")).env("KRB5_KDC_PROFILE", folder.join("kdc.conf")).stdin(Stdio::null())
}

impl Drop for Kdc {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
