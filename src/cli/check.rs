//! `ibexdeploy check`.

use super::GlobalOptions;
use super::operate::{Fleet, PlaybookOptions, Wanted, go, prepare};
use crate::error::Result;
use clap::Args;

/// Look whether instruments are well and could take a release; changes nothing
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    options: PlaybookOptions,
}

impl Check {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let wanted = Wanted { playbook: "check", ..Wanted::default() };
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        go(global, prepared, &self.options.run)
    }
}
