//! What a program that should be the agent turns out to be.

use super::mark::{Beginning, find_mark};
use super::piped::{End, PipedStream};
use super::remote::RemoteHome;
use super::{AgentStream, Opened, lines};
use crate::error::{Error, ErrorKind, Result};
use std::time::Duration;

/// How long the agent may take to begin its stream once its program was started.
pub(super) const BEGINS_WITHIN: Duration = Duration::from_secs(20);

/// The agent that a program on another machine should be.
pub(super) struct Expected<'a> {
    pub(super) home: &'a RemoteHome,
    /// Somebody else puts it there, and none may be brought.
    pub(super) preinstalled: bool,
    /// What to look at when it does not begin in time.
    pub(super) slow: &'static str,
}

impl Expected<'_> {
    /// Waits until the program begins an agent's stream, or has ended without.
    ///
    /// # Errors
    /// When it does neither in time, the connection breaks, or no agent may be brought where none starts.
    pub(super) async fn begin(&self, mut stream: PipedStream) -> Result<Opened> {
        let begun = tokio::time::timeout(BEGINS_WITHIN, find_mark(&mut stream)).await.map_err(|_| {
            Error::new(ErrorKind::Unreachable, format!("the agent did not begin its stream within {BEGINS_WITHIN:?}"))
                .next(self.slow)
        })?;
        let noise = match begun {
            Ok(Beginning::Marked) => return Ok(Opened::Stream(Box::new(stream) as AgentStream)),
            // Without the mark, the end of the stream is what the shell made of the command.
            Ok(Beginning::Ended(noise)) => noise,
            Err(e) if matches!(stream.end(), Some(End::Closed { .. })) => {
                tracing::debug!(error = %e, "no agent was started");
                Vec::new()
            }
            Err(e) => return Err(broken(e)),
        };
        match stream.end() {
            Some(End::Lost(why)) => Err(broken(why)),
            Some(End::Closed { said, .. }) => self.missing([lines(&noise), said.clone()].concat()),
            None => self.missing(lines(&noise)),
        }
    }

    /// The program was not there, or the shell does not start programs: bringing it shows which.
    ///
    /// # Errors
    /// When none may be brought.
    pub(super) fn missing(&self, said: Vec<String>) -> Result<Opened> {
        tracing::debug!(said = said.join(" | "), "the agent is not there");
        if !self.preinstalled {
            return Ok(Opened::AgentMissing { said });
        }
        let file = self.home.file(&self.home.executable(None));
        Err(Error::new(ErrorKind::NoAgent, "the agent does not start, and none may be brought (`agent: preinstalled`)")
            .with_output(said)
            .next(format!("put this build of ibexdeploy there as {file}, or let it be brought")))
    }
}

fn broken(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unreachable, "the connection broke before the agent answered").because(why)
}
