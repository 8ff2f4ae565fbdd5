//! `ibexdeploy completions SHELL`.

use super::{Arguments, exit};
use crate::error::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print the completion script for a shell
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "ibexdeploy", &mut script);
        super::write_out(&script)?;
        Ok(exit::OK)
    }
}
