//! The report at the end of a run: the table, the failures, what is left for people, the totals.

use super::error::{indented, output};
use super::lines::{backed_up, hand_change, hand_changes_unknown, versions};
use super::pretty::doing;
use super::style::Screen;
use super::table::{Column, Table};
use super::text::{clean, count, duration, names, size, wrap};
use crate::error::Error;
use crate::events::{FailedStep, InstrumentState, LongStep, Outcome, RunState, Standing};
use std::fmt::Write;
use std::path::PathBuf;

/// How many of the longest steps of an outage the table names.
const LONGEST: usize = 3;

/// Where a run's files are, as far as the report names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Where {
    /// The run's folder at the controller.
    pub folder: Option<PathBuf>,
}

/// What is left to do, and for which instruments.
struct Left<'a> {
    /// For one instrument, with its name where it stands in the text.
    text: String,
    /// The same for several: their names are left out of it.
    common: String,
    instruments: Vec<&'a str>,
}

/// The final report of a run, for a terminal, a file or the shutdown log.
pub struct Report<'a> {
    state: &'a RunState,
    place: &'a Where,
}

impl std::fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Report").field("run", &self.state.run).finish_non_exhaustive()
    }
}

impl<'a> Report<'a> {
    pub fn new(state: &'a RunState, place: &'a Where) -> Self {
        Self { state, place }
    }

    /// The report as lines, each ended.
    pub fn text(&self, screen: Screen) -> String {
        let mut text = String::new();
        if self.state.rehearsal {
            let _ = writeln!(text, "{}\n", wrap(&screen.yellow(REHEARSAL), screen.width, "", ""));
        }
        if !self.state.instruments.is_empty() {
            let _ = writeln!(text, "{}", self.table(screen).render(screen));
        }
        let failures = self.failures(screen);
        if !failures.is_empty() {
            let _ = writeln!(text, "{}\n{failures}", screen.bold("What went wrong:"));
        }
        let left = self.left();
        if !left.is_empty() {
            let _ = writeln!(text, "{}", screen.bold("Left for you:"));
            for item in left {
                let _ = writeln!(text, "{}", wrap(&item.line(names(&item.instruments)), screen.width, "  - ", "    "));
            }
            text.push('\n');
        }
        let backups = self.backups();
        if !backups.is_empty() {
            let _ = writeln!(text, "{}", screen.bold("Backups, on the instruments:"));
            for (what, who) in backups {
                let _ = writeln!(text, "{}", wrap(&format!("{}: {what}", names(&who)), screen.width, "  - ", "    "));
            }
            text.push('\n');
        }
        for line in self.totals() {
            let _ = writeln!(text, "{}", wrap(&line, screen.width, "", "  "));
        }
        text
    }

    /// The report in Markdown, with every instrument named.
    pub fn markdown(&self) -> String {
        let state = self.state;
        let what = if state.rehearsal { "Rehearsal of" } else { "Run of" };
        let kit = state.kit.as_ref().map(|k| format!(" {k}")).unwrap_or_default();
        let mut text = format!("# {what} {}{kit}\n\n", state.playbook);
        if state.rehearsal {
            let _ = writeln!(text, "**{REHEARSAL}**\n");
        }
        let _ = writeln!(text, "{}", self.table(Screen::PLAIN).markdown());
        let failures = self.failures(Screen::PLAIN);
        if !failures.is_empty() {
            let _ = writeln!(text, "## What went wrong\n\n```text\n{}```\n", failures.replace("```", "'''"));
        }
        let left = self.left();
        if !left.is_empty() {
            text.push_str("## Left for you\n\n");
            for item in left {
                let _ = writeln!(text, "- {}", super::table::markdown_cell(&item.line(item.instruments.join(", "))));
            }
            text.push('\n');
        }
        let backups = self.backups();
        if !backups.is_empty() {
            text.push_str("## Backups\n\n");
            for (what, who) in backups {
                let _ = writeln!(text, "- {}", super::table::markdown_cell(&format!("{}: {what}", who.join(", "))));
            }
            text.push('\n');
        }
        text.push_str("## Totals\n\n");
        for line in self.totals() {
            let _ = writeln!(text, "- {}", super::table::markdown_cell(&line));
        }
        text
    }

    fn table(&self, screen: Screen) -> Table {
        let mut table = Table::new(vec![
            Column::new("INSTRUMENT").cut_to(9),
            Column::new("OUTCOME"),
            Column::new("VERSION").cut_to(15).spare(1),
            Column::new("OUTAGE").right().spare(2),
            Column::new("LONGEST STEPS OF IT").cut_to(20).spare(5),
            Column::new("SENT").right().spare(4),
            Column::new("TIME").right().spare(3),
        ]);
        for i in &self.state.instruments {
            let outcome = i.outcome.map_or_else(|| "not finished".to_owned(), |o| screen.outcome(o));
            let some = |n: u64, words: String| if n > 0 { words } else { String::new() };
            table.coloured_row([
                clean(&i.name).into_owned(),
                outcome,
                clean(&versions(&i.versions)).into_owned(),
                some(i.outage.ms, duration(i.outage.ms)),
                longest(&i.outage.longest),
                some(i.sent, size(i.sent)),
                some(i.ms, duration(i.ms)),
            ]);
        }
        table
    }

    /// A block for each way in which instruments did not end well, or had a failed step although they did.
    fn failures(&self, screen: Screen) -> String {
        let mut blocks: Vec<(String, Vec<&str>)> = Vec::new();
        for i in self.state.instruments.iter().filter(|i| !self.as_asked(i) && (i.failed() || !i.failed_steps.is_empty())) {
            let block = failure(i, screen);
            match blocks.iter_mut().find(|(same, _)| *same == block) {
                Some((_, who)) => who.push(&i.name),
                None => blocks.push((block, vec![&i.name])),
            }
        }
        blocks.iter().map(|(block, who)| format!("  {}: {block}", screen.bold(&clean(&names(who))))).collect()
    }

    /// True when a rollback was what somebody wanted.
    fn as_asked(&self, i: &InstrumentState) -> bool {
        self.state.playbook == "rollback" && i.outcome == Some(Outcome::RolledBack) && i.failed_steps.is_empty()
    }

    /// What people have to do or know, each once with all its instruments; the run's own first.
    fn left(&self) -> Vec<Left<'a>> {
        let mut left: Vec<Left<'a>> = Vec::new();
        let mut add = |text: String, instrument: Option<&'a str>| {
            let text = clean(&text).into_owned();
            let common = instrument.map_or_else(|| text.clone(), |name| text.replace(name, "it"));
            let at = left.iter().position(|l| l.common == common && l.instruments.is_empty() == instrument.is_none());
            let at = at.unwrap_or_else(|| {
                left.push(Left { text, common, instruments: Vec::new() });
                left.len() - 1
            });
            if let Some(name) = instrument
                && !left[at].instruments.contains(&name)
            {
                left[at].instruments.push(name);
            }
        };
        for text in &self.state.reminders {
            add(text.clone(), None);
        }
        for i in &self.state.instruments {
            let name = Some(i.name.as_str());
            for path in i.rollback.iter().flat_map(|r| &r.left) {
                add(format!("not put back, look at it: {path}"), name);
            }
            if i.outcome.is_none() && self.state.finished.is_some() {
                add(format!("not finished: `ibexdeploy runs resume {}` goes on with it", self.id()), name);
            }
            let unknown: Vec<&str> = i.hand_changes.iter().filter(|c| c.files.is_none()).map(|c| c.component.as_str()).collect();
            if !unknown.is_empty() {
                add(hand_changes_unknown(&unknown), name);
            }
            for change in i.hand_changes.iter().filter(|c| c.files.is_some()) {
                if let Some(text) = hand_change(&change.component, change.files, change.archive.as_deref()) {
                    add(text, name);
                }
            }
            for text in &i.reminders {
                add(text.clone(), name);
            }
        }
        left
    }

    /// Where the backups of this run are, with the instruments that have one there: in full for one, the folder for several.
    fn backups(&self) -> Vec<(String, Vec<&'a str>)> {
        let mut folders: Vec<(String, String, Vec<&str>)> = Vec::new();
        for (i, backup) in self.state.instruments.iter().flat_map(|i| i.backups.iter().map(move |b| (i, b))) {
            match folders.iter_mut().find(|(folder, ..)| *folder == backup.folder) {
                Some((folder, what, who)) => {
                    what.clone_from(folder);
                    who.push(&i.name);
                }
                None => folders.push((backup.folder.clone(), backed_up(backup), vec![&i.name])),
            }
        }
        folders.into_iter().map(|(_, what, who)| (clean(&what).into_owned(), who)).collect()
    }

    fn totals(&self) -> Vec<String> {
        let state = self.state;
        let mut counts: Vec<String> = state.counts().iter().map(|(outcome, n)| format!("{n} {outcome}")).collect();
        if state.open_instruments() > 0 {
            counts.push(format!("{} not finished", state.open_instruments()));
        }
        let mut lines = Vec::new();
        if !counts.is_empty() {
            lines.push(format!("{}: {}.", count(state.instruments.len(), "instrument"), counts.join(", ")));
        }
        let mut outages: Vec<(u64, &str)> =
            state.instruments.iter().filter(|i| i.outage.ms > 0).map(|i| (i.outage.ms, i.name.as_str())).collect();
        outages.sort_unstable();
        match outages.as_slice() {
            [] => {}
            [(ms, name)] => lines.push(format!("Outage: {} ({name}).", duration(*ms))),
            [.., (ms, name)] => {
                let middle = outages[outages.len() / 2].0;
                lines.push(format!("Outage: {} at most ({name}), {} in the middle.", duration(*ms), duration(middle)));
            }
        }
        let sent = state.instruments.iter().fold(0u64, |sum, i| sum.saturating_add(i.sent));
        let took = state.finished.as_ref().map(|f| format!("Took {}", duration(f.ms)));
        let sent = (sent > 0).then(|| format!("{} sent", size(sent)));
        let course: Vec<String> = took.into_iter().chain(sent).collect();
        if !course.is_empty() {
            lines.push(format!("{}.", course.join(", ")));
        }
        match &state.finished {
            Some(end) => lines.extend(end.stopped.as_ref().map(|why| format!("STOPPED: {}.", clean(why)))),
            None => lines.push(format!(
                "The run is not finished, as far as this controller knows: `ibexdeploy runs resume {}` goes on with it.",
                self.id()
            )),
        }
        let logs = self.place.folder.as_ref().map(|f| format!(", logs in {}", f.display())).unwrap_or_default();
        lines.push(format!("Run {}{logs}", self.id()));
        if state.rehearsal {
            lines.push(REHEARSAL.to_owned());
        }
        lines
    }

    fn id(&self) -> &str {
        self.state.run.as_ref().map_or("unknown", |run| run.as_str())
    }
}

/// Said at the top and at the bottom.
const REHEARSAL: &str = "This was a REHEARSAL on sandboxes: no instrument was touched.";

impl Left<'_> {
    fn line(&self, who: String) -> String {
        match self.instruments.len() {
            0 => self.text.clone(),
            1 => format!("{who}: {}", self.text),
            _ => format!("{who}: {}", self.common),
        }
    }
}

impl InstrumentState {
    /// True when a person should look at how it ended, or at why it did not.
    fn failed(&self) -> bool {
        match self.outcome {
            Some(outcome) => !outcome.is_good() && (outcome != Outcome::Cancelled || self.error.is_some()),
            None => !matches!(self.standing, Standing::Planned | Standing::Queued { .. }),
        }
    }
}

/// Everything about an instrument's failure behind its name; the first line is the outcome.
fn failure(i: &InstrumentState, screen: Screen) -> String {
    let mut text = i.outcome.map_or_else(|| "not finished".to_owned(), |o| screen.outcome(o)) + "\n";
    let line = |text: &mut String, words: &str| {
        let _ = writeln!(text, "{}", wrap(&clean(words), screen.width, "    ", "      "));
    };
    if i.outcome.is_none() {
        line(&mut text, &format!("last seen: {}", doing(i)));
    }
    for failed in &i.failed_steps {
        text.push_str(&failed_step(failed, screen));
    }
    // The end's error is most often that of the step, which has been told.
    if let Some(error) = &i.error
        && !i.failed_steps.iter().any(|s| s.error.as_ref().is_some_and(|e| same(e, error)))
    {
        line(&mut text, &error.details().message);
        text.push_str(&indented(error, "    ", false, screen));
    }
    if i.outcome == Some(Outcome::Cancelled) && i.rollback.is_none() && i.outage.ms == 0 {
        line(&mut text, "nothing was changed");
    }
    if let Some(rollback) = &i.rollback {
        let undone = count(rollback.undone as usize, "step");
        let words = match rollback.ok {
            Some(true) if rollback.undone == 0 => "nothing had been changed: all is as it was before".to_owned(),
            Some(true) => format!("rolled back: all is as it was before, {undone} undone"),
            Some(false) => format!("the rollback could NOT put back everything: {}", rollback.left.join("; ")),
            None => format!("the rollback is not finished, {undone} undone so far"),
        };
        line(&mut text, &words);
    }
    text
}

fn failed_step(failed: &FailedStep, screen: Screen) -> String {
    let step = &failed.step;
    let what = failed.error.as_ref().map_or(failed.summary.as_str(), |e| e.details().message.as_str());
    let mut text = String::new();
    let line = format!("{} ({}): {}", clean(&step.name), step.id, clean(what));
    let _ = writeln!(text, "{}", wrap(&line, screen.width, "    ", "      "));
    match &failed.error {
        Some(error) => {
            if error.details().output.is_empty() {
                text.push_str(&output(&failed.output, "    ", screen));
            }
            text.push_str(&indented(error, "    ", false, screen));
        }
        None => text.push_str(&output(&failed.output, "    ", screen)),
    }
    text
}

/// The same failure, told by the step and by the end: the end may have put words in front or named the place.
fn same(step: &Error, end: &Error) -> bool {
    let (step, end) = (step.details(), end.details());
    step.message == end.message || end.causes.contains(&step.message)
}

fn longest(steps: &[LongStep]) -> String {
    let words: Vec<String> = steps.iter().take(LONGEST).map(|s| format!("{} {}", clean(&s.name), duration(s.ms))).collect();
    words.join(", ")
}
