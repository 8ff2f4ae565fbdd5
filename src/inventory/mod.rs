//! Instruments, groups, places and variables.

use crate::content::ContentHash;
use crate::paths::WinPath;
use crate::plan::{Account, TransportSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The inventory.
#[derive(Debug, Clone)]
pub struct Inventory {
    pub file: PathBuf,
    pub digest: ContentHash,
}

/// An instrument of the inventory.
#[derive(Debug, Clone)]
pub struct Instrument {
    pub name: String,
    pub host: String,
    pub groups: BTreeSet<String>,
    pub places: BTreeMap<String, WinPath>,
    pub accounts: BTreeMap<String, Account>,
    pub vars: BTreeMap<String, serde_json::Value>,
    pub transport: TransportSpec,
    pub kits: KitTransfer,
    pub secrets: BTreeMap<String, SecretSource>,
}

/// How content comes to the instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KitTransfer {
    Push,
    Pull { from: WinPath },
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    Env(String),
}
