//! Who is let in, who is believed, and what is said to the others.

use crate::command::Ended;
use crate::support::{PASSWORD, Service, Settings, Site, USER, certificates};

const NAME: &str = "NDXLOQ";

/// The instrument is not reached; gives the error of its one line, and that no password is in what was said.
pub(crate) fn refused(site: &Site) -> String {
    let ended = site.run(&["status", NAME]);
    assert_ne!(ended.code, 0, "{}", ended.story());
    let text = site.command(&["status", NAME, "--output", "plain"]).output().expect("the binary runs");
    let told = format!("{}{}", String::from_utf8_lossy(&text.stdout), String::from_utf8_lossy(&text.stderr));
    for secret in [PASSWORD, "Wr0ng-word"] {
        assert!(!told.contains(secret) && !ended.story().contains(secret), "{told}");
    }
    told
}

pub(crate) fn reached(site: &Site) -> Ended {
    let ended = site.run(&["status", NAME]);
    assert_eq!(ended.code, 0, "{}", ended.story());
    ended
}

#[test]
fn ntlm_and_negotiate_seal_over_http() {
    let Some(service) = Service::start(&["--auth", "negotiate"]) else { return };
    let site = Site::of(&[NAME], &service.settings());
    for (auth, user) in [("ntlm", USER), ("negotiate", USER), ("ntlm", r"BENCH\deploy")] {
        site.reach(&[NAME], &service.settings().with("auth", auth).with("user", user));
        reached(&site);
    }
    assert_eq!(service.shells(), 0);
}

#[test]
fn a_wrong_password_is_an_error_that_is_not_repeated() {
    let Some(service) = Service::start(&["--auth", "negotiate"]) else { return };
    let mut site = Site::of(&[NAME], &service.settings());
    site.set_password("Wr0ng-word");
    let told = refused(&site);
    assert!(told.contains("does not let deploy in") && told.contains("LocalAccountTokenFilterPolicy"), "{told}");
    assert_eq!(service.count("Create"), 0);
}

/// Each presentation counts towards the account's lockout, and Basic presents the password with every request.
#[test]
fn a_wrong_password_is_presented_once_by_basic() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let Some(service) = Service::start(&["--auth", "basic", "--tls", "--log", &log.display().to_string()]) else { return };
    let mut site = Site::of(&[NAME], &service.settings().with("auth", "basic"));
    site.set_password("Wr0ng-word");
    for (times, verbosity) in [(1, "-v"), (2, "-vv")] {
        let ended = site.run(&["status", NAME, verbosity]);
        assert_ne!(ended.code, 0, "{}", ended.story());
        let seen = std::fs::read_to_string(&log).expect("the service's log");
        assert_eq!(seen.matches(r#""deny": "bad password""#).count(), times, "{seen}");
        let shown = ended.stderr.contains("the service answers 401") && ended.stderr.contains(r#"offers="Basic""#);
        assert_eq!(shown, verbosity == "-vv", "{}", ended.stderr);
    }
}

#[test]
fn what_protects_a_connection_is_shown_on_request() {
    let Some(service) = Service::start(&["--auth", "basic", "--tls"]) else { return };
    let site = Site::of(&[NAME], &service.settings().with("auth", "basic"));
    let ended = site.run(&["status", NAME, "-vv"]);
    assert_eq!(ended.code, 0, "{}", ended.story());
    let fingerprint = service.fingerprint().replace(':', "").to_lowercase();
    assert!(ended.stderr.contains(r#"version="TLSv1_3""#), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("SHA256:{fingerprint}")), "{}", ended.stderr);
    // Errors are for people, and no values of a program.
    assert!(!ended.stderr.contains("Details {"), "{}", ended.stderr);
}

#[test]
fn a_service_that_offers_something_else_is_named() {
    let Some(service) = Service::start(&["--auth", "kerberos"]) else { return };
    let told = refused(&Site::of(&[NAME], &service.settings()));
    assert!(told.contains("it offers Kerberos") && told.contains("winrm set winrm/config/service/auth"), "{told}");
}

#[test]
fn a_certificate_of_an_unknown_authority_is_not_taken() {
    let Some(service) = Service::start(&["--auth", "basic", "--tls"]) else { return };
    let Some(other) = Service::start(&["--auth", "basic", "--tls"]) else { return };
    let known = service.settings().with("auth", "basic");
    let site = Site::of(&[NAME], &known);
    reached(&site);

    let foreign = other.certificate.as_ref().expect("a certificate").display().to_string();
    site.reach(&[NAME], &known.clone().with("ca", foreign));
    let told = refused(&site);
    assert!(told.contains("nobody that is trusted has signed the certificate of NDXLOQ.isis.cclrc.ac.uk"), "{told}");

    let pinned = |service: &Service| known.clone().without("ca").with("pin", service.fingerprint());
    site.reach(&[NAME], &pinned(&service));
    reached(&site);
    site.reach(&[NAME], &pinned(&other));
    let told = refused(&site);
    assert!(told.contains("shows another certificate than the one that is pinned"), "{told}");
}

#[test]
fn negotiate_goes_through_https_as_well() {
    let Some(service) = Service::start(&["--auth", "negotiate", "--tls"]) else { return };
    reached(&Site::of(&[NAME], &service.settings().with("auth", "ntlm")));
}

#[test]
fn a_client_certificate_stands_for_a_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = certificates(folder.path());
    let ca = files.authority.display().to_string();
    let Some(service) =
        Service::start(&["--auth", "certificate", "--tls", "--client-ca", &ca, "--cert-user", "CN=deploy=>deploy"])
    else {
        return;
    };
    let settings = |certificate: &std::path::Path, key: &std::path::Path| -> Settings {
        let settings = service.settings().without("user").without("password").with("auth", "certificate");
        settings.with("certificate", certificate.display().to_string()).with("key", key.display().to_string())
    };
    let site = Site::of(&[NAME], &settings(&files.certificate, &files.key));
    reached(&site);
    site.reach(&[NAME], &settings(&files.other_certificate, &files.other_key));
    let told = refused(&site);
    assert!(told.contains("certmapping"), "{told}");
}

#[test]
fn nobody_there_is_said_as_it_is() {
    let port = {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        taken.local_addr().expect("its address").port()
    };
    let settings = Settings::default().with("user", USER).with("password", "word").with("address", "127.0.0.1");
    let told = refused(&Site::of(&[NAME], &settings.with("port", port).with("auth", "ntlm")));
    assert!(told.contains("no WinRM service listens on 127.0.0.1:"), "{told}");
    assert!(told.contains("winrm quickconfig"), "{told}");
}
