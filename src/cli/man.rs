//! `ibexdeploy man`.

use super::{Arguments, exit};
use crate::error::{IoContext, Result};
use clap::{Args, CommandFactory};
use std::path::PathBuf;

/// Write the manual pages into a folder
#[derive(Debug, Args)]
pub(super) struct Man {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Man {
    pub(super) fn run(self) -> Result<u8> {
        std::fs::create_dir_all(&self.folder).cannot(|| format!("make the folder {}", self.folder.display()))?;
        clap_mangen::generate_to(Arguments::command(), &self.folder)
            .cannot(|| format!("write manual pages into {}", self.folder.display()))?;
        Ok(exit::OK)
    }
}
