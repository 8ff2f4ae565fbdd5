//! The command line: arguments to a validated request, a call, an exit code. No logic.

mod agent;
mod backup;
mod check;
mod completions;
mod config;
mod exit;
mod hotfix;
mod install;
mod interrupt;
mod inventory;
mod kit;
mod log;
mod man;
mod migrate;
mod operate;
mod options;
mod os_patch;
mod output;
mod plan;
mod play;
mod playbook;
mod release;
mod restore;
mod rollback;
mod run;
mod runs;
mod schema;
#[cfg(windows)]
mod self_test;
mod stage;
mod status;
mod switch;
mod table;
mod trust;
mod unlock;

pub use log::Log;
pub use options::{GlobalOptions, OutputForm, RunOptions, TargetOptions};
pub use output::document;

use crate::error::{Error, ErrorKind, IoContext, Result};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
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
    Backup(backup::Backup),
    Check(check::Check),
    Completions(completions::Completions),
    Hotfix(hotfix::Hotfix),
    Install(install::Install),
    Inventory(inventory::Inventory),
    Kit(kit::Kit),
    Man(man::Man),
    Migrate(migrate::Migrate),
    OsPatch(os_patch::OsPatch),
    Plan(plan::Plan),
    Playbook(playbook::Playbook),
    Release(release::Release),
    Restore(restore::Restore),
    Rollback(rollback::Rollback),
    Run(run::Run),
    #[command(subcommand)]
    Runs(runs::Runs),
    Schema(schema::Schema),
    Stage(stage::Stage),
    Status(status::Status),
    Switch(switch::Switch),
    Trust(trust::Trust),
    Unlock(unlock::Unlock),
}

impl Command {
    /// Runs the command; what it returns is the process's exit code.
    fn run(self, global: &GlobalOptions) -> Result<u8> {
        match self {
            Self::Agent(c) => c.run(global),
            Self::Backup(c) => c.run(global),
            Self::Check(c) => c.run(global),
            Self::Completions(c) => c.run(),
            Self::Hotfix(c) => c.run(global),
            Self::Install(c) => c.run(global),
            Self::Inventory(c) => c.run(global),
            Self::Kit(c) => c.run(global),
            Self::Man(c) => c.run(),
            Self::Migrate(c) => c.run(global),
            Self::OsPatch(c) => c.run(global),
            Self::Plan(c) => c.run(global),
            Self::Playbook(c) => c.run(global),
            Self::Release(c) => c.run(global),
            Self::Restore(c) => c.run(global),
            Self::Rollback(c) => c.run(global),
            Self::Run(c) => c.run(global),
            Self::Runs(c) => c.run(global),
            Self::Schema(c) => c.run(),
            Self::Stage(c) => c.run(global),
            Self::Status(c) => c.run(global),
            Self::Switch(c) => c.run(global),
            Self::Trust(c) => c.run(global),
            Self::Unlock(c) => c.run(global),
        }
    }
}

/// Reads the arguments, runs the command and gives the exit code that `docs/operating.md` documents.
pub fn main() -> ExitCode {
    // What runs at an instrument is ended by those who began it, and has its own ways.
    if std::env::args_os().nth(1).is_some_and(|word| word == "agent") {
        return command();
    }
    interrupt::until_interrupted(command, || {
        let form = options::wants_json(std::env::args_os()).then_some(OutputForm::Json);
        output::error(form, &Error::new(ErrorKind::Cancelled, "interrupted: no run was begun"));
    })
}

fn command() -> ExitCode {
    let parsed = Arguments::command().try_get_matches().and_then(|m| Arguments::from_arg_matches(&m).map(|a| (a, m)));
    let (mut arguments, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return refuse(&error),
    };
    let ended = config::apply(&mut arguments.global, &matches).and_then(|()| arguments.command.run(&arguments.global));
    match ended {
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

/// Writes a result to standard output. A reader that went away (`| head`) is no error.
fn write_out(text: impl AsRef<[u8]>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.cannot(|| "write to standard output"),
    }
}
