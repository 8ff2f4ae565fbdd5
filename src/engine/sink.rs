//! Where events go: kept first, shown afterwards.

use crate::error::Result;
use crate::events::Event;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Keeps an event (the run's file) and gives it back as it may be shown (without secrets).
pub type Keep = Box<dyn FnMut(Event) -> Result<Event> + Send>;

/// Takes all events of a run, one at a time: keeps each, then passes it to the reporters.
#[derive(Clone)]
pub struct EventSink {
    keep: Arc<Mutex<Keep>>,
    reporters: mpsc::UnboundedSender<Event>,
}

impl EventSink {
    pub fn new(keep: Keep, reporters: mpsc::UnboundedSender<Event>) -> Self {
        Self { keep: Arc::new(Mutex::new(keep)), reporters }
    }

    /// Keeps and passes on.
    ///
    /// # Errors
    /// When the event cannot be kept; then nothing may act on it.
    pub(super) fn emit(&self, event: Event) -> Result<()> {
        let mut keep = self.keep.lock().unwrap_or_else(PoisonError::into_inner);
        let event = keep(event)?;
        // Under the lock, so that reporters see the order of the file. A reporter that left misses nothing it wants.
        let _ = self.reporters.send(event);
        Ok(())
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSink")
    }
}
