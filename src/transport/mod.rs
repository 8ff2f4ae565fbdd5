//! Ways to open a byte stream to an agent on an instrument.

mod begun;
mod builds;
mod expected;
mod local;
mod logons;
mod mark;
mod piped;
mod remote;
mod ssh;
mod winrm;

pub use local::Local;
pub use logons::Logons;
pub use ssh::{HostKey, KeyState, Ssh};
pub use winrm::Winrm;

use crate::error::{Error, Result};
use crate::plan::{Target, TransportSpec};
use std::future::Future;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// Both directions of a byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream to one agent.
pub type AgentStream = Box<dyn Duplex>;

/// What an instrument answered.
pub enum Opened {
    Stream(AgentStream),
    /// The machine lets us in, and has no agent of this build; [`Transport::bring`] brings it.
    AgentMissing {
        /// What its shell said instead.
        said: Vec<String>,
    },
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("Stream"),
            Self::AgentMissing { said } => f.debug_struct("AgentMissing").field("said", said).finish(),
        }
    }
}

/// What a transport's calls give.
pub type Soon<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Opens streams to agents; a run uses one for all its instruments.
pub trait Transport: Send + Sync {
    /// Opens a stream to the agent of an instrument.
    fn open<'a>(&'a self, target: &'a Target) -> Soon<'a, Opened>;

    /// Brings the agent to an instrument that lacks it.
    fn bring<'a>(&'a self, target: &'a Target) -> Soon<'a, ()> {
        Box::pin(async move { Err(Error::internal(format!("no agent can be brought to {}", target.plan.instrument))) })
    }
}

/// All transports: each instrument is reached by its own.
#[derive(Debug, Default)]
pub struct Transports {
    pub local: Local,
    pub ssh: Ssh,
    pub winrm: Winrm,
}

impl Transport for Transports {
    fn open<'a>(&'a self, target: &'a Target) -> Soon<'a, Opened> {
        Box::pin(async move {
            match &target.transport {
                TransportSpec::Local { root } => self.local.open(Some(root)).await,
                TransportSpec::ThisMachine => self.local.open(None).await,
                TransportSpec::Ssh(spec) => self.ssh.open(target, spec).await,
                TransportSpec::Winrm(spec) => self.winrm.open(target, spec).await,
            }
        })
    }

    fn bring<'a>(&'a self, target: &'a Target) -> Soon<'a, ()> {
        Box::pin(async move {
            match &target.transport {
                TransportSpec::Ssh(spec) => self.ssh.bring(target, spec).await,
                TransportSpec::Local { .. } | TransportSpec::ThisMachine => {
                    Err(Error::internal("an agent of this machine is not brought"))
                }
                TransportSpec::Winrm(spec) => self.winrm.bring(target, spec).await,
            }
        })
    }
}

/// The last lines of what was said.
pub(super) fn lines(said: &[u8]) -> Vec<String> {
    const LINES: usize = 20;
    let text = String::from_utf8_lossy(said);
    let all: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    all[all.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
}
