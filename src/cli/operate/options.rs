//! Options that only some commands have.

use crate::actions::hotfix::HotfixPolicy;
use crate::cli::{RunOptions, TargetOptions};
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;

/// Which instruments, and how the run goes.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlaybookOptions {
    #[command(flatten)]
    pub(in crate::cli) targets: TargetOptions,
    #[command(flatten)]
    pub(in crate::cli) run: RunOptions,
}

/// What a release does with the hotfixes that instruments have.
#[derive(Debug, Args)]
pub(in crate::cli) struct HotfixOptions {
    /// Keep installed hotfixes whose files the release has as they were before them [default: they are replaced]
    #[arg(long)]
    keep_hotfixes: bool,
    /// With --keep-hotfixes: replace this one all the same
    #[arg(long = "drop-hotfix", value_name = "ID", requires = "keep_hotfixes")]
    drop_hotfixes: Vec<String>,
}

impl HotfixOptions {
    pub(in crate::cli) fn policy(&self) -> HotfixPolicy {
        HotfixPolicy { keep: self.keep_hotfixes, drop: self.drop_hotfixes.clone() }
    }
}

/// The variable that lets a playbook stop IBEX whatever is being measured. Without the option its own value counts.
pub(in crate::cli) fn even_if_measuring(wanted: bool) -> BTreeMap<String, Value> {
    if wanted { BTreeMap::from([("even_if_measuring".to_owned(), true.into())]) } else { BTreeMap::new() }
}
