//! Runs that are taken back.

use crate::bench::*;
use ibexdeploy::events::{Event, EventKind, Outcome, RunId};
use ibexdeploy::paths::WinPath;
use ibexdeploy::playbook::Phase;
use ibexdeploy::protocol::{Query, QueryReply};
use serde_json::json;

#[tokio::test]
async fn a_second_rollback_sees_what_was_changed_after_the_first_one_failed() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let first = release(&sandbox, &mut controller, "20261123-100000-aaaaaa", "12.0.0", &[("a", "one"), ("config", "old")]);
    controller.submit(&first).await.unwrap();
    assert_eq!(controller.until_end().await.1, Outcome::Changed);

    let run = "20261123-100001-bbbbbb";
    let mut second = release(&sandbox, &mut controller, run, "12.0.1", &[("a", "two"), ("config", "old")]);
    let mut stubborn = step(Phase::Apply, 3, command("true"));
    stubborn.undo = Some(serde_json::from_value(json!({"command": {"at": "work", "run": "test -e well"}})).unwrap());
    second.steps.push(stubborn);
    second.steps.push(step(Phase::Apply, 4, command("exit 1")));
    controller.submit(&second).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RollbackFailed, "{:#?}", words(&events));
    let epics = sandbox.work().join("epics");
    assert_eq!(std::fs::read_to_string(epics.join("a")).unwrap(), "one");

    std::fs::write(epics.join("config"), "by hand").unwrap();
    std::fs::write(sandbox.work().join("well"), "").unwrap();
    let refused = controller.rollback(run, "20261123-100002-cccccc", false).await.unwrap_err();
    assert!(refused.details().message.contains("C:\\work\\epics\\config"), "{refused}");
    controller.rollback(run, "20261123-100003-dddddd", true).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    assert_eq!(std::fs::read_to_string(epics.join("config")).unwrap(), "by hand");
    let named = |e: &Event| matches!(&e.kind, EventKind::Reminder { text } if text.contains("config") && text.contains("stay as they are"));
    assert!(events.iter().any(named), "{events:#?}");
    assert!(sandbox.root().join(".ibexdeploy/hand-changes/20261123-100003-dddddd-rollback.zip").exists());
}

#[tokio::test]
async fn a_finished_run_can_be_undone_and_files_changed_since_are_not_lost() {
    let sandbox = Sandbox::new();
    let guarded = sandbox.work().join("guarded");
    std::fs::create_dir(&guarded).unwrap();
    std::fs::write(guarded.join("config"), "old").unwrap();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-mmmmmm";
    let mut writes = step(Phase::Apply, 1, command("echo new > guarded/config"));
    writes.writes = vec![WinPath::parse("C:\\work\\guarded").unwrap()];
    controller.submit(&sandbox.plan(run, vec![writes])).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::Changed, "{events:#?}");

    std::fs::write(guarded.join("by-hand"), "precious").unwrap();
    let refused = controller.rollback(run, "20261123-100001-nnnnnn", false).await.unwrap_err();
    assert!(refused.details().message.contains("by-hand"), "{refused}");
    controller.rollback(run, "20261123-100001-nnnnnn", true).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    assert_eq!(std::fs::read_to_string(guarded.join("config")).unwrap(), "old");
    let archive = sandbox.root().join(".ibexdeploy/hand-changes/20261123-100001-nnnnnn-rollback.zip");
    let mut zip = zip::ZipArchive::new(std::fs::File::open(archive).unwrap()).unwrap();
    let saved = std::io::read_to_string(zip.by_name("guarded/by-hand").unwrap()).unwrap();
    assert_eq!(saved, "precious");

    let again = controller.rollback(run, "20261123-100002-oooooo", true).await.unwrap_err();
    assert!(again.details().message.contains("20261123-100001-nnnnnn"), "{again}");
    let QueryReply::Runs(runs) = controller.query(Query::Runs).await else { panic!("no list of runs") };
    let undone_by = runs.iter().find(|r| r.run.as_str() == run).and_then(|r| r.undone_by.clone());
    assert_eq!(undone_by, Some(RunId("20261123-100001-nnnnnn".into())));
}

#[tokio::test]
async fn what_an_undo_left_can_be_undone_again() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-xxxxxx";
    let mut first = step(Phase::Apply, 1, command("true"));
    first.undo = Some(serde_json::from_value(command("test -e way-is-free")).unwrap());
    let steps = vec![first, step(Phase::Apply, 2, command("false"))];
    controller.submit(&sandbox.plan(run, steps)).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RollbackFailed, "{:#?}", words(&events));

    std::fs::write(sandbox.work().join("way-is-free"), "").unwrap();
    controller.rollback(run, "20261123-100001-yyyyyy", false).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
}
