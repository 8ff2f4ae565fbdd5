//! `ibexdeploy runs list`.

use crate::cli::{GlobalOptions, exit, output};
use crate::error::Result;
use crate::events::{RunFolder, Summary};
use crate::report::run_list;
use clap::Args;

/// List the runs of this controller, the newest first
#[derive(Debug, Args)]
pub(in crate::cli) struct List {}

impl List {
    pub(in crate::cli) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let folders = RunFolder::list(&global.state_folder()?)?;
        let runs = folders.iter().map(RunFolder::summary).collect::<Result<Vec<Summary>>>()?;
        output::document(global, &runs, || run_list(&runs, global.screen()))?;
        Ok(exit::OK)
    }
}
