//! The command line: arguments to a validated request, a call, an exit code. No logic.

mod agent;
mod completions;
mod exit;
mod inventory;
mod kit;
mod log;
mod man;
mod options;
mod output;
mod playbook;
mod runs;
mod schema;
mod table;

pub use log::start_log;
pub use options::{GlobalOptions, OutputForm, RunOptions, TargetOptions};
pub use output::document;

use crate::error::{Error, IoContext, Result};
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
    Inventory(inventory::Inventory),
    Kit(kit::Kit),
    Man(man::Man),
    Playbook(playbook::Playbook),
    #[command(subcommand)]
    Runs(runs::Runs),
    Schema(schema::Schema),
}

impl Command {
    /// Runs the command; what it returns is the process's exit code.
    fn run(self, global: &GlobalOptions) -> Result<u8> {
        match self {
            Self::Agent(c) => c.run(),
            Self::Completions(c) => c.run(),
            Self::Inventory(c) => c.run(global),
            Self::Kit(c) => c.run(global),
            Self::Man(c) => c.run(),
            Self::Playbook(c) => c.run(global),
            Self::Runs(c) => c.run(global),
            Self::Schema(c) => c.run(),
        }
    }
}

/// Reads the arguments, runs the command and gives the exit code that `docs/operating.md` documents.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse(&error),
    };
    match arguments.command.run(&arguments.global) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::error(arguments.global.output, &error);
            ExitCode::from(exit::code_of(&error))
        }
    }
}

/// Arguments that are not understood, or a wish for help, which is no error.
fn refuse(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && options::wants_json(std::env::args_os()) {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: ")).unwrap_or("`--help` shows what there is");
        output::error(Some(OutputForm::Json), &Error::usage(message).next(tip));
        return ExitCode::from(exit::BAD_INPUT);
    }
    // Nothing is left to do when even the standard streams are closed.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { exit::BAD_INPUT } else { exit::OK })
}

/// Writes a result to standard output.
fn write_out(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).cannot(|| "write to standard output")
}
