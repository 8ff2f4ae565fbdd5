//! `ibexdeploy os-patch`.

use super::GlobalOptions;
use super::operate::{Fleet, PlaybookOptions, Wanted, even_if_measuring, go, prepare};
use crate::error::Result;
use clap::Args;
use std::num::NonZeroU32;

/// Install updates of the operating system, with restarts, until none is left; IBEX is stopped meanwhile
#[derive(Debug, Args)]
pub(super) struct OsPatch {
    #[command(flatten)]
    options: PlaybookOptions,
    /// A folder with packages, as the instrument sees it, for example `C:\data\patches` [default: Windows Update]
    #[arg(long, value_name = "DIR")]
    updates: Option<String>,
    /// Install at most this many updates [default: 100]
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroU32>,
    /// Begin when the instrument is not measuring
    #[arg(long)]
    when_idle: bool,
    /// Stop IBEX also when the DAE is not in SETUP or cannot be read; what is being measured is lost
    #[arg(long, conflicts_with = "when_idle")]
    even_if_measuring: bool,
}

impl OsPatch {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let mut set = even_if_measuring(self.even_if_measuring);
        set.extend(self.updates.map(|folder| ("updates".to_owned(), folder.into())));
        set.extend(self.limit.map(|limit| ("limit".to_owned(), limit.get().into())));
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let wanted = Wanted { playbook: "os-patch", when_idle: self.when_idle, set, ..Wanted::default() };
        let prepared = prepare(global, fleet, &self.options.run, &wanted)?;
        go(global, prepared, &self.options.run)
    }
}
