//! Links over streams that break wherever they like.

use crate::support::{Fleet, Script, lock, name, run_id, submit, target, until_released};
use ibexdeploy::content::ContentHash;
use ibexdeploy::content::pack::Chunk;
use ibexdeploy::events::{Event, EventKind, Outcome};
use ibexdeploy::link::{Access, ContentSource, End, Link, Orders, RateLimit, ReadyPack, Signal, Start, Submission, follow};
use ibexdeploy::plan::Hold;
use ibexdeploy::protocol::{PackHeader, Query, QueryReply, RollbackOptions};
use ibexdeploy::{Error, ErrorKind, Result};
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Packs of one blob each, of a given size.
struct Blobs {
    size: usize,
    packed: AtomicUsize,
}

impl ContentSource for Blobs {
    fn chunks(&self, hashes: &[ContentHash]) -> Result<Vec<Chunk>> {
        if hashes.contains(&ContentHash::of(b"gone")) {
            return Err(Error::new(ErrorKind::Integrity, "the kit has changed"));
        }
        Ok(hashes.iter().map(|hash| Chunk { blobs: vec![(*hash, self.size as u64)] }).collect())
    }

    fn pack(&self, chunk: &Chunk) -> Result<ReadyPack> {
        self.packed.fetch_add(1, Ordering::Relaxed);
        Ok(ReadyPack {
            header: PackHeader { blobs: chunk.blobs.clone(), packed: self.size as u64 },
            bytes: Box::new(Cursor::new(vec![7; self.size])),
        })
    }
}

fn wants(names: &[&str]) -> Vec<ContentHash> {
    names.iter().map(|n| ContentHash::of(n.as_bytes())).collect()
}

async fn follow_all(access: &Access, hold: Hold, start: Start, orders: Orders) -> Result<(End, Vec<Event>)> {
    let mut events = Vec::new();
    let (orders_in, orders) = watch::channel(orders);
    let end = follow(access, &target(0, hold), start, None, orders, &mut |signal| {
        if let Signal::Event(event) = signal {
            events.push(*event);
        }
        Ok(())
    })
    .await?;
    drop(orders_in);
    Ok((end, events))
}

fn journalled(events: &[Event]) -> Vec<u64> {
    events.iter().map(|e| e.n).filter(|n| *n > 0).collect()
}

/// A small generator, so that a failing seed can be named.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_links_break_every_event_comes_once_and_in_order() -> Result<()> {
    let mut felt = 0;
    for seed in 0..300 {
        let mut random = numbers(seed);
        let cuts: Vec<usize> = (0..random(6)).map(|_| random(3_000)).collect();
        let some = wants(&["a", "b", "c"]);
        let fleet = Fleet::new(1, |_| Script { cuts: cuts.clone(), wants: some.clone(), ..Script::default() });
        let mut access = fleet.access();
        access.content = Arc::new(Blobs { size: 700, packed: AtomicUsize::new(0) });
        access.patience.attempts = 10;
        let secrets = if seed % 2 == 0 { vec![("mysql_root".into(), "hunter22".into())] } else { Vec::new() };
        let start = Start::Submit(Submission { secrets: secrets.clone(), answer_yes: true });
        let release = Orders { release: true, ..Orders::default() };
        let (end, events) = follow_all(&access, until_released(), start, release).await?;
        assert!(matches!(end, End::Finished(Outcome::Changed)), "seed {seed}: {end:?}");
        assert_eq!(journalled(&events), [1, 2, 3, 4], "seed {seed}");
        let state = lock(&fleet.agent(0).state);
        assert_eq!(state.links as usize, 1 + cuts_felt(&events), "seed {seed}");
        assert_eq!(state.secrets, secrets, "seed {seed}: a worker that came back has them again");
        let sent = events.iter().filter_map(|e| if let EventKind::Sent { bytes } = e.kind { Some(bytes) } else { None });
        assert!(sent.clone().is_sorted(), "seed {seed}: what was sent over earlier links counts");
        felt += cuts_felt(&events);
    }
    assert!(felt > 300, "{felt}");
    Ok(())
}

fn cuts_felt(events: &[Event]) -> usize {
    events.iter().filter(|e| matches!(e.kind, EventKind::LinkLost { .. })).count()
}

#[tokio::test(start_paused = true)]
async fn a_link_that_comes_back_asks_only_for_what_it_has_not() -> Result<()> {
    let mut resumed = 0;
    for cut in 100..1_300 {
        let fleet = Fleet::new(1, |_| Script { cuts: vec![cut], ..Script::default() });
        let (end, events) = follow_all(&fleet.access(), Hold::No, submit(), Orders::default()).await?;
        assert!(matches!(end, End::Finished(Outcome::Changed)), "cut {cut}: {end:?}");
        let before = events.split(|e| matches!(e.kind, EventKind::LinkLost { .. })).next().unwrap_or_default();
        let last = journalled(before).last().copied().unwrap_or_default();
        let state = lock(&fleet.agent(0).state);
        if last > 0 && cuts_felt(&events) > 0 {
            assert_eq!((state.submits, state.since.as_slice()), (1, &[last + 1][..]), "cut {cut}");
            resumed += 1;
        }
    }
    assert!(resumed > 100, "{resumed}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_instrument_that_never_comes_back_is_said_to_go_on() -> Result<()> {
    let fleet = Fleet::new(1, |_| Script { cuts: [900].into_iter().chain([0; 1_000]).collect(), ..Script::default() });
    let began = Instant::now();
    let (end, _) = follow_all(&fleet.access(), Hold::No, submit(), Orders::default()).await?;
    let End::Unreachable(error) = end else { return Err(Error::internal(format!("{end:?}"))) };
    assert!(error.to_string().contains("did not come back within 600s"), "{error}");
    assert!(error.details().next.as_ref().is_some_and(|n| n.contains("runs resume")));
    assert!((570..660).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert!(lock(&fleet.agent(0).state).finished);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn content_that_cannot_be_had_is_told_to_the_agent() -> Result<()> {
    let fleet = Fleet::new(1, |_| Script { wants: wants(&["gone"]), ..Script::default() });
    let mut access = fleet.access();
    access.content = Arc::new(Blobs { size: 1, packed: AtomicUsize::new(0) });
    let (end, events) = follow_all(&access, Hold::No, submit(), Orders::default()).await?;
    assert!(matches!(end, End::Finished(Outcome::Cancelled)), "{end:?}");
    assert!(events.iter().any(|e| matches!(&e.kind, EventKind::Note { text } if text.contains("the kit has changed"))));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_rate_limit_holds_over_links() -> Result<()> {
    let fleet = Fleet::new(3, |_| Script {
        stage: Duration::ZERO,
        apply: Duration::ZERO,
        wants: wants(&["a", "b"]),
        ..Script::default()
    });
    let mut access = fleet.access();
    access.content = Arc::new(Blobs { size: 1_000_000, packed: AtomicUsize::new(0) });
    access.rate = Some(Arc::new(RateLimit::new(100_000)));
    let began = Instant::now();
    let all = (0..3).map(|at| {
        let access = access.clone();
        tokio::spawn(async move {
            let (_keep, orders) = watch::channel(Orders::default());
            follow(&access, &target(at, Hold::No), submit(), None, orders, &mut |_| Ok(())).await
        })
    });
    for task in all.collect::<Vec<_>>() {
        let end = task.await.map_err(|e| Error::internal("join").because(e))??;
        assert!(matches!(end, End::Finished(Outcome::Changed)), "{end:?}");
    }
    // 6 MB at 100 kB a second; the last piece is not waited for.
    assert!((58..=60).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_release_that_was_lost_is_said_again() -> Result<()> {
    for cut in 100..1_800 {
        let fleet = Fleet::new(1, |_| Script { cuts: vec![cut], ..Script::default() });
        let (orders_in, orders) = watch::channel(Orders::default());
        let mut finished = 0;
        let end = follow(&fleet.access(), &target(0, until_released()), submit(), None, orders, &mut |signal| {
            match signal {
                Signal::Ready => orders_in.send_modify(|o| o.release = true),
                Signal::Event(e) if matches!(e.kind, EventKind::InstrumentFinished { .. }) => finished += 1,
                _ => {}
            }
            Ok(())
        })
        .await?;
        assert!(matches!(end, End::Finished(Outcome::Changed)) && finished == 1, "cut {cut}: {end:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn another_operator_follows_the_newest_run() -> Result<()> {
    let fleet = Fleet::new(1, |_| Script::default());
    let access = fleet.access();
    let first = tokio::spawn({
        let access = access.clone();
        async move { follow_all(&access, Hold::No, submit(), Orders::default()).await }
    });
    tokio::time::sleep(Duration::from_secs(65)).await;
    let (end, events) =
        follow_all(&access, Hold::No, Start::Follow { run: String::new(), submit: None }, Orders::default()).await?;
    assert!(matches!(end, End::Finished(Outcome::Changed)), "{end:?}");
    assert_eq!(journalled(&events), [1, 2, 3]);
    assert!(events.iter().filter(|e| e.n > 0).all(|e| e.run == run_id()));
    let (end, _) = first.await.map_err(|e| Error::internal("join").because(e))??;
    assert!(matches!(end, End::Finished(Outcome::Changed)), "{end:?}");
    let unknown = Start::Follow { run: "another".into(), submit: None };
    let (end, _) = follow_all(&access, Hold::No, unknown, Orders::default()).await?;
    assert!(matches!(end, End::Refused(_)), "{end:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_run_that_never_got_there_is_submitted_when_it_is_resumed() -> Result<()> {
    let fleet = Fleet::new(1, |_| Script::default());
    for links in 1..3 {
        let start = Start::Follow { run: run_id().0, submit: Some(Submission::default()) };
        let (end, events) = follow_all(&fleet.access(), Hold::No, start, Orders::default()).await?;
        assert!(matches!(end, End::Finished(Outcome::Changed)), "{end:?}");
        assert_eq!(journalled(&events), [1, 2, 3]);
        let state = lock(&fleet.agent(0).state);
        assert_eq!((state.links, state.submits), (links, 1), "the second time it is only followed");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn questions_are_answered_and_refusals_passed_on() -> Result<()> {
    let fleet = Fleet::new(2, |i| Script { deaf: i == 1, ..Script::default() });
    let access = fleet.access();
    let mut link: Link = access.open(&target(0, Hold::No), &|| {}).await?;
    let reply = link.query(Query::Status { plan: Box::new(target(0, Hold::No).plan) }).await?;
    assert!(matches!(reply, QueryReply::Status(report) if report.memory == 7));
    let error = link.query(Query::Prune { keep: 3 }).await.err();
    assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::Internal));
    let preview = link.preview_rollback("r1", RollbackOptions::default()).await?;
    assert_eq!(preview.newer, ["a.ini"]);
    link.goodbye().await;

    let targets = [target(0, Hold::No), target(1, Hold::No)];
    let status = |t: ibexdeploy::plan::Target, mut link: Link| {
        Box::pin(async move {
            match link.query(Query::Status { plan: Box::new(t.plan) }).await? {
                QueryReply::Status(report) => Ok(report.memory),
                _ => Err(ibexdeploy::link::unexpected_reply()),
            }
        }) as std::pin::Pin<Box<dyn Future<Output = Result<u64>> + Send>>
    };
    let limit = Duration::from_secs(20);
    let mut heard = Vec::new();
    let answers = ibexdeploy::engine::ask_all(&access, &targets, 2, limit, Arc::new(status), |name, answer| {
        heard.push((name.to_owned(), answer.is_ok()));
    })
    .await;
    assert_eq!(heard, [(name(0), true), (name(1), false)]);
    assert_eq!(answers[0], Ok(7));
    assert_eq!(answers[1].as_ref().err().map(ToString::to_string), Some("NDX001: no answer within 20s".into()));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn times_of_an_instrument_whose_clock_is_years_off_are_told_by_this_machines() -> Result<()> {
    let fleet = Fleet::new(1, |_| Script { clock_of_1970: true, cuts: vec![900, 900], ..Script::default() });
    let (end, events) = follow_all(&fleet.access(), Hold::No, submit(), Orders::default()).await?;
    assert!(matches!(end, End::Finished(Outcome::Changed)), "{end:?}");
    let now = jiff::Timestamp::now();
    let off: Vec<&Event> = events.iter().filter(|e| now.duration_since(e.at).as_secs().abs() > 60).collect();
    assert!(off.is_empty(), "{off:?}");
    let notes = events.iter().filter(|e| matches!(&e.kind, EventKind::Note { text } if text.contains("its clock is")));
    assert_eq!(notes.count(), 1, "it is said once, however many links there were");
    assert!(events.iter().filter(|e| matches!(e.kind, EventKind::Connected { .. })).count() > 1, "links were cut");
    Ok(())
}
