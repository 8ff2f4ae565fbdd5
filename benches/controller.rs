//! What a controller costs: leads a run over N simulated instruments in this process, and says what that took.
//!
//! ```text
//! controller N     one line of JSON: seconds, CPU seconds, and the most memory that was in use (Linux)
//! ```
//!
//! Everything of a real run is there but the instruments: links with their frames and heartbeats, packs of content
//! sent to each, every event kept on disk, folded and shown as plain lines. The simulated instruments live in the same
//! process, so their part of the work is in the numbers too.

use ibexdeploy::content::ContentHash;
use ibexdeploy::content::pack::Chunk;
use ibexdeploy::engine::{self, EngineRequest, EventSink, Job, Limits, cancellation};
use ibexdeploy::events::{EVENT_VERSION, Event, EventKind, Outcome, RunFolder, RunId, RunState, StepRef, Unit};
use ibexdeploy::kit::ContentStore;
use ibexdeploy::link::{Access, ContentSource, Patience, ReadyPack, Start, Submission};
use ibexdeploy::plan::{InstrumentPlan, Target, TransportSpec};
use ibexdeploy::playbook::Phase;
use ibexdeploy::protocol::{
    AgentHello, AgentMessage, ControllerHello, ControllerMessage, FrozenReply, FrozenRequest, PROTOCOL_VERSION, frames,
};
use ibexdeploy::report::{self, Form, Recorder, Screen, Where};
use ibexdeploy::secrets::Secrets;
use ibexdeploy::transport::{Opened, Soon, Transport};
use ibexdeploy::{Error, Result};
use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::DuplexStream;

/// Steps of a release, with their output and progress.
const STEPS: usize = 20;
const LINES_A_STEP: usize = 5;
/// Content that every instrument lacks: 64 blobs, 2 MiB in all.
const BLOBS: usize = 64;
const BLOB_BYTES: usize = 32 * 1024;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let number = std::env::args().skip(1).find_map(|a| a.parse().ok());
    let count: usize = number.unwrap_or(30);
    let folder = tempfile::tempdir()?;
    let begun = Instant::now();
    let events = tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(lead(count, folder.path()))?;
    let seconds = begun.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "instruments": count,
        "events": events,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds(),
        "peak_kib": peak_kib(),
    });
    writeln!(stdout(), "{line}")?;
    Ok(())
}

async fn lead(count: usize, state: &Path) -> Result<u64> {
    let store = ContentStore::new(&state.join("cache"))?;
    let wants: Vec<ContentHash> = (0..BLOBS).map(|n| store.add_bytes(blob(n))).collect();
    let run = RunId("20260101-000000-abcdef".to_owned());
    let folder = RunFolder::create(state, &run)?;
    let place = Where { folder: Some(folder.path().to_owned()) };
    let reporter = report::open(Form::Plain, 0, Screen::PLAIN, place, Box::new(std::io::sink()));
    let recorder = Recorder::new(folder.writer()?, Secrets::default(), RunState::default(), reporter);
    let kept = Arc::new(Mutex::new((recorder, 0)));
    let keep = Arc::clone(&kept);
    let sink = EventSink::new(Box::new(move |event| {
        let (recorder, events) = &mut *keep.lock().unwrap_or_else(PoisonError::into_inner);
        *events += 1;
        recorder.record(event)
    }));
    let request = EngineRequest {
        run: run.clone(),
        playbook: "release".to_owned(),
        kit: None,
        operator: "bench@here".to_owned(),
        rehearsal: true,
        plan: String::new(),
        jobs: (0..count).map(|at| job(&run, at)).collect(),
        access: Access {
            transport: Arc::new(Instruments { wants }),
            hello: ControllerHello { protocol: PROTOCOL_VERSION, build: "bench".to_owned(), operator: "bench@here".to_owned() },
            content: Arc::new(Store(store)),
            rate: None,
            patience: Patience::default(),
        },
        limits: Limits { jobs: count, ..Limits::default() },
        deadline: None,
        ask: None,
    };
    // Kept for as long as the run lasts: its going would be nothing to hear any more.
    let (_canceller, token) = cancellation();
    let summary = engine::run(request, sink, token).await?;
    if summary.exit_code != 0 {
        return Err(Error::internal(format!("the run ended with {}", summary.exit_code)));
    }
    Ok(kept.lock().unwrap_or_else(PoisonError::into_inner).1)
}

/// Bytes that compress to about a half, as programs and texts do, and differ from blob to blob.
fn blob(number: usize) -> Vec<u8> {
    let mut state = (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state & 0x0F) as u8
    };
    (0..BLOB_BYTES).map(|_| next()).collect()
}

fn job(run: &RunId, at: usize) -> Job {
    let empty = InstrumentPlan::empty(run.clone(), &format!("NDX{at:04}"), "release", "bench@here");
    let plan = InstrumentPlan { rehearsal: true, ..empty };
    let start = Start::Submit(Submission { secrets: Vec::new(), answer_yes: true });
    Job { target: Target { transport: TransportSpec::Local { root: "/nowhere".into() }, plan }, start, idle: None }
}

struct Store(ContentStore);

impl ContentSource for Store {
    fn chunks(&self, hashes: &[ContentHash]) -> Result<Vec<Chunk>> {
        self.0.chunks(hashes)
    }

    fn pack(&self, chunk: &Chunk) -> Result<ReadyPack> {
        let pack = self.0.pack(chunk)?;
        Ok(ReadyPack { header: pack.header.clone(), bytes: Box::new(pack.reader()) })
    }
}

/// A transport whose streams end in tasks.
struct Instruments {
    wants: Vec<ContentHash>,
}

impl Transport for Instruments {
    fn open<'a>(&'a self, target: &'a Target) -> Soon<'a, Opened> {
        Box::pin(async move {
            let (here, there) = tokio::io::duplex(64 * 1024);
            let instrument = Instrument {
                run: target.plan.run.clone(),
                name: target.plan.instrument.clone(),
                events: 0,
                missing: self.wants.len(),
            };
            tokio::spawn(instrument.serve(there, self.wants.clone()));
            Ok(Opened::Stream(Box::new(here)))
        })
    }
}

/// One simulated instrument: it takes the plan, fetches what it lacks, and tells of a release.
struct Instrument {
    run: RunId,
    name: String,
    events: u64,
    /// Blobs that have not come.
    missing: usize,
}

type Out = frames::Writer<tokio::io::WriteHalf<DuplexStream>, AgentMessage>;

impl Instrument {
    /// Its errors are the controller's leaving.
    async fn serve(mut self, stream: DuplexStream, wants: Vec<ContentHash>) -> Result<()> {
        let (mut input, mut out) = frames::split::<_, ControllerMessage, AgentMessage>(stream);
        while let Some(message) = input.next().await? {
            match message {
                ControllerMessage::Frozen(FrozenRequest::Hello(_)) => {
                    let hello = AgentHello {
                        protocol: PROTOCOL_VERSION,
                        build: "bench".to_owned(),
                        platform: "sandbox".to_owned(),
                        host: self.name.clone(),
                        root: None,
                        now: None,
                    };
                    out.send(&AgentMessage::Frozen(FrozenReply::Hello(hello))).await?;
                }
                ControllerMessage::Submit { .. } => {
                    out.send(&AgentMessage::Frozen(FrozenReply::Done)).await?;
                    let plan = EventKind::Accepted {
                        playbook: "release".to_owned(),
                        operator: "bench@here".to_owned(),
                        plan: String::new(),
                        steps: STEPS as u32,
                    };
                    self.tell(&mut out, plan).await?;
                    self.tell(&mut out, EventKind::PhaseStarted { phase: Phase::Stage }).await?;
                    out.send(&AgentMessage::Frozen(FrozenReply::UpToDate { active: true })).await?;
                    out.send(&AgentMessage::Need { hashes: wants.clone() }).await?;
                }
                ControllerMessage::Pack(header) => {
                    self.missing = self.missing.saturating_sub(header.blobs.len());
                }
                ControllerMessage::Ping => out.send(&AgentMessage::Pong).await?,
                _ => {}
            }
            if self.missing == 0 && self.events == 2 {
                self.release(&mut out).await?;
            }
        }
        Ok(())
    }

    async fn release(&mut self, out: &mut Out) -> Result<()> {
        for number in 0..STEPS {
            let step = StepRef {
                id: format!("apply.{number:02}.command"),
                name: format!("the step number {number}"),
                phase: Phase::Apply,
                action: "command".to_owned(),
            };
            self.tell(out, EventKind::StepStarted { step: step.clone(), attempt: 1 }).await?;
            for done in 1..=LINES_A_STEP {
                let line = format!("line {done} of what the program says");
                self.tell(out, EventKind::StepOutput { step: step.clone(), line }).await?;
                let (done, total) = (done as u64, LINES_A_STEP as u64);
                self.tell(out, EventKind::StepProgress { step: step.clone(), done, total, unit: Unit::Items }).await?;
            }
            let summary = "`program.bat` ended with exit code 0".to_owned();
            let finished =
                EventKind::StepFinished { step, outcome: Outcome::Changed, summary, ms: 1, error: None, items: Vec::new() };
            self.tell(out, finished).await?;
        }
        let finished = EventKind::InstrumentFinished {
            outcome: Outcome::Changed,
            versions: BTreeMap::new(),
            outage_ms: 1,
            longest: Vec::new(),
            ms: 1,
            error: None,
        };
        self.tell(out, finished).await
    }

    async fn tell(&mut self, out: &mut Out, kind: EventKind) -> Result<()> {
        let live = matches!(kind, EventKind::StepOutput { .. } | EventKind::StepProgress { .. });
        let n = if live {
            0
        } else {
            self.events += 1;
            self.events
        };
        let (run, instrument) = (self.run.clone(), Some(self.name.clone()));
        let event = Event { v: EVENT_VERSION, run, instrument, n, at: jiff::Timestamp::now(), kind };
        let json = serde_json::to_string(&event).map_err(|e| Error::internal("cannot write an event").because(e))?;
        out.send(&AgentMessage::Frozen(FrozenReply::Event { json })).await
    }
}

/// The most memory this process had, in KiB; nothing where the system does not say.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

/// User and system time of this process so far, in seconds; nothing where the system does not say.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold blanks: the state is the first field, user time the 12th, system time the 13th.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}
