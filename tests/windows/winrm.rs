//! Over WinRM, each machine by another way of logging on.

use crate::command::Ended;
use crate::hotfixes;
use crate::kdc::{Kdc, REALM};
use crate::machines::{Machines, NEWER, OLDER, differences};
use crate::service::{PASSWORD, Service, Settings, USER};
use serde_json::json;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The third machine's name for Kerberos; `scripts/fleet` takes the instruments of the shipped inventory in their order.
const KERBEROS: &str = "NDXARGUS";
const BASIC: &str = "NDXZOOM";

/// A service for one machine, as one of its own programs.
fn service(machines: &Machines, name: &str, arguments: &[&str]) -> Option<Service> {
    let (host, prefix) = (host(name), machines.prefix(name).display().to_string());
    Service::start(&[&["--wine", &prefix, "--spn-host", &host], arguments].concat())
}

fn host(name: &str) -> String {
    format!("{name}.isis.cclrc.ac.uk")
}

/// The inventory of `scripts/fleet` with other ways to some of its machines.
pub(crate) fn inventory(machines: &Machines, others: &[(&str, Settings)]) -> PathBuf {
    let text = std::fs::read_to_string(machines.inventory()).expect("an inventory");
    let (head, instruments) = text.split_once("\ninstruments:\n").expect("instruments");
    let account =
        instruments.lines().find(|line| line.trim_start().starts_with("instrument: {user:")).expect("an account").trim();
    let mut whole = format!("{head}\ninstruments:\n");
    for block in instruments.split_inclusive("}\n").map(str::to_owned).collect::<String>().split("\n  NDX") {
        let name = format!("NDX{}", block.trim_start().trim_start_matches("NDX").split(':').next().expect("a name"));
        if !others.iter().any(|(other, _)| *other == name) {
            let lines = block.trim_start().trim_start_matches("NDX").split_once(":\n").expect("its lines").1;
            let _ = writeln!(whole, "  {name}:\n{}", lines.trim_end());
        }
    }
    for (name, settings) in others {
        let transport = json!({"winrm": settings.0});
        let secret = "secrets: {word: {env: IBEXDEPLOY_TEST_WORD}}";
        let _ = writeln!(whole, "  {name}: {{transport: {transport}, {secret}, accounts: {{{account}}}}}");
    }
    let path = machines.dir().join("inventory.yaml");
    std::fs::write(&path, whole).expect("an inventory can be written");
    path
}

fn runs_well(machines: &Machines, inventory: &Path, arguments: &[&str]) -> Ended {
    let mut command = machines.command_of(arguments, inventory);
    let ended = Ended::of(command.args(["--output", "json"]).env("IBEXDEPLOY_TEST_WORD", PASSWORD));
    assert_eq!(ended.code, 0, "{arguments:?}: {}{}", ended.story(), machines.logs());
    ended
}

#[test]
fn three_machines_are_updated_hotfixed_backed_up_and_rolled_back_by_ntlm_basic_and_kerberos() {
    let Some(machines) = Machines::up(3, "wine-winrm") else { return };
    let Some(basic) = service(&machines, BASIC, &["--auth", "basic", "--tls"]) else { return };
    let mut others = vec![(BASIC, basic.settings().with("auth", "basic").with("timeout", "60s"))];
    let prefix = machines.prefix(KERBEROS).display().to_string();
    let kdc = Kdc::start(&host(KERBEROS));
    let ticketed = kdc.as_ref().and_then(|kdc| kdc.service(&["--wine", &prefix, "--spn-host", &host(KERBEROS)]));
    if let (Some(kdc), Some(service)) = (&kdc, &ticketed) {
        let settings = service.settings().with("auth", "kerberos").with("user", format!(r"{REALM}\{USER}"));
        others.push((KERBEROS, settings.with("kdc", format!("127.0.0.1:{}", kdc.port)).with("timeout", "60s")));
    }
    let inventory = inventory(&machines, &others);
    let names = machines.names.clone();
    names.iter().for_each(|name| machines.start_ibex(name));
    let before: Vec<_> = names.iter().map(|name| machines.installed(name)).collect();

    let released = runs_well(&machines, &inventory, &["release", "--all", "--yes"]);
    for name in &names {
        assert_eq!(released.outcome(name), "changed", "{}", released.story());
        assert!(released.last(name, "bringing").is_some(), "the agent was brought to {name}");
        assert!(released.last(name, "link_lost").is_none(), "{}", released.story());
        assert_eq!(machines.unlike(name, NEWER), [""; 0], "{name}");
        assert!(machines.ibex(name).is_some(), "{name}");
        machines.is_quiet(name);
    }
    runs_well(&machines, &inventory, &["check", "--all"]);
    hotfixes::are_put_on_and_taken_back(&machines, &names, |arguments| runs_well(&machines, &inventory, arguments));
    let saved = runs_well(&machines, &inventory, &["backup", "--all", "--yes"]);
    for name in &names {
        assert_eq!(saved.outcome(name), "ok", "{}", saved.story());
        assert!(saved.last(name, "bringing").is_none(), "the agent is there by now");
        assert_eq!(machines.zipped_version(name), Some(NEWER.to_owned()), "{name}");
    }
    let run = released.events[0]["run"].as_str().expect("a run");
    let back = runs_well(&machines, &inventory, &["rollback", "--all", "--yes", "--run", run]);
    for (name, before) in names.iter().zip(&before) {
        assert_eq!(back.outcome(name), "rolled_back", "{}", back.story());
        assert_eq!(differences(before, &machines.installed(name)), [""; 0], "{name}");
        assert_eq!(machines.unlike(name, OLDER), [""; 0], "{name}");
        machines.is_quiet(name);
    }
    if let Some(service) = &ticketed {
        assert_eq!(service.shells(), 0, "no shell is left behind");
    }
}
