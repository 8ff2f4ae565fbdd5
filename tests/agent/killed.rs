//! Whatever is killed, the run ends.

use crate::bench::*;
use ibexdeploy::events::{Event, EventKind, Outcome};
use ibexdeploy::playbook::Phase;
use ibexdeploy::protocol::{FrozenRequest, Query, QueryReply};
use serde_json::json;

#[tokio::test]
async fn a_killed_worker_goes_on_by_itself() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-gggggg";
    let plan = sandbox.plan(
        run,
        vec![
            step(Phase::Apply, 1, file("x.txt", "new")),
            // Waits until the test lets it go on, so that the kill meets it open.
            step(Phase::Apply, 2, command("echo ran >> count; while [ ! -e go ]; do sleep 0.02; done")),
            step(Phase::Prove, 1, json!({"check": {"file": {"path": "work\\x.txt"}}})),
        ],
    );
    controller.submit(&plan).await.unwrap();
    controller.until(|k| matches!(k, EventKind::StepStarted { step, .. } if step.id == "apply.02.command")).await;
    controller.until(|k| matches!(k, EventKind::StepWaiting { .. })).await;
    sandbox.kill_worker();
    std::fs::write(sandbox.work().join("go"), "").unwrap();
    let mut again = Controller::connect(&sandbox).await;
    again.frozen(FrozenRequest::EventsSince { run: run.into(), from: 1 }).await;
    let (events, outcome) = again.until_end().await;
    assert_eq!(outcome, Outcome::Changed, "{:#?}", words(&events));
    assert!(words(&events).contains(&"recovered".to_owned()));
    assert_eq!(std::fs::read_to_string(sandbox.work().join("count")).unwrap(), "ran\n", "the job was found, not started again");
}

#[tokio::test]
async fn a_killed_rollback_goes_on() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("x.txt"), "old").unwrap();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-hhhhhh";
    let mut compensated = step(Phase::Apply, 2, command("true"));
    let undo = json!({"command": {"at": "work", "run": "while [ ! -e go ]; do sleep 0.02; done"}});
    compensated.undo = Some(serde_json::from_value(undo).unwrap());
    let plan = sandbox
        .plan(run, vec![step(Phase::Apply, 1, file("x.txt", "new")), compensated, step(Phase::Apply, 3, command("exit 1"))]);
    controller.submit(&plan).await.unwrap();
    controller.until(|k| matches!(k, EventKind::RollbackStarted { .. })).await;
    controller.until(|k| matches!(k, EventKind::StepWaiting { .. })).await;
    sandbox.kill_worker();
    assert_eq!(std::fs::read_to_string(sandbox.work().join("x.txt")).unwrap(), "new");
    std::fs::write(sandbox.work().join("go"), "").unwrap();
    let mut again = Controller::connect(&sandbox).await;
    again.frozen(FrozenRequest::EventsSince { run: run.into(), from: 1 }).await;
    let (events, outcome) = again.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    assert_eq!(std::fs::read_to_string(sandbox.work().join("x.txt")).unwrap(), "old");
}

#[tokio::test]
async fn a_program_does_not_go_on_when_its_wrapper_was_killed() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let orphan = command("echo $$ > program; kill -9 $PPID; sleep 600");
    controller.submit(&sandbox.plan("20261123-100000-wwwwww", vec![step(Phase::Apply, 1, orphan)])).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    let pid = std::fs::read_to_string(sandbox.work().join("program")).unwrap();
    let end = std::time::Instant::now() + TOO_LONG;
    // A process that was ended and that nobody waits for has no command line any more.
    while std::fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty()) {
        assert!(std::time::Instant::now() < end, "the program {pid} goes on after its step was undone");
        std::thread::yield_now();
    }
}

/// Kills the worker once this many events were seen, and follows the run to its end. The killed worker may have
/// finished it before the signal came.
async fn killed_after(seen: usize, last_step: &str) -> (Sandbox, Outcome, Vec<Event>) {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let first = release(&sandbox, &mut controller, "20261123-100000-aaaaaa", "12.0.0", &[("a", "one"), ("gone", "x")]);
    controller.submit(&first).await.unwrap();
    assert_eq!(controller.until_end().await.1, Outcome::Changed);
    let run = "20261123-100001-bbbbbb";
    let mut second = release(&sandbox, &mut controller, run, "12.0.1", &[("a", "two"), ("b/new", "y")]);
    second.steps.insert(0, step(Phase::Apply, 1, command("echo stopped >> log")));
    second.steps.push(step(Phase::Prove, 1, command(last_step)));
    controller.submit(&second).await.unwrap();
    for _ in 0..seen {
        if controller.event().await.is_none() {
            break;
        }
    }
    sandbox.kill_worker();
    let mut again = Controller::connect(&sandbox).await;
    again.blobs = std::mem::take(&mut controller.blobs);
    again.frozen(FrozenRequest::EventsSince { run: run.into(), from: 1 }).await;
    let (events, outcome) = again.until_end().await;
    (sandbox, outcome, events)
}

#[tokio::test]
async fn a_worker_killed_anywhere_ends_on_the_new_release() {
    for seen in 1..=18 {
        let (sandbox, outcome, events) = killed_after(seen, "echo started >> log").await;
        assert_eq!(outcome, Outcome::Changed, "killed after {seen}: {:#?}", words(&events));
        let epics = sandbox.work().join("epics");
        assert_eq!(std::fs::read_to_string(epics.join("a")).unwrap(), "two", "killed after {seen}");
        assert!(epics.join("b/new").exists() && !epics.join("gone").exists(), "killed after {seen}");
        // Every program ran exactly once, whatever was killed around it.
        assert_eq!(std::fs::read_to_string(sandbox.work().join("log")).unwrap(), "stopped\nstarted\n", "killed after {seen}");
    }
}

#[tokio::test]
async fn a_worker_killed_anywhere_on_a_failing_run_ends_on_the_old_release() {
    for seen in 1..=22 {
        let (sandbox, outcome, events) = killed_after(seen, "exit 1").await;
        assert_eq!(outcome, Outcome::RolledBack, "killed after {seen}: {:#?}", words(&events));
        let epics = sandbox.work().join("epics");
        assert_eq!(std::fs::read_to_string(epics.join("a")).unwrap(), "one", "killed after {seen}");
        assert!(!epics.join("b").exists() && epics.join("gone").exists(), "killed after {seen}");
    }
}

#[tokio::test]
async fn a_damaged_journal_is_reported() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-pppppp";
    controller.submit(&sandbox.plan(run, vec![step(Phase::Apply, 1, file("x.txt", "new"))])).await.unwrap();
    controller.until_end().await;
    let path = sandbox.run_dir(run).join("journal.jsonl");
    let damaged = sandbox.journal(run).replacen("apply.01.file", "apply.01.fail", 1);
    std::fs::write(&path, damaged).unwrap();
    let QueryReply::Runs(runs) = controller.query(Query::Runs).await else { panic!("no list of runs") };
    let damage = runs[0].damage.clone().expect("the damage");
    assert!(damage.contains("checksum"), "{damage}");
    assert!(controller.rollback(run, "20261123-100001-qqqqqq", true).await.is_err());
}
