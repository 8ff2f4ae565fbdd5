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
    /// The backup's name or its folder on the instrument, for example `ibex_backup_2026_11_02` [default: the newest good one]
    #[arg(long, value_name = "BACKUP")]
    backup: Option<String>,
    /// Only these places, for example `client,python`; `all` for everything in the backup [default: server, client, python]
    #[arg(long, value_name = "PLACES", conflicts_with = "file")]
    of: Option<String>,
    /// Only this file or folder, for example `settings\globals.txt` or an absolute path on the instrument
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// Stop IBEX also when the DAE is not in SETUP or cannot be read; what is being measured is lost
    #[arg(long)]
    even_if_measuring: bool,
}

impl Restore {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::choose(global, &self.options.targets)?;
        let given = [("backup", self.backup), ("of", self.of), ("file", self.file)];
        let mut set = even_if_measuring(self.even_if_measuring);
        set.extend(given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        let prepared = prepare(global, fleet, &self.options.run, &Wanted { playbook: "restore", set, ..Wanted::default() })?;
        go(global, prepared, &self.options.run)
    }
}
