//! The agent: relay, worker, journal, undo, lock, jobs, recovery.

pub mod jobs;
