//! `ibexdeploy stage`.

use super::GlobalOptions;
use super::operate::{Fleet, HotfixOptions, PlaybookOptions, Wanted, go, prepare};
use crate::error::Result;
use clap::Args;

/// Bring a release to instruments beside the running IBEX, and stop there
#[derive(Debug, Args)]
pub(super) struct Stage {
    #[command(flatten)]
    options: PlaybookOptions,
    /// The release, by name or as a folder [default: the newest]
    #[arg(long, value_name = "VERSION|DIR")]
    kit: Option<String>,
    #[command(flatten)]
    hotfixes: HotfixOptions,
}

impl Stage {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let wanted = Wanted {
            playbook: "release",
            kit: self.kit.as_deref(),
            only_stage: true,
            hotfixes: self.hotfixes.policy(),
            ..Wanted::default()
        };
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        go(global, prepared, &self.options.run)
    }
}
