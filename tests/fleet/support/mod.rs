//! A fleet of scripted agents in this process: a transport whose streams end in tasks instead of machines.

pub(crate) mod agent;

use agent::Agent;
use ibexdeploy::events::{Outcome, RunId};
use ibexdeploy::link::{Access, NoContent, Patience, Start, Submission};
use ibexdeploy::plan::{Hold, InstrumentPlan, Target, TransportSpec};
use ibexdeploy::protocol::{ControllerHello, PROTOCOL_VERSION};
use ibexdeploy::transport::{Opened, Soon, Transport};
use ibexdeploy::units::Span;
use ibexdeploy::{Error, ErrorKind};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// What an instrument does.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    /// No stream can be opened.
    pub(crate) unreachable: bool,
    /// Opening a stream never ends.
    pub(crate) hangs_on_connect: bool,
    /// Says hello and then nothing, not even that it is there.
    pub(crate) silent: bool,
    /// Is there, and never answers.
    pub(crate) deaf: bool,
    pub(crate) refuses: Option<Error>,
    pub(crate) stage: Duration,
    pub(crate) apply: Duration,
    pub(crate) outcome: Outcome,
    /// In hold: this many times the instrument is found busy.
    pub(crate) busy_polls: u32,
    /// After how many bytes, either way, links break: one number a link; later links last.
    pub(crate) cuts: Vec<usize>,
    /// Asks the operator before it applies; `no` ends it with nothing changed.
    pub(crate) asks: bool,
    /// Blobs it wants before it applies.
    pub(crate) wants: Vec<ibexdeploy::content::ContentHash>,
    /// Its clock never left 1970, and its hello says so.
    pub(crate) clock_of_1970: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            unreachable: false,
            hangs_on_connect: false,
            silent: false,
            deaf: false,
            refuses: None,
            stage: Duration::from_secs(60),
            apply: Duration::from_secs(30),
            outcome: Outcome::Changed,
            busy_polls: 0,
            cuts: Vec::new(),
            asks: false,
            wants: Vec::new(),
            clock_of_1970: false,
        }
    }
}

/// What happened at the instruments.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Names in the order in which they began to apply.
    pub(crate) applied: Vec<String>,
    pub(crate) working: usize,
    pub(crate) most_working: usize,
    pub(crate) applying: usize,
    pub(crate) most_applying: usize,
}

/// All instruments, by name.
#[derive(Default)]
pub(crate) struct Fleet {
    agents: BTreeMap<String, Arc<Agent>>,
    log: Arc<Mutex<Log>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Instruments `NDX000`, `NDX001`, ... that do what `script` says of their number.
    pub(crate) fn new(count: usize, script: impl Fn(usize) -> Script) -> Arc<Self> {
        let log = Arc::new(Mutex::new(Log::default()));
        let agents = (0..count).map(|i| (name(i), Agent::new(script(i), Arc::clone(&log)))).collect();
        Arc::new(Self { agents, log: Arc::clone(&log) })
    }

    /// What happened so far.
    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }

    pub(crate) fn agent(&self, at: usize) -> &Arc<Agent> {
        &self.agents[&name(at)]
    }

    pub(crate) fn access(self: &Arc<Self>) -> Access {
        Access {
            transport: Arc::clone(self) as Arc<dyn Transport>,
            hello: ControllerHello { protocol: PROTOCOL_VERSION, build: "b".into(), operator: "me@here".into() },
            content: Arc::new(NoContent),
            rate: None,
            patience: Patience::default(),
        }
    }
}

impl Transport for Fleet {
    fn open<'a>(&'a self, target: &'a Target) -> Soon<'a, Opened> {
        Box::pin(async move {
            let agent = &self.agents[&target.plan.instrument];
            let script = &agent.script;
            if script.hangs_on_connect {
                std::future::pending::<()>().await;
            }
            if script.unreachable {
                return Err(Error::new(ErrorKind::Unreachable, "no route to host"));
            }
            let (here, there) = tokio::io::duplex(64 * 1024);
            let budget = lock(&agent.cuts).pop_front();
            tokio::spawn(Arc::clone(agent).serve(there));
            Ok(Opened::Stream(Box::new(Cut { stream: Some(here), budget })))
        })
    }
}

pub(crate) fn name(at: usize) -> String {
    format!("NDX{at:03}")
}

pub(crate) fn run_id() -> RunId {
    RunId("20261123-111111-abcdef".into())
}

/// A target without steps: the scripted agents do not look at them.
pub(crate) fn target(at: usize, hold: Hold) -> Target {
    let empty = InstrumentPlan::empty(run_id(), &name(at), "release", "me@here");
    let plan = InstrumentPlan { rehearsal: true, hold, ..empty };
    Target { transport: TransportSpec::Local { root: "/nowhere".into() }, plan }
}

pub(crate) fn until_released() -> Hold {
    Hold::UntilReleased { limit: Span(Duration::from_secs(86_400)) }
}

pub(crate) fn submit() -> Start {
    Start::Submit(Submission { secrets: Vec::new(), answer_yes: true })
}

/// The controller's end of a stream that breaks after a number of bytes, read and written together.
struct Cut {
    stream: Option<DuplexStream>,
    budget: Option<usize>,
}

impl Cut {
    /// How much may pass; an error once nothing may.
    fn allowance(&mut self, wanted: usize) -> io::Result<usize> {
        match self.budget {
            Some(0) => {
                self.stream = None;
                Err(io::ErrorKind::ConnectionReset.into())
            }
            Some(left) => Ok(left.min(wanted)),
            None => Ok(wanted),
        }
    }

    fn spend(&mut self, bytes: usize) {
        self.budget = self.budget.map(|left| left.saturating_sub(bytes));
    }

    fn stream(&mut self) -> io::Result<Pin<&mut DuplexStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Cut {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let allowed = self.allowance(buffer.remaining())?;
        let mut part = vec![0; allowed];
        let mut part = ReadBuf::new(&mut part);
        let polled = self.stream()?.poll_read(cx, &mut part);
        buffer.put_slice(part.filled());
        self.spend(part.filled().len());
        polled
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let allowed = self.allowance(bytes.len())?;
        let polled = self.stream()?.poll_write(cx, &bytes[..allowed]);
        if let Poll::Ready(Ok(written)) = polled {
            self.spend(written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}
