//! One connection of a controller: hello, requests, events, content, heartbeats.

use super::content::{Desk, DeskSink};
use super::journal;
use super::queries;
use super::resume::Resume;
use super::rollback;
use super::run::{Live, Run, event_of};
use super::worker::Worker;
use crate::content::{ContentHash, Unpacker};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, RunId};
use crate::plan::InstrumentPlan;
use crate::protocol::frames::{self, Reader, Writer};
use crate::protocol::{
    AgentHello, AgentMessage, ControllerMessage, FrozenReply, FrozenRequest, HEARTBEAT, LINK_DEAD_AFTER, PROTOCOL_VERSION,
    PackHeader, Query, QueryReply, RollbackOptions,
};
use jiff::Timestamp;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{broadcast, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Messages that may wait to be written before those who write them wait.
const QUEUE: usize = 64;

/// Pieces of a pack that may wait to be unpacked; then the link waits, and with it the controller.
const PIECES: usize = 8;

type Out = mpsc::Sender<AgentMessage>;

/// Serves a connection until the controller leaves or the link dies.
///
/// # Errors
/// When the link breaks or what comes is no conversation.
pub(crate) async fn serve<S>(worker: Arc<Worker>, stream: S) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, writer) = frames::split::<S, ControllerMessage, AgentMessage>(stream);
    let mut session = Session::begin(worker, writer);
    let ended = session.listen(&mut reader).await;
    session.end().await;
    ended
}

/// Writes what is queued, and a sign of life when nothing was for a while.
async fn write<W: AsyncWrite + Unpin>(
    mut writer: Writer<W, AgentMessage>,
    mut outgoing: mpsc::Receiver<AgentMessage>,
) -> Result<()> {
    loop {
        match timeout(HEARTBEAT, outgoing.recv()).await {
            Ok(Some(message)) => writer.send(&message).await?,
            Ok(None) => return writer.leave().await,
            Err(_) => writer.send(&AgentMessage::Pong).await?,
        }
    }
}

struct Session {
    worker: Arc<Worker>,
    number: u64,
    out: Out,
    tasks: JoinSet<Result<()>>,
    follow: Option<AbortHandle>,
    /// This connection has handed over the run's plan: its word on content is final.
    began: bool,
    desks: Vec<Arc<Desk>>,
    /// They ask for what the desks want, for as long as there is somebody to ask.
    feeders: Vec<AbortHandle>,
    unpacking: Option<Unpacking>,
}

/// A pack on its way in.
struct Unpacking {
    left: u64,
    pieces: mpsc::Sender<Vec<u8>>,
    done: tokio::task::JoinHandle<Option<Vec<ContentHash>>>,
}

impl Session {
    fn begin<W: AsyncWrite + Unpin + Send + 'static>(worker: Arc<Worker>, writer: Writer<W, AgentMessage>) -> Self {
        let (out, outgoing) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        tasks.spawn(write(writer, outgoing));
        let number = worker.session_number();
        let (desks, feeders) = (Vec::new(), Vec::new());
        Self { worker, number, out, tasks, follow: None, began: false, desks, feeders, unpacking: None }
    }

    async fn listen<R: AsyncRead + Unpin>(&mut self, reader: &mut Reader<R, ControllerMessage>) -> Result<()> {
        let mut greeted = false;
        loop {
            let message = tokio::select! {
                message = timeout(LINK_DEAD_AFTER, reader.next()) => message
                    .map_err(|_| Error::new(ErrorKind::Unreachable, format!("nothing came for {LINK_DEAD_AFTER:?}")))??,
                Some(ended) = self.tasks.join_next() => {
                    match ended {
                        // A follower or a query that is through.
                        Ok(Ok(())) => continue,
                        Ok(Err(error)) => return Err(error),
                        Err(e) if e.is_cancelled() => continue,
                        Err(e) => return Err(Error::internal("a task of a connection broke off").because(e)),
                    }
                }
            };
            let Some(message) = message else { return Ok(()) };
            match message {
                ControllerMessage::Frozen(FrozenRequest::Hello(hello)) => {
                    greeted = true;
                    tracing::info!(operator = %hello.operator, build = %hello.build, "a controller is here");
                    self.say(AgentMessage::Frozen(FrozenReply::Hello(self.hello()))).await?;
                }
                ControllerMessage::Goodbye => return Ok(()),
                _ if !greeted => return Err(Error::new(ErrorKind::Protocol, "the controller did not say hello")),
                other => self.take(other).await?,
            }
        }
    }

    fn hello(&self) -> AgentHello {
        let machine = &self.worker.machine;
        AgentHello {
            protocol: PROTOCOL_VERSION,
            build: machine.build.clone(),
            platform: machine.platform.name().to_owned(),
            host: machine.platform.host_name(),
            root: machine.home.root().map(|r| r.display().to_string()),
            now: Some(Timestamp::now()),
        }
    }

    async fn say(&self, message: AgentMessage) -> Result<()> {
        self.out.send(message).await.map_err(|_| Error::new(ErrorKind::Unreachable, "the link is closed"))
    }

    async fn take(&mut self, message: ControllerMessage) -> Result<()> {
        match message {
            ControllerMessage::Frozen(FrozenRequest::Hello(_)) | ControllerMessage::Goodbye => Ok(()),
            ControllerMessage::Frozen(FrozenRequest::EventsSince { run, from }) => self.events_since(&run, from).await,
            ControllerMessage::Frozen(FrozenRequest::Cancel { run, now }) => self.cancel(&run, now).await,
            ControllerMessage::Frozen(FrozenRequest::Rollback { run, options }) => self.rollback(run, options).await,
            ControllerMessage::Submit { plan, secrets, answer_yes } => self.submit(*plan, secrets, answer_yes).await,
            ControllerMessage::Release { run } => {
                if let Some(active) = self.worker.active().filter(|a| *a.id() == run) {
                    active.release();
                }
                Ok(())
            }
            ControllerMessage::Answer { id, yes } => {
                if let Some(active) = self.worker.active() {
                    active.answer(&id, yes);
                }
                Ok(())
            }
            ControllerMessage::Pack(header) => self.begin_pack(header).await,
            ControllerMessage::PackBytes(bytes) => self.pack_bytes(bytes).await,
            ControllerMessage::CannotSend { hashes, json } => {
                self.cannot_send(&hashes, &json);
                Ok(())
            }
            ControllerMessage::Ask(query) => {
                self.ask(query);
                Ok(())
            }
            ControllerMessage::Ping => self.say(AgentMessage::Pong).await,
        }
    }

    // -- runs --

    async fn submit(&mut self, plan: InstrumentPlan, secrets: Vec<(String, String)>, answer_yes: bool) -> Result<()> {
        let run = plan.run.clone();
        let worker = Arc::clone(&self.worker);
        match blocking(move || worker.submit(plan, secrets, answer_yes)).await {
            Ok(()) => {
                self.began = true;
                self.say(AgentMessage::Frozen(FrozenReply::Done)).await?;
                self.events_since(run.as_str(), 1).await
            }
            Err(error) => self.refuse(&error).await,
        }
    }

    async fn rollback(&mut self, run: String, options: RollbackOptions) -> Result<()> {
        let worker = Arc::clone(&self.worker);
        if options.preview {
            let reply = blocking(move || rollback::preview(&worker, &run, &options)).await;
            let reply = reply.map_or_else(QueryReply::Failed, QueryReply::RollbackPreview);
            return self.say(AgentMessage::Reply(Box::new(reply))).await;
        }
        let as_run = options.as_run.clone();
        match blocking(move || worker.begin_rollback(&run, &options)).await {
            Ok(()) => {
                self.say(AgentMessage::Frozen(FrozenReply::Done)).await?;
                self.events_since(&as_run, 1).await
            }
            Err(error) => self.refuse(&error).await,
        }
    }

    async fn cancel(&mut self, run: &str, now: bool) -> Result<()> {
        let active = self.worker.active().filter(|a| run.is_empty() || a.id().as_str() == run);
        match active {
            Some(active) => {
                blocking(move || {
                    active.cancel(now);
                    Ok(())
                })
                .await?;
                self.say(AgentMessage::Frozen(FrozenReply::Done)).await
            }
            None => {
                self.refuse(&Error::new(ErrorKind::Refused, format!("the run {run} is not active, so it cannot be cancelled")))
                    .await
            }
        }
    }

    async fn refuse(&self, error: &Error) -> Result<()> {
        let json = serde_json::to_string(error).map_err(|e| Error::internal("cannot write an error").because(e))?;
        self.say(AgentMessage::Frozen(FrozenReply::Refused { json })).await
    }

    /// Follows a run from a number on, in the place of what was followed before.
    async fn events_since(&mut self, run: &str, from: u64) -> Result<()> {
        if let Some(before) = self.follow.take() {
            before.abort();
        }
        if let Some(active) = self.worker.active().filter(|a| run.is_empty() || a.id().as_str() == run) {
            self.feed(Arc::clone(&active.desk));
            self.follow = Some(self.tasks.spawn(follow(active, from, self.out.clone())));
            return Ok(());
        }
        let worker = Arc::clone(&self.worker);
        let run = run.to_owned();
        let stored = blocking(move || stored_events(&worker, &run, from)).await;
        match stored {
            Ok(events) => {
                for event in &events {
                    self.say(event_message(event)?).await?;
                }
                self.say(AgentMessage::Frozen(FrozenReply::UpToDate { active: false })).await
            }
            Err(error) => self.refuse(&error).await,
        }
    }

    // -- questions --

    fn ask(&mut self, query: Query) {
        let desk: Arc<Desk> = Arc::default();
        if matches!(query, Query::DryRun { .. }) {
            self.feed(Arc::clone(&desk));
        }
        let (worker, out) = (Arc::clone(&self.worker), self.out.clone());
        self.tasks.spawn(async move {
            let ends = matches!(query, Query::Unlock { force: true });
            let asked = Arc::clone(&worker);
            let reply = blocking(move || Ok(queries::answer(&asked, query, &desk))).await.unwrap_or_else(QueryReply::Failed);
            let abandoned = ends && matches!(reply, QueryReply::Done { .. });
            // A controller that left does not want the answer.
            let _ = out.send(AgentMessage::Reply(Box::new(reply))).await;
            if abandoned {
                queries::end_if_abandoned(&worker, &out).await;
            }
            Ok(())
        });
    }

    // -- content --

    /// Lets the controller of this connection be asked for what a desk wants.
    fn feed(&mut self, desk: Arc<Desk>) {
        if self.desks.iter().any(|d| Arc::ptr_eq(d, &desk)) {
            return;
        }
        let mut calls = desk.join(self.number);
        let (number, out) = (self.number, self.out.clone());
        self.desks.push(Arc::clone(&desk));
        let feeder = self.tasks.spawn(async move {
            loop {
                calls.borrow_and_update();
                for hashes in desk.needs_of(number) {
                    if out.send(AgentMessage::Need { hashes }).await.is_err() {
                        return Ok(());
                    }
                }
                if calls.changed().await.is_err() {
                    return Ok(());
                }
            }
        });
        self.feeders.push(feeder);
    }

    async fn begin_pack(&mut self, header: PackHeader) -> Result<()> {
        self.close_pack().await;
        let (pieces, incoming) = mpsc::channel(PIECES);
        let desks = self.desks.clone();
        let left = header.packed;
        let done = tokio::task::spawn_blocking(move || unpack(header, desks, incoming));
        self.unpacking = Some(Unpacking { left, pieces, done });
        if left == 0 {
            self.close_pack().await;
        }
        Ok(())
    }

    async fn pack_bytes(&mut self, bytes: Vec<u8>) -> Result<()> {
        let Some(unpacking) = &mut self.unpacking else {
            return Err(Error::new(ErrorKind::Protocol, "the controller sent content that it did not announce"));
        };
        unpacking.left = unpacking.left.saturating_sub(bytes.len() as u64);
        let last = unpacking.left == 0;
        // The unpacker stops listening at the first damage; the rest of that pack is dropped here.
        let _ = unpacking.pieces.send(bytes).await;
        if last {
            self.close_pack().await;
        }
        Ok(())
    }

    /// Waits for the pack to be unpacked; damage is reported to the desks by then. Gives what it should have brought when
    /// not all of it came.
    async fn end_pack(&mut self) -> Option<Vec<ContentHash>> {
        let unpacking = self.unpacking.take()?;
        drop(unpacking.pieces);
        unpacking.done.await.ok().flatten()
    }

    /// Ends a pack behind which the controller goes on: what did not come will not.
    async fn close_pack(&mut self) {
        let Some(hashes) = self.end_pack().await else { return };
        let error =
            Error::new(ErrorKind::Integrity, "a pack of files was damaged on the way: the controller sent less than announced");
        self.desks.iter().for_each(|desk| desk.damaged(&hashes, &error));
    }

    fn cannot_send(&self, hashes: &[ContentHash], json: &str) {
        let error: Error = serde_json::from_str(json).unwrap_or_else(|_| Error::new(ErrorKind::Io, json));
        for desk in &self.desks {
            desk.cannot_have(self.number, hashes, error.clone(), self.began);
        }
    }

    async fn end(mut self) {
        // First the half pack, then the word that this connection feeds nobody any more. That the link broke in the middle
        // of it says nothing against the pack.
        let cut_off = self.end_pack().await.unwrap_or_default();
        for desk in &self.desks {
            desk.give_back(&cut_off);
            desk.leave(self.number);
        }
        // What is left to be written is written, and then the link is closed: not by those who wait for more to say.
        self.follow.iter().chain(&self.feeders).for_each(AbortHandle::abort);
        drop(self.out);
        let _ = timeout(HEARTBEAT, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

/// Unpacks one pack; damage goes to the desks, which ask again. Gives the hashes of a pack that ended too early.
fn unpack(header: PackHeader, desks: Vec<Arc<Desk>>, mut pieces: mpsc::Receiver<Vec<u8>>) -> Option<Vec<ContentHash>> {
    let hashes: Vec<ContentHash> = header.blobs.iter().map(|(hash, _)| *hash).collect();
    let unpacked = Unpacker::new(header, DeskSink(desks.clone())).and_then(|mut unpacker| {
        while let Some(piece) = pieces.blocking_recv() {
            unpacker.feed(&piece)?;
        }
        if unpacker.is_complete() { unpacker.finish().map(|_| true) } else { Ok(false) }
    });
    match unpacked {
        Ok(true) => None,
        Ok(false) => Some(hashes),
        Err(error) => {
            desks.iter().for_each(|desk| desk.damaged(&hashes, &error));
            None
        }
    }
}

fn event_message(event: &Event) -> Result<AgentMessage> {
    let json = serde_json::to_string(event).map_err(|e| Error::internal("cannot write an event").because(e))?;
    Ok(AgentMessage::Frozen(FrozenReply::Event { json }))
}

/// Sends a run's events until it is finished.
async fn follow(run: Arc<Run>, from: u64, out: Out) -> Result<()> {
    let gone = |_| Error::new(ErrorKind::Unreachable, "the link is closed");
    let (mut place, mut live) = run.follow(from);
    for event in run.events_from(place) {
        place += 1;
        out.send(event_message(&event)?).await.map_err(gone)?;
    }
    out.send(AgentMessage::Frozen(FrozenReply::UpToDate { active: true })).await.map_err(gone)?;
    loop {
        let finished = run.is_finished();
        for event in run.events_from(place) {
            place += 1;
            out.send(event_message(&event)?).await.map_err(gone)?;
        }
        if finished {
            return out.send(AgentMessage::Frozen(FrozenReply::UpToDate { active: false })).await.map_err(gone);
        }
        match live.recv().await {
            Ok(Live::Passing(event)) => out.send(event_message(&event)?).await.map_err(gone)?,
            // What is kept is taken from there, in order; what a slow link missed of the rest is gone.
            Ok(Live::Kept) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return Ok(()),
        }
    }
}

/// The events of a run that no worker is at.
fn stored_events(worker: &Worker, run: &str, from: u64) -> Result<Vec<Event>> {
    let dir = worker.run_dir(run)?;
    let plan = queries::stored_plan(&dir)?;
    let loaded = journal::read(&dir.join("journal.jsonl"))?;
    let resume = Resume::from_journal(&loaded);
    let mut events: Vec<Event> = Vec::new();
    for entry in loaded.entries {
        if let journal::Body::Event(kind) = entry.body
            && entry.n >= from
        {
            events.push(event_of(&plan, entry.n, entry.at, kind));
        }
    }
    if !resume.damage.is_empty() {
        let text = format!("the journal of {} is damaged: {}", RunId::as_str(&plan.run), resume.damage.join("; "));
        events.push(event_of(&plan, 0, Timestamp::now(), crate::events::EventKind::Note { text }));
    }
    Ok(events)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal("a thread of the worker broke off").because(e))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::machine::Machine;
    use tokio::io::AsyncReadExt;

    #[tokio::test(start_paused = true)]
    async fn a_controller_that_leaves_is_let_go_at_once_although_a_desk_could_want_more() {
        let folder = tempfile::tempdir().unwrap();
        let worker = Arc::new(Worker::new(Arc::new(Machine::open(Some(folder.path())).unwrap())));
        let (agent, mut controller) = tokio::io::duplex(4096);
        let mut session = Session::begin(worker, Writer::new(agent));
        session.feed(Arc::default());
        let begun = tokio::time::Instant::now();
        session.end().await;
        let mut said = Vec::new();
        controller.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, [0; 4], "an empty frame: nothing more comes");
        assert_eq!(begun.elapsed(), std::time::Duration::ZERO);
    }
}
