//! The agent: relay, worker, journal, undo, lock, jobs, recovery.

pub mod home;
pub mod jobs;
pub mod journal;
pub mod lock;

mod attach;
mod builds;
mod content;
mod detach;
mod driver;
mod machine;
mod output;
mod prune;
mod queries;
mod resume;
mod rollback;
mod run;
mod session;
mod stranded;
mod worker;

pub use attach::attach;
pub use builds::install;
pub use jobs::run_job;
pub use worker::worker;
