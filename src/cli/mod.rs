//! The command line: arguments to a validated request, a call, an exit code. No logic.

mod agent;
mod completions;
mod exit;
mod man;
mod options;

pub use options::{GlobalOptions, OutputForm, RunOptions, TargetOptions};

use crate::error::Result;
use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Deploys releases of the IBEX control system to the ISIS instruments.
#[derive(Debug, Parser)]
#[command(
    name = "ibexdeploy",
    version,
    about,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

/// The commands, one file each.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(hide = true)]
    Agent(agent::Agent),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    /// Runs the command; what it returns is the process's exit code.
    fn run(self, _global: &GlobalOptions) -> Result<u8> {
        match self {
            Self::Agent(c) => c.run(),
            Self::Completions(c) => c.run(),
            Self::Man(c) => c.run(),
        }
    }
}

/// Reads the arguments, runs the command and gives the exit code that `docs/operating.md` documents.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command.run(&arguments.global) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nothing is left to do when even standard error is closed.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(exit::code_of(&error))
        }
    }
}
