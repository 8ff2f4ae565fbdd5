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

use super::Opened;
use super::begun::AllBegun;
use super::builds::{Build, Builds};
use super::expected::{BEGINS_WITHIN, Expected};
use super::logons::Logons;
use super::remote::RemoteHome;
use crate::error::{Error, Result};
use crate::plan::{SshSpec, Target};
use config::OperatorConfig;
use connect::{Connected, Limit};
use jump::{Doors, on_thread};
use pump::Purpose;
use route::Route;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tracing::Instrument as _;

/// How long connecting and logging on may take, when the inventory does not say.
const CONNECT: Duration = Duration::from_secs(20);

/// Opens streams to agents behind OpenSSH servers.
#[derive(Default)]
pub struct Ssh {
    logons: Logons,
    builds: Builds,
    doors: Doors,
    begun: AllBegun,
    config: OnceLock<Result<Arc<OperatorConfig>>>,
}

impl std::fmt::Debug for Ssh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ssh").field("logons", &self.logons).field("builds", &self.builds).finish_non_exhaustive()
    }
}

impl Ssh {
    /// `agents`: where builds for other platforms lie, besides beside this executable.
    pub fn new(logons: Logons, agents: Option<PathBuf>) -> Self {
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
        let stream = on_thread("ssh open", move || {
            Limit::of(BEGINS_WITHIN).arm(&connected.session, "starting the agent")?;
            pump::start(connected, &Purpose::Command(&command))
        })
        .await?;
        let slow = "see whether the account's login shell waits for something, and whether the machine is overloaded";
        Expected { home: &home, preinstalled: spec.preinstalled, slow }.begin(stream).await
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
        let begun = self.begun.of(&target.plan.instrument);
        on_thread("ssh bring", move || bring::bring(&connected, &home, &build, &begun)).await
    }

    async fn log_on(&self, target: &Target, spec: &SshSpec) -> Result<Connected> {
        let (limit, name) = (limit(spec), &target.plan.instrument);
        let route = self.route(name, spec)?;
        jump::log_on(route, &self.doors, name, limit).await
    }

    fn route(&self, instrument: &str, spec: &SshSpec) -> Result<Route> {
        let config = self.config.get_or_init(|| OperatorConfig::load().map(Arc::new)).clone()?;
        Route::of(spec, &config, &self.logons.of(instrument)?)
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
