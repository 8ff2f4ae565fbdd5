//! What the commands that contact instruments have in common: from options to a call of the engine.

mod confirm;
mod content;
mod dry_run;
mod fleet;
mod lead;
mod options;
mod prepare;
mod rehearse;
mod secrets;

pub(super) use confirm::{LOOK_FIRST, confirm, confirmed};
pub(super) use content::{kept_plan_content, stored_plan_content};
pub(super) use dry_run::probe;
pub(super) use fleet::{Fleet, ask, new_run};
pub(super) use lead::{Led, lead, runtime};
pub(super) use options::{HotfixOptions, PlaybookOptions, even_if_measuring};
use prepare::Prepared;
pub(super) use prepare::{Wanted, go, limits, prepare};
pub(super) use secrets::{RunSecrets, resolve};
