//! `ibexdeploy backup`.

use super::GlobalOptions;
use super::operate::{Fleet, PlaybookOptions, Wanted, go, prepare};
use crate::error::Result;
use clap::Args;

/// Save the files of instruments as plain zip files, beside the running IBEX
#[derive(Debug, Args)]
pub(super) struct Backup {
    #[command(flatten)]
    options: PlaybookOptions,
}

impl Backup {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let wanted = Wanted { playbook: "backup", ..Wanted::default() };
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        go(global, prepared, &self.options.run)
    }
}
