//! The command line: arguments to a validated request, a call, an exit code. No logic.

mod completions;
mod exit;
mod failure;
mod inventory;
mod man;
mod options;
mod playbook;
mod schema;
mod table;

pub use options::{GlobalOptions, OutputForm, RunOptions, TargetOptions};

use crate::error::{IoContext, Result};
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
    Completions(completions::Completions),
    Inventory(inventory::Inventory),
    Man(man::Man),
    Playbook(playbook::Playbook),
    Schema(schema::Schema),
}

impl Command {
    /// Runs the command; what it returns is the process's exit code.
    fn run(self, global: &GlobalOptions) -> Result<u8> {
        match self {
            Self::Completions(c) => c.run(),
            Self::Inventory(c) => c.run(global),
            Self::Man(c) => c.run(),
            Self::Playbook(c) => c.run(global),
            Self::Schema(c) => c.run(),
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
            let _ = write!(std::io::stderr(), "{}", failure::tell(&error));
            ExitCode::from(exit::code_of(&error))
        }
    }
}

/// Writes a result to standard output.
fn write_out(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).cannot(|| "write to standard output")
}
