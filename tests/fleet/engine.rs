//! The engine over scripted instruments, in paused time: minutes pass in no time, and in the same order every time.

use crate::support::{Fleet, Script, lock, name, run_id, submit, target, until_released};
use ibexdeploy::engine::{self, CancelToken, Canceller, EngineRequest, EventSink, Job, Keep, Limits, RunSummary, cancellation};
use ibexdeploy::events::{Event, EventKind, Outcome};
use ibexdeploy::link::Start;
use ibexdeploy::plan::Hold;
use ibexdeploy::protocol::RollbackOptions;
use ibexdeploy::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The outcome that each instrument's last `InstrumentFinished` states, and how many it has.
fn ends(events: &[Event]) -> BTreeMap<String, (Outcome, usize)> {
    let mut ends = BTreeMap::new();
    for event in events {
        if let (Some(name), EventKind::InstrumentFinished { outcome, .. }) = (&event.instrument, &event.kind) {
            let end = ends.entry(name.clone()).or_insert((*outcome, 0));
            *end = (*outcome, end.1 + 1);
        }
    }
    ends
}

struct Played {
    summary: RunSummary,
    events: Vec<Event>,
    took: Duration,
}

impl Played {
    fn outcome(&self, at: usize) -> Outcome {
        self.summary.ended[&name(at)].outcome
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.summary.ended.values().filter(|e| e.outcome == outcome).count()
    }

    fn error_of(&self, at: usize) -> String {
        let error = self.events.iter().find_map(|e| match &e.kind {
            EventKind::InstrumentFinished { error: Some(error), .. } if e.instrument == Some(name(at)) => Some(error),
            _ => None,
        });
        error.map(ToString::to_string).unwrap_or_default()
    }
}

/// What a run keeps, until the disk is full.
struct Kept;

impl Kept {
    fn until(limit: usize) -> (Keep, Arc<Mutex<Vec<Event>>>) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let events = Arc::clone(&kept);
        let keep = move |event| {
            let mut kept = lock(&kept);
            if kept.len() == limit {
                return Err(Error::new(ErrorKind::OutOfSpace, "the disk is full"));
            }
            kept.push(event);
            Ok(())
        };
        (Box::new(keep), events)
    }
}

fn request(fleet: &Arc<Fleet>, count: usize, hold: &Hold, limits: Limits) -> EngineRequest {
    EngineRequest {
        run: run_id(),
        playbook: "release".into(),
        kit: None,
        operator: "me@here".into(),
        rehearsal: true,
        plan: String::new(),
        jobs: (0..count).map(|i| Job { target: target(i, hold.clone()), start: submit(), idle: None }).collect(),
        access: fleet.access(),
        limits,
        deadline: None,
        ask: None,
    }
}

async fn play(request: EngineRequest) -> Result<Played> {
    play_with(request, cancellation()).await
}

async fn play_with(request: EngineRequest, (canceller, token): (Canceller, CancelToken)) -> Result<Played> {
    let (keep, events) = Kept::until(usize::MAX);
    let began = Instant::now();
    let summary = engine::run(request, EventSink::new(keep), token).await?;
    drop(canceller);
    let took = began.elapsed();
    let events = std::mem::take(&mut *lock(&events));
    // Whatever happens, each instrument ends once, as the summary says, and the run begins and ends once.
    let ended = ends(&events);
    assert_eq!(ended.len(), summary.ended.len());
    for (name, end) in &summary.ended {
        assert_eq!(ended[name], (end.outcome, 1), "{name}");
    }
    assert!(matches!(events.first().map(|e| &e.kind), Some(EventKind::RunStarted { .. })));
    assert!(
        matches!(events.last().map(|e| &e.kind), Some(EventKind::RunFinished { exit_code, .. }) if *exit_code == summary.exit_code)
    );
    Ok(Played { summary, events, took })
}

fn jobs(jobs: usize) -> Limits {
    Limits { jobs, ..Limits::default() }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_instruments_in_a_bounded_pool() -> Result<()> {
    let fleet = Fleet::new(1_000, |_| Script::default());
    let played = play(request(&fleet, 1_000, &Hold::No, jobs(30))).await?;
    assert_eq!((played.summary.exit_code, played.count(Outcome::Changed)), (0, 1_000));
    let log = fleet.log();
    assert_eq!(log.applied.len(), 1_000);
    assert!(log.most_working <= 30 && log.most_applying <= 30, "{} {}", log.most_working, log.most_applying);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn canaries_go_first_and_the_rest_in_batches() -> Result<()> {
    let fleet = Fleet::new(40, |i| Script { stage: Duration::from_secs(if i > 36 { 300 } else { 10 }), ..Script::default() });
    let limits = Limits { jobs: 10, canary: vec![name(38), name(39)], batch: Some(4), ..Limits::default() };
    let played = play(request(&fleet, 40, &until_released(), limits)).await?;
    assert_eq!(played.summary.exit_code, 0);
    let log = fleet.log();
    assert_eq!(log.applied.len(), 40);
    let mut first: Vec<_> = log.applied[..2].to_vec();
    first.sort();
    assert_eq!(first, [name(38), name(39)]);
    assert!(log.most_applying <= 4, "{}", log.most_applying);
    // The others were staged and in hold before the canaries had even staged.
    let held = |e: &Event| matches!(e.kind, EventKind::Held { .. });
    let canary_held = played.events.iter().position(|e| held(e) && e.instrument == Some(name(38)));
    let other_held = played.events.iter().rposition(|e| held(e) && e.instrument == Some(name(0)));
    assert!(other_held < canary_held);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_bad_canary_leaves_the_others_untouched() -> Result<()> {
    let fleet =
        Fleet::new(5, |i| Script { outcome: if i == 1 { Outcome::RolledBack } else { Outcome::Changed }, ..Script::default() });
    let limits = Limits { canary: vec![name(1)], ..jobs(4) };
    let played = play(request(&fleet, 5, &until_released(), limits)).await?;
    assert_eq!((played.summary.exit_code, played.outcome(1)), (3, Outcome::RolledBack));
    assert_eq!(played.count(Outcome::Cancelled), 4);
    assert_eq!(fleet.log().applied, [name(1)]);
    assert!(played.summary.stopped.is_some_and(|why| why.contains("NDX001")));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_failure_limit_starts_no_more() -> Result<()> {
    let failing = |i| if i < 3 { Outcome::RolledBack } else { Outcome::Changed };
    let fleet =
        Fleet::new(30, |i| Script { outcome: failing(i), apply: Duration::from_secs(30 + i as u64), ..Script::default() });
    let played = play(request(&fleet, 30, &Hold::No, Limits { max_fail: Some(2), ..jobs(5) })).await?;
    assert_eq!(played.summary.exit_code, 3);
    assert_eq!(played.count(Outcome::RolledBack), 3, "the third was applying already");
    assert_eq!(played.count(Outcome::Cancelled) + played.count(Outcome::Changed), 27);
    assert!(played.count(Outcome::Cancelled) >= 22, "{}", played.count(Outcome::Cancelled));
    assert!(played.error_of(29).contains("2 instruments failed"), "{}", played.error_of(29));

    let fleet = Fleet::new(30, |i| Script { outcome: failing(i), ..Script::default() });
    let played = play(request(&fleet, 30, &Hold::No, jobs(5))).await?;
    assert_eq!((played.summary.exit_code, played.count(Outcome::Changed)), (1, 27), "without a limit the others finish");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_back_what_has_not_begun_to_apply() -> Result<()> {
    let fleet = Fleet::new(6, |i| Script { stage: Duration::from_secs(if i == 0 { 10 } else { 50 }), ..Script::default() });
    let mut request = request(&fleet, 6, &until_released(), Limits { batch: Some(1), ..jobs(5) });
    // The first applies from 10 s to 40 s, the second begins at 50 s and is applying when the deadline comes.
    request.deadline = Some(Duration::from_secs(60));
    let played = play(request).await?;
    assert_eq!((played.summary.exit_code, played.count(Outcome::Changed), played.count(Outcome::Cancelled)), (3, 2, 4));
    assert_eq!(fleet.log().applied, [name(0), name(1)]);
    assert!(played.took < Duration::from_secs(90));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_unreachable_and_the_hanging_hold_up_nobody() -> Result<()> {
    let fleet = Fleet::new(20, |i| Script {
        unreachable: i == 0,
        hangs_on_connect: i == 1,
        silent: i == 2,
        deaf: i == 3,
        ..Script::default()
    });
    let mut request = request(&fleet, 20, &Hold::No, jobs(4));
    request.access.patience.reconnect = Duration::from_secs(3_600);
    let played = play(request).await?;
    assert_eq!((played.summary.exit_code, played.count(Outcome::Changed), played.count(Outcome::Unreachable)), (1, 16, 4));
    for (at, why) in [(0, "no route to host"), (1, "no link within 60s"), (2, "nothing came"), (3, "did not answer")] {
        assert!(played.error_of(at).contains(why), "{}", played.error_of(at));
    }
    // All good ones ended in the time they need with a little to spare, long before the last was given up.
    let place = |at: usize| {
        let ended = |e: &Event| e.instrument == Some(name(at)) && matches!(e.kind, EventKind::InstrumentFinished { .. });
        played.events.iter().position(ended)
    };
    assert!((4..20).all(|good| place(good) < place(3) && place(good) < place(2)));
    assert!(played.took > Duration::from_secs(3_000));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_has_its_own_exit_code() -> Result<()> {
    let locked = Error::new(ErrorKind::Refused, "locked by fred@desk, run x, since noon");
    let fleet = Fleet::new(2, |i| Script { refuses: (i == 0).then(|| locked.clone()), ..Script::default() });
    let played = play(request(&fleet, 2, &Hold::No, jobs(2))).await?;
    assert_eq!((played.summary.exit_code, played.outcome(0), played.outcome(1)), (4, Outcome::Failed, Outcome::Changed));
    assert_eq!(played.error_of(0), "NDX000: locked by fred@desk, run x, since noon");
    assert_eq!(lock(&fleet.agent(0).state).links, 1, "a refusal is not tried again");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_interrupt_finishes_open_steps_and_two_roll_back_at_once() -> Result<()> {
    for (presses, limit) in [(1, 100), (2, 80)] {
        let fleet = Fleet::new(6, |i| Script {
            stage: Duration::from_secs(if i < 2 { 10 } else { 200 }),
            apply: Duration::from_secs(80),
            ..Script::default()
        });
        let cancel = cancellation();
        let press = async {
            sleep(Duration::from_secs(50)).await;
            (0..presses).for_each(|_| cancel.0.more());
            std::future::pending::<()>().await;
        };
        let (silent, token) = (cancellation().0, cancel.1.clone());
        let played = tokio::select! {
            played = play_with(request(&fleet, 6, &Hold::No, jobs(4)), (silent, token)) => played?,
            () = press => unreachable!("the presser waits for ever"),
        };
        assert_eq!(played.summary.exit_code, 130);
        assert_eq!((played.count(Outcome::RolledBack), played.count(Outcome::Cancelled)), (2, 4));
        assert!(played.took < Duration::from_secs(limit), "{presses}: {:?}", played.took);
        let now = presses == 2;
        assert_eq!(lock(&fleet.agent(0).state).cancelled, Some(now));
        assert_eq!(lock(&fleet.agent(5).state).links, 0, "never contacted");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_in_hold_is_released_when_idle() -> Result<()> {
    let fleet = Fleet::new(3, |i| Script { busy_polls: if i == 2 { 1_000_000 } else { 5 * i as u32 }, ..Script::default() });
    let mut request = request(&fleet, 3, &until_released(), jobs(3));
    for job in &mut request.jobs {
        job.idle = Some(job.target.plan.clone());
    }
    request.deadline = Some(Duration::from_secs(1_000));
    let played = play(request).await?;
    assert_eq!(
        (played.outcome(0), played.outcome(1), played.outcome(2)),
        (Outcome::Changed, Outcome::Changed, Outcome::Cancelled)
    );
    assert_eq!(played.summary.exit_code, 3);
    assert_eq!(lock(&fleet.agent(1).state).polls, 6);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_a_run_of_its_own() -> Result<()> {
    let fleet = Fleet::new(1, |_| Script::default());
    let mut request = request(&fleet, 1, &Hold::No, jobs(1));
    let options = RollbackOptions { as_run: "20261123-121212-undone".into(), ..RollbackOptions::default() };
    request.jobs[0].start = Start::Rollback { run: "r1".into(), options };
    let played = play(request).await?;
    assert_eq!(played.outcome(0), Outcome::RolledBack);
    assert_eq!(played.summary.exit_code, 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_kept_ends_the_leading_and_nothing_else() -> Result<()> {
    let fleet = Fleet::new(2, |_| Script::default());
    let (keep, events) = Kept::until(11);
    let (_canceller, token) = cancellation();
    let ended = engine::run(request(&fleet, 2, &Hold::No, jobs(2)), EventSink::new(keep), token).await;
    assert_eq!(ended.err().map(|e| e.kind()), Some(ErrorKind::OutOfSpace));
    assert_eq!(lock(&events).len(), 11);
    sleep(Duration::from_secs(200)).await;
    assert!(lock(&fleet.agent(0).state).finished, "the instrument goes on by itself");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn questions_reach_the_operator_and_answers_the_instrument() -> Result<()> {
    // Wherever the link breaks, the answer gets there.
    for cut in (0..40).map(|i| 300 + 40 * i) {
        let fleet = Fleet::new(2, |_| Script { asks: true, cuts: vec![cut], ..Script::default() });
        let mut request = request(&fleet, 2, &Hold::No, jobs(2));
        request.ask = Some(Arc::new(|name: &str, text: &str| (text == "is the beam off?").then_some(name == "NDX000")));
        let played = play(request).await?;
        assert_eq!((played.outcome(0), played.outcome(1)), (Outcome::Changed, Outcome::Cancelled), "cut {cut}");
    }
    Ok(())
}
