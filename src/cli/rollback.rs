//! `ibexdeploy rollback`.

use super::operate::{Fleet, LOOK_FIRST, Led, PlaybookOptions, ask, confirm, lead, limits, new_run};
use super::{GlobalOptions, exit, output};
use crate::engine::Job;
use crate::error::{Error, ErrorKind, Result};
use crate::events::RunId;
use crate::link::{Link, Start};
use crate::plan::{PLAN_FORMAT, Plan, Target};
use crate::protocol::{RollbackOptions, RollbackPreview};
use crate::report::{self, Screen};
use clap::Args;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long an instrument may take to find out what changed since.
const LIMIT: Duration = Duration::from_secs(1800);

/// Take a finished run back
#[derive(Debug, Args)]
pub(super) struct Rollback {
    #[command(flatten)]
    options: PlaybookOptions,
    /// The run; newer ones are taken back first [default: each instrument's newest]
    #[arg(long = "run", value_name = "ID")]
    id: Option<String>,
    /// Take it back although files were changed since; those are saved first
    #[arg(long)]
    discard_newer: bool,
    /// Take it back also when the DAE is not in SETUP or cannot be read; what is being measured is lost
    #[arg(long)]
    even_if_measuring: bool,
}

impl Rollback {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let as_run = new_run();
        let targets = fleet.bare_targets(&as_run, "rollback");
        let options = RollbackOptions {
            discard_newer: self.discard_newer,
            even_if_measuring: self.even_if_measuring,
            preview: false,
            as_run: as_run.0.clone(),
            operator: fleet.operator.clone(),
        };
        let previews = self.preview(&fleet, &targets, &options)?;
        let text = || report::rollback_previews(&previews, Screen::of_stdout());
        if self.options.run.dry_run {
            let data: Vec<_> = previews.iter().map(|(name, p)| (name, p.as_ref().ok(), p.as_ref().err())).collect();
            output::document(global, &data, text)?;
            return Ok(exit::of_answers(previews.iter().filter_map(|(_, p)| p.as_ref().err())));
        }
        if !self.discard_newer {
            refuse_newer(&previews)?;
        }
        confirm(&text(), self.options.run.yes, LOOK_FIRST)?;
        let jobs = targets.iter().zip(&previews).map(|(target, (_, preview))| Job {
            start: Start::Rollback { run: self.run_to_undo(preview), options: options.clone() },
            idle: None,
            target: target.clone(),
        });
        let led = Led {
            out: None,
            jobs: jobs.collect(),
            access: fleet.access(None, Some(&self.options.run))?,
            limits: limits(&fleet, &self.options.run)?,
            deadline: self.options.run.deadline.map(|span| span.0),
            log: fleet.log.clone(),
            secrets: fleet.logon_secrets()?,
            plan: plan_of(&fleet, as_run, targets),
            state: fleet.state.clone(),
            resumed: None,
        };
        lead(global, led)
    }

    fn preview(
        &self,
        fleet: &Fleet,
        targets: &[Target],
        options: &RollbackOptions,
    ) -> Result<Vec<(String, Result<RollbackPreview>)>> {
        let (run, options) = (self.id.clone().unwrap_or_default(), options.clone());
        let talk = move |_: Target, link: Link| Box::pin(preview(link, run.clone(), options.clone())) as _;
        let answers = ask(fleet, targets, self.options.run.jobs, LIMIT, Arc::new(talk))?;
        Ok(targets.iter().map(|t| t.plan.instrument.clone()).zip(answers).collect())
    }

    /// What was named, else the newest run of the instrument, as its preview says.
    fn run_to_undo(&self, preview: &Result<RollbackPreview>) -> String {
        let newest = || preview.as_ref().ok().and_then(|p| p.runs.first().cloned());
        self.id.clone().or_else(newest).unwrap_or_default()
    }
}

async fn preview(mut link: Link, run: String, options: RollbackOptions) -> Result<RollbackPreview> {
    let preview = link.preview_rollback(&run, options).await?;
    link.goodbye().await;
    Ok(preview)
}

/// Files that were changed since are only given up when the operator says so.
fn refuse_newer(previews: &[(String, Result<RollbackPreview>)]) -> Result<()> {
    let newer: Vec<String> = previews
        .iter()
        .flat_map(|(name, p)| p.iter().flat_map(|p| &p.newer).map(move |file| format!("{name}: {file}")))
        .collect();
    if newer.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, "files were changed since: nothing was touched").with_output(newer).next(
        "with --discard-newer files are saved, rows and commits are kept aside, and then they are taken back with the rest",
    ))
}

/// A plan without steps, so that the run can be found again.
fn plan_of(fleet: &Fleet, run: RunId, targets: Vec<Target>) -> Plan {
    Plan {
        format: PLAN_FORMAT,
        run,
        created: Timestamp::now(),
        operator: fleet.operator.clone(),
        playbook: "rollback".to_owned(),
        sources: BTreeMap::new(),
        kit: None,
        rehearsal: fleet.rehearsal,
        targets,
    }
}
