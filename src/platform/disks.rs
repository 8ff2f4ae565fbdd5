//! Virtual disks: files that a machine takes for disks.

use crate::paths::WinPath;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The file of a virtual disk, and which machine's disk it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFile {
    /// A native path of this machine, attached by this machine itself.
    Here(PathBuf),
    /// A file of the Hyper-V host, attached there to the virtual machine that this machine is.
    OnHost { host: String, machine: String, path: WinPath },
}

/// What is known of a virtual disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VirtualDisk {
    /// There is such a file.
    pub exists: bool,
    pub attached: bool,
    /// Folders of this machine, as native paths, that show its volumes. Of a disk that a host attaches nothing is known.
    pub at: Vec<PathBuf>,
}

impl fmt::Display for DiskFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(path) => write!(f, "{}", path.display()),
            Self::OnHost { host, path, .. } => write!(f, "{path} on {host}"),
        }
    }
}
