//! The controller's end of one agent: hello, questions, plans, content, events, heartbeats; and following a run
//! over any number of links.

mod access;
mod content;
mod follow;
mod rate;

pub use access::{Access, Patience};
pub use content::{ContentSource, NoContent, ReadyPack};
pub use follow::{End, Orders, Signal, Start, Stop, Submission, follow};
pub use rate::RateLimit;

use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::plan::InstrumentPlan;
use crate::protocol::{
    AgentHello, AgentMessage, ControllerHello, ControllerMessage, FrozenReply, FrozenRequest, HEARTBEAT, LINK_DEAD_AFTER,
    PROTOCOL_VERSION, Query, QueryReply, RollbackOptions, RollbackPreview, frames,
};
use crate::transport::AgentStream;
use content::Feeder;
use std::fmt;
use std::sync::Arc;
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

/// Messages that may wait to be written: enough to keep the stream busy, few enough that a ping is not late.
const QUEUE: usize = 4;

type Reader = frames::Reader<ReadHalf<AgentStream>, AgentMessage>;
type Writer = frames::Writer<WriteHalf<AgentStream>, ControllerMessage>;

/// What came from the agent.
#[derive(Debug)]
pub enum Incoming {
    /// An event, as its JSON text.
    Event(String),
    /// All events there are so far were sent.
    UpToDate {
        active: bool,
    },
    /// The request was taken.
    Done,
    /// The request was not taken.
    Refused(Error),
    Reply(Box<QueryReply>),
    /// Bytes of content sent over this link so far.
    Sent(u64),
}

/// One open link. Dropping it closes the stream; what runs at the instrument goes on.
pub struct Link {
    reader: Reader,
    hello: AgentHello,
    voice: Voice,
    needs: mpsc::UnboundedSender<Vec<ContentHash>>,
    sent: watch::Receiver<u64>,
    heard: Instant,
    /// The writer and the feeder; they end with the link.
    tasks: JoinSet<Result<()>>,
}

impl Link {
    /// Says hello over a stream; the agent has [`LINK_DEAD_AFTER`] to answer.
    ///
    /// # Errors
    /// When whoever answers is no agent, or nobody does.
    pub async fn greet(
        stream: AgentStream,
        hello: ControllerHello,
        content: Arc<dyn ContentSource>,
        rate: Option<Arc<RateLimit>>,
    ) -> Result<Self> {
        let (mut reader, mut writer): (Reader, Writer) = frames::split(stream);
        let greet = async {
            writer.send(&ControllerMessage::Frozen(FrozenRequest::Hello(hello))).await?;
            loop {
                match reader.next().await? {
                    Some(AgentMessage::Frozen(FrozenReply::Hello(hello))) => return Ok(hello),
                    Some(AgentMessage::Frozen(FrozenReply::Refused { json })) => return Err(read_error(&json)),
                    Some(AgentMessage::Pong) => {}
                    Some(_) => return Err(Error::new(ErrorKind::Protocol, "the agent did not begin with a hello")),
                    None => return Err(closed()),
                }
            }
        };
        let hello = timeout(LINK_DEAD_AFTER, greet)
            .await
            .map_err(|_| Error::new(ErrorKind::Unreachable, format!("no hello from the agent within {LINK_DEAD_AFTER:?}")))??;

        let (out, outgoing) = mpsc::channel(QUEUE);
        let (needs, wanted) = mpsc::unbounded_channel();
        let (sent_in, sent) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(write(writer, outgoing));
        tasks.spawn(Feeder { content, rate, out: out.clone(), sent: sent_in }.run(wanted));
        let voice = Voice { out, protocol: hello.protocol };
        Ok(Self { reader, hello, voice, needs, sent, heard: Instant::now(), tasks })
    }

    fn voice(&self) -> Voice {
        self.voice.clone()
    }

    /// Who answered.
    pub fn hello(&self) -> &AgentHello {
        &self.hello
    }

    /// Bytes of content sent over this link so far.
    fn sent(&self) -> u64 {
        *self.sent.borrow()
    }

    /// The next thing the agent says; its wishes for content are met on the way. May be dropped and called again
    /// without losing anything.
    ///
    /// # Errors
    /// When the link broke or nothing came for [`LINK_DEAD_AFTER`] (temporary), or the agent sends nonsense.
    pub async fn next(&mut self) -> Result<Incoming> {
        loop {
            let dead_at = self.heard + LINK_DEAD_AFTER;
            tokio::select! {
                message = timeout_at(dead_at, self.reader.next()) => {
                    let message = message
                        .map_err(|_| Error::new(ErrorKind::Unreachable, format!("nothing came from the agent for {LINK_DEAD_AFTER:?}")))??
                        .ok_or_else(closed)?;
                    self.heard = Instant::now();
                    if let Some(incoming) = self.take(message)? {
                        return Ok(incoming);
                    }
                }
                Ok(()) = self.sent.changed() => return Ok(Incoming::Sent(*self.sent.borrow_and_update())),
                Some(ended) = self.tasks.join_next() => {
                    ended.map_err(|e| Error::internal("the writing half of a link broke off").because(e))??;
                    return Err(closed());
                }
            }
        }
    }

    fn take(&self, message: AgentMessage) -> Result<Option<Incoming>> {
        Ok(Some(match message {
            AgentMessage::Pong => return Ok(None),
            AgentMessage::Need { hashes } => {
                self.needs.send(hashes).map_err(|_| closed())?;
                return Ok(None);
            }
            AgentMessage::Reply(reply) => Incoming::Reply(reply),
            AgentMessage::Frozen(FrozenReply::Event { json }) => Incoming::Event(json),
            AgentMessage::Frozen(FrozenReply::UpToDate { active }) => Incoming::UpToDate { active },
            AgentMessage::Frozen(FrozenReply::Done) => Incoming::Done,
            AgentMessage::Frozen(FrozenReply::Refused { json }) => Incoming::Refused(read_error(&json)),
            AgentMessage::Frozen(FrozenReply::Hello(_)) => {
                return Err(Error::new(ErrorKind::Protocol, "the agent said hello twice"));
            }
        }))
    }

    /// Asks a question and waits for its answer; events that come meanwhile are dropped.
    ///
    /// # Errors
    /// When the link breaks, or the agent cannot answer.
    pub async fn query(&mut self, query: Query) -> Result<QueryReply> {
        self.voice.ask(query).await?;
        self.reply().await
    }

    /// What a rollback would touch.
    ///
    /// # Errors
    /// When the link breaks, or the agent refuses.
    pub async fn preview_rollback(&mut self, run: &str, mut options: RollbackOptions) -> Result<RollbackPreview> {
        options.preview = true;
        self.voice.rollback(run, options).await?;
        match self.reply().await? {
            QueryReply::RollbackPreview(preview) => Ok(preview),
            _ => Err(unexpected_reply()),
        }
    }

    async fn reply(&mut self) -> Result<QueryReply> {
        loop {
            match self.next().await? {
                Incoming::Reply(reply) => match *reply {
                    QueryReply::Failed(error) => return Err(error),
                    reply => return Ok(reply),
                },
                Incoming::Refused(error) => return Err(error),
                _ => {}
            }
        }
    }

    /// Leaves; what runs at the instrument goes on.
    pub async fn goodbye(mut self) {
        // The agent notices the closed stream as well: the word is only kinder.
        let Self { voice, needs, tasks, .. } = &mut self;
        let leave = async {
            let _ = voice.say(ControllerMessage::Goodbye).await;
            voice.out = mpsc::channel(1).0;
            *needs = mpsc::unbounded_channel().0;
            while tasks.join_next().await.is_some() {}
        };
        let _ = timeout(HEARTBEAT, leave).await;
    }
}

/// Says things over a link, while something else listens to it.
#[derive(Debug, Clone)]
struct Voice {
    out: mpsc::Sender<ControllerMessage>,
    /// The agent's.
    protocol: u32,
}

impl Voice {
    /// Hands over a plan; answered by [`Incoming::Done`] or [`Incoming::Refused`], then events follow.
    ///
    /// # Errors
    /// When the link is closed or the agent speaks another protocol.
    async fn submit(&self, plan: InstrumentPlan, submission: Submission) -> Result<()> {
        self.same_protocol()?;
        let Submission { secrets, answer_yes } = submission;
        self.say(ControllerMessage::Submit { plan: Box::new(plan), secrets, answer_yes }).await
    }

    /// Asks for the events of a run from a number on; `run` empty: of the newest run.
    ///
    /// # Errors
    /// When the link is closed.
    async fn events_since(&self, run: &str, from: u64) -> Result<()> {
        self.say(ControllerMessage::Frozen(FrozenRequest::EventsSince { run: run.to_owned(), from })).await
    }

    /// Asks for the undoing of a finished run.
    ///
    /// # Errors
    /// When the link is closed.
    async fn rollback(&self, run: &str, options: RollbackOptions) -> Result<()> {
        self.say(ControllerMessage::Frozen(FrozenRequest::Rollback { run: run.to_owned(), options })).await
    }

    /// Gives the word to apply.
    ///
    /// # Errors
    /// When the link is closed.
    async fn release(&self, run: &crate::events::RunId) -> Result<()> {
        self.say(ControllerMessage::Release { run: run.clone() }).await
    }

    /// Passes on the operator's answer to a question.
    ///
    /// # Errors
    /// When the link is closed.
    async fn answer(&self, id: &str, yes: bool) -> Result<()> {
        self.say(ControllerMessage::Answer { id: id.to_owned(), yes }).await
    }

    /// Stops a run: with `now` it rolls back at once, else after the open step.
    ///
    /// # Errors
    /// When the link is closed.
    async fn cancel(&self, run: &str, now: bool) -> Result<()> {
        self.say(ControllerMessage::Frozen(FrozenRequest::Cancel { run: run.to_owned(), now })).await
    }

    async fn ask(&self, query: Query) -> Result<()> {
        self.same_protocol()?;
        self.say(ControllerMessage::Ask(query)).await
    }

    async fn say(&self, message: ControllerMessage) -> Result<()> {
        self.out.send(message).await.map_err(|_| closed())
    }

    fn same_protocol(&self) -> Result<()> {
        if self.protocol == PROTOCOL_VERSION {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Protocol,
            format!("the agent speaks protocol {}, this build {PROTOCOL_VERSION}", self.protocol),
        )
        .next("a run of another build can be followed, cancelled and rolled back; start new runs when it is finished"))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("hello", &self.hello).finish_non_exhaustive()
    }
}

/// Writes what is queued, and a ping when nothing was for a while; ends when the link is dropped.
async fn write(mut writer: Writer, mut outgoing: mpsc::Receiver<ControllerMessage>) -> Result<()> {
    loop {
        match timeout(HEARTBEAT, outgoing.recv()).await {
            Ok(Some(message)) => writer.send(&message).await?,
            Ok(None) => return writer.leave().await,
            Err(_) => writer.send(&ControllerMessage::Ping).await?,
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Unreachable, "the agent closed the link")
}

/// An answer to another question than was asked.
pub fn unexpected_reply() -> Error {
    Error::new(ErrorKind::Protocol, "the agent answered something else than was asked")
}

fn read_error(json: &str) -> Error {
    serde_json::from_str(json).unwrap_or_else(|_| Error::new(ErrorKind::Refused, json))
}

/// Reads an event. One of a kind that a newer agent knows and this build does not becomes a note, so that any build
/// can follow a run of any other.
fn read_event(json: &str) -> Result<Event> {
    let problem = match serde_json::from_str(json) {
        Ok(event) => return Ok(event),
        Err(problem) => problem,
    };
    let damaged = || Error::new(ErrorKind::Protocol, "the agent sent an event that cannot be read").because(&problem);
    let mut value: serde_json::Value = serde_json::from_str(json).map_err(|_| damaged())?;
    let fields = value.as_object_mut().ok_or_else(damaged)?;
    let kind = fields.get("event").and_then(|k| k.as_str()).ok_or_else(damaged)?;
    let text = format!("an event `{kind}` that this build does not know");
    fields.retain(|name, _| ["v", "run", "instrument", "n", "at"].contains(&name.as_str()));
    fields.insert("event".into(), "note".into());
    fields.insert("text".into(), text.into());
    serde_json::from_value(value).map_err(|_| damaged())
}
