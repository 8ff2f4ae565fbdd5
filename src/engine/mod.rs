//! Which instrument when: a bounded pool, canaries and batches, the failure limit, the deadline, cancelling.

mod cancel;
mod query;
mod schedule;
mod sink;
mod summary;
mod target;

pub use cancel::{CancelToken, Canceller, cancellation};
pub use query::{Conversation, ask_all};
pub use schedule::Limits;
pub use sink::{EventSink, Keep};
pub use summary::{Ended, RunSummary};
pub use target::Job;

use crate::error::{Error, ErrorKind, Result};
use crate::events::{EVENT_VERSION, Event, EventKind, Outcome, RunId};
use crate::link::{Access, Orders, Stop};
use crate::units::millis;
use jiff::Timestamp;
use schedule::{Order, Schedule, Stopped};
use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use target::{Desk, Notice, finished};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

/// A run over instruments.
pub struct EngineRequest {
    pub run: RunId,
    /// What `RunStarted` says of it.
    pub playbook: String,
    pub kit: Option<String>,
    pub operator: String,
    pub rehearsal: bool,
    /// The plan's digest as hex.
    pub plan: String,
    pub jobs: Vec<Job>,
    pub access: Access,
    pub limits: Limits,
    /// Nothing is started or released after this time.
    pub deadline: Option<Duration>,
    /// Puts an instrument's question to the operator; without it, questions wait for their own deadline.
    pub ask: Option<Ask>,
}

/// Puts the question of an instrument (name and text) to the operator, and gives the answer if there is one. May block.
pub type Ask = Arc<dyn Fn(&str, &str) -> Option<bool> + Send + Sync>;

impl fmt::Debug for EngineRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineRequest").field("run", &self.run).field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

/// Leads the run to its end. Instruments that fail are in the summary.
///
/// # Errors
/// When an event cannot be kept: the controller leaves then, and the instruments go on by themselves.
pub async fn run(request: EngineRequest, sink: EventSink, mut cancel: CancelToken) -> Result<RunSummary> {
    let began = Instant::now();
    let deadline = request.deadline.and_then(|time| began.checked_add(time));
    let mut conductor = Conductor::new(request, sink);
    conductor.begin()?;
    if cancel.wish() > Stop::No {
        conductor.cancel(cancel.wish());
    }
    loop {
        conductor.act()?;
        if conductor.schedule.all_ended() {
            break;
        }
        tokio::select! {
            Some(notice) = conductor.heard.recv() => conductor.note(notice),
            Some(ended) = conductor.tasks.join_next_with_id() => conductor.take_end(ended)?,
            stop = cancel.changed() => conductor.cancel(stop),
            () = wait_for(deadline), if conductor.schedule.stopped().is_none() => conductor.schedule.stop(Stopped::Deadline),
        }
    }
    conductor.end(began)
}

async fn wait_for(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

struct Conductor {
    run: RunId,
    started: EventKind,
    names: Vec<String>,
    /// Those that have not begun.
    jobs: Vec<Option<Job>>,
    orders: Vec<watch::Sender<Orders>>,
    access: Arc<Access>,
    schedule: Schedule,
    sink: EventSink,
    ask: Option<Ask>,
    tasks: JoinSet<Result<Ended>>,
    by_task: BTreeMap<Id, usize>,
    notices: mpsc::UnboundedSender<Notice>,
    heard: mpsc::UnboundedReceiver<Notice>,
    ended: BTreeMap<String, Ended>,
    /// How far everything is stopped already.
    stop: Stop,
}

impl Conductor {
    fn new(request: EngineRequest, sink: EventSink) -> Self {
        let names: Vec<String> = request.jobs.iter().map(|j| j.target.plan.instrument.clone()).collect();
        let (notices, heard) = mpsc::unbounded_channel();
        Self {
            schedule: Schedule::new(names.iter().cloned(), &request.limits),
            started: EventKind::RunStarted {
                playbook: request.playbook,
                kit: request.kit,
                operator: request.operator,
                instruments: names.clone(),
                rehearsal: request.rehearsal,
                plan: request.plan,
            },
            orders: names.iter().map(|_| watch::Sender::new(Orders::default())).collect(),
            names,
            run: request.run,
            jobs: request.jobs.into_iter().map(Some).collect(),
            access: Arc::new(request.access),
            sink,
            ask: request.ask,
            tasks: JoinSet::new(),
            by_task: BTreeMap::new(),
            notices,
            heard,
            ended: BTreeMap::new(),
            stop: Stop::No,
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.tell(None, self.started.clone())?;
        for at in 0..self.names.len() {
            let why = self.schedule.why_waiting(at).to_owned();
            self.tell(Some(at), EventKind::Queued { why })?;
        }
        Ok(())
    }

    /// Does what the schedule allows, or ends what it no longer allows.
    fn act(&mut self) -> Result<()> {
        for order in self.schedule.orders() {
            match order {
                Order::Start(at) => self.start(at),
                Order::Release(at) => self.orders[at].send_modify(|o| o.release = true),
            }
        }
        let Some(why) = self.schedule.stopped().map(ToString::to_string) else { return Ok(()) };
        if self.stop < Stop::NotBegun {
            self.raise(Stop::NotBegun);
        }
        for at in self.schedule.waiting() {
            self.jobs[at] = None;
            let error = Error::new(ErrorKind::Cancelled, format!("not started: {why}")).on_host(&self.names[at]);
            let event = finished(self.run.clone(), self.names[at].clone(), Outcome::Cancelled, Duration::ZERO, Some(error));
            self.sink.emit(event)?;
            self.set_end(at, Ended { outcome: Outcome::Cancelled, good: false, refused: false });
        }
        Ok(())
    }

    fn start(&mut self, at: usize) {
        let Some(job) = self.jobs[at].take() else { return };
        let desk = Desk {
            at,
            access: Arc::clone(&self.access),
            sink: self.sink.clone(),
            orders: self.orders[at].subscribe(),
            notices: self.notices.clone(),
        };
        let task = self.tasks.spawn(target::drive(job, desk));
        self.by_task.insert(task.id(), at);
    }

    fn note(&mut self, notice: Notice) {
        match notice {
            Notice::Working(at) => self.schedule.working(at),
            Notice::Away(at) => self.schedule.away(at),
            Notice::Ready(at) => self.schedule.ready(at),
            Notice::Question { at, id, text } => self.put_question(at, id, text),
        }
    }

    /// Asks on a thread of its own: the answer may take the operator an hour.
    fn put_question(&self, at: usize, id: String, text: String) {
        let (Some(ask), name, orders) = (self.ask.clone(), self.names[at].clone(), self.orders[at].clone()) else { return };
        tokio::task::spawn_blocking(move || {
            if let Some(yes) = ask(&name, &text) {
                orders.send_modify(|o| o.answers.push((id, yes)));
            }
        });
    }

    fn take_end(&mut self, ended: std::result::Result<(Id, Result<Ended>), tokio::task::JoinError>) -> Result<()> {
        let (id, ended) = ended.map_err(|e| Error::internal("the task of an instrument broke off").because(e))?;
        let at = self.by_task.remove(&id).ok_or_else(|| Error::internal("a task that was not started ended"))?;
        // What it said before it ended is still to be heard, or a place would be counted twice.
        while let Ok(notice) = self.heard.try_recv() {
            self.note(notice);
        }
        self.set_end(at, ended?);
        Ok(())
    }

    fn set_end(&mut self, at: usize, ended: Ended) {
        self.schedule.ended(at, ended);
        self.ended.insert(self.names[at].clone(), ended);
    }

    fn cancel(&mut self, stop: Stop) {
        self.schedule.stop(Stopped::Operator);
        self.raise(stop);
    }

    fn raise(&mut self, stop: Stop) {
        self.stop = self.stop.max(stop);
        for orders in &self.orders {
            orders.send_modify(|o| o.stop = self.stop);
        }
    }

    fn end(self, began: Instant) -> Result<RunSummary> {
        let summary = RunSummary::new(self.ended.clone(), self.schedule.stopped());
        let (exit_code, stopped) = (summary.exit_code, summary.stopped.clone());
        self.tell(None, EventKind::RunFinished { exit_code, ms: millis(began.elapsed()), stopped })?;
        Ok(summary)
    }

    fn tell(&self, at: Option<usize>, kind: EventKind) -> Result<()> {
        self.sink.emit(Event {
            v: EVENT_VERSION,
            run: self.run.clone(),
            instrument: at.map(|at| self.names[at].clone()),
            n: 0,
            at: Timestamp::now(),
            kind,
        })
    }
}
