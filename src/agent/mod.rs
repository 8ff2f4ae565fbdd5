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
mod measuring;
#[cfg(windows)]
mod orphans;
mod output;
#[cfg(windows)]
mod pipe;
mod program;
mod prune;
mod pull;
mod queries;
mod resume;
mod rollback;
mod run;
#[cfg(windows)]
mod service;
mod session;
mod stranded;
mod worker;

pub use attach::attach;
pub use builds::install;
#[cfg(windows)]
pub use detach::log_to_home;
pub use jobs::run_job;
#[cfg(windows)]
pub use service::serve;
pub use worker::worker;
