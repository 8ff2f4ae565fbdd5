//! `ibexdeploy restore`.

use super::GlobalOptions;
use super::operate::{Fleet, PlaybookOptions, Wanted, even_if_measuring, go, prepare};
use crate::error::Result;
use clap::Args;

/// Put the files of a backup back
#[derive(Debug, Args)]
pub(super) struct Restore {
    #[command(flatten)]
    options: PlaybookOptions,
    /// The backup's folder on the instrument, for example `backups\ibex_backup_2026_11_02` [default: the newest]
    #[arg(long, value_name = "DIR")]
    backup: Option<String>,
    /// Stop IBEX also when the DAE is not in SETUP or cannot be read; what is being measured is lost
    #[arg(long)]
    even_if_measuring: bool,
}

impl Restore {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let mut set = even_if_measuring(self.even_if_measuring);
        set.extend(self.backup.map(|folder| ("backup".to_owned(), folder.into())));
        let prepared = prepare(global, fleet, &self.options.run, &Wanted { playbook: "restore", set, ..Wanted::default() })?;
        go(global, prepared, &self.options.run)
    }
}
