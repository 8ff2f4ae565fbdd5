//! One event as one line of words, the same for files, pipes and the place above the bar.

use super::text::{clean, count, duration, size};
use crate::events::{BackedUp, Event, EventKind, RunState, StepRef, Unit, VersionChange};
use crate::playbook::Phase;
use std::collections::BTreeMap;

/// How much is told: 0 what is noteworthy, 1 each step as well, 2 everything.
pub type Verbosity = u8;

/// A wait is told again after each of these.
const WAIT_TOLD_EVERY_MS: u64 = 60_000;

/// Chooses the events that are told, and finds the words.
#[derive(Debug, Default)]
pub(super) struct Lines {
    verbose: Verbosity,
    /// By instrument: the step that waits and how many minutes were told.
    told: BTreeMap<String, (String, u64)>,
}

/// What is said of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The kind in one or two words that stay the same: what to grep for.
    pub(super) tag: &'static str,
    pub(super) text: String,
}

impl Lines {
    pub(super) fn new(verbose: Verbosity) -> Self {
        Self { verbose, told: BTreeMap::new() }
    }

    /// The words for an event, when it is to be told.
    pub(super) fn of(&mut self, state: &RunState, event: &Event) -> Option<Line> {
        let (level, tag, text) = self.run(event).or_else(|| self.course(state, event)).or_else(|| self.step(event))?;
        (level <= self.verbose).then(|| Line { tag, text: clean(&text).into_owned() })
    }

    fn run(&self, event: &Event) -> Option<(u8, &'static str, String)> {
        Some(match &event.kind {
            EventKind::RunStarted { playbook, kit, operator, instruments, rehearsal, plan } => {
                let what = if *rehearsal { "REHEARSAL of" } else { "run of" };
                let kit = kit.as_ref().map(|k| format!(", kit {k}")).unwrap_or_default();
                let on = count(instruments.len(), "instrument");
                let plan = plan.get(..12).unwrap_or(plan);
                (0, "run", format!("{what} {playbook}{kit} on {on} by {operator}, run {}, plan {plan}", event.run))
            }
            EventKind::RunFinished { exit_code, ms, stopped } => {
                let why = stopped.as_ref().map(|s| format!(", stopped: {s}")).unwrap_or_default();
                (0, "run-end", format!("finished after {}, exit code {exit_code}{why}", duration(*ms)))
            }
            EventKind::Queued { why } => (1, "queued", why.clone()),
            EventKind::Connecting { attempt: 1 } => (1, "connect", "connecting".to_owned()),
            EventKind::Connecting { attempt } => (0, "connect", format!("connecting, attempt {attempt}")),
            EventKind::Bringing => (0, "connect", "bringing the agent, which is not there yet".to_owned()),
            EventKind::Connected { agent, platform, host } => {
                (1, "connect", format!("connected to {host} ({platform}), agent {agent}"))
            }
            EventKind::LinkLost { why, retry_ms } => (0, "link-lost", format!("{why}; trying again in {}", duration(*retry_ms))),
            EventKind::Sent { bytes } => (2, "sent", size(*bytes)),
            _ => return None,
        })
    }

    fn course(&self, state: &RunState, event: &Event) -> Option<(u8, &'static str, String)> {
        Some(match &event.kind {
            EventKind::Accepted { playbook, steps, .. } => {
                (1, "accepted", format!("{playbook}, {}", count(*steps as usize, "step")))
            }
            EventKind::Facts { facts } => {
                (2, "facts", facts.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "))
            }
            EventKind::PhaseStarted { phase } => (u8::from(*phase == Phase::Close), "phase", format!("{phase} begins")),
            EventKind::PhaseFinished { phase, ms } => (1, "phase", format!("{phase} took {}", duration(*ms))),
            EventKind::Held { why } => (0, "held", why.clone()),
            EventKind::Released => (1, "released", "may apply".to_owned()),
            EventKind::StagingNeeds { files, bytes } => {
                (1, "staging", format!("needs {}, {}", count(*files as usize, "file"), size(*bytes)))
            }
            EventKind::Staged { files, fetched_bytes, copied_bytes, ms } => (
                0,
                "staged",
                format!(
                    "{}, {} fetched, {} were there, in {}",
                    count(*files as usize, "file"),
                    size(*fetched_bytes),
                    size(*copied_bytes),
                    duration(*ms)
                ),
            ),
            EventKind::OutageStarted => (1, "outage", "begins".to_owned()),
            EventKind::OutageEnded { ms: 0 } => (1, "outage-end", "there was none: IBEX was not stopped".to_owned()),
            EventKind::OutageEnded { ms } => (0, "outage-end", format!("after {}", duration(*ms))),
            EventKind::RollbackStarted { because } => (0, "rollback", because.clone()),
            EventKind::RollbackFinished { ok: true, .. } => (0, "rollback-end", "all is as it was before".to_owned()),
            EventKind::RollbackFinished { ok: false, left } => {
                (0, "rollback-end", format!("NOT all is as it was before: {}", left.join("; ")))
            }
            // Both stand in the final report, grouped.
            EventKind::Reminder { text } => (1, "reminder", text.clone()),
            EventKind::HandChanges { component, files, archive } => {
                (1, "hand-changes", hand_change(component, *files, archive.as_deref())?)
            }
            EventKind::BackedUp(backup) => (1, "backup", backed_up(backup)),
            EventKind::Question { text, .. } => (0, "question", text.clone()),
            EventKind::Recovered { how } => (0, "recovered", how.clone()),
            EventKind::Note { text } => (1, "note", text.clone()),
            EventKind::InstrumentFinished { outcome, error, ms, outage_ms, .. } => {
                let versions = event.instrument.as_deref().and_then(|n| state.instrument(n)).map(|i| versions(&i.versions));
                let mut text = versions.unwrap_or_default();
                let mut add = |part: String| text.push_str(&if text.is_empty() { part } else { format!(", {part}") });
                if *outage_ms > 0 {
                    add(format!("outage {}", duration(*outage_ms)));
                }
                add(format!("took {}", duration(*ms)));
                if let Some(error) = error {
                    add(error.to_string());
                }
                (0, outcome.word(), text)
            }
            _ => return None,
        })
    }

    fn step(&mut self, event: &Event) -> Option<(u8, &'static str, String)> {
        Some(match &event.kind {
            EventKind::StepStarted { step, attempt: 1 } => (1, "step", format!("{}: {}", step.id, step.name)),
            EventKind::StepStarted { step, attempt } => (1, "step", format!("{}: {}, attempt {attempt}", step.id, step.name)),
            EventKind::StepWaiting { step, what, elapsed_ms, limit_ms } => {
                let level = if self.is_new_minute(event, step, *elapsed_ms) { 0 } else { 2 };
                (level, "waiting", format!("{}: {}", step.id, waiting(what, *elapsed_ms, *limit_ms)))
            }
            EventKind::StepProgress { step, done, total, unit } => {
                (2, "progress", format!("{}: {}", step.id, progress(*done, *total, *unit)))
            }
            EventKind::StepOutput { step, line } => (2, "output", format!("{}: {line}", step.id)),
            EventKind::StepFinished { step, outcome, summary, ms, error, .. } => {
                let level = u8::from(outcome.is_good());
                let mut text = format!("{}: {outcome}", step.id);
                if !summary.is_empty() {
                    text.push_str(&format!(", {summary}"));
                }
                text.push_str(&format!(", {}", duration(*ms)));
                if let Some(error) = error {
                    text.push_str(&format!(": {error}"));
                }
                (level, "step-end", text)
            }
            EventKind::StepUndone { step, outcome, summary, ms } => {
                (u8::from(outcome.is_good()), "undone", format!("{}: {outcome}, {summary}, {}", step.id, duration(*ms)))
            }
            _ => return None,
        })
    }

    /// True once for each minute that a step waits.
    fn is_new_minute(&mut self, event: &Event, step: &StepRef, elapsed_ms: u64) -> bool {
        let Some(name) = &event.instrument else { return false };
        let minutes = elapsed_ms / WAIT_TOLD_EVERY_MS;
        let told = self.told.entry(name.clone()).or_insert_with(|| (step.id.clone(), 0));
        if told.0 != step.id || minutes < told.1 {
            *told = (step.id.clone(), 0);
        }
        let new = minutes > told.1;
        told.1 = minutes;
        new
    }
}

/// `waiting for service MYSQL84, 40 s of 120 s`.
pub(super) fn waiting(what: &str, elapsed_ms: u64, limit_ms: u64) -> String {
    let what = what.strip_prefix("waiting for ").unwrap_or(what);
    format!("waiting for {what}, {} s of {} s", elapsed_ms / 1000, limit_ms / 1000)
}

/// `3.0 MB of 12.0 MB`, `4 of 9 files`.
pub(super) fn progress(done: u64, total: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => format!("{} of {}", size(done), size(total)),
        Unit::Files => format!("{done} of {total} files"),
        Unit::Items => format!("{done} of {total}"),
    }
}

/// From which version to which; once when all components went the same way.
pub(super) fn versions(by_component: &BTreeMap<String, VersionChange>) -> String {
    let mut distinct: Vec<&VersionChange> = Vec::new();
    for change in by_component.values() {
        if (change.from.is_some() || change.to.is_some()) && !distinct.contains(&change) {
            distinct.push(change);
        }
    }
    match distinct.as_slice() {
        [] => String::new(),
        [one] => version(one),
        _ => by_component.iter().map(|(name, change)| format!("{name} {}", version(change))).collect::<Vec<_>>().join(", "),
    }
}

fn version(change: &VersionChange) -> String {
    match (&change.from, &change.to) {
        (Some(from), Some(to)) if from == to => format!("{from} (as before)"),
        (Some(from), Some(to)) => format!("{from} -> {to}"),
        (None, Some(to)) => format!("none -> {to}"),
        (Some(from), None) => format!("{from} -> none"),
        (None, None) => "unknown".to_owned(),
    }
}

/// `C:\\data\\old\\ibex_backup_2026_11_28: 7 zips with 113 files, 4.2 MB`, and what is not in them.
pub(super) fn backed_up(backup: &BackedUp) -> String {
    let (zips, files) = (count(backup.zips as usize, "zip"), count(backup.files as usize, "file"));
    let lost = match backup.unreadable {
        0 => String::new(),
        n => format!(", without {} that could not be read", count(n as usize, "file")),
    };
    format!("{}: {zips} with {files}, {}{lost}", backup.folder, size(backup.bytes))
}

/// What is said of changes made by hand; nothing when there were none.
pub(super) fn hand_change(component: &str, files: Option<u64>, archive: Option<&str>) -> Option<String> {
    match (files, archive) {
        (Some(0), _) => None,
        (Some(n), Some(archive)) => {
            Some(format!("{} of {component} changed by hand, saved in {archive}", count(n as usize, "file")))
        }
        (Some(n), None) => Some(format!("{} of {component} changed by hand", count(n as usize, "file"))),
        (None, _) => Some(hand_changes_unknown(&[component])),
    }
}

/// What is said of components that were not released before.
pub(super) fn hand_changes_unknown(components: &[&str]) -> String {
    format!("whether {} changed by hand is unknown: there is no baseline before the first release", listed(components))
}

/// `EPICS was`, `EPICS and Client were`.
fn listed(components: &[&str]) -> String {
    match components {
        [] => "anything was".to_owned(),
        [one] => format!("{one} was"),
        [most @ .., last] => format!("{} and {last} were", most.join(", ")),
    }
}
