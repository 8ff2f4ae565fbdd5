//! `ibexdeploy completions SHELL`.

use super::{Arguments, exit};
use crate::error::{IoContext, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::Write;

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
        std::io::stdout().write_all(&script).cannot(|| "write to standard output")?;
        Ok(exit::OK)
    }
}
