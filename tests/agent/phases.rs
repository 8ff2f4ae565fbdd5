//! What a plan does, phase by phase.

use crate::bench::*;
use ibexdeploy::events::{EventKind, Outcome};
use ibexdeploy::plan::{Hold, LateTemplates};
use ibexdeploy::playbook::Phase;
use ibexdeploy::protocol::{FrozenRequest, Query, QueryReply};
use ibexdeploy::units::Span;
use serde_json::json;

#[tokio::test]
async fn a_plan_goes_through_its_phases() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let plan = sandbox.plan(
        "20261123-100000-aaaaaa",
        vec![
            step(Phase::Stage, 1, json!({"check": {"file": {"path": "work"}}})),
            step(Phase::Apply, 1, file("x.txt", "new")),
            step(Phase::Prove, 1, command("cat x.txt")),
            step(Phase::Close, 1, json!({"remind": {"text": "water the plants"}})),
        ],
    );
    controller.submit(&plan).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(
        words(&events),
        [
            "[stage]",
            "stage.01.check ok",
            "staged",
            "[apply]",
            "apply.01.file changed",
            "[prove]",
            "prove.01.command changed",
            "[close]",
            "close.01.remind ok",
            "= changed",
        ]
    );
    assert_eq!(outcome, Outcome::Changed);
    assert_eq!(std::fs::read_to_string(sandbox.work().join("x.txt")).unwrap(), "new");
    let numbers: Vec<u64> = events.iter().map(|e| e.n).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[tokio::test]
async fn a_failure_undoes_everything_and_says_so() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("x.txt"), "old").unwrap();
    let mut controller = Controller::connect(&sandbox).await;
    let plan = sandbox.plan(
        "20261123-100000-bbbbbb",
        vec![
            step(Phase::Apply, 1, file("x.txt", "new")),
            step(Phase::Apply, 2, file("y.txt", "new")),
            step(Phase::Prove, 1, command("echo broken >&2; exit 3")),
        ],
    );
    controller.submit(&plan).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    assert_eq!(std::fs::read_to_string(sandbox.work().join("x.txt")).unwrap(), "old");
    assert!(!sandbox.work().join("y.txt").exists());
    let error = events.iter().find_map(|e| match &e.kind {
        EventKind::InstrumentFinished { error, .. } => error.clone(),
        _ => None,
    });
    let error = error.expect("the reason");
    assert_eq!(error.details().step.as_deref(), Some("command 1"));
    assert!(error.details().output.iter().any(|l| l == "broken"), "{error:?}");
}

#[tokio::test]
async fn what_scribbles_outside_its_writes_is_named() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let first = release(&sandbox, &mut controller, "20261123-100000-aaaaaa", "12.0.0", &[("a", "one"), ("config", "old")]);
    controller.submit(&first).await.unwrap();
    assert_eq!(controller.until_end().await.1, Outcome::Changed);

    let files = [("a", "two"), ("config", "old")];
    let mut second = release(&sandbox, &mut controller, "20261123-100001-bbbbbb", "12.0.1", &files);
    second.steps.push(step(Phase::Apply, 3, command("echo scribbled > epics/config; echo fine > epics/kept; exit 1")));
    controller.submit(&second).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RollbackFailed);
    assert!(words(&events).contains(&r#"rollback false ["C:\\work\\epics\\config"]"#.to_owned()), "{:#?}", words(&events));
    assert_eq!(std::fs::read_to_string(sandbox.work().join("epics/a")).unwrap(), "one");
}

#[tokio::test]
async fn each_and_register_are_filled_in_at_the_instrument() {
    let sandbox = Sandbox::new();
    for name in ["b.in", "a.in", "c.other"] {
        std::fs::write(sandbox.work().join(name), "").unwrap();
    }
    let mut controller = Controller::connect(&sandbox).await;
    let mut each = step(Phase::Stage, 1, command("echo {{ item.name }} {{ inst }} >> seen"));
    each.each = Some(serde_json::from_value(json!({"files": "work\\*.in"})).unwrap());
    each.late = LateTemplates(vec!["/command/run".into()]);
    each.register = Some("found".into());
    let mut second = step(Phase::Stage, 2, command("echo never > never"));
    second.when = Some("found | length > 2".into());
    controller.submit(&sandbox.plan("20261123-100000-llllll", vec![each, second])).await.unwrap();
    let (events, _) = controller.until_end().await;
    assert_eq!(std::fs::read_to_string(sandbox.work().join("seen")).unwrap(), "a.in TEST\nb.in TEST\n", "{:#?}", words(&events));
    assert!(words(&events).contains(&"stage.02.command skipped".to_owned()), "{:#?}", words(&events));
}

#[tokio::test]
async fn secrets_reach_the_program_and_nothing_else() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-kkkkkk";
    let action = json!({"command": {"at": "work", "run": "echo \"it is $KEY\"; test \"$KEY\" = tops3cret && touch right; exit 4",
        "env": {"KEY": {"secret": "key"}}}});
    let mut plan = sandbox.plan(run, vec![step(Phase::Apply, 1, action)]);
    plan.secrets = vec!["key".into()];
    controller.submit_with(&plan, vec![("key".into(), "tops3cret".into())]).await.unwrap();
    let (events, _) = controller.until_end().await;
    assert!(sandbox.work().join("right").exists());
    let shown = serde_json::to_string(&events).unwrap();
    assert!(shown.contains("it is ***"), "{shown}");
    assert!(!shown.contains("tops3cret"));
    assert!(!sandbox.journal(run).contains("tops3cret"));
}

#[tokio::test]
async fn cancelling_now_interrupts_and_undoes() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-iiiiii";
    let plan = sandbox.plan(run, vec![step(Phase::Apply, 1, file("x.txt", "new")), step(Phase::Apply, 2, command("sleep 600"))]);
    controller.submit(&plan).await.unwrap();
    controller.until(|k| matches!(k, EventKind::StepWaiting { .. })).await;
    controller.frozen(FrozenRequest::Cancel { run: run.into(), now: true }).await;
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    assert!(!sandbox.work().join("x.txt").exists());
}

#[tokio::test]
async fn a_hold_that_is_cancelled_changes_nothing() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-jjjjjj";
    let mut plan = sandbox.plan(run, vec![step(Phase::Apply, 1, file("x.txt", "new"))]);
    plan.hold = Hold::UntilReleased { limit: Span(TOO_LONG) };
    controller.submit(&plan).await.unwrap();
    controller.until(|k| matches!(k, EventKind::Held { .. })).await;
    controller.frozen(FrozenRequest::Cancel { run: run.into(), now: false }).await;
    let (_, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(!sandbox.work().join("x.txt").exists());
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let mut skipped = step(Phase::Apply, 2, command("touch y"));
    skipped.skip = Some("not wanted".into());
    let mut unknown = step(Phase::Apply, 3, command("touch z"));
    unknown.when = Some("later > 1".into());
    let steps = vec![step(Phase::Apply, 1, file("x.txt", "new")), skipped, unknown];
    let plan = Box::new(sandbox.plan("20261123-100000-ssssss", steps));
    let QueryReply::DryRun { steps, .. } = controller.query(Query::DryRun { plan }).await else { panic!("no dry run") };
    assert_eq!(steps.iter().map(|s| s.verdict.as_str()).collect::<Vec<_>>(), ["run", "skip", "unknown"], "{steps:#?}");
    assert_eq!(std::fs::read_dir(sandbox.work()).unwrap().count(), 0);
}
