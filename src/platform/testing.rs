//! An instrument for tests of the actions: a sandbox in a temporary folder, jobs without a wrapper, and records of
//! what an action told and intended.

pub(crate) use super::sandbox::{copy_file_rights, copy_rights};
use super::{Platform, facts};
use crate::actions::{
    Action, Applied, AskOperator, Content, Deadline, FetchStats, JobEnd, JobSpec, Jobs, Probe, Progress, StepContext, UndoLog,
    UndoRecord, Want,
};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{RunId, Unit};
use crate::paths::{Drives, WinPath};
use crate::plan::{Account, InstrumentPlan, LateTemplates, PlanStep};
use crate::playbook::{OnFailure, Phase, RunAs};
use crate::secrets::Secrets;
use crate::units::Span;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An instrument with one step to try.
pub(crate) struct Bench {
    _folder: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) drives: Drives,
    pub(crate) platform: Box<dyn Platform>,
    pub(crate) plan: InstrumentPlan,
    pub(crate) step: PlanStep,
    pub(crate) told: Told,
    pub(crate) secrets: Secrets,
    pub(crate) answer: bool,
    pub(crate) limit: Duration,
    pub(crate) cancelled: Arc<AtomicBool>,
    facts: BTreeMap<String, Value>,
    jobs: PlainJobs,
}

/// What an action told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) waits: Mutex<Vec<String>>,
    pub(crate) notes: Mutex<Vec<String>>,
    pub(crate) reminders: Mutex<Vec<String>>,
    pub(crate) intents: Mutex<Vec<UndoRecord>>,
    /// Called once at the first wait.
    pub(crate) at_first_wait: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("c")).unwrap();
        std::fs::create_dir_all(root.join(".ibexdeploy/runs/r")).unwrap();
        let platform = super::open(Some(&root)).unwrap();
        Self {
            drives: Drives::Sandbox { root: root.clone() },
            platform,
            plan: plan(),
            step: step(Action::Remind(crate::actions::remind::Remind { text: "x".into() })),
            told: Told::default(),
            secrets: Secrets::default(),
            answer: true,
            limit: Duration::from_secs(20),
            cancelled: Arc::default(),
            facts: BTreeMap::new(),
            jobs: PlainJobs { folder: root.join(".ibexdeploy/runs/r/jobs") },
            root,
            _folder: folder,
        }
    }

    /// A bench with the step that `yaml`-like JSON describes, in the phase `apply`.
    pub(crate) fn of(action: Value) -> Self {
        let mut bench = Self::new();
        bench.set(action);
        bench
    }

    pub(crate) fn set(&mut self, action: Value) {
        self.step = step(serde_json::from_value(action).unwrap());
    }

    pub(crate) fn native(&self, path: &str) -> PathBuf {
        self.drives.native(&WinPath::parse(path).unwrap()).unwrap()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let native = self.native(path);
        std::fs::create_dir_all(native.parent().unwrap()).unwrap();
        std::fs::write(native, text).unwrap();
    }

    /// An executable shell script at a Windows path.
    pub(crate) fn script(&self, path: &str, text: &str) {
        self.write(path, &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(self.native(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A real program running from a Windows path; ended when dropped.
    pub(crate) fn program(&self, path: &str) -> Running {
        let native = self.native(path);
        std::fs::create_dir_all(native.parent().unwrap()).unwrap();
        std::fs::copy("/bin/sleep", &native).unwrap();
        Running::start(std::process::Command::new(&native).arg("1000"))
    }

    pub(crate) fn sandbox_state(&self, change: impl FnOnce(&mut Value)) {
        self.platform.boot_id().unwrap();
        let path = self.root.join(".ibexdeploy/sandbox.json");
        let mut state: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut state);
        std::fs::write(path, state.to_string()).unwrap();
    }

    /// A fact, as it was found when the run began.
    pub(crate) fn found(&mut self, name: &str, value: Value) {
        self.facts.insert(name.to_owned(), value);
    }

    pub(crate) fn facts(&self) -> BTreeMap<String, Value> {
        facts::gather(&*self.platform, &self.drives, &self.plan.places)
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&StepContext<'_>) -> T) -> T {
        let deadline = Deadline::after(self.limit, Arc::clone(&self.cancelled));
        let home = self.root.join(".ibexdeploy");
        let run_dir = home.join("runs/r");
        act(&StepContext {
            plan: &self.plan,
            step: &self.step,
            drives: &self.drives,
            platform: &*self.platform,
            undo_log: &self.told,
            progress: &self.told,
            content: &NoContent,
            jobs: &self.jobs,
            operator: self,
            secrets: &self.secrets,
            deadline: &deadline,
            home: &home,
            run_dir: &run_dir,
            facts: &self.facts,
        })
    }

    pub(crate) fn apply(&self) -> Result<Applied> {
        self.with(|cx| self.step.action.performer().apply(cx))
    }

    pub(crate) fn probe(&self) -> Result<Probe> {
        self.with(|cx| self.step.action.performer().probe(cx))
    }

    /// Undoes what was intended, the newest first.
    pub(crate) fn undo(&self) -> Vec<crate::actions::Undone> {
        let intents = std::mem::take(&mut *self.told.intents.lock().unwrap());
        intents.iter().rev().map(|record| self.with(|cx| record.undo(cx)).unwrap()).collect()
    }
}

impl AskOperator for Bench {
    fn ask(&self, _question: &str, _deadline: &Deadline) -> Result<bool> {
        Ok(self.answer)
    }
}

/// A program that a test started; ended when dropped.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn start(command: &mut std::process::Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn plan() -> InstrumentPlan {
    let places = [
        ("server", "C:\\Instrument\\Apps\\EPICS"),
        ("client", "C:\\Instrument\\Apps\\Client_E4"),
        ("python", "C:\\Instrument\\Apps\\Python3"),
        ("settings", "C:\\Instrument\\Settings\\config\\NDXTEST"),
    ];
    InstrumentPlan {
        places: places.iter().map(|(n, p)| ((*n).to_owned(), WinPath::parse(p).unwrap())).collect(),
        accounts: BTreeMap::from([("instrument".to_owned(), Account { user: "spudulike".into(), logged_on: true })]),
        ..InstrumentPlan::empty(RunId("r".into()), "NDXTEST", "test", "me@here")
    }
}

/// A step of the phase `apply`, run by the agent itself.
pub(crate) fn step(action: Action) -> PlanStep {
    PlanStep {
        id: format!("apply.01.{}", action.name()),
        name: action.name().to_owned(),
        phase: Phase::Apply,
        action,
        run_as: RunAs::Admin,
        when: None,
        skip: None,
        each: None,
        register: None,
        retries: 0,
        timeout: Span(Duration::from_secs(20)),
        tags: Vec::new(),
        on_failure: OnFailure::Rollback,
        undo: None,
        writes: Vec::new(),
        late: LateTemplates::default(),
    }
}

impl Progress for Told {
    fn waiting(&self, what: &str, _elapsed: Duration, _limit: Duration) {
        self.waits.lock().unwrap().push(what.to_owned());
        if let Some(act) = self.at_first_wait.lock().unwrap().take() {
            act();
        }
    }
    fn advanced(&self, _done: u64, _total: u64, _unit: Unit) {}
    fn output(&self, _line: &str) {}
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
    fn remind(&self, text: &str) {
        self.reminders.lock().unwrap().push(text.to_owned());
    }
    fn hand_changes(&self, _component: &str, _files: Option<u64>, _archive: Option<&str>) {}
}

impl UndoLog for Told {
    fn intend(&self, record: UndoRecord) -> Result<()> {
        self.intents.lock().unwrap().push(record);
        Ok(())
    }
}

struct NoContent;

impl Content for NoContent {
    fn fetch(&self, _wants: Vec<Want>, _progress: &dyn Progress, _deadline: &Deadline) -> Result<FetchStats> {
        Err(Error::new(ErrorKind::Unreachable, "no content here"))
    }
    fn blob(&self, _hash: &ContentHash, _progress: &dyn Progress, _deadline: &Deadline) -> Result<Vec<u8>> {
        Err(Error::new(ErrorKind::Unreachable, "no content here"))
    }
}

/// Runs programs as the agent's jobs do, without outliving the test: a job that ended before is found again.
struct PlainJobs {
    folder: PathBuf,
}

impl PlainJobs {
    fn start(&self, job: &JobSpec, output: &std::path::Path) -> Result<Child> {
        let out = std::fs::File::create(output).unwrap();
        let mut command = std::process::Command::new(&job.program);
        command.args(&job.args).envs(job.env.iter().cloned()).stdin(Stdio::piped());
        if let Some(file) = &job.stdin_file {
            command.stdin(std::fs::File::open(file).unwrap());
        }
        command.stdout(out.try_clone().unwrap()).stderr(out);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        if let Some(folder) = &job.folder {
            command.current_dir(folder);
        }
        let mut child = command.spawn().map_err(|e| Error::io(format!("start {}", job.program), &e))?;
        if let (Some(mut stdin), Some(text)) = (child.stdin.take(), &job.stdin) {
            std::io::Write::write_all(&mut stdin, text.as_bytes()).unwrap();
        }
        Ok(child)
    }
}

impl Jobs for PlainJobs {
    fn run(&self, job: JobSpec, progress: &dyn Progress, deadline: &Deadline) -> Result<JobEnd> {
        let folder = self.folder.join(&job.id);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("arguments"), format!("{} {:?} {:?}", job.program, job.args, job.user)).unwrap();
        let (output, exit) = (folder.join("output.log"), folder.join("exit"));
        let exit_code = match std::fs::read_to_string(&exit) {
            Ok(code) => code.parse().unwrap(),
            Err(_) => {
                let mut child = self.start(&job, &output)?;
                let ended = deadline.wait_for(&job.program, progress, || Ok(child.try_wait().unwrap()));
                if ended.is_err() {
                    let group = rustix::process::Pid::from_child(&child);
                    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
                    child.wait().unwrap();
                }
                let code = ended?.code().unwrap_or(-1);
                std::fs::write(&exit, code.to_string()).unwrap();
                code
            }
        };
        let text = String::from_utf8_lossy(&std::fs::read(&output).unwrap()).into_owned();
        let mut tail: Vec<String> = text.lines().rev().take(40).map(str::to_owned).collect();
        tail.reverse();
        Ok(JobEnd { exit_code, tail, output })
    }
}

impl Bench {
    /// Everything that was written about jobs: their command lines and output.
    pub(crate) fn job_files(&self) -> BTreeMap<String, String> {
        let walk = walkdir::WalkDir::new(self.root.join(".ibexdeploy/runs/r/jobs")).into_iter().filter_map(|e| e.ok());
        walk.filter(|e| e.file_type().is_file())
            .map(|e| {
                (e.path().strip_prefix(&self.root).unwrap().display().to_string(), std::fs::read_to_string(e.path()).unwrap())
            })
            .collect()
    }
}
