//! What breaks on the way: a damaged answer is never used, a lost one is never asked for again, and no shell is left.

use crate::support::{NEWER, Service, Site};
use serde_json::json;

const NAME: &str = "NDXLOQ";

/// A release in which one answer to `action` meets its fate; whatever that is, the instrument comes out new.
fn survives(kind: &str, action: &str, skip: u64) {
    let Some(service) = Service::start(&["--auth", "negotiate"]) else { return };
    let site = Site::of(&[NAME], &service.settings());
    service.inject(&json!({"kind": kind, "action": action, "skip": skip, "status": 500}));
    let released = site.run(&["release", NAME, "--yes"]);
    assert_eq!((released.code, released.outcome(NAME).as_str()), (0, "changed"), "{kind} {action}: {}", released.story());
    assert_eq!(site.unlike(NAME, NEWER), [""; 0], "{kind} {action}");
    assert_eq!(service.injections(), 0, "{kind} {action} has happened");
    assert_eq!(service.shells(), 0, "{kind} {action}");
}

#[test]
fn a_flipped_bit_in_an_answer_is_noticed() {
    survives("flip", "Receive", 6);
}

#[test]
fn an_answer_of_another_length_is_noticed() {
    survives("length", "Receive", 6);
}

#[test]
fn half_an_answer_is_noticed() {
    survives("cut", "Send", 3);
}

#[test]
fn output_that_was_given_away_and_lost_is_made_up_for() {
    survives("drop_after", "Receive", 6);
}

#[test]
fn input_that_arrived_without_an_answer_is_not_sent_twice() {
    survives("drop_after", "Send", 3);
}

#[test]
fn a_shell_whose_making_was_not_answered_is_closed() {
    survives("drop_after", "Create", 0);
}

#[test]
fn a_shell_whose_end_was_not_answered_is_closed_again() {
    survives("drop", "Delete", 0);
}

#[test]
fn a_service_that_gives_up_without_a_word_is_tried_again() {
    survives("status", "Receive", 6);
}

#[test]
fn a_logon_that_the_service_forgets_in_the_middle_is_made_again() {
    survives("expire", "Receive", 6);
    survives("expire", "Send", 3);
}

#[test]
fn an_unencrypted_message_is_never_sent() {
    let Some(service) = Service::start(&["--auth", "negotiate"]) else { return };
    let log = tempfile::NamedTempFile::new().expect("a file");
    drop(service);
    let Some(service) = Service::start(&["--auth", "negotiate", "--log", &log.path().display().to_string()]) else { return };
    let site = Site::of(&[NAME], &service.settings());
    let ended = site.run(&["status", NAME]);
    assert_eq!(ended.code, 0, "{}", ended.story());
    let said = std::fs::read_to_string(log.path()).expect("the service's log");
    let requests: Vec<serde_json::Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let with_action: Vec<_> = requests.iter().filter(|r| r.get("action").is_some()).collect();
    assert!(with_action.len() > 4, "{said}");
    assert!(with_action.iter().all(|r| r["sealed"] == true), "{said}");
}
