//! What a service allows, and what is said when it was too much.

use crate::support::{NEWER, Service, Site};

const NAME: &str = "NDXLOQ";

#[test]
fn a_quota_names_its_setting() {
    for (option, setting) in [("--max-shells", "MaxShellsPerUser"), ("--max-processes", "MaxProcessesPerShell")] {
        let Some(service) = Service::start(&["--auth", "negotiate", option, "0"]) else { return };
        let site = Site::of(&[NAME], &service.settings());
        let text = site.command(&["status", NAME, "--output", "plain"]).output().expect("the binary runs");
        let told = format!("{}{}", String::from_utf8_lossy(&text.stdout), String::from_utf8_lossy(&text.stderr));
        assert!(!text.status.success() && told.contains(setting), "{told}");
        assert_eq!(service.shells(), 0, "{told}");
    }
}

#[test]
fn hosts_that_take_less_at_once_get_smaller_messages() {
    for kilobytes in ["150", "40"] {
        let Some(service) = Service::start(&["--auth", "negotiate", "--max-envelope-kb", kilobytes]) else { return };
        // Bringing the agent fills the largest messages.
        let site = Site::without_agents(&[NAME], &service.settings());
        let released = site.run(&["release", NAME, "--yes"]);
        assert_eq!((released.code, released.outcome(NAME).as_str()), (0, "changed"), "{}", released.story());
        assert_eq!(site.unlike(NAME, NEWER), [""; 0]);
        assert_eq!(service.shells(), 0);
    }
}

#[test]
fn two_hundred_links_leave_nothing_behind() {
    let Some(service) = Service::start(&["--auth", "negotiate"]) else { return };
    let site = Site::of(&[NAME], &service.settings());
    let first = site.run(&["status", NAME]);
    assert_eq!(first.code, 0, "{}", first.story());
    let runtime_links = 200;
    // A hundred commands, with two sealed connections each.
    for n in 0..runtime_links / 2 {
        let ended = site.run(&["status", NAME]);
        assert_eq!(ended.code, 0, "link {n}: {}", ended.story());
    }
    assert_eq!(service.shells(), 0);
    assert!(service.count("Create") > runtime_links / 2);
}
