//! The transport to a machine with an OpenSSH server: one connection for each instrument, one channel on it, and on that
//! the agent's own stream.

mod auth;
mod bring;
mod config;
mod connect;
mod host_key;
mod jump;
mod known_hosts;
mod pump;
mod route;

pub use host_key::{HostKey, KeyState};

use super::builds::{Build, Builds};
use super::mark::{Beginning, find_mark};
use super::piped::{End, PipedStream};
use super::remote::RemoteHome;
use super::{AgentStream, Opened, lines};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{SshSpec, Target};
use crate::secrets::Secrets;
use bring::Begun;
use config::OperatorConfig;
use connect::{Connected, Limit};
use jump::{Doors, on_thread};
use pump::Purpose;
use route::Route;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tracing::Instrument as _;

/// How long connecting and logging on may take, when the inventory does not say.
const CONNECT: Duration = Duration::from_secs(20);

/// How long the agent may take to begin its stream once its program was started.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// Opens streams to agents behind OpenSSH servers.
#[derive(Default)]
pub struct Ssh {
    /// What logging on needs, by instrument.
    logons: BTreeMap<String, Secrets>,
    builds: Builds,
    doors: Doors,
    /// What was being brought, by instrument.
    begun: Mutex<BTreeMap<String, Arc<Begun>>>,
    config: OnceLock<Result<Arc<OperatorConfig>>>,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssh").field("logons", &self.logons.keys()).field("builds", &self.builds).finish_non_exhaustive()
    }
}

impl Ssh {
    /// `logons`: the secrets for logging on, by instrument. `agents`: where builds for other platforms lie, besides beside
    /// this executable.
    pub fn new(logons: BTreeMap<String, Secrets>, agents: Option<PathBuf>) -> Self {
        Self { logons, builds: Builds::new(agents), ..Self::default() }
    }

    pub(super) async fn open(&self, target: &Target, spec: &SshSpec) -> Result<Opened> {
        let span = tracing::debug_span!("ssh", instrument = target.plan.instrument);
        self.open_stream(target, spec).instrument(span).await
    }

    async fn open_stream(&self, target: &Target, spec: &SshSpec) -> Result<Opened> {
        let home = RemoteHome::of(spec.root.as_deref())?;
        let build = self.build(spec, &home)?;
        let command = home.command(&home.executable(build.as_ref().map(|b| &b.hash)), "attach");
        let connected = self.log_on(target, spec).await?;
        let mut stream = on_thread("ssh open", move || {
            Limit::of(BEGINS_WITHIN).arm(&connected.session, "starting the agent")?;
            pump::start(connected, &Purpose::Command(&command))
        })
        .await?;
        let begun = tokio::time::timeout(BEGINS_WITHIN, find_mark(&mut stream)).await.map_err(|_| {
            Error::new(ErrorKind::Unreachable, format!("the agent did not begin its stream within {BEGINS_WITHIN:?}"))
                .next("see whether the account's login shell waits for something, and whether the machine is overloaded")
        })?;
        match begun {
            Ok(Beginning::Marked) => Ok(Opened::Stream(Box::new(stream) as AgentStream)),
            // Without the mark, the end of the stream is what the shell made of the command.
            Ok(Beginning::Ended(noise)) => self.without_agent(spec, &home, &stream, &noise),
            Err(e) if matches!(stream.end(), Some(End::Closed { .. })) => {
                tracing::debug!(error = %e, "no agent was started");
                self.without_agent(spec, &home, &stream, b"")
            }
            Err(e) => Err(Error::new(ErrorKind::Unreachable, "the connection broke before the agent answered").because(e)),
        }
    }

    /// The program was not there, or the shell does not start programs: bringing it shows which.
    fn without_agent(&self, spec: &SshSpec, home: &RemoteHome, stream: &PipedStream, noise: &[u8]) -> Result<Opened> {
        let mut said = lines(noise);
        match stream.end() {
            Some(End::Lost(why)) => {
                return Err(Error::new(ErrorKind::Unreachable, "the connection broke before the agent answered").because(why));
            }
            Some(End::Closed { said: more, .. }) => said.extend(more.iter().cloned()),
            None => {}
        }
        tracing::debug!(said = said.join(" | "), "the agent is not there");
        if !spec.preinstalled {
            return Ok(Opened::AgentMissing { said });
        }
        let file = home.file(&home.executable(None));
        Err(Error::new(ErrorKind::NoAgent, "the agent does not start, and none may be brought (`agent: preinstalled`)")
            .with_output(said)
            .next(format!("put this build of ibexdeploy there as {file}, or let it be brought")))
    }

    pub(super) async fn bring(&self, target: &Target, spec: &SshSpec) -> Result<()> {
        let span = tracing::debug_span!("ssh", instrument = target.plan.instrument);
        self.bring_agent(target, spec).instrument(span).await
    }

    async fn bring_agent(&self, target: &Target, spec: &SshSpec) -> Result<()> {
        let home = RemoteHome::of(spec.root.as_deref())?;
        let Some(build) = self.build(spec, &home)? else {
            return Err(Error::internal("an agent is to be brought where none may be"));
        };
        let connected = self.log_on(target, spec).await?;
        let begun = self.begun(&target.plan.instrument);
        on_thread("ssh bring", move || bring::bring(&connected, &home, &build, &begun)).await
    }

    fn begun(&self, instrument: &str) -> Arc<Begun> {
        let mut all = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(instrument.to_owned()).or_default())
    }

    async fn log_on(&self, target: &Target, spec: &SshSpec) -> Result<Connected> {
        let (limit, name) = (limit(spec), &target.plan.instrument);
        let route = self.route(name, spec)?;
        jump::log_on(route, &self.doors, name, limit).await
    }

    fn route(&self, instrument: &str, spec: &SshSpec) -> Result<Route> {
        let none = Secrets::default();
        let config = self.config.get_or_init(|| OperatorConfig::load().map(Arc::new)).clone()?;
        Route::of(spec, &config, self.logons.get(instrument).unwrap_or(&none))
    }

    /// The executable that belongs there; nothing where it is somebody else's to bring.
    fn build(&self, spec: &SshSpec, home: &RemoteHome) -> Result<Option<Build>> {
        if spec.preinstalled {
            return Ok(None);
        }
        self.builds.of(home.platform()).map(Some)
    }
}

fn limit(spec: &SshSpec) -> Limit {
    Limit::of(spec.timeout.map_or(CONNECT, |span| span.0))
}
