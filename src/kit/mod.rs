//! Kits: a release's files.

use crate::content::{ContentHash, Manifest};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A release that was read.
#[derive(Debug, Clone)]
pub struct Kit {
    pub version: String,
    pub folder: PathBuf,
    pub components: BTreeMap<String, Component>,
}

/// A component of a kit.
#[derive(Debug, Clone)]
pub struct Component {
    pub manifest: Manifest,
    pub manifest_hash: ContentHash,
    pub folder: PathBuf,
    pub release: String,
    pub borrowed: bool,
    pub bytes: u64,
}
