//! How the agents of a run are reached.

use super::{ContentSource, Link, RateLimit};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::Target;
use crate::protocol::ControllerHello;
use crate::transport::{AgentStream, Opened, Transport};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Opening a stream.
    pub connect: Duration,
    /// Bringing the agent to where it is missing.
    pub bring: Duration,
    /// Attempts to reach an instrument at first.
    pub attempts: u32,
    /// Until the agent takes or refuses what it was asked.
    pub answer: Duration,
    /// How long a lost link is tried again once the instrument works on the run.
    pub reconnect: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(60),
            bring: Duration::from_secs(600),
            attempts: 3,
            answer: Duration::from_secs(60),
            reconnect: Duration::from_secs(600),
        }
    }
}

/// What all links of a run share.
#[derive(Clone)]
pub struct Access {
    pub transport: Arc<dyn Transport>,
    pub hello: ControllerHello,
    pub content: Arc<dyn ContentSource>,
    pub rate: Option<Arc<RateLimit>>,
    pub patience: Patience,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("hello", &self.hello).field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Access {
    /// Opens a link, bringing the agent first where it is missing; `bringing` is called before that is begun.
    ///
    /// # Errors
    /// When it cannot be opened in time; named after the instrument.
    pub async fn open(&self, target: &Target, bringing: &(dyn Fn() + Send + Sync)) -> Result<Link> {
        let opened = async {
            let stream = self.stream(target, bringing).await?;
            Link::greet(stream, self.hello.clone(), Arc::clone(&self.content), self.rate.clone()).await
        };
        opened.await.map_err(|e| e.on_host(&target.plan.instrument))
    }

    async fn stream(&self, target: &Target, bringing: &(dyn Fn() + Send + Sync)) -> Result<AgentStream> {
        if let Opened::Stream(stream) = self.knock(target).await? {
            return Ok(stream);
        }
        bringing();
        let limit = self.patience.bring;
        timeout(limit, self.transport.bring(target)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unreachable, format!("bringing the agent took longer than {limit:?}"))
                .next("see how fast the network to the machine is"))
        })?;
        match self.knock(target).await? {
            Opened::Stream(stream) => Ok(stream),
            Opened::AgentMissing { said } => {
                Err(Error::new(ErrorKind::Unreachable, "the agent was brought, and the machine does not start it")
                    .with_output(said)
                    .lasting()
                    .next("its last words say why: perhaps antivirus or AppLocker took it away"))
            }
        }
    }

    async fn knock(&self, target: &Target) -> Result<Opened> {
        let limit = self.patience.connect;
        timeout(limit, self.transport.open(target)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unreachable, format!("no link within {limit:?}"))
                .next("see whether the instrument is on, and whether anything between it and this machine is in the way"))
        })
    }
}
