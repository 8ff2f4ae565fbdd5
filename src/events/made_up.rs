//! Made-up events, for tests of what is made from events.

use super::{EVENT_VERSION, Event, EventKind, LongStep, Outcome, RunId, StepRef, VersionChange};
use crate::error::Error;
use crate::playbook::Phase;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Writes a run's events, one second apart unless told otherwise.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) events: Vec<Event>,
    at: Timestamp,
    n: BTreeMap<String, u64>,
}

impl Story {
    /// A run of `release` that begins on these instruments.
    pub(crate) fn begin(instruments: &[&str], rehearsal: bool) -> Self {
        let mut story = Self { events: Vec::new(), at: "2026-11-23T22:00:00Z".parse().unwrap(), n: BTreeMap::new() };
        story.run(EventKind::RunStarted {
            playbook: "release".into(),
            kit: Some("15.0.0".into()),
            operator: "kvlb23@control".into(),
            instruments: instruments.iter().map(|i| (*i).to_owned()).collect(),
            rehearsal,
            plan: "5f0c1e2d3b4a59687786".into(),
        });
        story
    }

    pub(crate) fn run(&mut self, kind: EventKind) -> &mut Self {
        self.push(None, 0, kind)
    }

    /// An event of the instrument's journal.
    pub(crate) fn at(&mut self, instrument: &str, kind: EventKind) -> &mut Self {
        let n = self.n.entry(instrument.to_owned()).or_default();
        *n += 1;
        let n = *n;
        self.push(Some(instrument), n, kind)
    }

    /// An event that no journal keeps.
    pub(crate) fn passing(&mut self, instrument: &str, kind: EventKind) -> &mut Self {
        self.push(Some(instrument), 0, kind)
    }

    pub(crate) fn later(&mut self, ms: i64) -> &mut Self {
        self.at += jiff::SignedDuration::from_millis(ms);
        self
    }

    fn push(&mut self, instrument: Option<&str>, n: u64, kind: EventKind) -> &mut Self {
        self.events.push(Event {
            v: EVENT_VERSION,
            run: RunId("20261123-220000-abcdef".into()),
            instrument: instrument.map(str::to_owned),
            n,
            at: self.at,
            kind,
        });
        self.later(1000)
    }

    /// The instrument takes its plan and stages 40 MB.
    pub(crate) fn staged(&mut self, name: &str) -> &mut Self {
        let sync = step("apply.02.sync", "sync EPICS to server");
        self.passing(name, EventKind::Connecting { attempt: 1 });
        self.passing(name, EventKind::Connected { agent: "0.1.0".into(), platform: "sandbox".into(), host: name.to_lowercase() });
        self.at(
            name,
            EventKind::Accepted { playbook: "release".into(), operator: "kvlb23@control".into(), plan: "5f0c".into(), steps: 6 },
        );
        self.at(name, EventKind::PhaseStarted { phase: Phase::Stage });
        self.at(name, EventKind::StagingNeeds { files: 113, bytes: 40_000_000 });
        let bytes = super::Unit::Bytes;
        self.passing(name, EventKind::StepProgress { step: sync, done: 12_000_000, total: 40_000_000, unit: bytes });
        self.passing(name, EventKind::Sent { bytes: 9_000_000 });
        self.at(name, EventKind::Staged { files: 113, fetched_bytes: 30_000_000, copied_bytes: 10_000_000, ms: 20_000 });
        self.at(name, EventKind::PhaseFinished { phase: Phase::Stage, ms: 30_000 })
    }

    /// ... and stops IBEX.
    pub(crate) fn applying(&mut self, name: &str) -> &mut Self {
        self.staged(name);
        self.at(name, EventKind::PhaseStarted { phase: Phase::Apply });
        self.at(name, EventKind::OutageStarted);
        self.at(name, EventKind::StepStarted { step: step("apply.01.command", "stop IBEX"), attempt: 1 });
        let (outcome, summary) = (Outcome::Changed, "exit code 0".to_owned());
        let step = step("apply.01.command", "stop IBEX");
        self.at(name, EventKind::StepFinished { step, outcome, summary, ms: 21_000, error: None, items: vec![] })
    }

    /// ... and comes well to its end.
    pub(crate) fn changed(&mut self, name: &str, outage_ms: u64) -> &mut Self {
        self.applying(name);
        self.at(name, EventKind::PhaseFinished { phase: Phase::Apply, ms: outage_ms });
        self.at(name, EventKind::OutageEnded { ms: outage_ms });
        self.at(name, EventKind::Reminder { text: "check the motor setpoints with the instrument scientist".into() });
        self.end(name, Outcome::Changed, outage_ms, None)
    }

    pub(crate) fn end(&mut self, name: &str, outcome: Outcome, outage_ms: u64, error: Option<Error>) -> &mut Self {
        let to = if outcome == Outcome::Changed { "15.0.0" } else { "14.0.2" };
        let change = VersionChange { from: Some("14.0.2".into()), to: Some(to.into()) };
        let versions =
            if outcome == Outcome::Unreachable { BTreeMap::new() } else { [("EPICS".to_owned(), change)].into_iter().collect() };
        let longest = if outage_ms > 0 {
            vec![LongStep { name: "stop IBEX".into(), ms: 21_000 }, LongStep { name: "start IBEX".into(), ms: 18_400 }]
        } else {
            Vec::new()
        };
        self.at(name, EventKind::InstrumentFinished { outcome, versions, outage_ms, longest, ms: outage_ms + 34_000, error })
    }

    pub(crate) fn finish(&mut self, exit_code: u8, stopped: Option<&str>) -> &mut Self {
        self.run(EventKind::RunFinished { exit_code, ms: 724_000, stopped: stopped.map(str::to_owned) })
    }
}

/// A step whose phase stands in its id.
pub(crate) fn step(id: &str, name: &str) -> StepRef {
    let mut parts = id.split('.');
    let phase = parts.next().and_then(|word| Phase::ALL.into_iter().find(|p| p.word() == word)).unwrap_or(Phase::Apply);
    StepRef { id: id.to_owned(), name: name.to_owned(), phase, action: parts.next_back().unwrap_or("command").to_owned() }
}
