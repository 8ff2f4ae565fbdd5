//! Ways to open a byte stream to an agent on an instrument.

mod local;

pub use local::Local;

use crate::error::Result;
use crate::plan::Target;
use std::future::Future;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// Both directions of a byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A stream to one agent.
pub type AgentStream = Box<dyn Duplex>;

/// Opens streams to agents; a run uses one for all its instruments.
pub trait Transport: Send + Sync {
    /// Brings the agent there if need be and opens a stream to it, within the transport's own deadlines.
    fn open<'a>(&'a self, target: &'a Target) -> Pin<Box<dyn Future<Output = Result<AgentStream>> + Send + 'a>>;
}
