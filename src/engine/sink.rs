//! Where events go: kept first, shown afterwards.

use crate::error::Result;
use crate::events::Event;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Keeps an event (the run's file), then shows it. Nothing may act on an event before this returns.
pub type Keep = Box<dyn FnMut(Event) -> Result<()> + Send>;

/// Takes all events of a run, one at a time.
#[derive(Clone)]
pub struct EventSink(Arc<Mutex<Keep>>);

impl EventSink {
    pub fn new(keep: Keep) -> Self {
        Self(Arc::new(Mutex::new(keep)))
    }

    /// Keeps and shows.
    ///
    /// # Errors
    /// When the event cannot be kept; then nothing may act on it.
    pub(super) fn emit(&self, event: Event) -> Result<()> {
        let mut keep = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keep(event)
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSink")
    }
}
