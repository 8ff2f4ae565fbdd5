//! `ibexdeploy status`.

use super::operate::{Fleet, ask, new_run};
use super::{GlobalOptions, TargetOptions, exit, output};
use crate::error::Result;
use crate::inventory::Selection;
use crate::link::{Link, unexpected_reply};
use crate::plan::Target;
use crate::protocol::{Query, QueryReply, StatusReport};
use crate::report::{self, Screen, StatusRow};
use crate::units::Span;
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// Show the state of instruments: versions, last run, lock, changes made by hand, disk
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    targets: TargetOptions,
    /// How many instruments are asked at once
    #[arg(long, value_name = "N", env = "IBEXDEPLOY_JOBS", default_value_t = 30)]
    jobs: usize,
    /// How long an instrument may take to answer
    #[arg(long, value_name = "TIME", default_value_t = Span(Duration::from_secs(60)))]
    within: Span,
}

impl Status {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::open(global, &Selection::from_options(&self.targets).or_all())?;
        let targets = fleet.bare_targets(&new_run(), "status");
        let talk = |target: Target, link: Link| Box::pin(look(target, link)) as _;
        let answers = ask(&fleet, &targets, self.jobs, self.within.0, Arc::new(talk))?;
        let today = jiff::Zoned::now().date();
        let rows: Vec<StatusRow> = fleet
            .instruments()
            .into_iter()
            .zip(answers)
            .map(|(instrument, answer)| {
                let (status, error) = match answer {
                    Ok(status) => (Some(status), None),
                    Err(error) => (None, Some(error)),
                };
                let retire = instrument.seci.as_ref().map(|s| s.retire.map_or("not agreed".into(), |d| d.to_string()));
                let retired = instrument.seci.as_ref().is_some_and(|s| s.retired_by(today).is_some());
                StatusRow {
                    seci_retired: retired,
                    instrument: instrument.name.clone(),
                    host: instrument.host.clone(),
                    seci_retires: retire,
                    status,
                    error,
                }
            })
            .collect();
        output::document(global, &rows, || report::status(&rows, Screen::of_stdout()))?;
        Ok(if rows.iter().all(|r| r.error.is_none()) { exit::OK } else { exit::SOME_FAILED })
    }
}

async fn look(target: Target, mut link: Link) -> Result<StatusReport> {
    match link.query(Query::Status { plan: Box::new(target.plan) }).await? {
        QueryReply::Status(report) => {
            link.goodbye().await;
            Ok(*report)
        }
        _ => Err(unexpected_reply()),
    }
}
