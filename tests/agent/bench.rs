//! A sandbox with its agent, and the controller's end of a link to it.

use ibexdeploy::actions::Action;
use ibexdeploy::content::{ContentHash, Manifest, ManifestEntry};
use ibexdeploy::error::Error;
use ibexdeploy::events::{Event, EventKind, Outcome, RunId};
use ibexdeploy::paths::{RelPath, WinPath};
use ibexdeploy::plan::{Account, ComponentPlan, InstrumentPlan, LateTemplates, PlanStep};
use ibexdeploy::playbook::{OnFailure, Phase, RunAs};
use ibexdeploy::protocol::frames::{Reader, Writer};
use ibexdeploy::protocol::{
    AgentMessage, ControllerHello, ControllerMessage, FrozenReply, FrozenRequest, PROTOCOL_VERSION, PackHeader, Query,
    QueryReply, RollbackOptions, STREAM_MARK,
};
use ibexdeploy::units::Span;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Nothing here takes this long; a test that waits for it has failed.
pub(crate) const TOO_LONG: Duration = Duration::from_secs(60);

pub(crate) struct Sandbox {
    pub(crate) folder: tempfile::TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join(".ibexdeploy");
        std::fs::create_dir_all(folder.path().join("c/work")).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("identity.json"), r#"{"name": "NDXTEST", "host": "NDXTEST.example"}"#).unwrap();
        Self { folder }
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.root().join("c/work")
    }

    pub(crate) fn run_dir(&self, run: &str) -> PathBuf {
        self.root().join(".ibexdeploy/runs").join(run)
    }

    pub(crate) fn journal(&self, run: &str) -> String {
        std::fs::read_to_string(self.run_dir(run).join("journal.jsonl")).unwrap_or_default()
    }

    /// The worker's process, by the lock it holds.
    pub(crate) fn kill_worker(&self) {
        let lock = self.root().join(".ibexdeploy/lock");
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains("agent worker") && command.contains(self.root().to_str().unwrap()) {
                rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
                    .unwrap();
            }
        }
        let end = std::time::Instant::now() + TOO_LONG;
        loop {
            let file = std::fs::File::create(&lock).unwrap();
            if file.try_lock().is_ok() {
                return;
            }
            assert!(std::time::Instant::now() < end, "the killed worker still holds its lock");
            std::thread::yield_now();
        }
    }

    pub(crate) fn plan(&self, run: &str, steps: Vec<PlanStep>) -> InstrumentPlan {
        InstrumentPlan {
            host: "ndxtest.EXAMPLE".into(),
            rehearsal: true,
            places: BTreeMap::from([("work".to_owned(), WinPath::parse("C:\\work").unwrap())]),
            accounts: BTreeMap::from([("instrument".to_owned(), Account { user: "spudulike".into(), logged_on: true })]),
            steps,
            ..InstrumentPlan::empty(RunId(run.into()), "NDXTEST", "test", "ann@desk")
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.kill_worker();
        }
    }
}

pub(crate) fn step(phase: Phase, number: u32, action: serde_json::Value) -> PlanStep {
    let action: Action = serde_json::from_value(action).unwrap();
    PlanStep {
        id: format!("{phase}.{number:02}.{}", action.name()),
        name: format!("{} {number}", action.name()),
        phase,
        action,
        run_as: RunAs::Admin,
        when: None,
        skip: None,
        each: None,
        register: None,
        retries: 0,
        timeout: Span(Duration::from_secs(30)),
        tags: Vec::new(),
        on_failure: OnFailure::Rollback,
        undo: None,
        writes: Vec::new(),
        late: LateTemplates::default(),
    }
}

pub(crate) fn command(line: &str) -> serde_json::Value {
    json!({"command": {"at": "work", "run": line}})
}

pub(crate) fn file(path: &str, content: &str) -> serde_json::Value {
    json!({"file": {"path": format!("work\\{path}"), "content": content}})
}

pub(crate) struct Controller {
    pub(crate) _attach: Child,
    pub(crate) reader: Reader<ChildStdout, AgentMessage>,
    pub(crate) writer: Writer<ChildStdin, ControllerMessage>,
    /// What this controller has to give, and how it damages what it sends.
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) damage: u32,
}

impl Controller {
    pub(crate) async fn connect(sandbox: &Sandbox) -> Self {
        let mut attach = Command::new(env!("CARGO_BIN_EXE_ibexdeploy"))
            .args(["agent", "attach", "--root"])
            .arg(sandbox.root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut out = attach.stdout.take().unwrap();
        let mut mark = [0; STREAM_MARK.len()];
        out.read_exact(&mut mark).await.unwrap();
        assert_eq!(mark, STREAM_MARK, "an agent's stream begins with its mark");
        let reader = Reader::new(out);
        let writer = Writer::new(attach.stdin.take().unwrap());
        let mut controller = Self { _attach: attach, reader, writer, blobs: Vec::new(), damage: 0 };
        let hello = ControllerHello { protocol: PROTOCOL_VERSION, build: "test".into(), operator: "ann@desk".into() };
        controller.frozen(FrozenRequest::Hello(hello)).await;
        match controller.next().await {
            AgentMessage::Frozen(FrozenReply::Hello(hello)) => assert_eq!(hello.host, "NDXTEST.example"),
            other => panic!("no hello but {other:?}"),
        }
        controller
    }

    pub(crate) async fn send(&mut self, message: ControllerMessage) {
        self.writer.send(&message).await.unwrap();
    }

    pub(crate) async fn frozen(&mut self, request: FrozenRequest) {
        self.send(ControllerMessage::Frozen(request)).await;
    }

    /// The next message that is no sign of life; wishes for content are met.
    pub(crate) async fn next(&mut self) -> AgentMessage {
        loop {
            let message = tokio::time::timeout(TOO_LONG, self.reader.next()).await.expect("the agent is silent");
            match message.unwrap().expect("the agent left") {
                AgentMessage::Pong => {}
                AgentMessage::Need { hashes } => self.give(&hashes).await,
                message => return message,
            }
        }
    }

    /// What it is asked for next.
    pub(crate) async fn asked(&mut self) -> Vec<ContentHash> {
        loop {
            let message = tokio::time::timeout(TOO_LONG, self.reader.next()).await.expect("the agent is silent");
            if let AgentMessage::Need { hashes } = message.unwrap().expect("the agent left") {
                return hashes;
            }
        }
    }

    pub(crate) fn blob(&self, hash: &ContentHash) -> Vec<u8> {
        self.blobs.iter().find(|b| ContentHash::of(b) == *hash).expect("a blob nobody has").clone()
    }

    fn pack(&self, hash: &ContentHash) -> (PackHeader, Vec<u8>) {
        let blob = self.blob(hash);
        let chunk = ibexdeploy::content::Chunk { blobs: vec![(*hash, blob.len() as u64)] };
        let mut packed = Vec::new();
        let header = ibexdeploy::content::pack::build(&chunk, |_| Ok(std::io::Cursor::new(blob.clone())), &mut packed).unwrap();
        (header, packed)
    }

    /// Announces a whole pack and sends half of it.
    pub(crate) async fn give_half(&mut self, hash: &ContentHash) {
        let (header, packed) = self.pack(hash);
        self.send(ControllerMessage::Pack(header)).await;
        self.send(ControllerMessage::PackBytes(packed[..packed.len() / 2].to_vec())).await;
    }

    pub(crate) async fn give(&mut self, hashes: &[ContentHash]) {
        for hash in hashes {
            let (header, mut packed) = self.pack(hash);
            if self.damage > 0 {
                self.damage -= 1;
                let middle = packed.len() / 2;
                packed[middle] ^= 0xff;
            }
            self.send(ControllerMessage::Pack(header)).await;
            for piece in packed.chunks(1000) {
                self.send(ControllerMessage::PackBytes(piece.to_vec())).await;
            }
        }
    }

    pub(crate) async fn submit(&mut self, plan: &InstrumentPlan) -> Result<(), Error> {
        self.submit_with(plan, Vec::new()).await
    }

    pub(crate) async fn submit_with(&mut self, plan: &InstrumentPlan, secrets: Vec<(String, String)>) -> Result<(), Error> {
        self.send(ControllerMessage::Submit { plan: Box::new(plan.clone()), secrets, answer_yes: false }).await;
        self.taken().await
    }

    pub(crate) async fn taken(&mut self) -> Result<(), Error> {
        loop {
            match self.next().await {
                AgentMessage::Frozen(FrozenReply::Done) => return Ok(()),
                AgentMessage::Frozen(FrozenReply::Refused { json }) => return Err(serde_json::from_str(&json).unwrap()),
                AgentMessage::Frozen(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            match self.next().await {
                AgentMessage::Frozen(FrozenReply::Event { json }) => return Some(serde_json::from_str(&json).unwrap()),
                AgentMessage::Frozen(FrozenReply::UpToDate { active: false }) => return None,
                _ => {}
            }
        }
    }

    pub(crate) async fn until(&mut self, wanted: impl Fn(&EventKind) -> bool) -> Event {
        loop {
            let event = self.event().await.expect("the run ended before");
            if wanted(&event.kind) {
                return event;
            }
        }
    }

    /// All journalled events to the end, and the outcome.
    pub(crate) async fn until_end(&mut self) -> (Vec<Event>, Outcome) {
        let mut events = Vec::new();
        while let Some(event) = self.event().await {
            if event.n > 0 {
                events.push(event);
            }
        }
        let outcome = events.iter().find_map(|e| match &e.kind {
            EventKind::InstrumentFinished { outcome, .. } => Some(*outcome),
            _ => None,
        });
        (events, outcome.expect("the run has an end"))
    }

    pub(crate) async fn query(&mut self, query: Query) -> QueryReply {
        self.send(ControllerMessage::Ask(query)).await;
        loop {
            if let AgentMessage::Reply(reply) = self.next().await {
                return *reply;
            }
        }
    }

    pub(crate) async fn rollback(&mut self, run: &str, as_run: &str, discard_newer: bool) -> Result<(), Error> {
        let options =
            RollbackOptions { discard_newer, as_run: as_run.into(), operator: "bob@desk".into(), ..RollbackOptions::default() };
        self.frozen(FrozenRequest::Rollback { run: run.into(), options }).await;
        self.taken().await
    }
}

/// The events as short words: phases, steps with their ends, and what else stands in `kinds`.
pub(crate) fn words(events: &[Event]) -> Vec<String> {
    let word = |e: &Event| match &e.kind {
        EventKind::PhaseStarted { phase } => Some(format!("[{phase}]")),
        EventKind::StepFinished { step, outcome, .. } => Some(format!("{} {outcome}", step.id)),
        EventKind::StepUndone { step, outcome, .. } => Some(format!("undo {} {outcome}", step.id)),
        EventKind::OutageStarted => Some("outage".into()),
        EventKind::OutageEnded { .. } => Some("over".into()),
        EventKind::Staged { .. } => Some("staged".into()),
        EventKind::RollbackStarted { .. } => Some("rollback".into()),
        EventKind::RollbackFinished { ok, left } => Some(format!("rollback {ok} {left:?}")),
        EventKind::Recovered { .. } => Some("recovered".into()),
        EventKind::InstrumentFinished { outcome, .. } => Some(format!("= {outcome}")),
        _ => None,
    };
    events.iter().filter_map(word).collect()
}

/// A release of one component `EPICS`, which goes to `work\\epics`.
pub(crate) fn release(
    sandbox: &Sandbox,
    controller: &mut Controller,
    run: &str,
    version: &str,
    files: &[(&str, &str)],
) -> InstrumentPlan {
    let text = format!("{version} and more");
    let mut all = vec![("VERSION.txt", text.as_str())];
    all.extend_from_slice(files);
    all.sort_unstable();
    let entry = |(path, content): &(&str, &str)| ManifestEntry {
        path: RelPath::parse(path).unwrap(),
        size: content.len() as u64,
        hash: ContentHash::of(content.as_bytes()),
        executable: false,
    };
    let manifest = Manifest {
        component: "EPICS".into(),
        version: version.into(),
        release: version.into(),
        files: all.iter().map(entry).collect(),
        empty_folders: vec![],
    };
    let bytes = manifest.to_bytes().unwrap();
    let component = ComponentPlan {
        version: version.into(),
        release: version.into(),
        manifest: ContentHash::of(&bytes),
        files: all.len() as u64,
        bytes: manifest.total_bytes(),
    };
    controller.blobs.push(bytes);
    controller.blobs.extend(all.iter().map(|(_, content)| content.as_bytes().to_vec()));
    let sync = json!({"sync": {"component": "EPICS", "to": "work\\epics", "remove_extra": true, "keep": ["kept"]}});
    let mut plan = sandbox.plan(run, vec![step(Phase::Apply, 2, sync)]);
    plan.kit = Some(version.into());
    plan.components = BTreeMap::from([("EPICS".to_owned(), component)]);
    plan
}
