use super::*;
use crate::events::made_up::{Story, step};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn an_instrument_from_queue_to_end() {
    let mut story = Story::begin(&["NDXLOQ", "NDXZOOM"], false);
    story.passing("NDXLOQ", EventKind::Queued { why: "waits for the canary".into() });
    let state = RunState::of(&story.events);
    assert_eq!(state.instrument("NDXLOQ").unwrap().standing, Standing::Queued { why: "waits for the canary".into() });

    story.applying("NDXLOQ");
    let open = step("apply.03.service", "start MYSQL84");
    let waiting = EventKind::StepWaiting { step: open, what: "service MYSQL84".into(), elapsed_ms: 40_000, limit_ms: 120_000 };
    story.passing("NDXLOQ", waiting);
    let state = RunState::of(&story.events);
    let loq = state.instrument("NDXLOQ").unwrap();
    assert_eq!((loq.phase, loq.open_ms(), loq.steps_done), (Some(Phase::Apply), 40_000, 1));
    assert_eq!((loq.staging.staged_bytes, loq.staging.fetched_bytes, loq.sent), (40_000_000, 30_000_000, 9_000_000));
    assert!(loq.outage.since.is_some());

    story.end("NDXLOQ", Outcome::Changed, 61_000, None);
    let state = RunState::of(&story.events);
    let loq = state.instrument("NDXLOQ").unwrap();
    assert_eq!((&loq.standing, loq.outcome, loq.outage.ms), (&Standing::Finished, Some(Outcome::Changed), 61_000));
    assert_eq!((loq.open.as_ref(), loq.outage.since), (None, None));
    assert_eq!((state.counts(), state.open_instruments()), (BTreeMap::from([(Outcome::Changed, 1)]), 1));
}

#[test]
fn an_event_that_comes_again_counts_once() {
    let mut story = Story::begin(&["NDXLOQ"], false);
    story.changed("NDXLOQ", 60_000);
    let mut state = RunState::of(&story.events);
    let steps = state.instruments[0].steps_done;
    for event in story.events.iter().filter(|e| e.n > 0) {
        assert!(state.knows(event));
        assert!(!state.apply(event));
    }
    assert_eq!((state.instruments[0].steps_done, state.instruments[0].reminders.len()), (steps, 1));
}

#[test]
fn a_resumed_run_takes_an_unreachable_instrument_up_again() {
    let mut story = Story::begin(&["NDXLOQ"], false);
    let end = EventKind::InstrumentFinished {
        outcome: Outcome::Unreachable,
        versions: BTreeMap::new(),
        outage_ms: 0,
        longest: vec![],
        ms: 0,
        error: Some(Error::new(crate::ErrorKind::Unreachable, "no answer")),
    };
    story.passing("NDXLOQ", end).finish(1, None);
    let begun = story.events[0].clone();
    let first = begun.at;
    story.events.push(begun);
    story.passing("NDXLOQ", EventKind::Connecting { attempt: 1 });
    let state = RunState::of(&story.events);
    assert_eq!((state.finished.as_ref(), state.started, state.open_instruments()), (None, Some(first), 1));
    assert_eq!(state.instruments[0].error, None);
    story.changed("NDXLOQ", 5_000);
    assert_eq!(RunState::of(&story.events).counts(), BTreeMap::from([(Outcome::Changed, 1)]));
}

#[test]
fn what_a_failed_step_wrote_is_kept() {
    let mut story = Story::begin(&["NDXLOQ"], false);
    story.applying("NDXLOQ");
    let failing = step("apply.02.command", "migrate");
    for line in 0..15 {
        story.passing("NDXLOQ", EventKind::StepOutput { step: failing.clone(), line: format!("line {line}") });
    }
    let (outcome, summary) = (Outcome::Failed, "exit code 1".to_owned());
    story.at("NDXLOQ", EventKind::StepFinished { step: failing, outcome, summary, ms: 1, error: None, items: vec![] });
    let state = RunState::of(&story.events);
    let failed = &state.instruments[0].failed_steps[0];
    assert_eq!((failed.output.len(), failed.output.last().map(String::as_str)), (TAIL, Some("line 14")));
}

#[test]
fn the_summary_reads_back() {
    let mut story = Story::begin(&["NDXLOQ", "NDXZOOM"], true);
    story.changed("NDXLOQ", 60_000).finish(1, Some("the failure limit"));
    let state = RunState::of(&story.events);
    let summary = state.summary(&RunId("x".into()));
    assert_eq!(serde_json::from_str::<Summary>(&serde_json::to_string(&summary).unwrap()).unwrap(), summary);
    assert_eq!((summary.instruments, summary.open, summary.exit_code, summary.rehearsal), (2, 1, Some(1), true));
}

/// All sorts of events, of three instruments and of the run.
fn all_sorts() -> Vec<Event> {
    let mut story = Story::begin(&["NDXLOQ", "NDXZOOM", "NDXEMU"], false);
    story.changed("NDXLOQ", 60_000).applying("NDXZOOM");
    story.at("NDXZOOM", EventKind::RollbackStarted { because: "no".into() });
    let undone = step("apply.01.command", "stop IBEX");
    story.at("NDXZOOM", EventKind::StepUndone { step: undone, outcome: Outcome::Ok, summary: "started".into(), ms: 3 });
    story.at("NDXZOOM", EventKind::RollbackFinished { ok: false, left: vec!["C:\\a".into()] });
    story.end("NDXZOOM", Outcome::RollbackFailed, 9_000, Some(Error::step_failed("no")));
    story.passing("NDXEMU", EventKind::Queued { why: "batch".into() });
    story.passing("NDXEMU", EventKind::Connecting { attempt: 2 });
    story.passing("NDXEMU", EventKind::LinkLost { why: "gone".into(), retry_ms: 5 });
    story.at("NDXEMU", EventKind::Held { why: "not idle".into() }).at("NDXEMU", EventKind::Released);
    story.at("NDXEMU", EventKind::HandChanges { component: "EPICS".into(), files: Some(u64::MAX), archive: None });
    story.at("NDXEMU", EventKind::StagingNeeds { files: u64::MAX, bytes: u64::MAX });
    for id in ["apply.07.sync", "apply.08.sync"] {
        let (step, unit) = (step(id, "sync"), Unit::Bytes);
        story.passing("NDXEMU", EventKind::StepProgress { step, done: u64::MAX, total: 1, unit });
    }
    story.at("NDXEMU", EventKind::Question { id: "1".into(), text: "go?".into() });
    story.at("NDXEMU", EventKind::Recovered { how: "after a restart".into() }).at("NDXEMU", EventKind::Note { text: "n".into() });
    story.at("NDXEMU", EventKind::Facts { facts: BTreeMap::new() });
    story.finish(5, None);
    story.events
}

proptest! {
    #[test]
    fn any_order_folds_and_the_counts_add_up(
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..160),
        back in any::<bool>(),
    ) {
        let events = all_sorts();
        let chosen: Vec<Event> = order.iter().map(|i| i.get(&events).clone()).collect();
        let mut state = RunState::default();
        for event in &chosen {
            state.apply(event);
            let ended: usize = state.counts().values().sum();
            prop_assert_eq!(ended + state.open_instruments(), state.instruments.len());
        }
        for i in &state.instruments {
            prop_assert_eq!(i.is_finished(), i.standing == Standing::Finished);
            prop_assert!(i.staging.staged_bytes <= i.staging.need_bytes);
            prop_assert!(i.failed_steps.len() as u64 <= u64::from(i.steps_done));
        }
        // In the end the journals' order decides, however often and mixed their events came before.
        if back {
            let ends = events.iter().filter(|e| matches!(e.kind, EventKind::InstrumentFinished { .. }));
            let mut again = RunState::of(chosen.iter().filter(|e| e.n == 0));
            ends.for_each(|e| { again.apply(e); });
            prop_assert_eq!(again.instrument("NDXZOOM").and_then(|i| i.outcome), Some(Outcome::RollbackFailed));
        }
    }
}
