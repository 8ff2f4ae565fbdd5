//! One event to all that want it, in the order that matters: the disk first.

use super::Reporter;
use crate::error::Result;
use crate::events::{Event, EventWriter, RunState};
use crate::secrets::Secrets;

/// Takes the events of a run: without secrets, onto the disk, into the state, to the reporter.
pub struct Recorder {
    writer: EventWriter,
    secrets: Secrets,
    state: RunState,
    reporter: Box<dyn Reporter + Send>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("run", &self.state.run).finish_non_exhaustive()
    }
}

impl Recorder {
    /// `state` is what the run's earlier events made when it is resumed, else empty.
    pub fn new(writer: EventWriter, secrets: Secrets, state: RunState, reporter: Box<dyn Reporter + Send>) -> Self {
        Self { writer, secrets, state, reporter }
    }

    /// Keeps and shows an event; one that came before is passed over. Nothing may act on it before this returns.
    ///
    /// # Errors
    /// When it cannot be written; then it was not shown either.
    pub fn record(&mut self, event: Event) -> Result<()> {
        if self.state.knows(&event) {
            return Ok(());
        }
        let event = event.redacted(&self.secrets)?;
        self.writer.append(&event)?;
        self.state.apply(&event);
        self.reporter.event(&self.state, &event);
        Ok(())
    }

    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Lets somebody else use the terminal meanwhile.
    pub fn paused(&mut self, talk: &mut dyn FnMut()) {
        self.reporter.paused(talk);
    }

    /// Shows the end, and gives the state back.
    pub fn finish(mut self) -> RunState {
        self.reporter.finish(&self.state);
        self.state
    }
}
