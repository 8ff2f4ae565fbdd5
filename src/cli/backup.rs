//! `ibexdeploy backup`.

use super::operate::{Fleet, PlaybookOptions, Wanted, ask, go, new_run, prepare};
use super::{GlobalOptions, exit, output};
use crate::actions::backup::catalogue::BackupRecord;
use crate::error::Result;
use crate::inventory::Selection;
use crate::link::{Link, unexpected_reply};
use crate::plan::Target;
use crate::protocol::{Query, QueryReply};
use crate::report::{self, BackupRow, Screen};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// How long an instrument may take to list its backups.
const LIMIT: Duration = Duration::from_secs(60);

/// Save the files of instruments as plain zip files, beside the running IBEX
#[derive(Debug, Args)]
pub(super) struct Backup {
    #[command(flatten)]
    options: PlaybookOptions,
    /// Show the backups that are there, also those that the older scripts made; make none [default: of all instruments]
    #[arg(long, conflicts_with_all = ["dry_run", "tags", "skip_tags", "set", "canary", "batch", "max_fail", "deadline"])]
    list: bool,
}

impl Backup {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        if self.list {
            return self.show(global);
        }
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let wanted = Wanted { playbook: "backup", ..Wanted::default() };
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        go(global, prepared, &self.options.run)
    }

    fn show(&self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::open(global, &Selection::from_options(&self.options.targets).or_all())?;
        let targets = fleet.bare_targets(&new_run(), "backup");
        let talk = |target: Target, link: Link| Box::pin(look(target, link)) as _;
        let answers = ask(&fleet, &targets, self.options.run.jobs, LIMIT, Arc::new(talk))?;
        let row = |(target, answer): (&Target, Result<Vec<BackupRecord>>)| {
            let (backups, error) = match answer {
                Ok(backups) => (backups, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            BackupRow { instrument: target.plan.instrument.clone(), host: target.plan.host.clone(), backups, error }
        };
        let rows: Vec<BackupRow> = targets.iter().zip(answers).map(row).collect();
        output::document(global, &rows, || report::backups(&rows, global.verbose, Screen::of_stdout()))?;
        Ok(if rows.iter().all(|r| r.error.is_none()) { exit::OK } else { exit::SOME_FAILED })
    }
}

async fn look(target: Target, mut link: Link) -> Result<Vec<BackupRecord>> {
    match link.query(Query::Backups { plan: Box::new(target.plan) }).await? {
        QueryReply::Backups(backups) => {
            link.goodbye().await;
            Ok(backups)
        }
        _ => Err(unexpected_reply()),
    }
}
