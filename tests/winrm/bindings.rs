//! Logons over HTTPS that say which certificate they saw, to a service that insists on it.

use crate::kdc::{Kdc, REALM};
use crate::logon::{reached, refused};
use crate::service::python;
use crate::support::{HOST, Service, Site, USER, certificate};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const NAME: &str = "NDXLOQ";

#[test]
fn every_kind_of_certificate_is_bound_to_by_its_own_hash() {
    let folder = tempfile::tempdir().expect("a folder");
    let kinds: [(&str, &[&str]); 5] = [
        ("rsa-sha1", &["-newkey", "rsa:2048", "-sha1"]),
        ("rsa-sha256", &["-newkey", "rsa:2048", "-sha256"]),
        ("rsa-pss-sha512", &["-newkey", "rsa:2048", "-sha512", "-sigopt", "rsa_padding_mode:pss"]),
        ("ecdsa-sha384", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"]),
        ("ecdsa-sha512", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha512"]),
    ];
    let mut site: Option<Site> = None;
    for (name, options) in kinds {
        let (file, key) = certificate(folder.path(), name, HOST, options);
        let service = Service::start(&["--auth", "negotiate", "--tls", "--cbt", "strict", "--cert", &file, "--key", &key]);
        let Some(service) = service else { return };
        // By its fingerprint: nobody signs with SHA-1 any more, and few authorities with the others.
        let settings = service.settings().without("ca").with("pin", service.fingerprint()).with("auth", "ntlm");
        let site = site.get_or_insert_with(|| Site::of(&[NAME], &settings));
        site.reach(&[NAME], &settings);
        println!("{name}");
        reached(site);
    }
}

#[test]
fn kerberos_over_https_is_for_services_that_do_not_insist() {
    let Some(kdc) = Kdc::start(HOST) else { return };
    let settings = |service: &Service| {
        let settings = service.settings().with("auth", "kerberos").with("user", format!(r"{REALM}\{USER}"));
        settings.with("kdc", format!("127.0.0.1:{}", kdc.port))
    };
    let Some(service) = kdc.service(&["--tls"]) else { return };
    let site = Site::of(&[NAME], &settings(&service));
    reached(&site);

    let Some(strict) = kdc.service(&["--tls", "--cbt", "strict"]) else { return };
    site.reach(&[NAME], &settings(&strict));
    let told = refused(&site);
    assert!(told.contains("CbtHardeningLevel is Strict"), "{told}");
    site.reach(&[NAME], &settings(&strict).without("kdc").with("auth", "ntlm").with("user", USER));
    reached(&site);
}

/// Opens TLS on the way to a service, with a certificate of its own, and hands on what is said.
struct Between {
    process: Child,
    port: u16,
    certificate: PathBuf,
}

impl Between {
    fn start(folder: &Path, service: &Service) -> Option<Self> {
        let (certificate, key) = certificate(folder, "between", HOST, &["-newkey", "rsa:2048"]);
        let mut command = Command::new(python()?);
        command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/between.py"));
        command.args([&certificate, &key, &service.port.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("python starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output")).read_line(&mut line).expect("its port");
        Some(Self { process, port: line.trim().parse().expect("a port"), certificate: certificate.into() })
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_logon_that_is_handed_on_by_somebody_between_is_worth_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(service) = Service::start(&["--auth", "negotiate", "--tls"]) else { return };
    let Some(between) = Between::start(folder.path(), &service) else { return };
    let settings = service.settings().with("auth", "ntlm");
    let site = Site::of(&[NAME], &settings);
    reached(&site);
    // The operator was made to believe the other certificate.
    site.reach(&[NAME], &settings.with("port", between.port).with("ca", between.certificate.display().to_string()));
    let told = refused(&site);
    assert!(told.contains("does not let deploy in") && told.contains("something between opens the connection"), "{told}");
}
