//! `ibexdeploy restore`.

use super::GlobalOptions;
use super::operate::{Fleet, PlaybookOptions, Wanted, go, prepare};
use crate::error::Result;
use clap::Args;
use std::collections::BTreeMap;

/// Put the files of a backup back
#[derive(Debug, Args)]
pub(super) struct Restore {
    #[command(flatten)]
    options: PlaybookOptions,
    /// The backup's folder on the instrument, for example `backups\ibex_backup_2026_11_02` [default: the newest]
    #[arg(long, value_name = "DIR")]
    backup: Option<String>,
}

impl Restore {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let set: BTreeMap<_, _> = self.backup.into_iter().map(|folder| ("backup".to_owned(), folder.into())).collect();
        let prepared = prepare(global, fleet, &self.options.run, &Wanted { playbook: "restore", set, ..Wanted::default() })?;
        go(global, prepared, &self.options.run)
    }
}
