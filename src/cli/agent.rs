//! `ibexdeploy agent`: what transports and workers start; not for people.

#[cfg(windows)]
use super::self_test;
use super::{GlobalOptions, exit, play, write_out};
use crate::agent;
use crate::content::ContentHash;
use crate::error::{IoContext, Result};
use crate::migrate::work::Task;
use crate::platform::updates;
use crate::protocol::STREAM_MARK;
use clap::{Args, Subcommand};
use std::io::Read;
use std::path::PathBuf;

/// The agent's side of ibexdeploy, started by transports
#[derive(Debug, Args)]
pub(super) struct Agent {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Connect standard input and output to the worker, starting it when none runs
    Attach {
        /// The root folder of a sandbox
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
    /// Put this executable, which was brought into the home, into its place there
    Install {
        /// The root folder of a sandbox
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
        /// The hash of what was sent
        #[arg(long, value_name = "HASH")]
        build: ContentHash,
    },
    /// Carry out runs until nobody needs it
    Worker {
        /// The root folder of a sandbox
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
    },
    /// Be the worker, started by the service manager
    #[cfg(windows)]
    Service,
    /// Do the part of a migration whose order comes on standard input
    Migrate,
    /// List the updates that the system offers, or install one of them
    Updates {
        /// The root folder of a sandbox
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
        /// The update to install
        #[arg(long, value_name = "ID")]
        install: Option<String>,
    },
    /// Try on scratch files, a scratch service and a scratch task what the agent does on a machine
    #[cfg(windows)]
    SelfTest(self_test::SelfTest),
    /// Carry out the plan that a task keeps in the agent's home
    Play(play::Play),
    /// Play a program of the site in a rehearsal
    #[cfg(windows)]
    StandIn {
        /// The file that stands for the program
        #[arg(value_name = "FILE")]
        script: PathBuf,
        /// What the program is given
        #[arg(value_name = "ARGUMENT", last = true)]
        arguments: Vec<String>,
    },
    /// Run the program whose order comes on standard input
    Job {
        /// Where its output and exit code go
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

impl Agent {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        match self.part {
            Part::Attach { root } => agent::attach(root.as_deref())?,
            Part::Worker { root } => {
                #[cfg(windows)]
                agent::log_to_home(root.as_deref())?;
                // Standard error is the worker's log file. Should somebody have begun a log already, that one goes on.
                let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).try_init();
                agent::worker(root.as_deref())?;
            }
            #[cfg(windows)]
            Part::Service => {
                agent::log_to_home(None)?;
                let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).try_init();
                agent::serve()?;
            }
            Part::Install { root, build } => {
                agent::install(root.as_deref(), &build)?;
                write_out(STREAM_MARK)?;
            }
            Part::Migrate => {
                let mut order = String::new();
                std::io::stdin().read_to_string(&mut order).cannot(|| "read the order from standard input")?;
                write_out(&(Task::run_text(&order)? + "\n"))?;
            }
            Part::Updates { root, install } => {
                let task = install.map_or(updates::Task::List, |id| updates::Task::Install { id });
                write_out(&(task.answer(root.as_deref())? + "\n"))?;
            }
            #[cfg(windows)]
            Part::SelfTest(test) => return test.run(),
            Part::Play(play) => return play.run(global),
            #[cfg(windows)]
            Part::StandIn { script, arguments } => {
                let played = crate::rehearsal::site_programs::play(&script, &arguments)?;
                write_out(&played.output)?;
                // Whoever closed it does not want to read it.
                let _ = std::io::Write::write_all(&mut std::io::stderr(), played.errors.as_bytes());
                return Ok(played.exit_code);
            }
            Part::Job { folder } => agent::run_job(&folder)?,
        }
        Ok(exit::OK)
    }
}
