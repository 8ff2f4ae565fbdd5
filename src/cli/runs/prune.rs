//! `ibexdeploy runs prune`.

use crate::cli::{GlobalOptions, exit, output};
use crate::error::Result;
use crate::events::RunFolder;
use crate::report::run_pruned;
use clap::Args;
use serde::Serialize;

/// Remove this controller's records of old runs; those at the instruments stay
#[derive(Debug, Args)]
pub(in crate::cli) struct Prune {
    /// How many of the newest runs to keep
    #[arg(long, value_name = "N")]
    keep: usize,
    /// Also those that are not finished: they can then be resumed from the instruments only
    #[arg(long)]
    unfinished: bool,
}

/// What was removed, and what was not although it is old.
#[derive(Debug, Serialize)]
struct Pruned {
    removed: Vec<String>,
    unfinished: Vec<String>,
}

impl Prune {
    pub(in crate::cli) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let mut pruned = Pruned { removed: Vec::new(), unfinished: Vec::new() };
        for folder in RunFolder::list(&global.state_folder()?)?.iter().skip(self.keep) {
            let id = folder.id().to_string();
            if folder.is_led() || (!self.unfinished && folder.is_unfinished()?) {
                pruned.unfinished.push(id);
            } else {
                folder.remove()?;
                pruned.removed.push(id);
            }
        }
        output::document(global, &pruned, || run_pruned(&pruned.removed, &pruned.unfinished))?;
        Ok(exit::OK)
    }
}
