//! What the two ends say to each other: length-delimited MessagePack frames.

pub mod frames;
mod messages;

pub use messages::{
    AgentHello, AgentMessage, ControllerHello, ControllerMessage, DryRunStep, FrozenReply, FrozenRequest, InstalledComponent,
    LockInfo, PackHeader, Query, QueryReply, RollbackOptions, RollbackPreview, RunRecord, StatusReport,
};

/// The version of everything that is not frozen. Two builds of one version run plans for each other.
pub const PROTOCOL_VERSION: u32 = 1;

/// The largest frame either end accepts, in bytes.
pub const MAX_FRAME: usize = 16 << 20;

/// How often each end says that it is there, when it has nothing else to say.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(3);

/// A link on which nothing comes for this long is dead.
pub const LINK_DEAD_AFTER: std::time::Duration = std::time::Duration::from_secs(15);

/// An agent's stream begins behind these bytes, whatever a login shell has written before them.
pub const STREAM_MARK: &[u8] = b"ibexdeploy-stream-5e0c\n";

/// Begins the names of files in the home's `bin` that are being brought, for both ends: whoever comes next removes them.
pub const INCOMING: &str = "incoming-";
