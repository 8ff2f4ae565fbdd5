//! `ibexdeploy plan`.

use super::operate::{Fleet, PlaybookOptions, Wanted, prepare};
use super::{GlobalOptions, document, exit};
use crate::error::Result;
use crate::plan;
use crate::report;
use clap::Args;

/// Show what a playbook would do on instruments, without contacting them
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// The playbook's name
    #[arg(value_name = "PLAYBOOK")]
    playbook: String,
    #[command(flatten)]
    options: PlaybookOptions,
    /// The release, by name or as a folder [default: the newest, when the playbook needs one]
    #[arg(long, value_name = "VERSION|DIR")]
    kit: Option<String>,
}

impl Plan {
    pub(super) fn run(mut self, global: &GlobalOptions) -> Result<u8> {
        // Nothing will run, so no secret is fetched.
        self.options.run.dry_run = true;
        let wanted = Wanted { playbook: &self.playbook, kit: self.kit.as_deref(), ..Wanted::default() };
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        let view = plan::view(&prepared.plan)?;
        document(global, &view, || report::planned(&view, global.screen()))?;
        Ok(exit::OK)
    }
}
