//! Runs that stand in the way of others.

use crate::bench::*;
use ibexdeploy::events::{EventKind, Outcome, RunId};
use ibexdeploy::plan::{Hold, InstrumentPlan, PLAN_FORMAT};
use ibexdeploy::playbook::Phase;
use ibexdeploy::protocol::{ControllerMessage, FrozenRequest, Query, QueryReply};
use ibexdeploy::units::Span;

#[tokio::test]
async fn a_second_controller_is_refused_or_follows() {
    let sandbox = Sandbox::new();
    let mut first = Controller::connect(&sandbox).await;
    let mut plan = sandbox.plan("20261123-100000-dddddd", vec![step(Phase::Apply, 1, file("x.txt", "new"))]);
    plan.hold = Hold::UntilReleased { limit: Span(TOO_LONG) };
    first.submit(&plan).await.unwrap();
    first.until(|k| matches!(k, EventKind::Held { .. })).await;

    let mut second = Controller::connect(&sandbox).await;
    let mut other = plan.clone();
    other.run = RunId("20261123-100001-eeeeee".into());
    let refused = second.submit(&other).await.unwrap_err();
    for part in ["ann@desk", "NDXTEST.example", "20261123-100000-dddddd"] {
        assert!(refused.details().message.contains(part), "{refused}");
    }
    second.frozen(FrozenRequest::EventsSince { run: String::new(), from: 1 }).await;
    second.until(|k| matches!(k, EventKind::Held { .. })).await;
    first.send(ControllerMessage::Release { run: plan.run.clone() }).await;
    let (seen_by_second, outcome) = second.until_end().await;
    let (seen_by_first, _) = first.until_end().await;
    assert_eq!(outcome, Outcome::Changed);
    assert_eq!(words(&seen_by_second).last(), words(&seen_by_first).last());
}

#[tokio::test]
async fn a_plan_for_another_host_is_refused() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    for change in [
        (|p: &mut InstrumentPlan| p.host = "NDXOTHER".into()) as fn(&mut InstrumentPlan),
        |p| p.instrument = "NDXOTHER".into(),
        |p| p.format = PLAN_FORMAT + 1,
    ] {
        let mut plan = sandbox.plan("20261123-100000-ffffff", Vec::new());
        change(&mut plan);
        assert!(controller.submit(&plan).await.is_err());
        assert!(!sandbox.run_dir("20261123-100000-ffffff").exists());
    }
}

#[tokio::test]
async fn a_wedged_run_is_abandoned_only_by_force() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-tttttt";
    let waiting = command("while [ ! -e go ]; do sleep 0.02; done");
    controller.submit(&sandbox.plan(run, vec![step(Phase::Apply, 1, waiting)])).await.unwrap();
    controller.until(|k| matches!(k, EventKind::StepWaiting { .. })).await;
    let mut second = Controller::connect(&sandbox).await;
    let QueryReply::Failed(refused) = second.query(Query::Unlock { force: false }).await else { panic!("not refused") };
    assert!(refused.details().message.contains(run), "{refused}");
    let QueryReply::Done { summary } = second.query(Query::Unlock { force: true }).await else { panic!("not abandoned") };
    assert!(summary.contains(run), "{summary}");
    std::fs::write(sandbox.work().join("go"), "").unwrap();
    let mut third = Controller::connect(&sandbox).await;
    let QueryReply::Runs(runs) = third.query(Query::Runs).await else { panic!("no list of runs") };
    assert_eq!(runs[0].outcome, Some(Outcome::Failed));
    third.submit(&sandbox.plan("20261123-100001-uuuuuu", Vec::new())).await.unwrap();
    assert_eq!(third.until_end().await.1, Outcome::Ok);
}

#[tokio::test]
async fn old_runs_are_pruned_and_locks_are_shown() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    for n in 0..3 {
        let run = format!("20261123-10000{n}-rrrrrr");
        controller.submit(&sandbox.plan(&run, vec![step(Phase::Apply, 1, file("x.txt", &n.to_string()))])).await.unwrap();
        controller.until_end().await;
    }
    let QueryReply::Done { summary } = controller.query(Query::Prune { keep: 2 }).await else { panic!("not pruned") };
    assert_eq!(summary, "1 runs removed, 2 kept");
    assert!(!sandbox.run_dir("20261123-100000-rrrrrr").exists());
    let plan = Box::new(sandbox.plan("20261123-100009-rrrrrr", Vec::new()));
    let QueryReply::Status(status) = controller.query(Query::Status { plan }).await else { panic!("no status") };
    assert_eq!(status.lock, None);
    assert_eq!(status.last_run.map(|r| r.run), Some(RunId("20261123-100002-rrrrrr".into())));
}
