//! One instrument of a run, as a task.

use super::sink::EventSink;
use super::summary::{Ended, is_refusal};
use crate::error::{Error, Result};
use crate::events::{EVENT_VERSION, Event, EventKind, Outcome, RunId};
use crate::link::{self, Access, End, Orders, Signal, Start};
use crate::plan::{InstrumentPlan, Target};
use crate::playbook::Phase;
use crate::units::millis;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

/// An instrument that is not reached for this long leaves its place in the pool to another.
const SLOW: Duration = Duration::from_secs(5);

/// One instrument's part of a run.
#[derive(Debug, Clone)]
pub struct Job {
    pub target: Target,
    pub start: Start,
    /// A plan whose steps must all hold before `apply` may begin: `--when-idle`.
    pub idle: Option<InstrumentPlan>,
}

/// What the scheduler hears of an instrument.
#[derive(Debug)]
pub(super) enum Notice {
    Working(usize),
    Away(usize),
    Ready(usize),
    Question { at: usize, id: String, text: String },
}

/// What a task of an instrument needs besides its job.
pub(super) struct Desk {
    pub(super) at: usize,
    pub(super) access: Arc<Access>,
    pub(super) sink: EventSink,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) notices: mpsc::UnboundedSender<Notice>,
}

/// Follows the instrument to its end. Whatever ends it, an `InstrumentFinished` was emitted.
pub(super) async fn drive(job: Job, desk: Desk) -> Result<Ended> {
    let Desk { at, access, sink, orders, notices } = desk;
    let (run, name) = (run_of(&job), job.target.plan.instrument.clone());
    let undoes = matches!(job.start, Start::Rollback { .. });
    let began = Instant::now();
    let (reached, mut reach) = watch::channel(false);
    let tell = notices.clone();
    // An agent that has staged may say no to the outage as well: the instrument measures by now.
    let (applies, said_no) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut handler = |signal: Signal| {
        match signal {
            Signal::Ready => notify(&tell, Notice::Ready(at)),
            Signal::Question { id, text } => notify(&tell, Notice::Question { at, id, text }),
            Signal::Event(event) => {
                let works = at_work(&event.kind);
                match &event.kind {
                    EventKind::PhaseStarted { phase: Phase::Apply } => applies.store(true, Ordering::Relaxed),
                    EventKind::InstrumentFinished { outcome: Outcome::Failed, error: Some(error), .. } => {
                        said_no.store(is_refusal(error.kind()) && applies.load(Ordering::Relaxed), Ordering::Relaxed);
                    }
                    _ => {}
                }
                sink.emit(*event)?;
                if let Some(works) = works
                    && reached.send_replace(works) != works
                    && works
                {
                    notify(&tell, Notice::Working(at));
                }
            }
        }
        Ok(())
    };
    let following = link::follow(&access, &job.target, job.start, job.idle, orders, &mut handler);
    let watching = async {
        loop {
            tokio::select! {
                () = sleep(SLOW), if !*reach.borrow() => {
                    notify(&notices, Notice::Away(at));
                    if reach.wait_for(|up| *up).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                changed = reach.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    };
    let end = tokio::select! {
        end = following => end?,
        () = watching => return Err(Error::internal("the watch over a link ended")),
    };
    let (outcome, error) = match end {
        // A rollback that was asked for ends well by rolling back.
        End::Finished(outcome) => {
            let good = outcome.is_good() || (undoes && outcome == Outcome::RolledBack);
            return Ok(Ended { outcome, good, refused: said_no.load(Ordering::Relaxed) });
        }
        End::Refused(error) | End::Failed(error) => (Outcome::Failed, Some(error)),
        End::Unreachable(error) => (Outcome::Unreachable, Some(error)),
        End::NotBegun => (Outcome::Cancelled, None),
    };
    let refused = error.as_ref().is_some_and(|e| is_refusal(e.kind()));
    sink.emit(finished(run, name, outcome, began.elapsed(), error))?;
    Ok(Ended { outcome, good: false, refused })
}

/// The scheduler is gone only when the whole run is given up.
fn notify(notices: &mpsc::UnboundedSender<Notice>, notice: Notice) {
    let _ = notices.send(notice);
}

fn run_of(job: &Job) -> RunId {
    match &job.start {
        Start::Rollback { options, .. } => RunId(options.as_run.clone()),
        _ => job.target.plan.run.clone(),
    }
}

/// Whether the event shows that the instrument works, or that it is out of reach. A stream that opens shows neither:
/// who is there may still never answer.
fn at_work(kind: &EventKind) -> Option<bool> {
    match kind {
        EventKind::LinkLost { .. } => Some(false),
        EventKind::Connecting { .. } | EventKind::Bringing | EventKind::Connected { .. } | EventKind::Sent { .. } => None,
        _ => Some(true),
    }
}

/// The end of an instrument that could not say it itself.
pub(super) fn finished(run: RunId, name: String, outcome: Outcome, took: Duration, error: Option<Error>) -> Event {
    Event {
        v: EVENT_VERSION,
        run,
        instrument: Some(name),
        n: 0,
        at: Timestamp::now(),
        kind: EventKind::InstrumentFinished {
            outcome,
            versions: BTreeMap::new(),
            outage_ms: 0,
            longest: Vec::new(),
            ms: millis(took),
            error,
        },
    }
}
