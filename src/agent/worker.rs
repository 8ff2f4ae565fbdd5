//! The worker: one process per home that carries out runs, whoever watches.

use super::driver::Driver;
use super::lock::{self, try_lock};
use super::machine::Machine;
use super::resume::Resume;
use super::rollback::{self, RollbackOrder};
use super::run::Run;
use super::stranded::{Stranded, stranded};
use super::{queries, session};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::events::{EventKind, Outcome, RunId};
use crate::files::{read_json, write_json};
use crate::locks::locked;
use crate::plan::{Hold, InstrumentPlan};
use crate::playbook::Phase;
use crate::protocol::{LockInfo, RollbackOptions};
use interprocess::local_socket::ListenerOptions;
use interprocess::local_socket::tokio::prelude::*;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// How long a worker without a run and without a connection stays.
const IDLE: Duration = Duration::from_secs(2);

/// How long a new worker waits for the one before it to be gone.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// How long a run may take to be gone after its last word.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Sent first on every connection, so that `attach` knows a worker that will answer from one that is about to end.
pub(super) const GREETING: u8 = b'+';

/// What all threads of the worker share.
pub(crate) struct Worker {
    pub(crate) machine: Arc<Machine>,
    /// Only ever held for a moment: connections ask for it.
    active: Mutex<Option<Arc<Run>>>,
    /// Held while a run is begun, which may take a look at whole trees.
    beginning: Mutex<()>,
    connections: AtomicUsize,
    sessions: AtomicU64,
    /// Nobody new is served.
    closing: AtomicBool,
    ending: AtomicBool,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// Serves the home below `root` until nobody needs it any more.
///
/// # Errors
/// When the home or its socket cannot be used. That another worker is there already is none.
pub fn worker(root: Option<&Path>) -> Result<()> {
    let machine = Arc::new(Machine::open(root)?);
    let Some(_lock) = take_lock(&machine)? else { return Ok(()) };
    super::builds::remove_stale(&machine.home);
    #[cfg(windows)]
    super::orphans::end(&machine.home);
    let worker = Arc::new(Worker::new(machine));
    worker.recover()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .cannot(|| "start the worker's threads")?;
    let served = runtime.block_on(worker.serve());
    runtime.shutdown_background();
    served
}

fn take_lock(machine: &Machine) -> Result<Option<std::fs::File>> {
    let path = machine.home.folder().join("lock");
    let end = Instant::now() + TAKE_OVER;
    loop {
        match try_lock(&path)? {
            Some(lock) => return Ok(Some(lock)),
            None if Instant::now() > end => return Ok(None),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

impl Worker {
    pub(crate) fn new(machine: Arc<Machine>) -> Self {
        Self {
            machine,
            active: Mutex::default(),
            beginning: Mutex::default(),
            connections: AtomicUsize::new(0),
            sessions: AtomicU64::new(0),
            closing: AtomicBool::default(),
            ending: AtomicBool::default(),
        }
    }

    /// A number for a new connection.
    pub(crate) fn session_number(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::SeqCst) + 1
    }

    async fn serve(self: &Arc<Self>) -> Result<()> {
        let socket = self.machine.home.socket();
        // One that a killed worker left: the lock says that nobody listens there.
        let _ = std::fs::remove_file(&socket);
        let name = super::attach::socket_name(&self.machine.home)?;
        let options = ListenerOptions::new().name(name);
        #[cfg(windows)]
        let options = super::pipe::for_us_alone(options)?;
        let what = || format!("listen on {}", socket.display());
        let listener = options.create_tokio().cannot(what)?;
        let mut idle_since = Instant::now();
        loop {
            let waited = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
            match waited {
                // Without a greeting `attach` waits for the next worker.
                Ok(Ok(stream)) if self.closing.load(Ordering::SeqCst) => drop(stream),
                Ok(Ok(stream)) => self.welcome(stream),
                Ok(Err(error)) => {
                    // Perhaps too many open files: no reason to let go of a run.
                    tracing::error!(%error, "a connection cannot be taken");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                Err(_) => {}
            }
            if self.ending.load(Ordering::SeqCst) {
                return Ok(());
            }
            if self.active().is_some() || self.connections.load(Ordering::SeqCst) > 0 {
                idle_since = Instant::now();
            } else if idle_since.elapsed() > IDLE {
                return Ok(());
            }
        }
    }

    fn welcome(self: &Arc<Self>, mut stream: interprocess::local_socket::tokio::Stream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let worker = Arc::clone(self);
        tokio::spawn(async move {
            let greeted = stream.write_all(&[GREETING]).await;
            if greeted.is_ok()
                && let Err(error) = session::serve(Arc::clone(&worker), stream).await
            {
                tracing::info!(%error, "a connection ended");
            }
            worker.connections.fetch_sub(1, Ordering::SeqCst);
        });
    }

    /// Ends the worker's process soon, whatever its threads are at.
    pub(crate) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
    }

    /// The run that is not finished.
    pub(crate) fn active(&self) -> Option<Arc<Run>> {
        locked(&self.active).clone()
    }

    /// The folder of a run, or of the newest when the name is empty.
    ///
    /// # Errors
    /// When there is no such run.
    pub(crate) fn run_dir(&self, run: &str) -> Result<PathBuf> {
        let home = &self.machine.home;
        let dir = if run.is_empty() { home.run_dirs()?.pop() } else { Some(home.run(&RunId(run.to_owned()))?) };
        dir.filter(|d| d.is_dir()).ok_or_else(|| {
            let what = if run.is_empty() { "no run was made here yet".to_owned() } else { format!("there is no run {run} here") };
            Error::usage(what).on_host(self.machine.platform.host_name()).next("`ibexdeploy runs list` shows the runs")
        })
    }

    // -- beginning runs --

    /// Takes a plan, or goes on with it when it is there already.
    ///
    /// # Errors
    /// When it is not for this machine, or another run is active.
    pub(crate) fn submit(self: &Arc<Self>, plan: InstrumentPlan, secrets: Vec<(String, String)>, answer_yes: bool) -> Result<()> {
        self.machine.check_plan(&plan)?;
        let dir = self.machine.home.run(&plan.run)?;
        let _beginning = locked(&self.beginning);
        if let Some(run) = self.occupant(&plan.run) {
            if *run.id() != plan.run {
                return Err(self.occupied(&run));
            }
            run.take_secrets(secrets);
            if answer_yes {
                run.answer_with_yes();
            }
            return Ok(());
        }
        if let Some(stranded) = Stranded::at(&dir) {
            self.bring_plan_again(&dir, &stranded, &plan)?;
        } else if dir.join("journal.jsonl").exists() {
            // Finished already: whoever submits it again is told how it went.
            return Ok(());
        } else {
            self.may_begin(&plan)?;
            let run = Arc::new(self.accept(&dir, plan)?);
            self.start(run, Resume::default(), None)?;
        }
        if let Some(run) = self.active() {
            run.take_secrets(secrets);
            if answer_yes {
                run.answer_with_yes();
            }
        }
        Ok(())
    }

    /// Nothing changes files on top of a run that was left in the middle.
    fn may_begin(&self, plan: &InstrumentPlan) -> Result<()> {
        let changes = plan.hold != Hold::AfterStage && plan.steps.iter().any(|s| s.phase != Phase::Stage && s.skip.is_none());
        match stranded(&self.machine.home)? {
            Some(stranded) if changes => Err(stranded.refusal(&self.machine.platform.host_name())),
            _ => Ok(()),
        }
    }

    /// The plan of an unfinished run was lost, and whoever made it has it still: the run goes on.
    fn bring_plan_again(self: &Arc<Self>, dir: &Path, stranded: &Stranded, plan: &InstrumentPlan) -> Result<()> {
        if !stranded.lacks(plan) {
            return Err(stranded.refusal(&self.machine.platform.host_name()));
        }
        write_json(&dir.join("plan.json"), plan)?;
        self.recover_one(dir).map(|_| ())
    }

    fn accept(&self, dir: &Path, plan: InstrumentPlan) -> Result<Run> {
        std::fs::create_dir_all(dir).cannot(|| format!("make the folder {}", dir.display()))?;
        let written = super::builds::note(dir, &self.machine.build)
            .and_then(|()| self.machine.home.number_run(dir))
            .and_then(|()| write_json(&dir.join("plan.json"), &plan));
        let accepted = written.and_then(|()| Run::open(dir, plan)).and_then(|(run, _)| {
            Driver::accept(&run);
            run.journal_trouble().map_or(Ok(run), Err)
        });
        if accepted.is_err() {
            // Nothing was done yet, and a run without a journal is none.
            let _ = std::fs::remove_dir_all(dir);
        }
        accepted
    }

    /// Begins the undoing of finished runs, which is a run of its own.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) fn begin_rollback(self: &Arc<Self>, run: &str, options: &RollbackOptions) -> Result<()> {
        let as_run = RunId(options.as_run.clone());
        let dir = self.machine.home.run(&as_run)?;
        let _beginning = locked(&self.beginning);
        if let Some(other) = self.occupant(&as_run) {
            return if *other.id() == as_run { Ok(()) } else { Err(self.occupied(&other)) };
        }
        if dir.join("journal.jsonl").exists() {
            return Ok(());
        }
        let (order, plan) = rollback::order(self, run, options)?;
        std::fs::create_dir_all(&dir).cannot(|| format!("make the folder {}", dir.display()))?;
        write_json(&dir.join("rollback.json"), &order)?;
        let run = Arc::new(self.accept(&dir, plan)?);
        self.start(run, Resume::default(), Some(order))
    }

    /// The active run that stands in the way of `wanted`, or is it. One that has said its last word is as good as
    /// gone, and is waited for: whoever heard that word may begin the next run at once.
    fn occupant(&self, wanted: &RunId) -> Option<Arc<Run>> {
        let end = Instant::now() + LAST_WORD;
        loop {
            let run = self.active()?;
            if run.id() == wanted || !run.has_said_its_last_word() || Instant::now() > end {
                return Some(run);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn occupied(&self, run: &Run) -> Error {
        lock::refusal(&self.machine.platform.host_name(), &info_of(run))
    }

    /// Starts the thread that carries the run out.
    fn start(self: &Arc<Self>, run: Arc<Run>, resume: Resume, order: Option<RollbackOrder>) -> Result<()> {
        if let Err(error) = lock::write_holder(&self.machine.home, &info_of(&run)) {
            // The text only informs.
            tracing::warn!(%error, "the lock's text is not written");
        }
        self.goes_on_after_a_restart(true);
        *locked(&self.active) = Some(Arc::clone(&run));
        let worker = Arc::clone(self);
        let started = std::thread::Builder::new()
            .name("driver".to_owned())
            .spawn(move || worker.carry_out(&run, resume, order))
            .cannot(|| "start the thread of the run");
        if started.is_err() {
            // The next worker finds the run in its journal; this one would hold it for ever.
            self.end();
        }
        started.map(|_| ())
    }

    fn carry_out(&self, run: &Arc<Run>, resume: Resume, order: Option<RollbackOrder>) {
        let driver = Driver::new(Arc::clone(run), Arc::clone(&self.machine), resume);
        let work = std::panic::AssertUnwindSafe(move || match order {
            Some(order) => rollback::carry_out(driver, &order),
            None => driver.drive(),
        });
        if std::panic::catch_unwind(work).is_err() {
            let error = Error::internal("the worker broke off in the middle of a step").on_host(&run.plan.instrument);
            run.emit(EventKind::InstrumentFinished {
                outcome: Outcome::RollbackFailed,
                versions: std::collections::BTreeMap::new(),
                outage_ms: 0,
                longest: Vec::new(),
                ms: 0,
                error: Some(error),
            });
        }
        lock::clear_holder(&self.machine.home);
        self.goes_on_after_a_restart(false);
        *locked(&self.active) = None;
        run.finish();
    }

    /// Before the first change of a run, and after the last: whether a restart of the machine starts the worker. In a
    /// sandbox, whose restarts end nothing, the next controller does.
    fn goes_on_after_a_restart(&self, on: bool) {
        #[cfg(windows)]
        if self.machine.home.root().is_none()
            && let Err(error) = super::service::start_with_the_machine(&self.machine.executable, on)
        {
            tracing::warn!(%error, on, "after a restart of the machine the run goes on when a controller connects");
        }
        #[cfg(not(windows))]
        let _ = on;
    }

    // -- recovery --

    /// Goes on with the run that a worker before this one did not finish.
    ///
    /// # Errors
    /// When the runs cannot be listed.
    pub(crate) fn recover(self: &Arc<Self>) -> Result<()> {
        lock::clear_holder(&self.machine.home);
        for dir in self.machine.home.run_dirs()?.into_iter().rev() {
            match self.recover_one(&dir) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "a run cannot be recovered"),
            }
        }
        Ok(())
    }

    /// True when it is under way now.
    fn recover_one(self: &Arc<Self>, dir: &Path) -> Result<bool> {
        let journal = dir.join("journal.jsonl");
        if !journal.exists() {
            return Ok(false);
        }
        let seen = Resume::from_journal(&super::journal::read(&journal)?);
        if seen.finished.is_some() {
            return Ok(false);
        }
        if !seen.damage.is_empty() {
            // How far it came is not known: what it would do next might be wrong, and `status` says what is lost.
            tracing::error!(run = %dir.display(), damage = seen.damage.join("; "), "a run with a damaged journal is left as it stands");
            return Ok(false);
        }
        if seen.accepted.is_none() {
            // Killed while it took the plan: whoever sent it was not told that it was taken.
            std::fs::remove_dir_all(dir).cannot(|| format!("remove {}", dir.display()))?;
            return Ok(false);
        }
        let plan = queries::stored_plan(dir)?;
        let order = read_json(&dir.join("rollback.json"))?;
        let (run, loaded) = Run::open(dir, plan)?;
        let run = Arc::new(run);
        self.start(run, Resume::from_journal(&loaded), order)?;
        Ok(true)
    }

    /// Gives the instrument free although a run holds it; with an active run the worker has to end for that.
    ///
    /// # Errors
    /// When a run is alive and `force` is not set.
    pub(crate) fn unlock(&self, force: bool) -> Result<String> {
        let Some(run) = self.active() else {
            return self.give_up_stranded(force);
        };
        if !force {
            return Err(self.occupied(&run).next("cancel the run, or give `--force` to abandon it where it stands"));
        }
        self.closing.store(true, Ordering::SeqCst);
        let error =
            Error::new(ErrorKind::Cancelled, "abandoned by `unlock --force` where it stood").on_host(&run.plan.instrument);
        run.abandon(EventKind::InstrumentFinished {
            outcome: Outcome::Failed,
            versions: std::collections::BTreeMap::new(),
            outage_ms: 0,
            longest: Vec::new(),
            ms: 0,
            error: Some(error),
        });
        lock::clear_holder(&self.machine.home);
        Ok(format!("the run {} was abandoned where it stood; `rollback` can still undo it", run.id()))
    }
}

impl Worker {
    fn give_up_stranded(&self, force: bool) -> Result<String> {
        let home = &self.machine.home;
        lock::clear_holder(home);
        match stranded(home)? {
            None => Ok("no run held the instrument".to_owned()),
            Some(stranded) if force => {
                stranded.give_up()?;
                Ok(format!("the run {} was given up where it stood; release again, which makes every file right", stranded.run))
            }
            Some(stranded) => Err(stranded.refusal(&self.machine.platform.host_name())),
        }
    }
}

/// Who works on the instrument, by a run.
pub(crate) fn info_of(run: &Run) -> LockInfo {
    let plan = &run.plan;
    let since = run.events_from(0).first().map_or_else(Timestamp::now, |e| e.at);
    LockInfo { owner: plan.operator.clone(), run: plan.run.clone(), playbook: plan.playbook.clone(), since }
}
