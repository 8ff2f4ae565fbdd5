//! Plain lines: the time (UTC), the instrument, a tag to grep for, the words.

use super::lines::{Lines, Verbosity};
use super::style::Screen;
use super::summary::{Report, Where};
use super::text::{clean, safe};
use super::{Out, Reporter};
use crate::events::{Event, RunState};

/// Writes a line an event, and the report at the end.
pub(super) struct Plain {
    out: Out,
    lines: Lines,
    place: Where,
}

impl Plain {
    pub(super) fn new(out: Out, verbose: Verbosity, place: Where) -> Self {
        Self { out, lines: Lines::new(verbose), place }
    }
}

impl Reporter for Plain {
    fn event(&mut self, state: &RunState, event: &Event) {
        if let Some(line) = line(&mut self.lines, state, event) {
            // A reader that went away must not stop the run.
            let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        }
    }

    fn finish(&mut self, state: &RunState) {
        let report = Report::new(state, &self.place).text(Screen::PLAIN);
        let report = safe(&report);
        let _ = write!(self.out, "\n{report}").and_then(|()| self.out.flush());
    }
}

/// The line of an event, when it is to be told.
pub(super) fn line(lines: &mut Lines, state: &RunState, event: &Event) -> Option<String> {
    let line = lines.of(state, event)?;
    let at = event.at.strftime("%Y-%m-%dT%H:%M:%SZ");
    let who = clean(event.instrument.as_deref().unwrap_or("-"));
    Some(format!("{at} {who} {}: {}", line.tag, line.text))
}
