//! Whether an operator's rollback would end a measurement.

use super::driver::names;
use super::queries::hold;
use super::worker::Worker;
use crate::actions::check::{Check, IdleCheck};
use crate::actions::{Action, UndoRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{InstrumentPlan, PlanStep};
use crate::platform::facts::Systems;
use crate::template::{self, Context};

/// The state of the DAE, where the playbook does not name it.
const STATE: &str = "{{ pv_prefix }}DAE:RUNSTATE_STR";

/// A run that is to be taken back, as far as this question goes.
pub(super) struct Undone<'a> {
    pub(super) plan: &'a InstrumentPlan,
    pub(super) records: Vec<UndoRecord>,
}

/// Refuses to take runs back while the instrument measures, where that stops IBEX or replaces what runs. Only what an
/// operator asks for comes here: the way back of a run that fails goes on whatever is being measured.
///
/// # Errors
/// When the DAE is not in the state in which nothing is lost, or that cannot be found out while the server runs.
pub(super) fn refuse(worker: &Worker, runs: &[Undone<'_>]) -> Result<()> {
    let counts = |run: &&Undone<'_>| run.records.iter().any(disturbs) || asks(run.plan);
    let mut disturbing = runs.iter().filter(counts).peekable();
    let Some(first) = disturbing.peek().map(|run| run.plan) else { return Ok(()) };
    let machine = &worker.machine;
    if Systems::now(&*machine.platform, &machine.drives, &first.places)?.server.is_none() {
        return Ok(());
    }
    // Each playbook knows how its instrument is asked.
    let Some((plan, step, check)) = disturbing.find_map(|run| question(run.plan)) else {
        return Err(Error::new(ErrorKind::Refused, "what the DAE is doing is unknown: no playbook of these runs asks it")
            .because("the server runs")
            .next("see that nothing is measured, and say `--even-if-measuring`"));
    };
    hold(worker, plan, &step, &check)
}

/// True for what stops or starts programs when it is taken back, or replaces files that they run from.
fn disturbs(record: &UndoRecord) -> bool {
    match record {
        UndoRecord::Command(_)
        | UndoRecord::Mysql(_)
        | UndoRecord::Restore(_)
        | UndoRecord::Service(_)
        | UndoRecord::Switch(_)
        | UndoRecord::Sync(_)
        | UndoRecord::Vhd(_)
        | UndoRecord::Writes(_) => true,
        UndoRecord::Clone(_)
        | UndoRecord::Copy(_)
        | UndoRecord::File(_)
        | UndoRecord::Git(_)
        | UndoRecord::Hotfix(_)
        | UndoRecord::Installed(_)
        | UndoRecord::Link(_)
        | UndoRecord::Migrate(_)
        | UndoRecord::Remove(_)
        | UndoRecord::Task(_) => false,
    }
}

/// The check of a step that asks what the DAE is doing.
fn idle_of(action: &Action) -> Option<&Check> {
    let check = match action {
        Action::Check(check) => Some(&**check),
        Action::Command(command) => command.gate.as_deref(),
        _ => None,
    };
    check.filter(|check| check.idle.is_some())
}

/// True when the playbook itself did not go on into a measurement.
fn asks(plan: &InstrumentPlan) -> bool {
    plan.steps.iter().any(|step| step.skip.is_none() && step.when.is_none() && idle_of(&step.action).is_some())
}

/// How a plan asks, also one that left the question out; else by the prefix of the instrument's process variables.
fn question(plan: &InstrumentPlan) -> Option<(&InstrumentPlan, PlanStep, Check)> {
    let names = names(plan, &Context::new(), &Context::new(), &None);
    let asked = |pv: &str, is: &str| {
        // A step that was left out still has its templates.
        let idle = IdleCheck { pv: template::render(pv, &names).ok()?, is: template::render(is, &names).ok()? };
        Some(Check { idle: Some(idle), ..Check::default() })
    };
    let known = plan.steps.iter().find_map(|step| {
        let idle = idle_of(&step.action)?.idle.as_ref()?;
        Some((plan, step.clone(), asked(&idle.pv, &idle.is)?))
    });
    known.or_else(|| Some((plan, plan.steps.first()?.clone(), asked(STATE, "SETUP")?)))
}
