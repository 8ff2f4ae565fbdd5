//! The plan of a `task`: a playbook planned for the instrument now, to be carried out there later.

use super::instrument::{Planner, check_set, plan_instrument};
use super::make::PlanRequest;
use super::model::Hold;
use crate::actions::Action;
use crate::actions::hotfix::HotfixPolicy;
use crate::actions::task::Task;
use crate::error::{Error, Result};
use crate::events::RunId;
use crate::playbook::{self, LoadedPlaybook, LoadedStep};
use std::path::Path;

/// Puts the plan of its playbook into the action, so that the instrument needs no file for it.
///
/// # Errors
/// When the playbook is not right, or needs what only a controller has.
pub(super) fn plan_task(planner: &mut Planner<'_, '_>, loaded: &LoadedStep, task: &mut Task) -> Result<()> {
    let Some(name) = &task.playbook else { return Ok(()) };
    let outer = planner.request.playbook;
    let position = outer.position(loaded, "/task/playbook");
    let placed = |e: Error| if e.details().position.is_some() { e } else { e.at(position.clone()) };
    let folder = outer.files[0].path.parent().unwrap_or(Path::new(""));
    let inner = playbook::load(folder, name).map_err(placed)?;
    if let Some(why) = needs_a_controller(&inner) {
        return Err(placed(
            Error::bad_input(format!("a task cannot carry out the playbook `{name}`: {why}"))
                .next("a task runs without a controller: name a playbook that needs none"),
        ));
    }
    let request = PlanRequest {
        playbook: &inner,
        instruments: vec![planner.instrument],
        inventory: planner.request.inventory,
        kit: None,
        run: RunId(String::new()),
        created: planner.request.created,
        operator: String::new(),
        rehearsal: planner.request.rehearsal,
        hold: Hold::No,
        tags: Vec::new(),
        skip_tags: Vec::new(),
        hotfixes: HotfixPolicy::default(),
        patches: planner.request.patches,
        set: task.set.clone(),
    };
    check_set(&request).map_err(|e| e.at(outer.position(loaded, "/task/set")))?;
    let mut plan = plan_instrument(&request, planner.instrument, planner.read)?;
    if let Some(secret) = plan.secrets.first() {
        return Err(placed(
            Error::bad_input(format!("a task cannot carry out the playbook `{name}`: it uses the secret `{secret}`"))
                .next("secrets come from the controller: name a playbook that needs none"),
        ));
    }
    plan.forget_run();
    for file in &inner.files {
        planner.read.insert(file.path.display().to_string(), (file.digest, file.text().to_owned()));
    }
    task.plan = Some(Box::new(plan));
    Ok(())
}

fn needs_a_controller(playbook: &LoadedPlaybook) -> Option<&'static str> {
    if !playbook.components().is_empty() {
        return Some("it needs a kit");
    }
    if playbook.steps.iter().any(|s| matches!(s.action, Action::Hotfix(_))) {
        return Some("it needs the archive of a hotfix");
    }
    // One that names itself would have no end.
    playbook.steps.iter().any(|s| matches!(s.action, Action::Task(_))).then_some("it registers tasks itself")
}
