//! Options that every command knows, and those that choose instruments.

use super::log::SHOWN_FROM;
use crate::error::{Error, Result};
use crate::events;
use crate::inventory::Selection;
use crate::report::{Form, Screen};
use crate::units::{Size, Span};
use clap::{ArgAction, Args, ValueEnum};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::str::FromStr;

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct GlobalOptions {
    /// The inventory of instruments
    #[arg(long, global = true, env = "IBEXDEPLOY_INVENTORY", value_name = "FILE", default_value = "inventory/ndx.yaml")]
    pub inventory: PathBuf,
    /// The folder of playbooks
    #[arg(long, global = true, env = "IBEXDEPLOY_PLAYBOOKS", value_name = "DIR", default_value = "playbooks")]
    pub playbooks: PathBuf,
    /// The folder of releases, as on the share
    #[arg(long, global = true, env = "IBEXDEPLOY_KITS", value_name = "DIR")]
    pub kits: Option<PathBuf>,
    /// A file with values for these options [default: ibexdeploy/config.yaml in the user's settings, if it is there]
    #[arg(long, global = true, env = "IBEXDEPLOY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where runs, logs and caches of this controller are kept [default: the user's state folder]
    #[arg(long, global = true, env = "IBEXDEPLOY_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The form of the output [default: pretty on a terminal, else plain]
    #[arg(long, global = true, env = "IBEXDEPLOY_OUTPUT", value_enum, value_name = "FORM")]
    pub output: Option<OutputForm>,
    /// More detail; twice for connections as they are made, on standard error
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Where builds of the agent for other platforms lie, besides beside this executable
    #[arg(long, global = true, env = "IBEXDEPLOY_AGENT_DIR", value_name = "DIR")]
    pub agent_dir: Option<PathBuf>,
    /// Run on sandboxes made from the inventory instead of the instruments; with DIR, go on with those found there
    #[arg(long, global = true, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    pub rehearse: Option<Option<PathBuf>>,
    /// Make the sandboxes of the named instruments anew
    #[arg(long, global = true, requires = "rehearse")]
    pub fresh: bool,
    /// Bytes per second over all links together, for the estimate after a rehearsal: for example `100MB`
    #[arg(long, global = true, value_name = "SIZE", requires = "rehearse", value_parser = written::<Size>)]
    pub bandwidth: Option<Size>,
}

impl GlobalOptions {
    /// Where runs, logs and caches of this controller are kept.
    ///
    /// # Errors
    /// When no option names it and the system neither.
    pub fn state_folder(&self) -> Result<PathBuf> {
        events::state_folder(self.state.as_deref())
    }

    /// The same, for a command that writes there: on Windows it is closed to others when it is made.
    ///
    /// # Errors
    /// As [`Self::state_folder`].
    pub fn own_state_folder(&self) -> Result<PathBuf> {
        let state = self.state_folder()?;
        #[cfg(windows)]
        events::own_state_folder(&state);
        Ok(state)
    }

    /// What standard output can show: nothing but text when plain lines are wanted.
    pub fn screen(&self) -> Screen {
        if self.output == Some(OutputForm::Plain) { Screen::PLAIN } else { Screen::of_stdout() }
    }

    /// The form in which a run is shown.
    pub fn form(&self) -> Form {
        match self.output {
            Some(OutputForm::Pretty) => Form::Pretty,
            Some(OutputForm::Plain) => Form::Plain,
            Some(OutputForm::Json) => Form::Json,
            // Traced lines and bars would write over each other.
            None if self.verbose < SHOWN_FROM && std::io::stdout().is_terminal() => Form::Pretty,
            None => Form::Plain,
        }
    }

    pub fn wants_json(&self) -> bool {
        self.output == Some(OutputForm::Json)
    }
}

/// A number of instruments: none would do nothing.
fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("it must be a whole number, 1 or more".to_owned()),
        Ok(number) => Ok(number),
    }
}

/// A value with its unit, with what to write when it is not one.
fn written<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: Error| e.with_advice())
}

fn rate(text: &str) -> Result<Size, String> {
    match written::<Size>(text)? {
        Size(0) => Err("nothing would ever arrive: leave it out for no limit".to_owned()),
        size => Ok(size),
    }
}

/// True when arguments that could not be understood ask for JSON.
pub(super) fn wants_json(arguments: impl Iterator<Item = OsString>) -> bool {
    let mut before = OsString::new();
    for argument in arguments {
        if argument == "--output=json" || (before == "--output" && argument == "json") {
            return true;
        }
        before = argument;
    }
    std::env::var_os("IBEXDEPLOY_OUTPUT").is_some_and(|form| form == "json")
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// Progress bars and colours
    Pretty,
    /// Plain lines
    Plain,
    /// JSON: one document for a query, one line an event for a run
    Json,
}

/// Which instruments.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which instruments")]
pub struct TargetOptions {
    /// Names (with or without NDX), groups, globs; joined by commas; `!x` excludes, `&x` intersects, `@file` reads
    #[arg(value_name = "PATTERN")]
    pub patterns: Vec<String>,
    /// All instruments of the inventory
    #[arg(long)]
    pub all: bool,
    /// Leave these out: the same as `!PATTERN`, for shells that mangle it
    #[arg(long, value_name = "PATTERN")]
    pub except: Vec<String>,
    /// Only those that are also in these: the same as `&PATTERN`
    #[arg(long, value_name = "PATTERN")]
    pub only: Vec<String>,
    /// Read patterns from a file, one a line: the same as `@FILE`
    #[arg(long, value_name = "FILE")]
    pub from: Vec<PathBuf>,
}

impl Selection {
    /// What the options choose.
    pub fn from_options(options: &TargetOptions) -> Self {
        Self {
            all: options.all,
            patterns: options.patterns.clone(),
            except: options.except.clone(),
            only: options.only.clone(),
            from: options.from.clone(),
        }
    }
}

/// How a run goes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How the run goes")]
pub struct RunOptions {
    /// How many instruments work at once
    #[arg(long, value_name = "N", env = "IBEXDEPLOY_JOBS", default_value_t = 30, value_parser = count)]
    pub jobs: usize,
    /// These instruments go first and alone; the rest follows when they are well
    #[arg(long, value_name = "PATTERN")]
    pub canary: Option<String>,
    /// After the canaries, this many instruments apply at a time [default: all]
    #[arg(long, value_name = "N", value_parser = count)]
    pub batch: Option<usize>,
    /// Start no more instruments once this many have failed [default: no limit]
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_fail: Option<usize>,
    /// Nothing new is started after this time, for example `2h`
    #[arg(long, value_name = "TIME", value_parser = written::<Span>)]
    pub deadline: Option<Span>,
    /// Bytes per second over all links together, for example `20MB`
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    pub limit_rate: Option<Size>,
    /// Only steps with one of these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Leave out steps with one of these tags
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub skip_tags: Vec<String>,
    /// Give a playbook variable a value
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Ask the instruments what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub yes: bool,
}
