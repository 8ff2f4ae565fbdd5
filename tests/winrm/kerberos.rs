//! Kerberos, with a KDC of MIT's.

use crate::kdc::{Kdc, REALM};
use crate::support::{HOST, NEWER, Service, Site, USER};
use serde_json::json;
use std::net::TcpListener;

const NAME: &str = "NDXLOQ";

impl Kdc {
    /// Tickets for the service that it has given so far.
    fn tickets(&self) -> usize {
        let log = std::fs::read_to_string(self.folder.path().join("kdc.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("TGS_REQ") && line.contains("ISSUE")).count()
    }
}

#[test]
fn a_release_goes_through_kerberos_sealed() {
    let Some(kdc) = Kdc::start(HOST) else { return };
    let Some(service) = kdc.service(&[]) else { return };
    let settings = service.settings().with("auth", "kerberos").with("user", format!(r"{REALM}\{USER}"));
    let settings = settings.with("kdc", format!("127.0.0.1:{}", kdc.port));
    let mut site = Site::of(&[NAME], &settings);
    let released = site.run(&["release", NAME, "--yes"]);
    assert_eq!((released.code, released.outcome(NAME).as_str()), (0, "changed"), "{}", released.story());
    assert_eq!(site.unlike(NAME, NEWER), [""; 0]);
    assert_eq!(service.shells(), 0);

    // Negotiate chooses it where there is a KDC.
    site.reach(&[NAME], &settings.clone().with("auth", "negotiate"));
    let status = site.run(&["status", NAME]);
    assert_eq!(status.code, 0, "{}", status.story());

    site.reach(&[NAME], &settings);
    site.set_password("Wr0ng-word");
    let refused = site.run(&["status", NAME]);
    assert_ne!(refused.code, 0, "{}", refused.story());
    assert!(refused.story().contains("cannot log on to") && !refused.story().contains("Wr0ng"), "{}", refused.story());
}

#[test]
fn a_ticket_that_expires_in_the_middle_is_followed_by_a_new_one() {
    let Some(kdc) = Kdc::start(HOST) else { return };
    let Some(service) = kdc.service(&[]) else { return };
    let settings = service.settings().with("auth", "kerberos").with("user", format!(r"{REALM}\{USER}"));
    let site = Site::of(&[NAME], &settings.with("kdc", format!("127.0.0.1:{}", kdc.port)));
    service.inject(&json!({"kind": "expire", "action": "Receive", "skip": 6}));
    let before = kdc.tickets();
    let released = site.run(&["release", NAME, "--yes"]);
    assert_eq!((released.code, released.outcome(NAME).as_str()), (0, "changed"), "{}", released.story());
    assert!(released.stdout.contains("does not know any more who is logged on"), "{}", released.story());
    assert_eq!((site.unlike(NAME, NEWER), service.injections(), service.shells()), (vec![], 0, 0));
    let links = released.events.iter().filter(|e| e["event"] == "connected").count();
    assert!(links > 1 && kdc.tickets() >= before + links, "each link has tickets of its own");
}

#[test]
fn a_kdc_that_is_not_there_is_named() {
    let Some(service) = Service::start(&["--auth", "negotiate"]) else { return };
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let settings = service.settings().with("kdc", format!("127.0.0.1:{port}"));
    let site = Site::of(&[NAME], &settings.clone().without("kdc"));
    // The service would take the second by NTLM, which is not what a named Kerberos server asks for: NTLM does not prove
    // who the machine is.
    for (auth, user) in [("kerberos", format!(r"{REALM}\{USER}")), ("negotiate", format!(r"BENCH\{USER}"))] {
        site.reach(&[NAME], &settings.clone().with("auth", auth).with("user", user));
        let refused = site.run(&["status", NAME]);
        assert_ne!(refused.code, 0, "{}", refused.story());
        assert!(refused.story().contains(&format!("the Kerberos server 127.0.0.1:{port}")), "{}", refused.story());
    }
}
