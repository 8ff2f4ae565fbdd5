//! How content comes to the instrument.

use crate::bench::*;
use ibexdeploy::events::{EventKind, Outcome};
use ibexdeploy::plan::{KitFolder, Pull};
use ibexdeploy::protocol::{AgentMessage, ControllerMessage, FrozenRequest, Query, QueryReply};

#[tokio::test]
async fn a_release_comes_over_the_link_and_a_damaged_blob_is_asked_for_again() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let long = "x".repeat(100_000);
    let first =
        release(&sandbox, &mut controller, "20261123-100000-aaaaaa", "12.0.0", &[("a", "one"), ("b/c", &long), ("b/d", &long)]);
    controller.damage = 1;
    controller.submit(&first).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::Changed, "{events:#?}");
    let epics = sandbox.work().join("epics");
    assert_eq!(std::fs::read_to_string(epics.join("b/d")).unwrap(), long);
    let versions = events.iter().find_map(|e| match &e.kind {
        EventKind::InstrumentFinished { versions, .. } => versions.get("EPICS").cloned(),
        _ => None,
    });
    assert_eq!(versions.and_then(|v| v.to).as_deref(), Some("12.0.0"));

    // One that comes damaged every time ends the run before anything is changed.
    let second = release(&sandbox, &mut controller, "20261123-100001-bbbbbb", "12.0.1", &[("a", "two")]);
    controller.damage = u32::MAX;
    controller.submit(&second).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::Failed);
    let shown = serde_json::to_string(&events).unwrap();
    assert!(shown.contains("integrity"), "{shown}");
    assert_eq!(std::fs::read_to_string(epics.join("a")).unwrap(), "one");

    controller.damage = 0;
    let third = release(&sandbox, &mut controller, "20261123-100002-cccccc", "12.0.2", &[("a", "three")]);
    controller.submit(&third).await.unwrap();
    assert_eq!(controller.until_end().await.1, Outcome::Changed);
    assert!(!epics.join("b").exists());
    let QueryReply::Status(status) = controller.query(Query::Status { plan: Box::new(third.clone()) }).await else {
        panic!("no status")
    };
    assert_eq!(status.installed["EPICS"].version, "12.0.2");
    assert_eq!(status.hand_changes["EPICS"], Some(Vec::new()));

    // Back to the first release, with what was known of it.
    controller.rollback("", "20261123-100003-dddddd", false).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{events:#?}");
    assert_eq!(std::fs::read_to_string(epics.join("b/c")).unwrap(), long);
    let QueryReply::Status(status) = controller.query(Query::Status { plan: Box::new(third) }).await else { panic!("no status") };
    assert_eq!(status.installed["EPICS"].version, "12.0.0");
    assert_eq!(status.hand_changes["EPICS"], Some(Vec::new()));
}

#[tokio::test]
async fn a_link_that_breaks_in_the_middle_of_a_pack_is_no_damage_however_often() {
    let sandbox = Sandbox::new();
    let run = "20261123-100000-aaaaaa";
    let content: String = (0..200_000_u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26)).collect();
    let mut controller = Controller::connect(&sandbox).await;
    let plan = release(&sandbox, &mut controller, run, "12.0.0", &[("a", &content), ("b", "two")]);
    controller.send(ControllerMessage::Submit { plan: Box::new(plan), secrets: Vec::new(), answer_yes: false }).await;
    for _ in 0..4 {
        let blobs = controller.blobs.clone();
        loop {
            let (large, small): (Vec<_>, Vec<_>) =
                controller.asked().await.into_iter().partition(|hash| controller.blob(hash).len() == content.len());
            controller.give(&small).await;
            if let Some(hash) = large.first() {
                // Gone with half of it said, once the next link is there.
                controller.give_half(hash).await;
                break;
            }
        }
        controller = Controller::connect(&sandbox).await;
        controller.blobs = blobs;
        controller.frozen(FrozenRequest::EventsSince { run: run.into(), from: 1 }).await;
    }
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::Changed, "{events:#?}");
}

#[tokio::test]
async fn content_may_come_from_another_controller_after_the_first_is_gone() {
    let sandbox = Sandbox::new();
    let mut first = Controller::connect(&sandbox).await;
    let run = "20261123-100000-aaaaaa";
    let plan = release(&sandbox, &mut first, run, "12.0.0", &[("a", "one")]);
    let blobs = std::mem::take(&mut first.blobs);
    first.send(ControllerMessage::Submit { plan: Box::new(plan), secrets: Vec::new(), answer_yes: false }).await;
    loop {
        if let Some(AgentMessage::Need { .. }) = first.reader.next().await.unwrap() {
            break;
        }
    }
    drop(first);
    let mut second = Controller::connect(&sandbox).await;
    second.blobs = blobs;
    second.frozen(FrozenRequest::EventsSince { run: run.into(), from: 1 }).await;
    let (events, outcome) = second.until_end().await;
    assert_eq!(outcome, Outcome::Changed, "{events:#?}");
}

#[tokio::test]
async fn a_share_that_differs_from_the_manifest_is_refused() {
    let sandbox = Sandbox::new();
    let share = sandbox.root().join("unc/server/kits/12.0.0/EPICS");
    std::fs::create_dir_all(&share).unwrap();
    std::fs::write(share.join("VERSION.txt"), "12.0.0 and more").unwrap();
    std::fs::write(share.join("a"), "onE").unwrap();
    let mut controller = Controller::connect(&sandbox).await;
    for (run, outcome) in [("20261123-100000-aaaaaa", Outcome::Failed), ("20261123-100001-bbbbbb", Outcome::Changed)] {
        let mut plan = release(&sandbox, &mut controller, run, "12.0.0", &[("a", "one")]);
        // Only the manifest comes over the link.
        controller.blobs.truncate(1);
        plan.pull = Some(Pull { from: KitFolder::parse("\\\\server\\kits").unwrap(), user: None, password: None, ca: None });
        controller.submit(&plan).await.unwrap();
        let (events, end) = controller.until_end().await;
        assert_eq!(end, outcome, "{events:#?}");
        std::fs::write(share.join("a"), "one").unwrap();
    }
    assert_eq!(std::fs::read_to_string(sandbox.work().join("epics/a")).unwrap(), "one");
}

#[tokio::test]
async fn a_share_is_read_as_the_account_that_the_plan_names() {
    let sandbox = Sandbox::new();
    let share = sandbox.root().join("unc/server/kits/12.0.0/EPICS");
    std::fs::create_dir_all(&share).unwrap();
    std::fs::write(share.join("VERSION.txt"), "12.0.0 and more").unwrap();
    std::fs::write(share.join("a"), "one").unwrap();
    let mut controller = Controller::connect(&sandbox).await;
    let state = sandbox.root().join(".ibexdeploy/sandbox.json");
    std::fs::write(state, r#"{"share_accounts": {"reader": "right"}}"#).unwrap();
    for (run, word, outcome) in
        [("20261123-100000-aaaaaa", "wrong", Outcome::Failed), ("20261123-100001-bbbbbb", "right", Outcome::Changed)]
    {
        let mut plan = release(&sandbox, &mut controller, run, "12.0.0", &[("a", "one")]);
        controller.blobs.truncate(1);
        let (user, password) = (Some("reader".to_owned()), Some("kits".to_owned()));
        plan.pull = Some(Pull { from: KitFolder::parse("\\\\server\\kits").unwrap(), user, password, ca: None });
        plan.secrets = vec!["kits".into()];
        controller.submit_with(&plan, vec![("kits".into(), word.into())]).await.unwrap();
        let (events, end) = controller.until_end().await;
        assert_eq!(end, outcome, "{events:#?}");
        let told = format!("{events:?}");
        assert_eq!(told.contains("does not let reader in"), outcome == Outcome::Failed, "{told}");
    }
    assert_eq!(std::fs::read_to_string(sandbox.work().join("epics/a")).unwrap(), "one");
}
