//! Configuration migrations: what takes an instrument's settings from one version to the next.
//!
//! A [`Chain`] is read from a folder of YAML files. [`migrate`] computes, on a [`Tree`] in memory, what each of its steps
//! changes; nothing is written until all of them went well. Who writes it, and how it is taken back, is the caller's:
//! [`local`] for a folder at hand, the action `migrate` on an instrument.

pub mod chain;
pub mod git;
pub mod local;
pub mod model;
pub mod work;

mod changes;
mod dashboard;
mod diff;
mod run;
mod tree;
mod xml;

pub use chain::Chain;
pub use diff::unified;
pub use model::{Change, Migration};
pub use run::{Left, LeftWhat, Migrated, NewestCommit, Passed, Site, kit_chain_end, migrate};
pub use tree::Tree;
