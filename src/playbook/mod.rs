//! Playbooks: phases and steps as typed data.

mod step;

pub use step::{Each, OnFailure, Phase, Playbook, RunAs, Step, UndoSpec};
