//! For a terminal: one overall bar, the few rows that matter, and a line above them for each instrument that is done.

use super::lines::{Lines, Verbosity, progress, waiting};
use super::style::Screen;
use super::summary::{Report, Where};
use super::text::{clean, cut, duration, pad, safe, size, width};
use super::{Out, Reporter};
use crate::events::{Event, EventKind, InstrumentState, RunState, Standing};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cmp::Reverse;
use std::time::{Duration, Instant};

/// Rows below the bar at most.
const ROWS: usize = 8;
/// The foot is not made more often than this for events that only pass by.
const BETWEEN: Duration = Duration::from_millis(100);
/// The bar has at least so many places, or is not there.
const LEAST_BAR: usize = 6;
/// Columns where the terminal does not tell its width.
const USUAL_WIDTH: usize = 80;

/// Columns at the end of each line that stay free: a full line makes some terminals wrap, and terminals write `^C` there.
const FREE: usize = 3;

/// Draws the state of the run over and over at the foot of the terminal.
pub(super) struct Pretty {
    out: Out,
    lines: Lines,
    verbose: Verbosity,
    screen: Screen,
    /// Follows the terminal when its size changes.
    measure: Box<dyn Fn() -> Option<usize> + Send>,
    bar: ProgressBar,
    rows: Rows,
    /// When the foot was made last.
    made: Option<Instant>,
    place: Where,
}

impl Pretty {
    /// `measure` tells the columns of the terminal that `target` draws on.
    pub(super) fn new(
        out: Out,
        verbose: Verbosity,
        screen: Screen,
        measure: Box<dyn Fn() -> Option<usize> + Send>,
        target: ProgressDrawTarget,
        place: Where,
    ) -> Self {
        let hidden = target.is_hidden();
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        if !hidden {
            // Drawn again now and then, so that what else writes on the terminal does not hide it.
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        Self { out, lines: Lines::new(verbose), verbose, screen, measure, bar, rows: Rows::default(), made: None, place }
    }

    fn columns(&self) -> usize {
        (self.measure)().or(self.screen.width).unwrap_or(USUAL_WIDTH)
    }

    /// A line above the bar.
    fn say(&mut self, line: &str) {
        let line = cut(&safe(line), self.columns()).into_owned();
        let out = &mut self.out;
        self.bar.suspend(|| {
            // A reader that went away must not stop the run.
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        });
    }
}

impl Reporter for Pretty {
    fn event(&mut self, state: &RunState, event: &Event) {
        if let Some(line) = self.above(state, event) {
            self.say(&line);
        }
        // What only passes by comes often and is soon out of date; all else is shown at once.
        let passing = event.n == 0 && event.instrument.is_some();
        if !passing || self.made.is_none_or(|made| made.elapsed() >= BETWEEN) {
            self.made = Some(Instant::now());
            self.rows.choose(state);
            let frame = frame(state, &self.rows, self.columns().saturating_sub(FREE), self.screen);
            self.bar.set_message(safe(&frame).into_owned());
        }
    }

    fn finish(&mut self, state: &RunState) {
        self.bar.finish_and_clear();
        let screen = Screen { width: Some(self.columns()), ..self.screen };
        let report = Report::new(state, &self.place).text(screen);
        let report = safe(&report);
        let _ = write!(self.out, "\n{report}").and_then(|()| self.out.flush());
    }

    fn paused(&mut self, talk: &mut dyn FnMut()) {
        self.bar.suspend(talk);
    }
}

impl Pretty {
    fn above(&mut self, state: &RunState, event: &Event) -> Option<String> {
        let words = self.lines.of(state, event);
        let name = event.instrument.as_deref();
        match &event.kind {
            EventKind::InstrumentFinished { outcome, .. } => {
                let outcome = pad(&self.screen.outcome(*outcome), 15, false);
                Some(format!("{outcome} {}: {}", name.unwrap_or("-"), words?.text))
            }
            // The rows tell these while they are going on.
            EventKind::PhaseStarted { .. }
            | EventKind::OutageStarted
            | EventKind::OutageEnded { .. }
            | EventKind::StepWaiting { .. }
            | EventKind::Staged { .. }
            | EventKind::Reminder { .. }
            | EventKind::HandChanges { .. }
            | EventKind::BackedUp(_)
            | EventKind::Held { .. }
                if self.verbose == 0 =>
            {
                None
            }
            EventKind::RunFinished { .. } => None,
            EventKind::RunStarted { rehearsal: true, .. } => Some(self.screen.yellow(&words?.text)),
            _ => {
                let words = words?;
                let tag =
                    if matches!(words.tag, "step" | "step-end" | "note") { String::new() } else { format!("{} ", words.tag) };
                Some(name.map_or_else(|| words.text.clone(), |name| format!("{name}: {tag}{}", words.text)))
            }
        }
    }
}

/// What stands at the foot of the terminal: the bar and the chosen rows, no line wider than `columns`.
pub(super) fn frame(state: &RunState, rows: &Rows, columns: usize, screen: Screen) -> String {
    let mut lines = vec![overall(state, columns, screen)];
    let shown: Vec<&InstrumentState> = rows.shown.iter().filter_map(|&at| state.instruments.get(at)).collect();
    let names = shown.iter().map(|i| width(&i.name)).max().unwrap_or(0).min(columns / 3);
    for instrument in shown {
        let row = format!("  {} {}", pad(&cut(&instrument.name, names), names, false), clean(&doing(instrument)));
        let row = cut(&row, columns);
        lines.push(if weight(instrument) >= Some(TROUBLE) { screen.red(&row) } else { row.into_owned() });
    }
    if rows.more > 0 {
        lines.push(cut(&screen.dim(&format!("  and {} more at work", rows.more)), columns).into_owned());
    }
    lines.join("\n")
}

/// The instruments that have a row: those in trouble, then those whose step takes longest.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Places in [`RunState::instruments`].
    shown: Vec<usize>,
    more: usize,
}

impl Rows {
    /// Chooses anew, with a lead for those that have a row already, so that rows do not change all the time.
    pub(super) fn choose(&mut self, state: &RunState) {
        let mut all: Vec<(u8, u64, usize)> = Vec::new();
        for (at, instrument) in state.instruments.iter().enumerate() {
            if let Some(weight) = weight(instrument) {
                let lead = if self.shown.contains(&at) { LEAD_S } else { 0 };
                let open = u64::from(instrument.open.is_some());
                all.push((weight, (instrument.open_ms() / 1000).saturating_add(open + lead), at));
            }
        }
        all.sort_unstable_by_key(|(weight, seconds, at)| (Reverse(*weight), Reverse(*seconds), *at));
        let count = if all.len() > ROWS { ROWS - 1 } else { all.len() };
        self.more = all.len() - count;
        all.truncate(count);
        let before = std::mem::take(&mut self.shown);
        // A row keeps its place among its like.
        let place = |at: usize| before.iter().position(|&b| b == at).unwrap_or(before.len());
        all.sort_by_key(|(weight, _, at)| (Reverse((*weight).max(TROUBLE - 1)), place(*at)));
        self.shown = all.into_iter().map(|(_, _, at)| at).collect();
    }
}

/// By so much longer must a step take to get the row of another, in seconds.
const LEAD_S: u64 = 5;

/// Rows of this weight and more are in trouble.
const TROUBLE: u8 = 3;

/// How much a row matters; nothing for those that are done or have not begun.
fn weight(instrument: &InstrumentState) -> Option<u8> {
    match &instrument.standing {
        Standing::Finished | Standing::Planned | Standing::Queued { .. } => None,
        _ if instrument.question.is_some() => Some(6),
        Standing::RollingBack { .. } => Some(5),
        _ if instrument.link_lost.is_some() => Some(4),
        Standing::Connecting { attempt } if *attempt > 1 => Some(TROUBLE),
        Standing::Working => Some(2),
        Standing::Connecting { .. } | Standing::Bringing => Some(1),
        Standing::Held { .. } => Some(0),
    }
}

/// What an instrument is doing, in one phrase.
pub(super) fn doing(instrument: &InstrumentState) -> String {
    let mut phrase = match &instrument.standing {
        Standing::Planned => "not begun".to_owned(),
        Standing::Queued { why } => format!("queued: {why}"),
        Standing::Connecting { attempt: 1 } => "connecting".to_owned(),
        Standing::Connecting { attempt } => format!("connecting, attempt {attempt}"),
        Standing::Bringing => "bringing the agent".to_owned(),
        Standing::Held { why } => format!("staged, held: {why}"),
        Standing::RollingBack { because } => {
            let undone = instrument.rollback.as_ref().map_or(0, |r| r.undone);
            format!("rolling back, {undone} undone: {because}")
        }
        Standing::Working => step_phrase(instrument),
        Standing::Finished => instrument.outcome.map(|o| o.word().to_owned()).unwrap_or_default(),
    };
    if let Some(question) = &instrument.question {
        phrase = format!("asks: {question}");
    } else if let Some(why) = &instrument.link_lost {
        phrase = format!("link lost ({why}), it goes on by itself: {phrase}");
    }
    phrase
}

fn step_phrase(instrument: &InstrumentState) -> String {
    let phase = instrument.phase.map(|p| format!("{p}: ")).unwrap_or_default();
    let Some(open) = &instrument.open else {
        return if phase.is_empty() { "getting ready".to_owned() } else { phase.trim_end_matches(": ").to_owned() };
    };
    let again = if open.attempt > 1 { format!(", attempt {}", open.attempt) } else { String::new() };
    let detail = match (&open.waiting, &open.progress) {
        (Some(w), _) => return format!("{} ({phase}{}{again})", waiting(&w.what, w.elapsed_ms, w.limit_ms), open.step.name),
        (None, Some(p)) => format!(", {}", progress(p.done, p.total, p.unit)),
        (None, None) if instrument.open_ms() >= 1000 => format!(", {}", duration(instrument.open_ms())),
        (None, None) => String::new(),
    };
    format!("{phase}{}{again}{detail}", open.step.name)
}

/// `[=====>     ] 12/30 done, 2 failed, 120.0 MB of 1.2 GB staged`.
fn overall(state: &RunState, columns: usize, screen: Screen) -> String {
    let total = state.instruments.len();
    let done = total - state.open_instruments();
    let bad: usize = state.counts().iter().filter(|(o, _)| !o.is_good()).map(|(_, n)| n).sum();
    let (staged, needed) = state
        .instruments
        .iter()
        .fold((0u64, 0u64), |(s, n), i| (s.saturating_add(i.staging.staged_bytes), n.saturating_add(i.staging.need_bytes)));
    let mut words = format!("{done}/{total} done");
    let more = [
        (bad > 0).then(|| format!(", {bad} not well")),
        (needed > 0).then(|| format!(", {} of {} staged", size(staged), size(needed))),
        state.rehearsal.then(|| " (rehearsal)".to_owned()),
    ];
    for part in more.into_iter().flatten() {
        // Where there is little room, the bar says more than the last of these.
        if width(&words) + width(&part) + LEAST_BAR + 3 <= columns {
            words.push_str(&part);
        }
    }
    let room = columns.saturating_sub(width(&words) + 3).min(30);
    let bar = if room >= LEAST_BAR { format!("{} ", bar(state, room)) } else { String::new() };
    cut(&format!("{bar}{}", screen.bold(&words)), columns).into_owned()
}

/// A bar that also moves while nothing finishes: each instrument counts by its steps.
fn bar(state: &RunState, room: usize) -> String {
    let share: f64 = state
        .instruments
        .iter()
        .map(|i| match (i.is_finished(), i.steps) {
            (true, _) => 1.0,
            (false, 0) => 0.0,
            (false, steps) => 0.95 * f64::from(i.steps_done.min(steps)) / f64::from(steps),
        })
        .sum();
    let filled = ((share / state.instruments.len().max(1) as f64) * room as f64).floor() as usize;
    let filled = filled.min(room);
    let tip = if filled > 0 && filled < room { ">" } else { "" };
    format!("[{}{tip}{}]", "=".repeat(filled.saturating_sub(tip.len())), " ".repeat(room - filled))
}
