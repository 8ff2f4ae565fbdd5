//! What the controller costs with 30, 300 and 1,000 instruments: engine, links and records over agents in this process.
//!
//! `cargo bench --bench controller` runs itself once for each number, so that each peak of memory is its own. The agents'
//! own work is part of the figures; it is the same for each instrument.

use anyhow::{Context, Result, ensure};
use ibexdeploy::engine::{self, EngineRequest, EventSink, Job, Limits, cancellation};
use ibexdeploy::events::{EVENT_VERSION, Event, EventKind, Outcome, RunFolder, RunId, RunState, StepRef};
use ibexdeploy::link::{Access, NoContent, Patience, Start, Submission};
use ibexdeploy::plan::{Hold, InstrumentPlan, PLAN_FORMAT, Target, TransportSpec};
use ibexdeploy::playbook::Phase;
use ibexdeploy::protocol::{
    AgentHello, AgentMessage, ControllerHello, ControllerMessage, FrozenReply, FrozenRequest, PROTOCOL_VERSION, frames,
};
use ibexdeploy::report::{self, Form, Recorder, Screen, Where};
use ibexdeploy::secrets::Secrets;
use ibexdeploy::transport::{AgentStream, Transport};
use std::collections::BTreeMap;
use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Events that each agent sends: about as many as a release has.
const STEPS: usize = 28;

fn main() -> Result<()> {
    match std::env::args().filter_map(|a| a.parse().ok()).next() {
        Some(instruments) => one(instruments),
        None => {
            let titles = ["instruments", "wall s", "cpu s", "cpu ms each", "peak memory MB", "KB each"];
            let [a, b, c, d, e, f] = titles;
            writeln!(std::io::stdout(), "{a:>12} {b:>9} {c:>9} {d:>12} {e:>14} {f:>12}")?;
            for instruments in [30, 300, 1_000] {
                let program = std::env::current_exe().context("this program")?;
                let status = std::process::Command::new(program).arg(instruments.to_string()).status()?;
                ensure!(status.success(), "{instruments} instruments: {status}");
            }
            Ok(())
        }
    }
}

/// One run over so many instruments, and a line of figures.
fn one(instruments: usize) -> Result<()> {
    let state = tempfile::tempdir()?;
    let run = RunId("20260101-000000-benchx".to_owned());
    let folder = RunFolder::create(state.path(), &run)?;
    let reporter = report::open(Form::Json, 0, Screen::PLAIN, Where { folder: None }, Box::new(std::io::sink()));
    let recorder = Arc::new(Mutex::new(Recorder::new(folder.writer()?, Secrets::default(), RunState::default(), reporter)));
    let keep = Arc::clone(&recorder);
    let sink = EventSink::new(Box::new(move |event| keep.lock().unwrap_or_else(PoisonError::into_inner).record(event)));
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (_canceller, token) = cancellation();
    let summary = runtime.block_on(engine::run(request(&run, instruments), sink, token))?;
    ensure!(summary.exit_code == 0 && summary.ended.len() == instruments, "it did not end well: {summary:?}");
    let wall = began.elapsed().as_secs_f64();
    let (cpu, peak) = (cpu_seconds()?, peak_bytes()?);
    writeln!(
        std::io::stdout(),
        "{instruments:>12} {wall:>9.2} {cpu:>9.2} {:>12.2} {:>14.1} {:>12.0}",
        cpu * 1e3 / instruments as f64,
        peak as f64 / 1e6,
        peak as f64 / 1e3 / instruments as f64
    )?;
    Ok(())
}

fn request(run: &RunId, instruments: usize) -> EngineRequest {
    let job = |at: usize| Job {
        target: Target { transport: TransportSpec::Local { root: "/nowhere".into() }, plan: plan(run, format!("NDX{at:04}")) },
        start: Start::Submit(Submission { secrets: Vec::new(), answer_yes: true }),
        idle: None,
    };
    EngineRequest {
        run: run.clone(),
        playbook: "release".to_owned(),
        kit: None,
        operator: "bench@here".to_owned(),
        rehearsal: true,
        plan: String::new(),
        jobs: (0..instruments).map(job).collect(),
        access: Access {
            transport: Arc::new(Agents),
            hello: ControllerHello { protocol: PROTOCOL_VERSION, build: "b".to_owned(), operator: "bench@here".to_owned() },
            content: Arc::new(NoContent),
            rate: None,
            patience: Patience::default(),
        },
        limits: Limits { jobs: instruments, ..Limits::default() },
        deadline: None,
        ask: None,
    }
}

fn plan(run: &RunId, name: String) -> InstrumentPlan {
    InstrumentPlan {
        format: PLAN_FORMAT,
        run: run.clone(),
        host: name.clone(),
        instrument: name,
        playbook: "release".to_owned(),
        operator: "bench@here".to_owned(),
        kit: None,
        rehearsal: true,
        places: BTreeMap::new(),
        accounts: BTreeMap::new(),
        vars: BTreeMap::new(),
        components: BTreeMap::new(),
        pull: None,
        secrets: Vec::new(),
        hold: Hold::No,
        steps: Vec::new(),
    }
}

/// Streams that end in a task of this process, which tells the events of a release as fast as they are taken.
struct Agents;

impl Transport for Agents {
    fn open<'a>(&'a self, target: &'a Target) -> Pin<Box<dyn Future<Output = ibexdeploy::Result<AgentStream>> + Send + 'a>> {
        Box::pin(async move {
            let (here, there) = tokio::io::duplex(64 * 1024);
            tokio::spawn(serve(there, target.plan.clone()));
            Ok(Box::new(here) as AgentStream)
        })
    }
}

/// The agent's end; the link's end is its end.
async fn serve(stream: tokio::io::DuplexStream, plan: InstrumentPlan) {
    let (mut input, mut out) = frames::split::<_, ControllerMessage, AgentMessage>(stream);
    while let Ok(Some(message)) = input.next().await {
        let sent = match message {
            ControllerMessage::Frozen(FrozenRequest::Hello(_)) => {
                let hello = AgentHello {
                    protocol: PROTOCOL_VERSION,
                    build: "b".to_owned(),
                    platform: "sandbox".to_owned(),
                    host: plan.host.clone(),
                    root: None,
                    now: None,
                };
                out.send(&AgentMessage::Frozen(FrozenReply::Hello(hello))).await
            }
            ControllerMessage::Ping => out.send(&AgentMessage::Pong).await,
            ControllerMessage::Submit { .. } => tell(&mut out, &plan).await,
            _ => Ok(()),
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn tell<W: tokio::io::AsyncWrite + Unpin>(
    out: &mut frames::Writer<W, AgentMessage>,
    plan: &InstrumentPlan,
) -> ibexdeploy::Result<()> {
    out.send(&AgentMessage::Frozen(FrozenReply::Done)).await?;
    for (number, kind) in story().into_iter().enumerate() {
        let event = Event {
            v: EVENT_VERSION,
            run: plan.run.clone(),
            instrument: Some(plan.instrument.clone()),
            n: number as u64 + 1,
            at: jiff::Timestamp::now(),
            kind,
        };
        let json = serde_json::to_string(&event).map_err(|e| ibexdeploy::Error::internal("event").because(e))?;
        out.send(&AgentMessage::Frozen(FrozenReply::Event { json })).await?;
    }
    out.send(&AgentMessage::Frozen(FrozenReply::UpToDate { active: false })).await
}

/// What a release tells.
fn story() -> Vec<EventKind> {
    let mut story = vec![EventKind::Accepted {
        playbook: "release".to_owned(),
        operator: "bench@here".to_owned(),
        plan: "0".repeat(64),
        steps: STEPS as u32,
    }];
    for at in 0..STEPS {
        let step = StepRef {
            id: format!("apply.{at:02}.check"),
            name: format!("step {at}"),
            phase: Phase::Apply,
            action: "check".into(),
        };
        story.push(EventKind::StepStarted { step: step.clone(), attempt: 1 });
        story.push(EventKind::StepFinished {
            step,
            outcome: Outcome::Ok,
            summary: "as it should be".to_owned(),
            ms: 3,
            error: None,
            items: Vec::new(),
        });
    }
    story.push(EventKind::InstrumentFinished {
        outcome: Outcome::Changed,
        versions: BTreeMap::new(),
        outage_ms: 0,
        longest: Vec::new(),
        ms: 100,
        error: None,
    });
    story
}

/// Processor time of this process so far, user and system.
fn cpu_seconds() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(") ").context("the fields of /proc/self/stat")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / 100.0)
}

/// The most memory this process ever held.
fn peak_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|l| l.starts_with("VmHWM:")).context("VmHWM in /proc/self/status")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kilobytes * 1024)
}
