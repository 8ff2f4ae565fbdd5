//! `--dry-run`: the instruments say what would change.

use super::Prepared;
use super::lead::runtime;
use crate::cli::{GlobalOptions, RunOptions, exit, output};
use crate::engine::ask_all;
use crate::error::Result;
use crate::link::{Link, unexpected_reply};
use crate::plan::{self, Target};
use crate::protocol::{DryRunStep, Query, QueryReply};
use crate::report::{self, DryRun, Screen};
use std::sync::Arc;
use std::time::Duration;

/// How long an instrument may take to look at itself: hashing its trees is part of it.
const LIMIT: Duration = Duration::from_secs(1800);

/// Asks all in parallel and shows the answers.
///
/// # Errors
/// When the answers cannot be shown; instruments that did not answer are in them.
pub(super) fn ask(global: &GlobalOptions, prepared: &Prepared, options: &RunOptions) -> Result<u8> {
    let access = prepared.access(options)?;
    let targets = &prepared.plan.targets;
    let conversation = |target: Target, mut link: Link| Box::pin(async move { probe(target, &mut link).await }) as _;
    let answers = runtime()?.block_on(ask_all(&access, targets, options.jobs, LIMIT, Arc::new(conversation), |_, _| {}));
    let view = plan::view(&prepared.plan)?;
    let all: Vec<DryRun> = view.instruments.into_iter().zip(answers).map(|(i, a)| DryRun::new(i, a)).collect();
    output::document(global, &all, || report::dry_run(&all, global.verbose, Screen::of_stdout()))?;
    Ok(if all.iter().all(DryRun::would_succeed) { exit::OK } else { exit::SOME_FAILED })
}

/// Asks one instrument what the steps of a plan would do.
///
/// # Errors
/// When the link breaks, or the plan is not for that machine.
pub(in crate::cli) async fn probe(target: Target, link: &mut Link) -> Result<Vec<DryRunStep>> {
    match link.query(Query::DryRun { plan: Box::new(target.plan) }).await? {
        QueryReply::DryRun { steps, .. } => Ok(steps),
        _ => Err(unexpected_reply()),
    }
}
