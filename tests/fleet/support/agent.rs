//! One scripted agent: a worker with a journal that goes on by itself, and any number of links to it.

use super::{Log, Script, lock};
use ibexdeploy::content::ContentHash;
use ibexdeploy::events::{EVENT_VERSION, Event, EventKind, Outcome};
use ibexdeploy::plan::{Hold, InstrumentPlan};
use ibexdeploy::playbook::Phase;
use ibexdeploy::protocol::{
    AgentHello, AgentMessage, ControllerMessage, DryRunStep, FrozenReply, FrozenRequest, PROTOCOL_VERSION, PackHeader, Query,
    QueryReply, RollbackOptions, RollbackPreview, StatusReport, frames,
};
use ibexdeploy::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::io::{DuplexStream, WriteHalf};
use tokio::sync::watch;
use tokio::time::timeout;

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) plan: Option<InstrumentPlan>,
    pub(crate) journal: Vec<Event>,
    pub(crate) finished: bool,
    pub(crate) released: bool,
    /// Whether the run was cancelled, and if so whether at once.
    pub(crate) cancelled: Option<bool>,
    pub(crate) lacks: BTreeSet<ContentHash>,
    pub(crate) submits: u32,
    pub(crate) secrets: Vec<(String, String)>,
    pub(crate) links: u32,
    pub(crate) polls: u32,
    pub(crate) answers: Vec<(String, bool)>,
    /// The first number of each request for events.
    pub(crate) since: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) script: Script,
    pub(crate) cuts: Mutex<VecDeque<usize>>,
    pub(crate) state: Mutex<State>,
    changed: watch::Sender<u64>,
    log: Arc<Mutex<Log>>,
}

type Out = frames::Writer<WriteHalf<DuplexStream>, AgentMessage>;

/// One link's view of the journal.
struct View {
    out: Out,
    /// Events that were sent, when it follows a run.
    at: Option<usize>,
    told_up_to_date: bool,
    pack: Option<(PackHeader, Vec<u8>)>,
}

impl Agent {
    pub(crate) fn new(script: Script, log: Arc<Mutex<Log>>) -> Arc<Self> {
        let cuts = Mutex::new(script.cuts.iter().copied().collect());
        Arc::new(Self { script, cuts, state: Mutex::default(), changed: watch::Sender::new(0), log })
    }

    fn change(&self, what: impl FnOnce(&mut State)) {
        what(&mut lock(&self.state));
        self.changed.send_modify(|n| *n += 1);
    }

    fn push(&self, kind: EventKind) {
        self.change(|s| {
            let Some(plan) = &s.plan else { return };
            let (run, instrument) = (plan.run.clone(), Some(plan.instrument.clone()));
            s.finished |= matches!(kind, EventKind::InstrumentFinished { .. });
            let n = s.journal.len() as u64 + 1;
            s.journal.push(Event { v: EVENT_VERSION, run, instrument, n, at: jiff::Timestamp::UNIX_EPOCH, kind });
        });
    }

    async fn until(&self, what: impl Fn(&State) -> bool) {
        let mut changed = self.changed.subscribe();
        while !what(&lock(&self.state)) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The worker: needs no link.
    async fn work(self: Arc<Self>, plan: InstrumentPlan) {
        self.count(|log| {
            log.working += 1;
            log.most_working = log.most_working.max(log.working);
        });
        self.push(EventKind::PhaseStarted { phase: Phase::Stage });
        // A cancel of either sort ends staging: nothing is to be undone.
        let cancelled = timeout(self.script.stage, self.until(|s| s.cancelled.is_some())).await.is_ok();
        self.until(|s| s.lacks.is_empty() || s.cancelled.is_some()).await;
        self.count(|log| log.working -= 1);
        if !cancelled && matches!(plan.hold, Hold::UntilReleased { .. }) {
            self.push(EventKind::Held { why: "waiting for the word to apply".into() });
            self.until(|s| s.released || s.cancelled.is_some()).await;
        }
        let outcome = if lock(&self.state).cancelled.is_some() { Outcome::Cancelled } else { self.apply(&plan).await };
        self.push(EventKind::InstrumentFinished {
            outcome,
            versions: BTreeMap::new(),
            outage_ms: 0,
            longest: Vec::new(),
            ms: 0,
            error: None,
        });
    }

    async fn apply(&self, plan: &InstrumentPlan) -> Outcome {
        if self.script.asks {
            self.push(EventKind::Question { id: "q1".into(), text: "is the beam off?".into() });
            self.until(|s| !s.answers.is_empty()).await;
            self.push(EventKind::RollbackStarted { because: "nothing to do with it: an event after the answer".into() });
            if lock(&self.state).answers != [("q1".to_owned(), true)] {
                return Outcome::Cancelled;
            }
        }
        self.push(EventKind::Released);
        self.count(|log| {
            log.applied.push(plan.instrument.clone());
            log.applying += 1;
            log.most_applying = log.most_applying.max(log.applying);
        });
        let at_once = timeout(self.script.apply, self.until(|s| s.cancelled == Some(true))).await.is_ok();
        self.count(|log| log.applying -= 1);
        if at_once || lock(&self.state).cancelled.is_some() { Outcome::RolledBack } else { self.script.outcome }
    }

    fn count(&self, what: impl FnOnce(&mut Log)) {
        what(&mut lock(&self.log));
    }

    /// One link. Its breaking is no failure of the agent.
    pub(crate) async fn serve(self: Arc<Self>, stream: DuplexStream) {
        let (mut input, out) = frames::split::<_, ControllerMessage, AgentMessage>(stream);
        self.change(|s| s.links += 1);
        let mut view = View { out, at: None, told_up_to_date: false, pack: None };
        let mut changed = self.changed.subscribe();
        loop {
            let went_well = tokio::select! {
                message = input.next() => match message {
                    Ok(Some(message)) => Arc::clone(&self).answer(message, &mut view).await,
                    _ => return,
                },
                _ = changed.changed() => Ok(()),
            };
            if went_well.is_err() || self.send_events(&mut view).await.is_err() {
                return;
            }
        }
    }

    async fn answer(self: Arc<Self>, message: ControllerMessage, view: &mut View) -> Result<()> {
        let is_hello = matches!(message, ControllerMessage::Frozen(FrozenRequest::Hello(_)));
        if !is_hello && (self.script.silent || (self.script.deaf && message != ControllerMessage::Ping)) {
            return Ok(());
        }
        match message {
            ControllerMessage::Frozen(request) => self.answer_frozen(request, view).await?,
            ControllerMessage::Submit { plan, secrets, .. } => {
                if let Some(error) = &self.script.refuses {
                    return view.refuse(error).await;
                }
                self.submit(*plan, secrets);
                view.out.send(&AgentMessage::Frozen(FrozenReply::Done)).await?;
                view.at = Some(0);
            }
            ControllerMessage::Release { .. } => self.change(|s| s.released = true),
            ControllerMessage::Ping => view.out.send(&AgentMessage::Pong).await?,
            ControllerMessage::Ask(query) => {
                let reply = self.reply(&query);
                view.out.send(&AgentMessage::Reply(Box::new(reply))).await?;
            }
            ControllerMessage::Pack(header) => view.pack = Some((header, Vec::new())),
            ControllerMessage::PackBytes(bytes) => self.take_bytes(&bytes, view),
            ControllerMessage::CannotSend { json, .. } => {
                self.change(|s| s.cancelled = Some(true));
                self.push(EventKind::Note { text: json });
            }
            ControllerMessage::Answer { id, yes } => self.change(|s| {
                if s.answers.is_empty() {
                    s.answers.push((id, yes));
                }
            }),
            ControllerMessage::Goodbye => {}
        }
        Ok(())
    }

    async fn answer_frozen(self: Arc<Self>, request: FrozenRequest, view: &mut View) -> Result<()> {
        match request {
            FrozenRequest::Hello(_) => view.out.send(&AgentMessage::Frozen(FrozenReply::Hello(hello(&self.script)))).await,
            FrozenRequest::EventsSince { run, from } => {
                let known = lock(&self.state).plan.as_ref().is_some_and(|p| run.is_empty() || p.run.as_str() == run);
                if !known {
                    return view.refuse(&Error::new(ErrorKind::Refused, format!("there is no run {run} here"))).await;
                }
                self.change(|s| s.since.push(from));
                view.at = Some(usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX));
                Ok(())
            }
            FrozenRequest::Cancel { now, .. } => {
                self.change(|s| s.cancelled = Some(now || s.cancelled == Some(true)));
                view.out.send(&AgentMessage::Frozen(FrozenReply::Done)).await
            }
            FrozenRequest::Rollback { options, .. } if options.preview => {
                let preview = RollbackPreview { runs: vec!["r1".into()], newer: vec!["a.ini".into()] };
                view.out.send(&AgentMessage::Reply(Box::new(QueryReply::RollbackPreview(preview)))).await
            }
            FrozenRequest::Rollback { options, .. } => {
                self.undo(&options);
                view.out.send(&AgentMessage::Frozen(FrozenReply::Done)).await
            }
        }
    }

    fn submit(self: Arc<Self>, plan: InstrumentPlan, secrets: Vec<(String, String)>) {
        let is_new = lock(&self.state).plan.is_none();
        self.change(|s| {
            s.submits += 1;
            s.secrets = secrets;
            s.plan = Some(plan.clone());
            if is_new {
                s.lacks = self.script.wants.iter().copied().collect();
            }
        });
        if is_new {
            tokio::spawn(self.work(plan));
        }
    }

    fn undo(&self, options: &RollbackOptions) {
        self.change(|s| {
            let mut plan = super::target(0, Hold::No).plan;
            plan.run = ibexdeploy::events::RunId(options.as_run.clone());
            s.plan = Some(plan);
        });
        self.push(EventKind::RollbackStarted { because: "asked for".into() });
        self.push(EventKind::InstrumentFinished {
            outcome: Outcome::RolledBack,
            versions: BTreeMap::new(),
            outage_ms: 0,
            longest: Vec::new(),
            ms: 0,
            error: None,
        });
    }

    fn reply(&self, query: &Query) -> QueryReply {
        match query {
            Query::Status { .. } => QueryReply::Status(Box::new(StatusReport { memory: 7, ..StatusReport::default() })),
            Query::DryRun { .. } => {
                self.change(|s| s.polls += 1);
                let busy = lock(&self.state).polls <= self.script.busy_polls;
                let error = busy.then(|| Error::step_failed("the DAE is running"));
                let step = DryRunStep {
                    id: "apply.01.check".into(),
                    verdict: "skip".into(),
                    summary: String::new(),
                    items: Vec::new(),
                    fetch_bytes: 0,
                    error,
                };
                QueryReply::DryRun { steps: vec![step], facts: BTreeMap::new() }
            }
            _ => QueryReply::Failed(Error::internal("not scripted")),
        }
    }

    fn take_bytes(&self, bytes: &[u8], view: &mut View) {
        let Some((header, so_far)) = &mut view.pack else { return };
        so_far.extend_from_slice(bytes);
        if so_far.len() as u64 == header.packed {
            let got: Vec<ContentHash> = header.blobs.iter().map(|(hash, _)| *hash).collect();
            self.change(|s| s.lacks.retain(|hash| !got.contains(hash)));
        }
    }

    async fn send_events(&self, view: &mut View) -> Result<()> {
        let Some(at) = view.at else { return Ok(()) };
        let (events, active, lacks) = {
            let state = lock(&self.state);
            let lacks: Vec<ContentHash> = state.lacks.iter().copied().collect();
            (state.journal.get(at..).unwrap_or_default().to_vec(), !state.finished, lacks)
        };
        view.at = Some(at + events.len());
        for event in events {
            let json = serde_json::to_string(&event).map_err(|e| Error::internal("event").because(e))?;
            view.out.send(&AgentMessage::Frozen(FrozenReply::Event { json })).await?;
        }
        if !view.told_up_to_date {
            view.told_up_to_date = true;
            view.out.send(&AgentMessage::Frozen(FrozenReply::UpToDate { active })).await?;
            if !lacks.is_empty() {
                view.out.send(&AgentMessage::Need { hashes: lacks }).await?;
            }
        }
        Ok(())
    }
}

impl View {
    async fn refuse(&mut self, error: &Error) -> Result<()> {
        let json = serde_json::to_string(error).map_err(|e| Error::internal("error").because(e))?;
        self.out.send(&AgentMessage::Frozen(FrozenReply::Refused { json })).await
    }
}

fn hello(script: &Script) -> AgentHello {
    AgentHello {
        protocol: PROTOCOL_VERSION,
        build: "b".into(),
        platform: "sandbox".into(),
        host: "h".into(),
        root: None,
        now: script.clock_of_1970.then_some(jiff::Timestamp::UNIX_EPOCH),
    }
}
