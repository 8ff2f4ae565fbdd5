//! Leading a run: the folder, the log, the reporter, Ctrl-C, the engine.

use super::{confirmed, rehearse};
use crate::cli::output::{Watched, warn};
use crate::cli::{GlobalOptions, Log, interrupt};
use crate::engine::{self, Ask, CancelToken, Canceller, EngineRequest, EventSink, Job, Limits, cancellation};
use crate::error::{Error, IoContext, Result};
use crate::events::{InstrumentState, RunFolder, RunState};
use crate::link::Access;
use crate::plan::Plan;
use crate::playbook::Phase;
use crate::report::{self, Estimate, EstimateFrom, Form, PastRun, Recorder, Screen, Where};
use crate::secrets::Secrets;
use std::io::{IsTerminal, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A run that is to be led.
pub(in crate::cli) struct Led {
    pub(in crate::cli) plan: Plan,
    pub(in crate::cli) jobs: Vec<Job>,
    pub(in crate::cli) access: Access,
    pub(in crate::cli) limits: Limits,
    pub(in crate::cli) deadline: Option<Duration>,
    pub(in crate::cli) log: Log,
    /// For redaction.
    pub(in crate::cli) secrets: Secrets,
    /// The state folder.
    pub(in crate::cli) state: PathBuf,
    /// The folder of a run that is gone on with; else one is made.
    pub(in crate::cli) resumed: Option<RunFolder>,
    /// Where the report is written; to standard output unless said.
    pub(in crate::cli) out: Option<report::Out>,
}

/// Leads the run to its end and gives its exit code.
///
/// # Errors
/// When the run's folder cannot be written.
pub(in crate::cli) fn lead(global: &GlobalOptions, led: Led) -> Result<u8> {
    let interrupts = interrupt::lead();
    let (folder, earlier) = match led.resumed {
        Some(folder) => {
            let earlier = RunState::of(&folder.read()?.events);
            (folder, earlier)
        }
        None => {
            let folder = RunFolder::create(&led.state, &led.plan.run)?;
            folder.save_plan(&led.plan)?;
            (folder, RunState::default())
        }
    };
    led.log.hide(&led.secrets);
    led.log.keep_in(&folder)?;
    let _servers = rehearse::start_servers(&led.plan)?;
    let at_once = led.limits.jobs;
    let place = Where { folder: Some(folder.path().to_owned()) };
    let mut out = Watched::default();
    let shown: report::Out = led.out.unwrap_or_else(|| Box::new(out.clone()));
    let reporter = report::open(global.form(), global.verbose, Screen::of_stdout(), place, shown);
    let recorder = Arc::new(Mutex::new(Some(Recorder::new(folder.writer()?, led.secrets, earlier, reporter))));
    let request = EngineRequest {
        run: led.plan.run.clone(),
        playbook: led.plan.playbook.clone(),
        kit: led.plan.kit.as_ref().map(|k| k.version.clone()),
        operator: led.plan.operator.clone(),
        rehearsal: led.plan.rehearsal,
        plan: led.plan.digest()?.to_string(),
        jobs: led.jobs,
        access: led.access,
        limits: led.limits,
        deadline: led.deadline,
        ask: asker(&recorder),
    };
    let ended = runtime()?.block_on(run(request, &recorder, interrupts));
    if let Some(recorder) = take(&recorder) {
        let state = recorder.finish();
        folder.save_summary(&state)?;
        // Where nothing was sent, or the end was not reached, a rehearsal tells nothing of the real thing's time.
        let whole = state.finished.as_ref().is_some_and(|end| end.stopped.is_none());
        let brought = whole && state.instruments.iter().any(|i| i.sent > 0);
        if state.rehearsal && brought && global.form() != Form::Json && ended.is_ok() {
            let estimate = real_thing(global, &led.state, &state, at_once)?;
            // As for the report before it.
            let _ = writeln!(out, "\n{}", estimate.text(global.screen()).trim_end());
        }
    }
    if let Some(why) = out.failure() {
        let run = folder.id();
        warn(&format!("not all could be written to standard output: {why}; `ibexdeploy runs report {run}` shows the report"));
    }
    ended
}

/// How long what was rehearsed takes on the instruments.
fn real_thing(global: &GlobalOptions, folder: &Path, rehearsed: &RunState, at_once: usize) -> Result<Estimate> {
    let mut past = Vec::new();
    for run in RunFolder::list(folder)? {
        // A run whose events cannot be read tells nothing.
        past.extend(run.read().ok().and_then(|log| PastRun::of(&RunState::of(&log.events))));
    }
    Ok(report::estimate(&EstimateFrom {
        playbook: rehearsed.playbook.clone(),
        instruments: rehearsed.instruments.len(),
        at_once,
        bytes: rehearsed.instruments.iter().map(|i| i.sent).sum(),
        bandwidth: global.bandwidth.and_then(|size| NonZeroU64::new(size.0)),
        past,
    }))
}

type Shared = Arc<Mutex<Option<Recorder>>>;

fn take(recorder: &Shared) -> Option<Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn sink(recorder: &Shared) -> EventSink {
    let recorder = Arc::clone(recorder);
    EventSink::new(Box::new(move |event| match &mut *recorder.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(recorder) => recorder.record(event),
        None => Err(Error::internal("an event came after the end of the run")),
    }))
}

/// Puts questions of instruments on the terminal, when there is one.
fn asker(recorder: &Shared) -> Option<Ask> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    let recorder = Arc::clone(recorder);
    Some(Arc::new(move |instrument: &str, text: &str| {
        let mut answer = None;
        // The lock keeps all else from the terminal until the operator has answered.
        if let Some(recorder) = &mut *recorder.lock().unwrap_or_else(PoisonError::into_inner) {
            recorder.paused(&mut || answer = confirmed(&format!("{instrument}: {text}")).ok());
        }
        answer
    }))
}

async fn run(request: EngineRequest, recorder: &Shared, mut interrupts: watch::Receiver<u32>) -> Result<u8> {
    let (canceller, token): (Canceller, CancelToken) = cancellation();
    let hears = async {
        let mut heard = 0;
        while interrupts.changed().await.is_ok() {
            let count = *interrupts.borrow_and_update();
            for time in heard..count {
                canceller.more();
                tell(recorder, time);
            }
            heard = count;
        }
        // Without signals there is nothing to hear; the run is led all the same.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        summary = engine::run(request, sink(recorder), token) => summary.map(|s| s.exit_code),
        () = hears => Err(Error::internal("the listener for interrupts ended")),
    }
}

/// What the operator is told at the first Ctrl-C and at the second.
const STOPPING: [&str; 2] = [
    "Stopping: nothing new is started; open steps are finished, then taken back. Ctrl-C again does not wait for them.",
    "Cancelling: open steps are broken off and taken back.",
];

/// The same when every instrument is on what it was to get, and that was proven.
const CLOSING: [&str; 2] = [
    "Everything is changed and proven, and stays so: what closes the run is finished. Ctrl-C again does not wait for it.",
    "Cancelling what closes the run: everything stays changed.",
];

/// The words for an interrupt, the first being number 0, as things stand.
fn words(state: &RunState, time: u32) -> Option<String> {
    let time = usize::try_from(time).ok()?;
    let open: Vec<&InstrumentState> = state.instruments.iter().filter(|i| !i.is_finished()).collect();
    let closing: Vec<&str> = open.iter().filter(|i| i.phase == Some(Phase::Close)).map(|i| i.name.as_str()).collect();
    if !open.is_empty() && closing.len() == open.len() {
        return CLOSING.get(time).map(|words| (*words).to_owned());
    }
    let words = STOPPING.get(time)?;
    match closing.as_slice() {
        [] => Some((*words).to_owned()),
        some => Some(format!("{words} What is proven already stays changed: {}.", report::text::names(some))),
    }
}

/// Says beside the report what an interrupt does.
fn tell(recorder: &Shared, time: u32) {
    if let Some(recorder) = &mut *recorder.lock().unwrap_or_else(PoisonError::into_inner)
        && let Some(words) = words(recorder.state(), time)
    {
        // Where standard error is closed, nobody wants to hear it.
        recorder.paused(&mut || drop(writeln!(std::io::stderr(), "{words}")));
    }
}

/// The threads that do the waiting.
///
/// # Errors
/// When the system gives none.
pub(in crate::cli) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().cannot(|| "start the threads of the controller")
}
