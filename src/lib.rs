//! `ibexdeploy` deploys releases of the IBEX control system to the ISIS instruments.
//!
//! One binary, two sides: the controller makes a plan out of an inventory and a playbook, and the plan runs at the
//! instrument, carried out by a copy of the same executable. `docs/architecture.md` shows the rooms and how data
//! flows through them.

pub mod actions;
pub mod agent;
mod busy;
pub mod cli;
pub mod content;
pub mod engine;
pub mod error;
pub mod events;
mod files;
pub mod inventory;
pub mod kit;
pub mod link;
mod locks;
pub mod migrate;
pub mod nearest;
pub mod paths;
pub mod plan;
pub mod platform;
pub mod playbook;
pub mod protocol;
pub mod rehearsal;
pub mod report;
pub mod secrets;
pub mod template;
pub mod transport;
pub mod units;
pub mod yaml;

mod text;

pub use error::{Error, ErrorKind, Result};
