//! A plan as people look at it: data for the reports.

use super::model::{Plan, PlanStep};
use crate::actions::Action;
use crate::error::Result;
use crate::playbook::{Phase, RunAs, UndoSpec};
use serde::Serialize;

/// A plan, to be shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanView {
    pub run: String,
    /// The plan's digest as hex.
    pub plan: String,
    pub playbook: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kit: Option<String>,
    /// Components from another release: component and release.
    pub borrowed: Vec<(String, String)>,
    pub rehearsal: bool,
    pub instruments: Vec<InstrumentView>,
}

/// One instrument of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InstrumentView {
    pub name: String,
    pub host: String,
    pub steps: Vec<StepView>,
    /// Names of the steps that undo cannot take back though a failure may ask for it.
    pub cannot_undo: Vec<String>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepView {
    pub id: String,
    pub name: String,
    pub phase: Phase,
    pub action: String,
    pub run_as: RunAs,
    /// Why it will not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
    /// An expression that the instrument decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What it is repeated over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
    pub undo: UndoKind,
    /// The longest that one attempt may take.
    pub timeout: String,
}

/// How a step can be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UndoKind {
    /// It changes nothing on the instrument that would have to be.
    NotNeeded,
    /// All is put back as it was, and verified.
    Exact,
    /// A program does the opposite.
    Compensating { by: String },
    /// It cannot be, and the playbook says so.
    Impossible,
}

/// The view of a plan.
///
/// # Errors
/// Never in practice; the digest's writer has an error type.
pub fn view(plan: &Plan) -> Result<PlanView> {
    let instruments = plan.targets.iter().map(|target| {
        let steps: Vec<StepView> = target.plan.steps.iter().map(step_view).collect();
        let lost = steps.iter().filter(|s| s.skip.is_none() && s.undo == UndoKind::Impossible);
        InstrumentView {
            name: target.plan.instrument.clone(),
            host: target.plan.host.clone(),
            cannot_undo: lost.map(|s| s.name.clone()).collect(),
            steps,
        }
    });
    Ok(PlanView {
        run: plan.run.to_string(),
        plan: plan.digest()?.to_string(),
        playbook: plan.playbook.clone(),
        kit: plan.kit.as_ref().map(|k| k.version.clone()),
        borrowed: plan.kit.iter().flat_map(|k| k.borrowed.clone()).collect(),
        rehearsal: plan.rehearsal,
        instruments: instruments.collect(),
    })
}

fn step_view(step: &PlanStep) -> StepView {
    let each = step.each.as_ref().map(|each| match (&each.files, &each.list) {
        (Some(files), _) => format!("each file {files}"),
        (None, Some(list)) => format!("each of {} values", list.len()),
        (None, None) => "each".to_owned(),
    });
    StepView {
        id: step.id.clone(),
        name: step.name.clone(),
        phase: step.phase,
        action: step.action.name().to_owned(),
        run_as: step.run_as,
        skip: step.skip.clone(),
        when: step.when.clone(),
        each,
        undo: undo_kind(step),
        timeout: step.timeout.to_string(),
    }
}

/// How a step can be taken back. Only `apply` and `prove` ever are.
pub fn undo_kind(step: &PlanStep) -> UndoKind {
    if !matches!(step.phase, Phase::Apply | Phase::Prove) {
        return UndoKind::NotNeeded;
    }
    match (&step.undo, &step.action) {
        (Some(UndoSpec::None), _) => UndoKind::Impossible,
        (Some(UndoSpec::Command(c)), _) => {
            let program = c.program.as_ref().map(|p| p.as_str().to_owned());
            UndoKind::Compensating { by: c.run.clone().or(program).unwrap_or_default() }
        }
        (None, Action::Command(_)) if !step.writes.is_empty() => UndoKind::Exact,
        (None, Action::Copy(_) | Action::File(_) | Action::Link(_) | Action::Remove(_) | Action::Restore(_)) => UndoKind::Exact,
        (None, Action::Clone(_) | Action::Git(_) | Action::Migrate(_) | Action::Mysql(_)) => UndoKind::Exact,
        (None, Action::Service(_) | Action::Sync(_) | Action::Task(_) | Action::Vhd(_)) => UndoKind::Exact,
        (None, Action::Hotfix(hotfix)) if hotfix.changes_files() => UndoKind::Exact,
        (None, action) if action.performer().cannot_undo() => UndoKind::Impossible,
        _ => UndoKind::NotNeeded,
    }
}
