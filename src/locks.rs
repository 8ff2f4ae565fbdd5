//! Locks between threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The value behind a lock, also after a thread died with it: what is kept so is whole at every moment.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
