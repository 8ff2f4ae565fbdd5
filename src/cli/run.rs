//! `ibexdeploy run`.

use super::GlobalOptions;
use super::operate::{Fleet, PlaybookOptions, Wanted, go, prepare};
use crate::error::Result;
use clap::Args;

/// Run any playbook on instruments
#[derive(Debug, Args)]
pub(super) struct Run {
    /// The playbook's name
    #[arg(value_name = "PLAYBOOK")]
    playbook: String,
    #[command(flatten)]
    options: PlaybookOptions,
    /// The release, by name or as a folder [default: the newest, when the playbook needs one]
    #[arg(long, value_name = "VERSION|DIR")]
    kit: Option<String>,
    /// Stage now, and apply on each instrument when it is not measuring
    #[arg(long)]
    when_idle: bool,
}

impl Run {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let wanted =
            Wanted { playbook: &self.playbook, kit: self.kit.as_deref(), when_idle: self.when_idle, ..Wanted::default() };
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        go(global, prepared, &self.options.run)
    }
}
