//! The plan: playbook x instruments as data, hashed and saved; what is confirmed is what runs.

mod arguments;
mod defaults;
mod instrument;
mod make;
mod model;
mod patch;
mod pull;
mod render;
mod saved;
mod step;
mod task;
mod transport;
mod view;

pub(crate) use arguments::secrets;
pub use defaults::{TIMEOUTS, default_run_as, default_timeout};
pub use instrument::set_value;
pub use make::{PlanRequest, make};
pub use model::{Account, ComponentPlan, Hold, InstrumentPlan, KitSummary, LateTemplates, PLAN_FORMAT, Plan, PlanStep, Target};
pub use pull::{KitFolder, Pull};
pub use saved::{check_unchanged, load, save};
pub use transport::{SshSpec, TransportSpec, WinrmAuth, WinrmSpec};
pub use view::{InstrumentView, PlanView, StepView, UndoKind, undo_kind, view};
