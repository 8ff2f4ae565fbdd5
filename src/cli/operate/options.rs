//! Options that only some commands have.

use crate::cli::{RunOptions, TargetOptions};
use clap::Args;

/// Which instruments, and how the run goes.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlaybookOptions {
    #[command(flatten)]
    pub(in crate::cli) targets: TargetOptions,
    #[command(flatten)]
    pub(in crate::cli) run: RunOptions,
}
