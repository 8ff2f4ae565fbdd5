//! Stored runs: the list, and one of them.

use super::lines::{Lines, Verbosity};
use super::plain::line;
use super::pretty::doing;
use super::style::Screen;
use super::summary::{Report, Where};
use super::table::{Column, Table};
use super::text::{clean, count, duration};
use crate::events::{Damage, Event, RunState, Summary};
use serde::Serialize;
use std::fmt::Write;

/// The table of `runs list`.
pub fn run_list(runs: &[Summary], screen: Screen) -> String {
    if runs.is_empty() {
        return "There are no runs yet.\n".to_owned();
    }
    let mut table = Table::new(vec![
        Column::new("RUN"),
        Column::new("WHEN (UTC)").spare(3),
        Column::new("PLAYBOOK").cut(),
        Column::new("KIT").spare(4),
        Column::new("OPERATOR").cut_to(10).spare(2),
        Column::new("INSTRUMENTS").right().spare(1),
        Column::new("OUTCOMES").cut_to(18),
        Column::new("TOOK").right().spare(5),
    ]);
    for run in runs {
        let playbook = if run.rehearsal { format!("{} (rehearsal)", run.playbook) } else { run.playbook.clone() };
        table.row([
            run.run.to_string(),
            run.started.map(|at| at.strftime("%Y-%m-%d %H:%M").to_string()).unwrap_or_default(),
            playbook,
            run.kit.clone().unwrap_or_default(),
            run.operator.clone(),
            run.instruments.to_string(),
            outcomes(run),
            run.ms.map(duration).unwrap_or_default(),
        ]);
    }
    table.render(screen)
}

fn outcomes(run: &Summary) -> String {
    let mut words: Vec<String> = run.outcomes.iter().map(|(outcome, n)| format!("{n} {outcome}")).collect();
    if run.open > 0 || run.exit_code.is_none() {
        words.push(if run.open > 0 { format!("{} not finished", run.open) } else { "not finished".to_owned() });
    }
    words.join(", ")
}

/// A stored run as JSON sees it.
#[derive(Debug, Serialize)]
pub struct StoredRun<'a> {
    #[serde(flatten)]
    pub state: &'a RunState,
    /// What could not be read of its events.
    pub damage: &'a [Damage],
}

/// What `runs show` says: what it was, where each instrument stands, and the report when it is over.
pub fn run_show(state: &RunState, damage: &[Damage], place: &Where, screen: Screen) -> String {
    let mut text = String::new();
    let mut line = |label: &str, what: &str| {
        if !what.is_empty() {
            let _ = writeln!(text, "{} {}", screen.bold(&format!("{label:<10}")), clean(what));
        }
    };
    line("run", state.run.as_ref().map_or("", |r| r.as_str()));
    line("playbook", &state.playbook);
    line("kit", state.kit.as_deref().unwrap_or(""));
    line("operator", &state.operator);
    line("started", &state.started.map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()).unwrap_or_default());
    line("plan", &state.plan);
    if let Some(end) = &state.finished {
        line("exit code", &end.exit_code.to_string());
    }
    text.push_str(&damage_lines(damage, screen));
    text.push('\n');
    let mut going_on =
        Table::new(vec![Column::new("INSTRUMENT"), Column::new("PHASE").spare(1), Column::new("WHERE IT STANDS").cut()]);
    for i in state.instruments.iter().filter(|i| !i.is_finished()) {
        going_on.row([i.name.clone(), i.phase.map(|p| p.word().to_owned()).unwrap_or_default(), clean(&doing(i)).into_owned()]);
    }
    if !going_on.is_empty() {
        let _ = writeln!(text, "{}", going_on.render(screen));
    }
    text.push_str(&Report::new(state, place).text(screen));
    text
}

/// The events of a run as plain lines, each ended.
pub fn run_events(events: &[Event], verbose: Verbosity) -> String {
    let mut lines = Lines::new(verbose);
    let mut state = RunState::default();
    let mut text = String::new();
    for event in events {
        if state.apply(event)
            && let Some(line) = line(&mut lines, &state, event)
        {
            let _ = writeln!(text, "{line}");
        }
    }
    text + "\n"
}

/// What `runs prune` did.
pub fn run_pruned(removed: &[String], unfinished: &[String]) -> String {
    let mut text = format!("Removed {}.\n", count(removed.len(), "run"));
    for id in unfinished {
        let _ = writeln!(text, "Kept {id}: it is not finished (`ibexdeploy runs resume {id}`, or --unfinished removes it).");
    }
    text
}

/// What is lost of a damaged file of events, a line each.
pub fn damage_lines(damage: &[Damage], screen: Screen) -> String {
    if damage.is_empty() {
        return String::new();
    }
    let mut text = format!("{}\n", screen.red("The events of this run are damaged:"));
    for d in damage {
        let _ = writeln!(text, "  {d}");
    }
    text.push_str("  Each instrument has its own journal: `ibexdeploy runs resume` reads them again.\n");
    text
}
