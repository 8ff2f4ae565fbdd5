//! The state of an instrument.

use super::super::driver::installed;
use super::super::lock;
use super::super::stranded::{is_unproven, stranded};
use super::super::worker::{Worker, info_of};
use crate::actions::hotfix::installed::states;
use crate::actions::{Action, sync};
use crate::error::Result;
use crate::plan::InstrumentPlan;
use crate::platform::facts;
use crate::protocol::{RunRecord, StatusReport};
use std::collections::BTreeMap;
use std::path::Path;

/// Looks at everything that `status` shows; what the system does not tell is left out.
///
/// # Errors
/// When the agent's own files cannot be read.
pub(super) fn report(worker: &Worker, plan: &InstrumentPlan) -> Result<StatusReport> {
    let machine = &worker.machine;
    machine.check_plan(plan)?;
    let platform = &*machine.platform;
    let home = machine.home.folder();
    let lock = match worker.active() {
        Some(run) => Some(info_of(&run)),
        None => lock::holder(&machine.home)?,
    };
    Ok(StatusReport {
        facts: machine.facts(&plan.places),
        versions: versions(worker, plan),
        installed: installed(home)?,
        last_run: last_run(worker)?,
        lock,
        hand_changes: hand_changes(worker, plan)?,
        hotfixes: states(home, &machine.drives)?,
        free: free(worker, plan),
        memory: platform.memory().unwrap_or_default(),
        pending_reboot: platform.pending_reboot().unwrap_or_default(),
        logged_on: platform.logged_on().unwrap_or_default(),
    })
}

/// The newest run, or the one that has left the instrument in the middle.
fn last_run(worker: &Worker) -> Result<Option<RunRecord>> {
    let stranded = stranded(&worker.machine.home)?;
    let mut runs = super::runs(worker)?;
    let at = stranded.and_then(|left| runs.iter().position(|run| run.run == left.run)).unwrap_or(0);
    Ok((at < runs.len()).then(|| runs.swap_remove(at)))
}

fn versions(worker: &Worker, plan: &InstrumentPlan) -> BTreeMap<String, String> {
    let version = |place: &crate::paths::WinPath| {
        let native = worker.machine.drives.native(place).ok()?;
        facts::version_in(&native).ok().flatten()
    };
    plan.places.iter().filter_map(|(name, place)| Some((name.clone(), version(place)?))).collect()
}

fn free(worker: &Worker, plan: &InstrumentPlan) -> BTreeMap<String, u64> {
    let mut free = BTreeMap::new();
    for place in plan.places.values() {
        let Some(drive) = place.drive() else { continue };
        let bytes = worker.machine.drives.native(place).and_then(|native| worker.machine.platform.free_space(&native));
        if let Ok(bytes) = bytes {
            free.entry(format!("{}:", drive.to_ascii_uppercase())).or_insert(bytes);
        }
    }
    free
}

/// By component, for those that a release has installed and those that the plan would.
fn hand_changes(worker: &Worker, plan: &InstrumentPlan) -> Result<BTreeMap<String, Option<Vec<String>>>> {
    let machine = &worker.machine;
    let home = machine.home.folder();
    let mut targets = BTreeMap::new();
    for (component, installed) in installed(home)? {
        targets.insert(component, (installed.to, Vec::new(), Vec::new()));
    }
    for step in &plan.steps {
        if let Action::Sync(sync) = &step.action
            && let Ok(to) = sync.to.resolve(&plan.places)
        {
            targets.insert(sync.component.clone(), (to, sync.keep.clone(), sync.generated.clone()));
        }
    }
    // What a release that is not over has put there is nobody's hand-made change, and not yet what is to be compared with.
    if worker.active().is_some() || is_unproven(&machine.home, Path::new(""))? {
        return Ok(targets.into_keys().map(|component| (component, None)).collect());
    }
    let mut found = BTreeMap::new();
    for (component, (to, keep, generated)) in targets {
        let changes = sync::hand_changes(home, &component, &machine.drives.native(&to)?, &keep, &generated)?;
        let named = changes.map(|all| all.iter().map(|c| c.path.to_string()).collect());
        found.insert(component, named);
    }
    Ok(found)
}
