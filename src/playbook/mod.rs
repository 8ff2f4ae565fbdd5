//! Playbooks: phases and steps as typed data, their includes, and what can be checked about them without an
//! instrument.

mod actions;
mod check;
mod list;
mod load;
mod names;
mod source;
mod step;

pub(crate) use check::step_values;
pub use list::{Listed, list};
pub use load::{LoadedPlaybook, LoadedStep, load, problems};
pub(crate) use names::{ENDED_NAME, RUN_NAME, each_string};
pub use names::{GIVEN_NAMES, LATE_NAMES};
pub use source::SourceFile;
pub use step::{Each, OnFailure, Phase, Playbook, RunAs, Step, UndoSpec};
