//! Rounds that are played at once: one release of several instruments, whose links are cut each in its own way.

use super::scene::{Kind, Moment, Phase, Scene};
use super::stage::{CANARY, bar, prepare, write_playbooks};
use crate::sandbox::{differences, ibex, installed, journal, outcome};
use crate::support::{Cut, Fleet, Line, NEWER, agent_in};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a round has shown.
#[derive(Debug)]
pub(crate) struct Hit {
    pub(crate) scene: Scene,
    /// Where the run was when the link was cut; nothing when it was not.
    pub(crate) phase: Option<Phase>,
    pub(crate) outcome: String,
    /// Why the link was lost, as the controller said each time.
    pub(crate) lost: Vec<String>,
}

/// The link of a round and what is done to it.
struct Target<'a> {
    scene: Scene,
    line: &'a Line,
    /// Where the run was when the link was cut.
    cut_in: OnceLock<Phase>,
}

impl Target<'_> {
    fn is_cut(&self) -> bool {
        self.cut_in.get().is_some()
    }

    /// Notes where the run is.
    fn note(&self) {
        let seen = Phase::of(&journal(&self.line.root));
        let missing = if agent_in(&self.line.root).exists() { Phase::Connect } else { Phase::Bring };
        self.cut_in.set(seen.unwrap_or(missing)).expect("one cut in a round");
    }

    /// What must be so before the release begins.
    fn arm(&self) {
        let proxy = &self.line.proxy;
        match (self.scene.moment, self.scene.kind) {
            (Moment::First, _) => {
                proxy.refuse();
                self.note();
            }
            (Moment::Byte { way, count }, Kind::Freeze) => proxy.abandon_after(way, count),
            (Moment::Byte { way, count }, Kind::Close) => proxy.cut_after(way, count, Cut::Close),
            (Moment::Byte { way, count }, Kind::Reset | Kind::Refuse) => proxy.cut_after(way, count, Cut::Reset),
            (Moment::Told { .. }, _) => {}
        }
    }

    /// Waits until a cut at a byte is noted, if the proxy has made it: whoever counts what came after it must know of it.
    fn settle(&self) {
        while !self.line.proxy.is_waiting_for_bytes() && matches!(self.scene.moment, Moment::Byte { .. }) && !self.is_cut() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the cut at a byte, which the proxy makes by itself; or for the end of the command.
    fn watch(&self, over: &AtomicBool) {
        if !matches!(self.scene.moment, Moment::Byte { .. }) {
            return;
        }
        while self.line.proxy.is_waiting_for_bytes() {
            if over.load(Ordering::SeqCst) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.scene.kind == Kind::Refuse {
            self.line.proxy.refuse();
        }
        self.note();
    }

    fn cut(&self) {
        let proxy = &self.line.proxy;
        match self.scene.kind {
            Kind::Reset => proxy.cut_now(Cut::Reset),
            Kind::Close => proxy.cut_now(Cut::Close),
            Kind::Freeze => proxy.abandon(),
            Kind::Refuse => {
                proxy.refuse();
                proxy.cut_now(Cut::Reset);
            }
        }
        self.note();
        if !self.scene.waits {
            self.open();
        }
    }

    /// Lets the instrument go on.
    fn open(&self) {
        if self.scene.has_gate() {
            // It may be open already.
            let _ = std::fs::remove_file(bar(&self.line.root, self.scene.phase));
        }
    }
}

/// What the controller tells of a round.
struct Story<'a> {
    target: &'a Target<'a>,
    /// Events since the phase began.
    since: Option<u64>,
    /// Why the link was lost, each time.
    lost: Vec<String>,
    told: Option<String>,
    /// The event that told its end.
    end: String,
}

impl Story<'_> {
    /// Looks at an event of this instrument, and does what is due.
    fn see(&mut self, event: &Value) {
        let scene = &self.target.scene;
        match event["event"].as_str().unwrap_or_default() {
            "instrument_finished" => {
                self.told = event["outcome"].as_str().map(str::to_owned);
                self.end = event.to_string();
            }
            "link_lost" => {
                self.target.settle();
                self.lost.push(event["why"].as_str().unwrap_or_default().to_owned());
                if scene.kind == Kind::Refuse && self.target.is_cut() && self.lost.len() >= scene.refusals {
                    self.target.line.proxy.accept();
                }
            }
            "connected" if self.target.is_cut() => self.target.open(),
            _ => {}
        }
        let Moment::Told { more } = scene.moment else { return };
        if Phase::begun_by(event) == Some(scene.phase) && self.since.is_none() {
            self.since = Some(0);
        } else if let Some(since) = &mut self.since {
            *since += 1;
        }
        let gate = format!("gate of {}", scene.phase.word());
        let at_gate = event["event"] == "step_started" && event["step"]["name"] == gate && !scene.fails();
        if (at_gate || self.since.is_some_and(|since| since >= more)) && !self.target.is_cut() {
            self.target.cut();
        }
    }
}

/// Plays scenes at once.
///
/// # Panics
/// When an instrument is left in any state but the right one.
pub(crate) fn play(scenes: &[Scene]) -> Vec<Hit> {
    let links = prepare(scenes);
    let playbooks = write_playbooks(&links.fleet);
    let (canary, others) = links.lines.split_first().expect("a canary");
    let before: Vec<_> = others.iter().map(|line| installed(&line.root)).collect();
    let target = |(scene, line): (&Scene, _)| Target { scene: *scene, line, cut_in: OnceLock::new() };
    let targets: Vec<Target<'_>> = scenes.iter().zip(others).map(target).collect();
    targets.iter().for_each(Target::arm);
    let (code, stories) = release(&links.fleet, &playbooks, canary, &targets);
    let hits: Vec<Hit> = stories.iter().zip(&before).map(|(story, before)| judge(&links.fleet, story, before)).collect();
    canary.ends_clean("the canary");
    assert_eq!(links.fleet.unlike(CANARY, NEWER, &[]), [""; 0], "the canary");
    let failing = scenes.iter().any(Scene::fails);
    assert_eq!(code, Some(i32::from(failing)), "the exit code of the release of {scenes:?}");
    hits
}

/// Runs the release to its end; returns its exit code and what it told.
fn release<'a>(fleet: &Fleet, playbooks: &Path, canary: &Line, targets: &'a [Target<'a>]) -> (Option<i32>, Vec<Story<'a>>) {
    let names: Vec<&str> = std::iter::once(CANARY).chain(targets.iter().map(|t| t.line.name.as_str())).collect();
    let (list, playbooks) = (names.join(","), playbooks.display().to_string());
    let limits = ["--canary", CANARY, "--jobs", "20", "--deadline", "4m"];
    let mut controller = fleet.start(&[&["release", &list, "--yes", "--playbooks", &playbooks][..], &limits].concat());
    let mut stories: Vec<Story<'_>> =
        targets.iter().map(|target| Story { target, since: None, lost: Vec::new(), told: None, end: String::new() }).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for target in targets {
            scope.spawn(|| target.watch(&over));
        }
        let mut shut = true;
        while let Some(event) = controller.until(|_| true) {
            for story in stories.iter_mut().filter(|s| event["instrument"] == s.target.line.name) {
                story.see(&event);
            }
            if shut && targets.iter().all(|t| t.scene.phase != Phase::Hold || t.is_cut()) {
                shut = false;
                std::fs::remove_file(bar(&canary.root, Phase::Apply)).expect("the canary's gate");
            }
        }
        over.store(true, Ordering::SeqCst);
    });
    (controller.child.wait().expect("the release ends").code(), stories)
}

/// Looks at everything.
fn judge(fleet: &Fleet, story: &Story<'_>, before: &BTreeMap<String, String>) -> Hit {
    let Target { scene, line, cut_in } = story.target;
    let entries = journal(&line.root);
    let told = || {
        let lines: Vec<String> = entries.iter().map(|e| e.to_string().chars().take(300).collect()).collect();
        let again = format!("again with: scripts/chaos 1 {} --ssh", scene.seed);
        let lost = story.lost.join("; ");
        let (end, lines) = (&story.end, lines.join("\n"));
        format!("{scene}, {}, cut in {cut_in:?}; {again}\nlost: {lost}\nend: {end}\n{lines}", line.name)
    };
    let outcome = outcome(&entries).unwrap_or_else(|| panic!("the journal does not say how it ended: {}", told()));
    assert_eq!(story.told.as_ref(), Some(&outcome), "what is told is what is written: {}", told());
    if scene.fails() {
        assert_eq!(outcome, "rolled_back", "{}", told());
        assert_eq!(differences(before, &installed(&line.root)), [""; 0], "the old release: {}", told());
        assert_eq!(ibex(&line.root).is_some(), scene.runs, "IBEX runs as before: {}", told());
    } else {
        assert_eq!(outcome, "changed", "{}", told());
        assert_eq!(fleet.unlike(&line.name, NEWER, &[]), [""; 0], "the new release: {}", told());
        assert!(ibex(&line.root).is_some(), "IBEX runs on the new release: {}", told());
    }
    line.ends_clean(&told());
    Hit { scene: *scene, phase: cut_in.get().copied(), outcome, lost: story.lost.clone() }
}
