//! What instruments answered, and what a run would do: for people.

use super::hotfix::status_lines;
use super::text::{clean, count, duration, size, wrap};
use super::{Column, Screen, Table, Verbosity};
use crate::error::{Error, Result};
use crate::plan::{InstrumentView, PlanView};
use crate::playbook::Phase;
use crate::protocol::{DryRunStep, RollbackPreview, StatusReport};
use serde::Serialize;
use std::fmt::Write;

/// What a run would do, before it is confirmed.
pub fn what_will_happen(plan: &PlanView, screen: Screen) -> String {
    let mut text = String::new();
    let kit = plan.kit.as_ref().map_or_else(String::new, |kit| format!(" {kit}"));
    let rehearsal = if plan.rehearsal { " (a rehearsal on sandboxes)" } else { "" };
    let number = count(plan.instruments.len(), "instrument");
    let heading = format!("{}{kit} on {number}{rehearsal}", plan.playbook);
    // Writing into a string cannot fail.
    let _ = writeln!(text, "{}", screen.bold(&heading));
    let all: Vec<&str> = plan.instruments.iter().map(|i| i.name.as_str()).collect();
    let _ = writeln!(text, "{}", wrap(&all.join(", "), screen.width, "  ", "  "));
    for (component, release) in &plan.borrowed {
        let _ = writeln!(text, "  {component} comes from the older release {release}");
    }
    if let Some(first) = plan.instruments.first() {
        for phase in Phase::ALL {
            let steps = first.steps.iter().filter(|s| s.phase == phase && s.skip.is_none()).count();
            let _ = writeln!(text, "  {phase:<6} {}", count(steps, "step"));
        }
    }
    let mut lost: Vec<&str> = plan.instruments.iter().flat_map(|i| &i.cannot_undo).map(String::as_str).collect();
    lost.sort_unstable();
    lost.dedup();
    for step in lost {
        let _ = writeln!(text, "  {} {}", screen.bold("cannot be undone:"), clean(step));
    }
    text
}

/// One instrument's answer to a dry run.
#[derive(Debug, Serialize)]
pub struct DryRun {
    pub instrument: String,
    pub host: String,
    pub steps: Vec<DryRunStep>,
    /// Bytes that would have to be brought.
    pub fetch_bytes: u64,
    /// Names of the steps that could not be undone.
    pub cannot_undo: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

impl DryRun {
    pub fn new(instrument: InstrumentView, answer: Result<Vec<DryRunStep>>) -> Self {
        let (steps, error) = match answer {
            Ok(steps) => (steps, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self {
            fetch_bytes: steps.iter().map(|s| s.fetch_bytes).sum(),
            instrument: instrument.name,
            host: instrument.host,
            cannot_undo: instrument.cannot_undo,
            steps,
            error,
        }
    }

    /// True when nothing stands in the way, as far as can be seen now.
    pub fn would_succeed(&self) -> bool {
        self.error.is_none() && self.steps.iter().all(|s| s.error.is_none())
    }
}

/// Up to so many instruments, a dry run shows every step without being asked to.
const SHOWN_IN_FULL: usize = 3;

/// The answers of all instruments to a dry run: a table of many, every step of a few or with `verbose`, and with more
/// of it each thing that would change.
pub fn dry_run(all: &[DryRun], verbose: Verbosity, screen: Screen) -> String {
    let few = all.len() <= SHOWN_IN_FULL;
    let mut text = if few { String::new() } else { dry_run_table(all, screen) };
    if few || verbose > 0 {
        text.push_str(&dry_run_steps(all, verbose > u8::from(!few), screen));
    }
    let ready = all.iter().filter(|d| d.would_succeed()).count();
    let more = if few || verbose > 0 { "" } else { " Every step of each with -v." };
    let _ = writeln!(text, "{} looked at, {ready} without a problem. Nothing was changed.{more}", count(all.len(), "instrument"));
    text
}

/// A row for each instrument, then the problems.
fn dry_run_table(all: &[DryRun], screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::new("INSTRUMENT"),
        Column::new("TO BRING").right(),
        Column::new("RUN").right(),
        Column::new("SKIP").right(),
        Column::new("UNKNOWN").right(),
        Column::new("CANNOT BE UNDONE").cut(),
        Column::new("PROBLEMS").right(),
    ]);
    let mut problems = String::new();
    for one in all {
        let verdicts = |word: &str| one.steps.iter().filter(|s| s.verdict == word).count().to_string();
        let failing: Vec<&DryRunStep> = one.steps.iter().filter(|s| s.error.is_some()).collect();
        let wrong = failing.len() + usize::from(one.error.is_some());
        let wrong = if wrong == 0 { String::new() } else { wrong.to_string() };
        let undo = one.cannot_undo.join(", ");
        let bring = size(one.fetch_bytes);
        table.row([one.instrument.clone(), bring, verdicts("run"), verdicts("skip"), verdicts("unknown"), undo, wrong]);
        for error in one.error.iter().chain(failing.iter().filter_map(|s| s.error.as_ref())) {
            problems.push_str(&super::error(&error.clone().on_host(&one.instrument), screen));
        }
    }
    let mut text = table.render(screen);
    text.push('\n');
    text.push_str(&problems);
    text
}

fn dry_run_steps(all: &[DryRun], items: bool, screen: Screen) -> String {
    let mut text = String::new();
    for one in all {
        let heading = format!("{} ({})", one.instrument, one.host);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{}: {} to bring", screen.bold(&heading), size(one.fetch_bytes));
        if let Some(error) = &one.error {
            text.push_str(&super::error(error, screen));
        }
        for step in &one.steps {
            let bytes = if step.fetch_bytes > 0 { format!(" ({})", size(step.fetch_bytes)) } else { String::new() };
            let _ = writeln!(text, "  {:<8} {:<24} {}{bytes}", step.verdict, step.id, clean(&step.summary));
            if let Some(error) = &step.error {
                let _ = writeln!(text, "           {} {}", screen.red("would fail:"), clean(&error.to_string()));
            }
            for item in step.items.iter().filter(|_| items) {
                let _ = writeln!(text, "           {}", clean(item));
            }
        }
        for step in &one.cannot_undo {
            let _ = writeln!(text, "  {} {}", screen.bold("cannot be undone:"), clean(step));
        }
        text.push('\n');
    }
    text
}

/// One instrument's answer to `status`.
#[derive(Debug, Serialize)]
pub struct StatusRow {
    pub instrument: String,
    pub host: String,
    /// The day from which SECI need not run any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seci_retires: Option<String>,
    /// That day has come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub seci_retired: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

/// The state of instruments as a table, then what does not fit into one.
pub fn status(rows: &[StatusRow], screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::new("INSTRUMENT"),
        Column::new("SYSTEM"),
        Column::new("VERSIONS").cut(),
        Column::new("LAST RUN").cut(),
        Column::new("LOCK").cut(),
        Column::new("BY HAND"),
        Column::new("FREE"),
        Column::new("REBOOT"),
        Column::new("SECI UNTIL"),
    ]);
    for row in rows {
        table.row(cells(row));
    }
    let mut text = table.render(screen);
    for row in rows {
        if let Some(error) = &row.error {
            text.push_str(&super::error(error, screen));
        }
        for (run, damage) in
            row.status.iter().filter_map(|s| s.last_run.as_ref()).filter_map(|r| Some((&r.run, r.damage.as_ref()?)))
        {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "{}: the run {run} cannot be undone, and does not go on: {}", row.instrument, clean(damage));
        }
        text.push_str(&row.status.as_ref().map_or_else(String::new, |s| status_lines(&row.instrument, &s.hotfixes)));
        if row.seci_retired {
            let active = row.status.as_ref().and_then(|s| s.facts.get("active_system"));
            let runs = if active.is_some_and(|a| a == "seci") { ", and it is still used" } else { "" };
            let date = row.seci_retires.as_deref().unwrap_or_default();
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "{}: SECI's retirement date {date} has passed{runs}: agree a new date with its scientists",
                row.instrument
            );
        }
        for (component, files) in row.status.iter().flat_map(|s| &s.hand_changes) {
            for file in files.iter().flatten() {
                // Writing into a string cannot fail.
                let _ = writeln!(text, "{}: changed by hand: {component}: {}", row.instrument, clean(file));
            }
        }
    }
    text
}

fn cells(row: &StatusRow) -> [String; 9] {
    let seci = row.seci_retires.clone().unwrap_or_default();
    let Some(s) = &row.status else {
        let why = row.error.as_ref().map_or("no answer", |_| "no answer, see below");
        return [row.instrument.clone(), why.into(), "".into(), "".into(), "".into(), "".into(), "".into(), "".into(), seci];
    };
    let system = s.facts.get("active_system").and_then(|v| v.as_str()).unwrap_or("unknown").to_owned();
    let versions: Vec<String> = s.versions.iter().map(|(place, version)| format!("{place} {version}")).collect();
    let last = s.last_run.as_ref().map_or_else(String::new, |run| {
        let word = match run.outcome {
            _ if run.damage.is_some() => "damaged",
            Some(outcome) => outcome.word(),
            None => "unfinished",
        };
        format!("{} {word}", run.run)
    });
    let lock = s.lock.as_ref().map_or_else(String::new, |lock| {
        let since = jiff::Timestamp::now().duration_since(lock.since).as_millis();
        format!("{} {} for {}", lock.owner, lock.run, duration(u64::try_from(since).unwrap_or(0)))
    });
    let free: Vec<String> = s.free.iter().map(|(drive, bytes)| format!("{drive} {}", size(*bytes))).collect();
    let reboot = s.pending_reboot.clone().unwrap_or_default();
    [row.instrument.clone(), system, versions.join(", "), last, lock, by_hand(s), free.join(", "), reboot, seci]
}

/// How many files were changed by hand: unknown as long as one component has no baseline.
fn by_hand(status: &StatusReport) -> String {
    if status.hand_changes.is_empty() || status.hand_changes.values().any(Option::is_none) {
        return "unknown".to_owned();
    }
    let files: usize = status.hand_changes.values().flatten().map(Vec::len).sum();
    if files == 0 { "none".to_owned() } else { files.to_string() }
}

/// What a rollback would touch, by instrument.
pub fn rollback_previews(all: &[(String, Result<RollbackPreview>)], screen: Screen) -> String {
    let mut text = String::new();
    for (instrument, preview) in all {
        match preview {
            // Writing into a string cannot fail.
            Ok(preview) => {
                let _ = writeln!(text, "{}: undoes {}", screen.bold(instrument), preview.runs.join(", "));
                for file in &preview.newer {
                    let _ = writeln!(text, "  changed since: {}", clean(file));
                }
            }
            Err(error) => text.push_str(&super::error(error, screen)),
        }
    }
    text
}
