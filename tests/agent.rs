//! The agent through its binary: a controller's end talks to `agent attach` as transports do.
#![cfg(test)]

use ibexdeploy::actions::Action;
use ibexdeploy::content::{ContentHash, Manifest, ManifestEntry};
use ibexdeploy::error::Error;
use ibexdeploy::events::{Event, EventKind, Outcome, RunId};
use ibexdeploy::paths::{RelPath, WinPath};
use ibexdeploy::plan::{Account, ComponentPlan, Hold, InstrumentPlan, LateTemplates, PLAN_FORMAT, PlanStep, Pull};
use ibexdeploy::playbook::{OnFailure, Phase, RunAs};
use ibexdeploy::protocol::frames::{Reader, Writer};
use ibexdeploy::protocol::{
    AgentMessage, ControllerHello, ControllerMessage, FrozenReply, FrozenRequest, PROTOCOL_VERSION, Query, QueryReply,
    RollbackOptions, STREAM_MARK,
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
const TOO_LONG: Duration = Duration::from_secs(60);

struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join(".ibexdeploy");
        std::fs::create_dir_all(folder.path().join("c/work")).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("identity.json"), r#"{"name": "NDXTEST", "host": "NDXTEST.example"}"#).unwrap();
        Self { folder }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn work(&self) -> PathBuf {
        self.root().join("c/work")
    }

    fn run_dir(&self, run: &str) -> PathBuf {
        self.root().join(".ibexdeploy/runs").join(run)
    }

    fn journal(&self, run: &str) -> String {
        std::fs::read_to_string(self.run_dir(run).join("journal.jsonl")).unwrap_or_default()
    }

    /// The worker's process, by the lock it holds.
    fn kill_worker(&self) {
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

    fn plan(&self, run: &str, steps: Vec<PlanStep>) -> InstrumentPlan {
        InstrumentPlan {
            format: PLAN_FORMAT,
            run: RunId(run.into()),
            instrument: "NDXTEST".into(),
            host: "ndxtest.EXAMPLE".into(),
            playbook: "test".into(),
            operator: "ann@desk".into(),
            kit: None,
            rehearsal: true,
            places: BTreeMap::from([("work".to_owned(), WinPath::parse("C:\\work").unwrap())]),
            accounts: BTreeMap::from([("instrument".to_owned(), Account { user: "spudulike".into(), logged_on: true })]),
            vars: BTreeMap::new(),
            components: BTreeMap::new(),
            pull: None,
            secrets: Vec::new(),
            hold: Hold::No,
            only_if_differs: false,
            steps,
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

fn step(phase: Phase, number: u32, action: serde_json::Value) -> PlanStep {
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

fn command(line: &str) -> serde_json::Value {
    json!({"command": {"at": "work", "run": line}})
}

fn file(path: &str, content: &str) -> serde_json::Value {
    json!({"file": {"path": format!("work\\{path}"), "content": content}})
}

struct Controller {
    _attach: Child,
    reader: Reader<ChildStdout, AgentMessage>,
    writer: Writer<ChildStdin, ControllerMessage>,
    /// What this controller has to give, and how it damages what it sends.
    blobs: Vec<Vec<u8>>,
    damage: u32,
}

impl Controller {
    async fn connect(sandbox: &Sandbox) -> Self {
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

    async fn send(&mut self, message: ControllerMessage) {
        self.writer.send(&message).await.unwrap();
    }

    async fn frozen(&mut self, request: FrozenRequest) {
        self.send(ControllerMessage::Frozen(request)).await;
    }

    /// The next message that is no sign of life; wishes for content are met.
    async fn next(&mut self) -> AgentMessage {
        loop {
            let message = tokio::time::timeout(TOO_LONG, self.reader.next()).await.expect("the agent is silent");
            match message.unwrap().expect("the agent left") {
                AgentMessage::Pong => {}
                AgentMessage::Need { hashes } => self.give(&hashes).await,
                message => return message,
            }
        }
    }

    async fn give(&mut self, hashes: &[ContentHash]) {
        for hash in hashes {
            let blob = self.blobs.iter().find(|b| ContentHash::of(b) == *hash).expect("a blob nobody has").clone();
            let chunk = ibexdeploy::content::Chunk { blobs: vec![(*hash, blob.len() as u64)] };
            let mut packed = Vec::new();
            let header =
                ibexdeploy::content::pack::build(&chunk, |_| Ok(std::io::Cursor::new(blob.clone())), &mut packed).unwrap();
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

    async fn submit(&mut self, plan: &InstrumentPlan) -> Result<(), Error> {
        self.submit_with(plan, Vec::new()).await
    }

    async fn submit_with(&mut self, plan: &InstrumentPlan, secrets: Vec<(String, String)>) -> Result<(), Error> {
        self.send(ControllerMessage::Submit { plan: Box::new(plan.clone()), secrets, answer_yes: false }).await;
        self.taken().await
    }

    async fn taken(&mut self) -> Result<(), Error> {
        loop {
            match self.next().await {
                AgentMessage::Frozen(FrozenReply::Done) => return Ok(()),
                AgentMessage::Frozen(FrozenReply::Refused { json }) => return Err(serde_json::from_str(&json).unwrap()),
                AgentMessage::Frozen(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    async fn event(&mut self) -> Option<Event> {
        loop {
            match self.next().await {
                AgentMessage::Frozen(FrozenReply::Event { json }) => return Some(serde_json::from_str(&json).unwrap()),
                AgentMessage::Frozen(FrozenReply::UpToDate { active: false }) => return None,
                _ => {}
            }
        }
    }

    async fn until(&mut self, wanted: impl Fn(&EventKind) -> bool) -> Event {
        loop {
            let event = self.event().await.expect("the run ended before");
            if wanted(&event.kind) {
                return event;
            }
        }
    }

    /// All journalled events to the end, and the outcome.
    async fn until_end(&mut self) -> (Vec<Event>, Outcome) {
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

    async fn query(&mut self, query: Query) -> QueryReply {
        self.send(ControllerMessage::Ask(query)).await;
        loop {
            if let AgentMessage::Reply(reply) = self.next().await {
                return *reply;
            }
        }
    }

    async fn rollback(&mut self, run: &str, as_run: &str, discard_newer: bool) -> Result<(), Error> {
        let options = RollbackOptions { discard_newer, preview: false, as_run: as_run.into(), operator: "bob@desk".into() };
        self.frozen(FrozenRequest::Rollback { run: run.into(), options }).await;
        self.taken().await
    }
}

/// The events as short words: phases, steps with their ends, and what else stands in `kinds`.
fn words(events: &[Event]) -> Vec<String> {
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

#[tokio::test]
async fn a_plan_goes_through_its_phases() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let plan = sandbox.plan(
        "20261123-100000-aaaaaa",
        vec![
            step(Phase::Stage, 1, json!({"check": {"file": {"path": "work"}}})),
            step(Phase::Apply, 1, file("x.txt", "new")),
            step(Phase::Prove, 1, command("cat x.txt")),
            step(Phase::Close, 1, json!({"remind": {"text": "water the plants"}})),
        ],
    );
    controller.submit(&plan).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(
        words(&events),
        [
            "[stage]",
            "stage.01.check ok",
            "staged",
            "[apply]",
            "outage",
            "apply.01.file changed",
            "[prove]",
            "over",
            "prove.01.command changed",
            "[close]",
            "close.01.remind ok",
            "= changed",
        ]
    );
    assert_eq!(outcome, Outcome::Changed);
    assert_eq!(std::fs::read_to_string(sandbox.work().join("x.txt")).unwrap(), "new");
    let numbers: Vec<u64> = events.iter().map(|e| e.n).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[tokio::test]
async fn a_failure_undoes_everything_and_says_so() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("x.txt"), "old").unwrap();
    let mut controller = Controller::connect(&sandbox).await;
    let plan = sandbox.plan(
        "20261123-100000-bbbbbb",
        vec![
            step(Phase::Apply, 1, file("x.txt", "new")),
            step(Phase::Apply, 2, file("y.txt", "new")),
            step(Phase::Prove, 1, command("echo broken >&2; exit 3")),
        ],
    );
    controller.submit(&plan).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    assert_eq!(std::fs::read_to_string(sandbox.work().join("x.txt")).unwrap(), "old");
    assert!(!sandbox.work().join("y.txt").exists());
    let error = events.iter().find_map(|e| match &e.kind {
        EventKind::InstrumentFinished { error, .. } => error.clone(),
        _ => None,
    });
    let error = error.expect("the reason");
    assert_eq!(error.details().step.as_deref(), Some("command 1"));
    assert!(error.details().output.iter().any(|l| l == "broken"), "{error:?}");
}

/// A release of one component `EPICS`, which goes to `work\\epics`.
fn release(sandbox: &Sandbox, controller: &mut Controller, run: &str, version: &str, files: &[(&str, &str)]) -> InstrumentPlan {
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

#[tokio::test]
async fn a_release_comes_over_the_link_and_a_damaged_blob_is_asked_for_again() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let long = "x".repeat(100_000);
    let first =
        release(&sandbox, &mut controller, "20261123-100000-aaaaaa", "12.0.0", &[("a", "one"), ("b/c", &long), ("b/d", &long)]);
    controller.damage = 1;
    controller.submit(&first).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::Changed, "{events:#?}");
    let epics = sandbox.work().join("epics");
    assert_eq!(std::fs::read_to_string(epics.join("b/d")).unwrap(), long);
    let versions = events.iter().find_map(|e| match &e.kind {
        EventKind::InstrumentFinished { versions, .. } => versions.get("EPICS").cloned(),
        _ => None,
    });
    assert_eq!(versions.and_then(|v| v.to).as_deref(), Some("12.0.0"));

    // One that comes damaged every time ends the run before anything is changed.
    let second = release(&sandbox, &mut controller, "20261123-100001-bbbbbb", "12.0.1", &[("a", "two")]);
    controller.damage = u32::MAX;
    controller.submit(&second).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::Failed);
    let shown = serde_json::to_string(&events).unwrap();
    assert!(shown.contains("integrity"), "{shown}");
    assert_eq!(std::fs::read_to_string(epics.join("a")).unwrap(), "one");

    controller.damage = 0;
    let third = release(&sandbox, &mut controller, "20261123-100002-cccccc", "12.0.2", &[("a", "three")]);
    controller.submit(&third).await.unwrap();
    assert_eq!(controller.until_end().await.1, Outcome::Changed);
    assert!(!epics.join("b").exists());
    let QueryReply::Status(status) = controller.query(Query::Status { plan: Box::new(third.clone()) }).await else {
        panic!("no status")
    };
    assert_eq!(status.installed["EPICS"].version, "12.0.2");
    assert_eq!(status.hand_changes["EPICS"], Some(Vec::new()));

    // Back to the first release, with what was known of it.
    controller.rollback("", "20261123-100003-dddddd", false).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{events:#?}");
    assert_eq!(std::fs::read_to_string(epics.join("b/c")).unwrap(), long);
    let QueryReply::Status(status) = controller.query(Query::Status { plan: Box::new(third) }).await else { panic!("no status") };
    assert_eq!(status.installed["EPICS"].version, "12.0.0");
    assert_eq!(status.hand_changes["EPICS"], Some(Vec::new()));
}

#[tokio::test]
async fn what_scribbles_outside_its_writes_is_named() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let first = release(&sandbox, &mut controller, "20261123-100000-aaaaaa", "12.0.0", &[("a", "one"), ("config", "old")]);
    controller.submit(&first).await.unwrap();
    assert_eq!(controller.until_end().await.1, Outcome::Changed);

    let files = [("a", "two"), ("config", "old")];
    let mut second = release(&sandbox, &mut controller, "20261123-100001-bbbbbb", "12.0.1", &files);
    second.steps.push(step(Phase::Apply, 3, command("echo scribbled > epics/config; echo fine > epics/kept; exit 1")));
    controller.submit(&second).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RollbackFailed);
    assert!(words(&events).contains(&r#"rollback false ["C:\\work\\epics\\config"]"#.to_owned()), "{:#?}", words(&events));
    assert_eq!(std::fs::read_to_string(sandbox.work().join("epics/a")).unwrap(), "one");
}

#[tokio::test]
async fn a_second_rollback_sees_what_was_changed_after_the_first_one_failed() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let first = release(&sandbox, &mut controller, "20261123-100000-aaaaaa", "12.0.0", &[("a", "one"), ("config", "old")]);
    controller.submit(&first).await.unwrap();
    assert_eq!(controller.until_end().await.1, Outcome::Changed);

    let run = "20261123-100001-bbbbbb";
    let mut second = release(&sandbox, &mut controller, run, "12.0.1", &[("a", "two"), ("config", "old")]);
    let mut stubborn = step(Phase::Apply, 3, command("true"));
    stubborn.undo = Some(serde_json::from_value(json!({"command": {"at": "work", "run": "test -e well"}})).unwrap());
    second.steps.push(stubborn);
    second.steps.push(step(Phase::Apply, 4, command("exit 1")));
    controller.submit(&second).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RollbackFailed, "{:#?}", words(&events));
    let epics = sandbox.work().join("epics");
    assert_eq!(std::fs::read_to_string(epics.join("a")).unwrap(), "one");

    std::fs::write(epics.join("config"), "by hand").unwrap();
    std::fs::write(sandbox.work().join("well"), "").unwrap();
    let refused = controller.rollback(run, "20261123-100002-cccccc", false).await.unwrap_err();
    assert!(refused.details().message.contains("C:\\work\\epics\\config"), "{refused}");
    controller.rollback(run, "20261123-100003-dddddd", true).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    assert_eq!(std::fs::read_to_string(epics.join("config")).unwrap(), "by hand");
    let named = |e: &Event| matches!(&e.kind, EventKind::Reminder { text } if text.contains("config") && text.contains("stay as they are"));
    assert!(events.iter().any(named), "{events:#?}");
    assert!(sandbox.root().join(".ibexdeploy/hand-changes/20261123-100003-dddddd-rollback.zip").exists());
}

#[tokio::test]
async fn content_may_come_from_another_controller_after_the_first_is_gone() {
    let sandbox = Sandbox::new();
    let mut first = Controller::connect(&sandbox).await;
    let run = "20261123-100000-aaaaaa";
    let plan = release(&sandbox, &mut first, run, "12.0.0", &[("a", "one")]);
    let blobs = std::mem::take(&mut first.blobs);
    first.send(ControllerMessage::Submit { plan: Box::new(plan), secrets: Vec::new(), answer_yes: false }).await;
    loop {
        if let Some(AgentMessage::Need { .. }) = first.reader.next().await.unwrap() {
            break;
        }
    }
    drop(first);
    let mut second = Controller::connect(&sandbox).await;
    second.blobs = blobs;
    second.frozen(FrozenRequest::EventsSince { run: run.into(), from: 1 }).await;
    let (events, outcome) = second.until_end().await;
    assert_eq!(outcome, Outcome::Changed, "{events:#?}");
}

#[tokio::test]
async fn a_share_that_differs_from_the_manifest_is_refused() {
    let sandbox = Sandbox::new();
    let share = sandbox.root().join("unc/server/kits/12.0.0/EPICS");
    std::fs::create_dir_all(&share).unwrap();
    std::fs::write(share.join("VERSION.txt"), "12.0.0 and more").unwrap();
    std::fs::write(share.join("a"), "onE").unwrap();
    let mut controller = Controller::connect(&sandbox).await;
    for (run, outcome) in [("20261123-100000-aaaaaa", Outcome::Failed), ("20261123-100001-bbbbbb", Outcome::Changed)] {
        let mut plan = release(&sandbox, &mut controller, run, "12.0.0", &[("a", "one")]);
        // Only the manifest comes over the link.
        controller.blobs.truncate(1);
        plan.pull = Some(Pull { from: WinPath::parse("\\\\server\\kits").unwrap() });
        controller.submit(&plan).await.unwrap();
        let (events, end) = controller.until_end().await;
        assert_eq!(end, outcome, "{events:#?}");
        std::fs::write(share.join("a"), "one").unwrap();
    }
    assert_eq!(std::fs::read_to_string(sandbox.work().join("epics/a")).unwrap(), "one");
}

#[tokio::test]
async fn a_second_controller_is_refused_or_follows() {
    let sandbox = Sandbox::new();
    let mut first = Controller::connect(&sandbox).await;
    let mut plan = sandbox.plan("20261123-100000-dddddd", vec![step(Phase::Apply, 1, file("x.txt", "new"))]);
    plan.hold = Hold::UntilReleased { limit: Span(TOO_LONG) };
    first.submit(&plan).await.unwrap();
    first.until(|k| matches!(k, EventKind::Held { .. })).await;

    let mut second = Controller::connect(&sandbox).await;
    let mut other = plan.clone();
    other.run = RunId("20261123-100001-eeeeee".into());
    let refused = second.submit(&other).await.unwrap_err();
    for part in ["ann@desk", "NDXTEST.example", "20261123-100000-dddddd"] {
        assert!(refused.details().message.contains(part), "{refused}");
    }
    second.frozen(FrozenRequest::EventsSince { run: String::new(), from: 1 }).await;
    second.until(|k| matches!(k, EventKind::Held { .. })).await;
    first.send(ControllerMessage::Release { run: plan.run.clone() }).await;
    let (seen_by_second, outcome) = second.until_end().await;
    let (seen_by_first, _) = first.until_end().await;
    assert_eq!(outcome, Outcome::Changed);
    assert_eq!(words(&seen_by_second).last(), words(&seen_by_first).last());
}

#[tokio::test]
async fn a_plan_for_another_host_is_refused() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    for change in [
        (|p: &mut InstrumentPlan| p.host = "NDXOTHER".into()) as fn(&mut InstrumentPlan),
        |p| p.instrument = "NDXOTHER".into(),
        |p| p.format = PLAN_FORMAT + 1,
    ] {
        let mut plan = sandbox.plan("20261123-100000-ffffff", Vec::new());
        change(&mut plan);
        assert!(controller.submit(&plan).await.is_err());
        assert!(!sandbox.run_dir("20261123-100000-ffffff").exists());
    }
}

#[tokio::test]
async fn a_killed_worker_goes_on_by_itself() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-gggggg";
    let plan = sandbox.plan(
        run,
        vec![
            step(Phase::Apply, 1, file("x.txt", "new")),
            // Waits until the test lets it go on, so that the kill meets it open.
            step(Phase::Apply, 2, command("echo ran >> count; while [ ! -e go ]; do sleep 0.02; done")),
            step(Phase::Prove, 1, json!({"check": {"file": {"path": "work\\x.txt"}}})),
        ],
    );
    controller.submit(&plan).await.unwrap();
    controller.until(|k| matches!(k, EventKind::StepStarted { step, .. } if step.id == "apply.02.command")).await;
    controller.until(|k| matches!(k, EventKind::StepWaiting { .. })).await;
    sandbox.kill_worker();
    std::fs::write(sandbox.work().join("go"), "").unwrap();
    let mut again = Controller::connect(&sandbox).await;
    again.frozen(FrozenRequest::EventsSince { run: run.into(), from: 1 }).await;
    let (events, outcome) = again.until_end().await;
    assert_eq!(outcome, Outcome::Changed, "{:#?}", words(&events));
    assert!(words(&events).contains(&"recovered".to_owned()));
    assert_eq!(std::fs::read_to_string(sandbox.work().join("count")).unwrap(), "ran\n", "the job was found, not started again");
}

#[tokio::test]
async fn a_killed_rollback_goes_on() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.work().join("x.txt"), "old").unwrap();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-hhhhhh";
    let mut compensated = step(Phase::Apply, 2, command("true"));
    let undo = json!({"command": {"at": "work", "run": "while [ ! -e go ]; do sleep 0.02; done"}});
    compensated.undo = Some(serde_json::from_value(undo).unwrap());
    let plan = sandbox
        .plan(run, vec![step(Phase::Apply, 1, file("x.txt", "new")), compensated, step(Phase::Apply, 3, command("exit 1"))]);
    controller.submit(&plan).await.unwrap();
    controller.until(|k| matches!(k, EventKind::RollbackStarted { .. })).await;
    controller.until(|k| matches!(k, EventKind::StepWaiting { .. })).await;
    sandbox.kill_worker();
    assert_eq!(std::fs::read_to_string(sandbox.work().join("x.txt")).unwrap(), "new");
    std::fs::write(sandbox.work().join("go"), "").unwrap();
    let mut again = Controller::connect(&sandbox).await;
    again.frozen(FrozenRequest::EventsSince { run: run.into(), from: 1 }).await;
    let (events, outcome) = again.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    assert_eq!(std::fs::read_to_string(sandbox.work().join("x.txt")).unwrap(), "old");
}

#[tokio::test]
async fn cancelling_now_interrupts_and_undoes() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-iiiiii";
    let plan = sandbox.plan(run, vec![step(Phase::Apply, 1, file("x.txt", "new")), step(Phase::Apply, 2, command("sleep 600"))]);
    controller.submit(&plan).await.unwrap();
    controller.until(|k| matches!(k, EventKind::StepWaiting { .. })).await;
    controller.frozen(FrozenRequest::Cancel { run: run.into(), now: true }).await;
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    assert!(!sandbox.work().join("x.txt").exists());
}

#[tokio::test]
async fn a_hold_that_is_cancelled_changes_nothing() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-jjjjjj";
    let mut plan = sandbox.plan(run, vec![step(Phase::Apply, 1, file("x.txt", "new"))]);
    plan.hold = Hold::UntilReleased { limit: Span(TOO_LONG) };
    controller.submit(&plan).await.unwrap();
    controller.until(|k| matches!(k, EventKind::Held { .. })).await;
    controller.frozen(FrozenRequest::Cancel { run: run.into(), now: false }).await;
    let (_, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::Cancelled);
    assert!(!sandbox.work().join("x.txt").exists());
}

#[tokio::test]
async fn secrets_reach_the_program_and_nothing_else() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-kkkkkk";
    let action = json!({"command": {"at": "work", "run": "echo \"it is $KEY\"; test \"$KEY\" = tops3cret && touch right; exit 4",
        "env": {"KEY": {"secret": "key"}}}});
    let mut plan = sandbox.plan(run, vec![step(Phase::Apply, 1, action)]);
    plan.secrets = vec!["key".into()];
    controller.submit_with(&plan, vec![("key".into(), "tops3cret".into())]).await.unwrap();
    let (events, _) = controller.until_end().await;
    assert!(sandbox.work().join("right").exists());
    let shown = serde_json::to_string(&events).unwrap();
    assert!(shown.contains("it is ***"), "{shown}");
    assert!(!shown.contains("tops3cret"));
    assert!(!sandbox.journal(run).contains("tops3cret"));
}

#[tokio::test]
async fn each_and_register_are_filled_in_at_the_instrument() {
    let sandbox = Sandbox::new();
    for name in ["b.in", "a.in", "c.other"] {
        std::fs::write(sandbox.work().join(name), "").unwrap();
    }
    let mut controller = Controller::connect(&sandbox).await;
    let mut each = step(Phase::Stage, 1, command("echo {{ item.name }} {{ inst }} >> seen"));
    each.each = Some(serde_json::from_value(json!({"files": "work\\*.in"})).unwrap());
    each.late = LateTemplates(vec!["/command/run".into()]);
    each.register = Some("found".into());
    let mut second = step(Phase::Stage, 2, command("echo never > never"));
    second.when = Some("found | length > 2".into());
    controller.submit(&sandbox.plan("20261123-100000-llllll", vec![each, second])).await.unwrap();
    let (events, _) = controller.until_end().await;
    assert_eq!(std::fs::read_to_string(sandbox.work().join("seen")).unwrap(), "a.in TEST\nb.in TEST\n", "{:#?}", words(&events));
    assert!(words(&events).contains(&"stage.02.command skipped".to_owned()), "{:#?}", words(&events));
}

#[tokio::test]
async fn a_finished_run_can_be_undone_and_files_changed_since_are_not_lost() {
    let sandbox = Sandbox::new();
    let guarded = sandbox.work().join("guarded");
    std::fs::create_dir(&guarded).unwrap();
    std::fs::write(guarded.join("config"), "old").unwrap();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-mmmmmm";
    let mut writes = step(Phase::Apply, 1, command("echo new > guarded/config"));
    writes.writes = vec![WinPath::parse("C:\\work\\guarded").unwrap()];
    controller.submit(&sandbox.plan(run, vec![writes])).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::Changed, "{events:#?}");

    std::fs::write(guarded.join("by-hand"), "precious").unwrap();
    let refused = controller.rollback(run, "20261123-100001-nnnnnn", false).await.unwrap_err();
    assert!(refused.details().message.contains("by-hand"), "{refused}");
    controller.rollback(run, "20261123-100001-nnnnnn", true).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    assert_eq!(std::fs::read_to_string(guarded.join("config")).unwrap(), "old");
    let archive = sandbox.root().join(".ibexdeploy/hand-changes/20261123-100001-nnnnnn-rollback.zip");
    let mut zip = zip::ZipArchive::new(std::fs::File::open(archive).unwrap()).unwrap();
    let saved = std::io::read_to_string(zip.by_name("guarded/by-hand").unwrap()).unwrap();
    assert_eq!(saved, "precious");

    let again = controller.rollback(run, "20261123-100002-oooooo", true).await.unwrap_err();
    assert!(again.details().message.contains("20261123-100001-nnnnnn"), "{again}");
    let QueryReply::Runs(runs) = controller.query(Query::Runs).await else { panic!("no list of runs") };
    let undone_by = runs.iter().find(|r| r.run.as_str() == run).and_then(|r| r.undone_by.clone());
    assert_eq!(undone_by, Some(RunId("20261123-100001-nnnnnn".into())));
}

#[tokio::test]
async fn a_program_does_not_go_on_when_its_wrapper_was_killed() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let orphan = command("echo $$ > program; kill -9 $PPID; sleep 600");
    controller.submit(&sandbox.plan("20261123-100000-wwwwww", vec![step(Phase::Apply, 1, orphan)])).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
    let pid = std::fs::read_to_string(sandbox.work().join("program")).unwrap();
    let end = std::time::Instant::now() + TOO_LONG;
    // A process that was ended and that nobody waits for has no command line any more.
    while std::fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty()) {
        assert!(std::time::Instant::now() < end, "the program {pid} goes on after its step was undone");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn what_an_undo_left_can_be_undone_again() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-xxxxxx";
    let mut first = step(Phase::Apply, 1, command("true"));
    first.undo = Some(serde_json::from_value(command("test -e way-is-free")).unwrap());
    let steps = vec![first, step(Phase::Apply, 2, command("false"))];
    controller.submit(&sandbox.plan(run, steps)).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RollbackFailed, "{:#?}", words(&events));

    std::fs::write(sandbox.work().join("way-is-free"), "").unwrap();
    controller.rollback(run, "20261123-100001-yyyyyy", false).await.unwrap();
    let (events, outcome) = controller.until_end().await;
    assert_eq!(outcome, Outcome::RolledBack, "{:#?}", words(&events));
}

#[tokio::test]
async fn a_damaged_journal_is_reported() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-pppppp";
    controller.submit(&sandbox.plan(run, vec![step(Phase::Apply, 1, file("x.txt", "new"))])).await.unwrap();
    controller.until_end().await;
    let path = sandbox.run_dir(run).join("journal.jsonl");
    let damaged = sandbox.journal(run).replacen("apply.01.file", "apply.01.fail", 1);
    std::fs::write(&path, damaged).unwrap();
    let QueryReply::Runs(runs) = controller.query(Query::Runs).await else { panic!("no list of runs") };
    let damage = runs[0].damage.clone().expect("the damage");
    assert!(damage.contains("checksum"), "{damage}");
    assert!(controller.rollback(run, "20261123-100001-qqqqqq", true).await.is_err());
}

#[tokio::test]
async fn old_runs_are_pruned_and_locks_are_shown() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    for n in 0..3 {
        let run = format!("20261123-10000{n}-rrrrrr");
        controller.submit(&sandbox.plan(&run, vec![step(Phase::Apply, 1, file("x.txt", &n.to_string()))])).await.unwrap();
        controller.until_end().await;
    }
    let QueryReply::Done { summary } = controller.query(Query::Prune { keep: 2 }).await else { panic!("not pruned") };
    assert_eq!(summary, "1 runs removed, 2 kept");
    assert!(!sandbox.run_dir("20261123-100000-rrrrrr").exists());
    let plan = Box::new(sandbox.plan("20261123-100009-rrrrrr", Vec::new()));
    let QueryReply::Status(status) = controller.query(Query::Status { plan }).await else { panic!("no status") };
    assert_eq!(status.lock, None);
    assert_eq!(status.last_run.map(|r| r.run), Some(RunId("20261123-100002-rrrrrr".into())));
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let mut skipped = step(Phase::Apply, 2, command("touch y"));
    skipped.skip = Some("not wanted".into());
    let mut unknown = step(Phase::Apply, 3, command("touch z"));
    unknown.when = Some("later > 1".into());
    let steps = vec![step(Phase::Apply, 1, file("x.txt", "new")), skipped, unknown];
    let plan = Box::new(sandbox.plan("20261123-100000-ssssss", steps));
    let QueryReply::DryRun { steps, .. } = controller.query(Query::DryRun { plan }).await else { panic!("no dry run") };
    assert_eq!(steps.iter().map(|s| s.verdict.as_str()).collect::<Vec<_>>(), ["run", "skip", "unknown"], "{steps:#?}");
    assert_eq!(std::fs::read_dir(sandbox.work()).unwrap().count(), 0);
}

/// Kills the worker once this many events were seen, and follows the run to its end. The killed worker may have
/// finished it before the signal came.
async fn killed_after(seen: usize, last_step: &str) -> (Sandbox, Outcome, Vec<Event>) {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let first = release(&sandbox, &mut controller, "20261123-100000-aaaaaa", "12.0.0", &[("a", "one"), ("gone", "x")]);
    controller.submit(&first).await.unwrap();
    assert_eq!(controller.until_end().await.1, Outcome::Changed);
    let run = "20261123-100001-bbbbbb";
    let mut second = release(&sandbox, &mut controller, run, "12.0.1", &[("a", "two"), ("b/new", "y")]);
    second.steps.insert(0, step(Phase::Apply, 1, command("echo stopped >> log")));
    second.steps.push(step(Phase::Prove, 1, command(last_step)));
    controller.submit(&second).await.unwrap();
    for _ in 0..seen {
        if controller.event().await.is_none() {
            break;
        }
    }
    sandbox.kill_worker();
    let mut again = Controller::connect(&sandbox).await;
    again.blobs = std::mem::take(&mut controller.blobs);
    again.frozen(FrozenRequest::EventsSince { run: run.into(), from: 1 }).await;
    let (events, outcome) = again.until_end().await;
    (sandbox, outcome, events)
}

#[tokio::test]
async fn a_worker_killed_anywhere_ends_on_the_new_release() {
    for seen in 1..=18 {
        let (sandbox, outcome, events) = killed_after(seen, "echo started >> log").await;
        assert_eq!(outcome, Outcome::Changed, "killed after {seen}: {:#?}", words(&events));
        let epics = sandbox.work().join("epics");
        assert_eq!(std::fs::read_to_string(epics.join("a")).unwrap(), "two", "killed after {seen}");
        assert!(epics.join("b/new").exists() && !epics.join("gone").exists(), "killed after {seen}");
        // Every program ran exactly once, whatever was killed around it.
        assert_eq!(std::fs::read_to_string(sandbox.work().join("log")).unwrap(), "stopped\nstarted\n", "killed after {seen}");
    }
}

#[tokio::test]
async fn a_worker_killed_anywhere_on_a_failing_run_ends_on_the_old_release() {
    for seen in 1..=22 {
        let (sandbox, outcome, events) = killed_after(seen, "exit 1").await;
        assert_eq!(outcome, Outcome::RolledBack, "killed after {seen}: {:#?}", words(&events));
        let epics = sandbox.work().join("epics");
        assert_eq!(std::fs::read_to_string(epics.join("a")).unwrap(), "one", "killed after {seen}");
        assert!(!epics.join("b").exists() && epics.join("gone").exists(), "killed after {seen}");
    }
}

#[tokio::test]
async fn a_wedged_run_is_abandoned_only_by_force() {
    let sandbox = Sandbox::new();
    let mut controller = Controller::connect(&sandbox).await;
    let run = "20261123-100000-tttttt";
    let waiting = command("while [ ! -e go ]; do sleep 0.02; done");
    controller.submit(&sandbox.plan(run, vec![step(Phase::Apply, 1, waiting)])).await.unwrap();
    controller.until(|k| matches!(k, EventKind::StepWaiting { .. })).await;
    let mut second = Controller::connect(&sandbox).await;
    let QueryReply::Failed(refused) = second.query(Query::Unlock { force: false }).await else { panic!("not refused") };
    assert!(refused.details().message.contains(run), "{refused}");
    let QueryReply::Done { summary } = second.query(Query::Unlock { force: true }).await else { panic!("not abandoned") };
    assert!(summary.contains(run), "{summary}");
    std::fs::write(sandbox.work().join("go"), "").unwrap();
    let mut third = Controller::connect(&sandbox).await;
    let QueryReply::Runs(runs) = third.query(Query::Runs).await else { panic!("no list of runs") };
    assert_eq!(runs[0].outcome, Some(Outcome::Failed));
    third.submit(&sandbox.plan("20261123-100001-uuuuuu", Vec::new())).await.unwrap();
    assert_eq!(third.until_end().await.1, Outcome::Ok);
}
