//! The instruments a command means, and how they are reached.

use super::lead::runtime;
use super::rehearse::{self, Sandboxes};
use super::secrets::Fetched;
use crate::cli::{GlobalOptions, Log, RunOptions, TargetOptions};
use crate::content::ContentHash;
use crate::engine::{Conversation, ask_all};
use crate::error::{Error, IoContext, Result};
use crate::events::RunId;
use crate::inventory::{Instrument, Inventory, SecretSource, Selection};
use crate::link::{Access, ContentSource, NoContent, Patience, RateLimit};
use crate::plan::{InstrumentPlan, Target, TransportSpec};
use crate::protocol::{ControllerHello, PROTOCOL_VERSION};
use crate::report::text::clean;
use crate::secrets::Secrets;
use crate::transport::{Local, Logons, Ssh, Transports, Winrm};
use jiff::Timestamp;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// The instruments that were chosen, on sandboxes when it is a rehearsal.
#[derive(Debug)]
pub(in crate::cli) struct Fleet {
    pub(in crate::cli) inventory: Inventory,
    /// In the inventory's order.
    names: Vec<String>,
    /// The state folder of this controller.
    pub(in crate::cli) state: PathBuf,
    /// The folder of releases.
    pub(in crate::cli) kits: Option<PathBuf>,
    pub(in crate::cli) rehearsal: bool,
    /// user@host.
    pub(in crate::cli) operator: String,
    pub(in crate::cli) log: Log,
    /// A folder with builds of the agent for other platforms.
    agents: Option<PathBuf>,
    /// Fetched when they are needed first.
    logons: OnceCell<Logons>,
}

impl Fleet {
    /// Reads the inventory and chooses; makes the sandboxes of a rehearsal that are not there yet.
    ///
    /// # Errors
    /// When the inventory or a pattern is not right.
    pub(in crate::cli) fn open(global: &GlobalOptions, selection: &Selection) -> Result<Self> {
        Self::read(global, selection, Sandboxes::Released)
    }

    /// As [`Fleet::choose`], with sandboxes that have no IBEX where it is a rehearsal. With that the repository that the
    /// settings of such sandboxes come from.
    ///
    /// # Errors
    /// As there.
    pub(in crate::cli) fn choose_bare(global: &GlobalOptions, targets: &TargetOptions) -> Result<(Self, Option<PathBuf>)> {
        let fleet = Self::read(global, &Selection::from_options(targets), Sandboxes::Bare)?;
        let remote = fleet.instruments().into_iter().find_map(|i| match &i.transport {
            TransportSpec::Local { root } if fleet.rehearsal => root.parent().map(rehearse::settings_remote),
            _ => None,
        });
        Ok((fleet, remote))
    }

    fn read(global: &GlobalOptions, selection: &Selection, sandboxes: Sandboxes) -> Result<Self> {
        let mut inventory = Inventory::load(&global.inventory)?;
        let state = global.own_state_folder()?;
        let names: Vec<String> = inventory
            .select(selection)
            .map_err(|e| meant_folder(global, selection, e))?
            .into_iter()
            .map(|i| i.name.clone())
            .collect();
        let mut kits = global.kits.clone();
        if let Some(folder) = &global.rehearse {
            let folder = folder.clone().unwrap_or_else(|| state.join("rehearsal"));
            kits = Some(rehearse::prepare(&mut inventory, &names, &folder, kits, global.fresh, sandboxes)?);
        }
        Self::of(global, inventory, names, kits, global.rehearse.is_some())
    }

    fn of(
        global: &GlobalOptions,
        inventory: Inventory,
        names: Vec<String>,
        kits: Option<PathBuf>,
        rehearsal: bool,
    ) -> Result<Self> {
        Ok(Self {
            inventory,
            names,
            state: global.state_folder()?,
            kits,
            rehearsal,
            operator: operator(),
            log: Log::start(global)?,
            agents: global.agent_dir.clone(),
            logons: OnceCell::new(),
        })
    }

    /// As [`Fleet::open`], from the options of a command.
    ///
    /// # Errors
    /// As there.
    pub(in crate::cli) fn choose(global: &GlobalOptions, targets: &TargetOptions) -> Result<Self> {
        Self::open(global, &Selection::from_options(targets))
    }

    /// The instruments of a run that was begun before. What it says of how they are reached counts, not the inventory.
    ///
    /// # Errors
    /// When an instrument is no longer in the inventory.
    pub(in crate::cli) fn reopen(global: &GlobalOptions, names: Vec<String>, rehearsal: bool) -> Result<Self> {
        let inventory = Inventory::load(&global.inventory)?;
        Self::of(global, inventory, names, global.kits.clone(), rehearsal)
    }

    pub(in crate::cli) fn instruments(&self) -> Vec<&Instrument> {
        self.inventory.instruments.iter().filter(|i| self.names.contains(&i.name)).collect()
    }

    /// The names of the instruments of this fleet that a pattern chooses.
    ///
    /// # Errors
    /// When the pattern matches nothing.
    pub(in crate::cli) fn among(&self, pattern: &str) -> Result<Vec<String>> {
        let matching = self.inventory.select(&Selection::of(pattern))?;
        let chosen: Vec<String> = matching.iter().map(|i| i.name.clone()).filter(|n| self.names.contains(n)).collect();
        if chosen.is_empty() {
            return Err(Error::usage(format!("`{pattern}` chooses none of the instruments of this run"))
                .next("canaries are among the instruments that the command names"));
        }
        Ok(chosen)
    }

    /// How the instruments are reached.
    ///
    /// # Errors
    /// When this executable cannot be read.
    pub(in crate::cli) fn access(&self, content: Option<Arc<dyn ContentSource>>, options: Option<&RunOptions>) -> Result<Access> {
        let program = std::env::current_exe().cannot(|| "find this executable")?;
        self.log.hide(&together(self.logons().iter().filter_map(|(name, secrets)| Some((name, secrets.as_ref().ok()?)))));
        let mut patience = Patience::default();
        if let Some(deadline) = options.and_then(|o| o.deadline) {
            patience.reconnect = deadline.0;
        }
        Ok(Access {
            transport: Arc::new(Transports {
                local: Local { program: None, hidden: self.secret_variables() },
                ssh: Ssh::new(self.logons().clone(), self.agents.clone()),
                winrm: Winrm::new(self.logons().clone(), self.agents.clone()),
            }),
            hello: ControllerHello {
                protocol: PROTOCOL_VERSION,
                build: ContentHash::of_file(&program)?.to_string(),
                operator: self.operator.clone(),
            },
            content: content.unwrap_or_else(|| Arc::new(NoContent)),
            rate: options.and_then(|o| o.limit_rate).map(|size| Arc::new(RateLimit::new(size.0))),
            patience,
        })
    }

    /// The secrets that logging on to the instruments needs. One that cannot be had is told where it is used: whoever only
    /// asks hears from the other instruments.
    pub(in crate::cli) fn logons(&self) -> &Logons {
        self.logons.get_or_init(|| {
            let mut fetched = Fetched::default();
            let mut logons = Logons::default();
            for instrument in self.instruments().into_iter().filter(|_| !self.rehearsal) {
                let names: Vec<String> = instrument.transport.secrets().map(str::to_owned).collect();
                logons.insert(&instrument.name, fetched.of(instrument, &names));
            }
            logons
        })
    }

    /// The same for redaction, all together.
    ///
    /// # Errors
    /// When one has no source, or its source gives nothing: what changes instruments does not begin then.
    pub(in crate::cli) fn logon_secrets(&self) -> Result<Secrets> {
        let all = self.logons().iter().map(|(name, secrets)| secrets.as_ref().map(|s| (name, s)).map_err(Clone::clone));
        Ok(together(all.collect::<Result<Vec<_>>>()?))
    }

    /// The environment variables that secrets come from. No agent inherits them: it gets the secrets that its plan names.
    fn secret_variables(&self) -> Vec<String> {
        let sources = self.inventory.instruments.iter().flat_map(|i| i.secrets.values());
        let variables: BTreeSet<&String> = sources
            .filter_map(|source| match source {
                SecretSource::Env(variable) => Some(variable),
                _ => None,
            })
            .collect();
        variables.into_iter().cloned().collect()
    }

    /// Targets without steps, for what needs no playbook.
    pub(in crate::cli) fn bare_targets(&self, run: &RunId, what: &str) -> Vec<Target> {
        self.instruments().into_iter().map(|instrument| self.bare_target(instrument, run, what)).collect()
    }

    fn bare_target(&self, instrument: &Instrument, run: &RunId, what: &str) -> Target {
        Target {
            transport: instrument.transport.clone(),
            plan: InstrumentPlan {
                host: instrument.host.clone(),
                rehearsal: self.rehearsal,
                places: instrument.places.clone(),
                accounts: instrument.accounts.clone(),
                vars: instrument.vars.clone(),
                ..InstrumentPlan::empty(run.clone(), &instrument.name, what, &self.operator)
            },
        }
    }
}

/// The secrets of instruments in one, each under a name that says whose it is.
fn together<'s>(of: impl IntoIterator<Item = (&'s str, &'s Secrets)>) -> Secrets {
    let mut all = Secrets::default();
    for (name, logon) in of {
        for (secret, value) in logon.iter() {
            all.insert(format!("{secret} of {name}, to log on"), value.clone());
        }
    }
    all
}

/// `--rehearse DIR` is easily written for `--rehearse=DIR`, and DIR is then taken for an instrument.
fn meant_folder(global: &GlobalOptions, selection: &Selection, error: Error) -> Error {
    let folder = selection.patterns.iter().find(|p| p.contains(['/', '\\']) || p.starts_with('.'));
    match folder {
        Some(folder) if global.rehearse == Some(None) => {
            error.next(format!("to rehearse in that folder, write --rehearse={folder}"))
        }
        _ => error,
    }
}

/// user@host of whoever runs this. The environment is asked first, as it tells who somebody is behind `sudo`; then the
/// system.
fn operator() -> String {
    let plain = |name: String| Some(clean(&name).trim().to_owned()).filter(|name| !name.is_empty());
    let var = |name: &str| std::env::var(name).ok().and_then(plain);
    let user = var("USER").or_else(|| var("USERNAME")).or_else(|| var("LOGNAME")).or_else(|| account().and_then(plain));
    let host = var("HOSTNAME").or_else(|| var("COMPUTERNAME")).or_else(host_name).unwrap_or_else(|| "unknown".into());
    format!("{}@{host}", user.unwrap_or_else(|| "unknown".into()))
}

/// The name of the account that this process has, by the system's own program: accounts may come from a directory that
/// only it knows how to ask.
fn account() -> Option<String> {
    let program = if cfg!(windows) { "whoami" } else { "id" };
    let arguments: &[&str] = if cfg!(windows) { &[] } else { &["-un"] };
    let told = std::process::Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    // An account without a name is told by its number, with an exit code that says so.
    let name = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    (!name.is_empty()).then(|| name.rsplit('\\').next().unwrap_or(&name).to_owned())
}

#[cfg(unix)]
fn host_name() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().map(str::to_owned)
}

#[cfg(not(unix))]
fn host_name() -> Option<String> {
    // Windows has it in the environment, which was asked before.
    None
}

/// A name for a run that begins now.
pub(in crate::cli) fn new_run() -> RunId {
    RunId::new(Timestamp::now(), RandomState::new().build_hasher().finish())
}

/// Has the same conversation with all targets, each within `limit`; answers in the order of the targets.
///
/// # Errors
/// When it cannot begin at all; instruments that do not answer are among the answers.
pub(in crate::cli) fn ask<T: Send + 'static>(
    fleet: &Fleet,
    targets: &[Target],
    jobs: usize,
    limit: Duration,
    conversation: Arc<Conversation<T>>,
) -> Result<Vec<Result<T>>> {
    let access = fleet.access(None, None)?;
    Ok(runtime()?.block_on(ask_all(&access, targets, jobs, limit, conversation, |_, _| {})))
}
