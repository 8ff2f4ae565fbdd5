//! What was begun to be brought, so that a connection that breaks leaves nothing behind for good.

use crate::locks::locked;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Files below an instrument's home that this controller has begun to write and that are not known to be gone: when a
/// connection breaks, nobody is there to remove them until the next one comes.
#[derive(Debug, Default)]
pub(super) struct Begun(Mutex<Vec<String>>);

impl Begun {
    pub(super) fn names(&self) -> MutexGuard<'_, Vec<String>> {
        locked(&self.0)
    }
}

/// The same for all instruments.
#[derive(Debug, Default)]
pub(super) struct AllBegun(Mutex<BTreeMap<String, Arc<Begun>>>);

impl AllBegun {
    pub(super) fn of(&self, instrument: &str) -> Arc<Begun> {
        Arc::clone(locked(&self.0).entry(instrument.to_owned()).or_default())
    }
}
