//! `ibexdeploy release`.

use super::GlobalOptions;
use super::operate::{Fleet, HotfixOptions, PlaybookOptions, Wanted, even_if_measuring, go, prepare};
use crate::error::Result;
use clap::Args;

/// Put a release on instruments
#[derive(Debug, Args)]
pub(super) struct Release {
    #[command(flatten)]
    options: PlaybookOptions,
    /// The release, by name or as a folder [default: the newest]
    #[arg(long, value_name = "VERSION|DIR")]
    kit: Option<String>,
    /// Stage now, and apply on each instrument when it is not measuring
    #[arg(long)]
    when_idle: bool,
    #[command(flatten)]
    hotfixes: HotfixOptions,
    /// Stop IBEX also when the DAE is not in SETUP or cannot be read; what is being measured is lost
    #[arg(long, conflicts_with = "when_idle")]
    even_if_measuring: bool,
}

impl Release {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let wanted = Wanted {
            playbook: "release",
            kit: self.kit.as_deref(),
            when_idle: self.when_idle,
            hotfixes: self.hotfixes.policy(),
            set: even_if_measuring(self.even_if_measuring),
            ..Wanted::default()
        };
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        go(global, prepared, &self.options.run)
    }
}
