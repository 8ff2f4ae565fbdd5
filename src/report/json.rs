//! One event a line, as in `events.jsonl`.

use super::text::safe_json;
use super::{Out, Reporter};
use crate::events::{Event, RunState};

/// Writes events as JSON lines and nothing else.
pub(super) struct JsonLines {
    out: Out,
}

impl JsonLines {
    pub(super) fn new(out: Out) -> Self {
        Self { out }
    }
}

impl Reporter for JsonLines {
    fn event(&mut self, _state: &RunState, event: &Event) {
        if let Ok(line) = serde_json::to_string(event) {
            let line = safe_json(line);
            // A reader that went away must not stop the run.
            let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
        }
    }

    fn finish(&mut self, _state: &RunState) {
        let _ = self.out.flush();
    }
}
