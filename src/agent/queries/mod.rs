//! Questions that controllers ask outside a run.

mod dry_run;
mod status;

pub(crate) use dry_run::hold;

use super::content::Desk;
use super::journal;
use super::prune;
use super::resume::Resume;
use super::stranded::Stranded;
use super::worker::Worker;
use crate::actions::backup::catalogue::{self, BackupRecord};
use crate::actions::hotfix::installed::states;
use crate::error::{Error, ErrorKind, Result};
use crate::files::read_json;
use crate::paths::Place;
use crate::plan::InstrumentPlan;
use crate::protocol::{AgentMessage, Query, QueryReply, RunRecord};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// Answers a question; `desk` brings content from the controller that asks.
pub(crate) fn answer(worker: &Worker, query: Query, desk: &Desk) -> QueryReply {
    let answered = match query {
        Query::Status { plan } => status::report(worker, &plan).map(|s| QueryReply::Status(Box::new(s))),
        Query::DryRun { plan } => dry_run::probe_all(worker, &plan, desk),
        Query::Runs => runs(worker).map(QueryReply::Runs),
        Query::StoredPlan { run } => {
            worker.run_dir(&run).and_then(|dir| stored_plan(&dir)).map(|p| QueryReply::StoredPlan(Box::new(p)))
        }
        Query::Hotfixes => states(worker.machine.home.folder(), &worker.machine.drives).map(QueryReply::Hotfixes),
        Query::Unlock { force } => worker.unlock(force).map(|summary| QueryReply::Done { summary }),
        Query::Backups { plan } => backups(worker, &plan).map(QueryReply::Backups),
        Query::Prune { keep } => prune::prune(worker, keep).map(|summary| QueryReply::Done { summary }),
    };
    answered.unwrap_or_else(QueryReply::Failed)
}

/// After `unlock --force` the process ends, and with it the thread that was wedged.
pub(crate) async fn end_if_abandoned(worker: &Worker, out: &mpsc::Sender<AgentMessage>) {
    if worker.active().is_none() {
        return;
    }
    // The answer goes out first.
    let _ = tokio::time::timeout(Duration::from_secs(2), async {
        while out.capacity() < out.max_capacity() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    worker.end();
}

/// The runs in the home, the newest first.
///
/// # Errors
/// When they cannot be listed.
pub(crate) fn runs(worker: &Worker) -> Result<Vec<RunRecord>> {
    Ok(worker.machine.home.run_dirs()?.iter().rev().map(|dir| record(dir)).collect())
}

/// The backups in the instrument's place for them, the newest first.
///
/// # Errors
/// When the plan is for another machine, or the folder cannot be listed.
fn backups(worker: &Worker, plan: &InstrumentPlan) -> Result<Vec<BackupRecord>> {
    worker.machine.check_plan(plan)?;
    let folder = Place("backups".to_owned()).resolve(&plan.places)?;
    catalogue::backups(&worker.machine.drives, &folder)
}

/// What is known of a run. Never fails: what is damaged is said in the record.
fn record(dir: &Path) -> RunRecord {
    let loaded = journal::read(&dir.join("journal.jsonl"));
    let (resume, mut damage) = match &loaded {
        Ok(loaded) => (Resume::from_journal(loaded), loaded.damage_text()),
        Err(error) => (Resume::default(), Some(error.to_string())),
    };
    let plan = stored_plan(dir);
    if let Err(error) = &plan {
        damage = Some(damage.map_or_else(|| error.to_string(), |d| format!("{error}; {d}")));
    }
    if let Some(stranded) = Stranded::at(dir) {
        damage = Some(stranded.told());
    }
    let plan = plan.ok();
    let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let text = |pick: fn(&InstrumentPlan) -> String| plan.as_ref().map_or_else(|| "unknown".to_owned(), pick);
    RunRecord {
        run: crate::events::RunId(name),
        instrument: text(|p| p.instrument.clone()),
        playbook: text(|p| p.playbook.clone()),
        kit: plan.as_ref().and_then(|p| p.kit.clone()),
        operator: text(|p| p.operator.clone()),
        started: resume.accepted.unwrap_or_default(),
        outcome: resume.finished,
        undone_by: resume.undone_by,
        damage,
    }
}

/// The plan a run was made with.
///
/// # Errors
/// When it is not there or cannot be read.
pub(crate) fn stored_plan(dir: &Path) -> Result<InstrumentPlan> {
    let lost = "without its plan nobody knows what the run was to do: release again, or restore a backup";
    match read_json(&dir.join("plan.json")) {
        Ok(Some(plan)) => Ok(plan),
        Ok(None) => Err(Error::new(ErrorKind::Integrity, format!("{} has no plan", dir.display())).next(lost)),
        Err(error) => Err(error.next(lost)),
    }
}
