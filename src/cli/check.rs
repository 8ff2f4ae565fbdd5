//! `ibexdeploy check`.

use super::operate::{Fleet, Wanted, ask, prepare, probe};
use super::{GlobalOptions, RunOptions, TargetOptions, exit, output};
use crate::error::Result;
use crate::link::{Link, unexpected_reply};
use crate::plan::Target;
use crate::protocol::{Query, QueryReply};
use crate::report::{self, CheckRow, Found, Screen};
use crate::units::Span;
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// Look whether instruments can be reached, are well and could take a release; changes nothing
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    targets: TargetOptions,
    /// How many instruments are asked at once
    #[arg(long, value_name = "N", env = "IBEXDEPLOY_JOBS", default_value_t = 30)]
    jobs: usize,
    /// How long an instrument may take to answer
    #[arg(long, value_name = "TIME", default_value_t = Span(Duration::from_secs(120)))]
    within: Span,
    /// Only steps of the playbook `check` with one of these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tags: Vec<String>,
    /// Leave out steps with one of these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    skip_tags: Vec<String>,
    /// Give a playbook variable a value
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl Check {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::choose(global, &self.targets)?;
        let options = RunOptions {
            jobs: self.jobs,
            canary: None,
            batch: None,
            max_fail: None,
            deadline: None,
            limit_rate: None,
            tags: self.tags,
            skip_tags: self.skip_tags,
            set: self.set,
            dry_run: true,
            yes: false,
        };
        let prepared = prepare(global, fleet, &options, &Wanted { playbook: "check", ..Wanted::default() })?;
        let talk = |target: Target, link: Link| Box::pin(look(target, link)) as _;
        let answers = ask(&prepared.fleet, &prepared.plan.targets, self.jobs, self.within.0, Arc::new(talk))?;
        let rows: Vec<CheckRow> = prepared.plan.targets.iter().zip(answers).map(|(t, answer)| CheckRow::new(t, answer)).collect();
        output::document(global, &rows, || report::check(&rows, Screen::of_stdout()))?;
        Ok(if rows.iter().all(CheckRow::is_well) { exit::OK } else { exit::SOME_FAILED })
    }
}

/// The state of the machine, and what the steps of the playbook find.
async fn look(target: Target, mut link: Link) -> Result<Found> {
    let agent = link.hello().clone();
    let status = match link.query(Query::Status { plan: Box::new(target.plan.clone()) }).await? {
        QueryReply::Status(status) => *status,
        _ => return Err(unexpected_reply()),
    };
    let steps = probe(target, &mut link).await?;
    link.goodbye().await;
    Ok(Found { agent, status, steps })
}
