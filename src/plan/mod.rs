//! The plan: playbook x instruments as data, hashed and saved; what is confirmed is what runs.

mod model;

pub use model::{
    Account, ComponentPlan, Hold, InstrumentPlan, KitSummary, LateTemplates, PLAN_FORMAT, Plan, PlanStep, Pull, Target,
    TransportSpec,
};
