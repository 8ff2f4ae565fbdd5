//! Commands from their begin to their end.

use crate::sandbox::{differences, ibex, installed, is_free, journal, outcome, staged, start_ibex, wait_for};
use crate::support::{NEWER, Service, Site};

const THREE: [&str; 3] = ["NDXLARMOR", "NDXZOOM", "NDXLOQ"];
const OLDER: &str = "26.8.0";

#[test]
fn three_instruments_are_released_backed_up_and_rolled_back() {
    let Some(service) = Service::start(&["--auth", "negotiate"]) else { return };
    let site = Site::without_agents(&THREE, &service.settings());

    THREE.iter().for_each(|name| start_ibex(&site.root(name)));
    let before = THREE.map(|name| installed(&site.root(name)));
    let released = site.run(&["release", "--all", "--yes"]);
    assert_eq!(released.code, 0, "{}", released.story());
    for name in THREE {
        assert_eq!(released.outcome(name), "changed", "{}", released.story());
        assert!(released.last(name, "bringing").is_some(), "the agent was brought to {name}");
        assert!(released.last(name, "link_lost").is_none(), "{}", released.story());
        assert_eq!(site.unlike(name, NEWER), [""; 0], "{name}");
    }
    assert_eq!(service.shells(), 0, "after the release");

    let status = site.run(&["status", "--all"]);
    assert_eq!(status.code, 0, "{}", status.story());
    assert_eq!(status.stdout.matches(NEWER).count() % 3, 0, "{}", status.stdout);
    assert!(status.stdout.contains(NEWER), "{}", status.stdout);
    let checked = site.run(&["check", "--all"]);
    assert_eq!(checked.code, 0, "{}", checked.story());
    let saved = site.run(&["backup", "--all", "--yes"]);
    assert_eq!(saved.code, 0, "{}", saved.story());
    assert!(saved.last("NDXLOQ", "bringing").is_none(), "the agent is there by now");

    let back = site.run(&["rollback", "--all", "--yes"]);
    assert_eq!(back.code, 0, "{}", back.story());
    for (name, before) in THREE.iter().zip(&before) {
        assert_eq!(back.outcome(name), "rolled_back", "{name}");
        assert_eq!(differences(before, &installed(&site.root(name))), [""; 0], "{name}");
        assert_eq!(site.unlike(name, OLDER), [""; 0], "{name}");
        wait_for("the worker lets go", || is_free(&site.root(name)).then_some(()));
        assert!(ibex(&site.root(name)).is_some() && staged(&site.root(name)).is_empty(), "{name}");
    }
    assert_eq!(service.shells(), 0, "after all");
}

#[test]
fn a_release_goes_through_https_with_basic() {
    let Some(service) = Service::start(&["--auth", "basic", "--tls"]) else { return };
    let site = Site::of(&["NDXLOQ"], &service.settings().with("auth", "basic"));
    let released = site.run(&["release", "NDXLOQ", "--yes"]);
    assert_eq!((released.code, released.outcome("NDXLOQ").as_str()), (0, "changed"), "{}", released.story());
    assert_eq!(site.unlike("NDXLOQ", NEWER), [""; 0]);
}

#[test]
fn a_controller_that_is_killed_in_the_outage_is_followed_by_another() {
    // A shell that is not used for ninety seconds ends; here they are shorter.
    let hurried = ["--auth", "negotiate", "--idle-scale", "0.05", "--max-timeout", "2"];
    let Some(service) = Service::start(&hurried) else { return };
    let site = Site::of(&["NDXLOQ"], &service.settings());
    let go = site.dir().join("go");
    site.add_to_script("create_icp_binaries.bat", &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
    let mut first = site.start(&["release", "NDXLOQ", "--yes"]);
    first.until(|e| e["event"] == "phase_started" && e["phase"] == "apply").expect("it applies");
    first.child.kill().expect("it is there");
    first.child.wait().expect("it is gone");

    let mut second = site.start(&["runs", "resume", "--yes"]);
    second.until(|e| e["event"] == "connected").expect("it follows");
    std::fs::write(&go, "").expect("a file");
    let finished = second.until(|e| e["event"] == "instrument_finished").expect("its end is told");
    assert_eq!(finished["outcome"], "changed");
    while second.until(|_| true).is_some() {}
    assert_eq!(second.child.wait().expect("its end").code(), Some(0));
    assert_eq!(outcome(&journal(&site.root("NDXLOQ"))).as_deref(), Some("changed"));
    assert_eq!(site.unlike("NDXLOQ", NEWER), [""; 0]);
    wait_for("the service to end the first one's shell", || (service.shells() == 0).then_some(()));
}

#[test]
fn a_machine_that_restarts_in_the_middle_is_reached_again() {
    let Some(service) = Service::start(&["--auth", "negotiate", "--reboot-seconds", "2", "--boot-503", "1"]) else { return };
    let site = Site::of(&["NDXLOQ"], &service.settings());
    let mark = site.dir().join("mark");
    let restart = format!("touch {0}; until [ -e {0}.go ]; do sleep 0.05; done", mark.display());
    site.add_to_script("create_icp_binaries.bat", &restart);
    start_ibex(&site.root("NDXLOQ"));
    let mut release = site.start(&["release", "NDXLOQ", "--yes"]);
    wait_for("the outage", || mark.exists().then_some(()));
    service.reboot();
    std::fs::write(mark.with_extension("go"), "").expect("a file");
    let lost = release.until(|e| e["event"] == "link_lost").expect("it notices");
    assert!(!lost["reason"].is_null() || lost.to_string().contains("WinRM"), "{lost}");
    let finished = release.until(|e| e["event"] == "instrument_finished").expect("its end is told");
    assert_eq!(finished["outcome"], "changed");
    while release.until(|_| true).is_some() {}
    assert_eq!(release.child.wait().expect("its end").code(), Some(0));
    assert_eq!(site.unlike("NDXLOQ", NEWER), [""; 0]);
    assert_eq!(service.shells(), 0, "after the release");
}
