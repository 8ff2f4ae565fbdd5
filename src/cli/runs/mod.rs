//! `ibexdeploy runs ...`: one file per subcommand.

mod list;
mod prune;
mod report;
mod resume;
mod show;

use super::GlobalOptions;
use crate::error::Result;
use clap::Subcommand;

/// Look at the runs of this controller, go on with them, and clear old ones
#[derive(Debug, Subcommand)]
pub(super) enum Runs {
    List(list::List),
    Prune(prune::Prune),
    Report(report::Report),
    Resume(resume::Resume),
    Show(show::Show),
}

impl Runs {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        match self {
            Self::List(c) => c.run(global),
            Self::Prune(c) => c.run(global),
            Self::Report(c) => c.run(global),
            Self::Resume(c) => c.run(global),
            Self::Show(c) => c.run(global),
        }
    }
}
