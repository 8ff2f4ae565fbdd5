//! `ibexdeploy hotfix PATTERN --list`.

use crate::actions::hotfix::HotfixState;
use crate::cli::operate::{Fleet, PlaybookOptions, ask, new_run};
use crate::cli::{GlobalOptions, document, exit};
use crate::error::Result;
use crate::inventory::Selection;
use crate::link::{Link, unexpected_reply};
use crate::plan::Target;
use crate::protocol::{Query, QueryReply};
use crate::report::{self, HotfixRow};
use std::sync::Arc;
use std::time::Duration;

/// How long an instrument may take to answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks the instruments, all of them unless some are named, and shows their hotfixes.
///
/// # Errors
/// When the answers cannot be shown; instruments that did not answer are in them.
pub(super) fn run(global: &GlobalOptions, options: &PlaybookOptions) -> Result<u8> {
    let fleet = Fleet::open(global, &Selection::from_options(&options.targets).or_all())?;
    let targets = fleet.bare_targets(&new_run(), "status");
    let talk = |_: Target, link: Link| Box::pin(hotfixes(link)) as _;
    let answers = ask(&fleet, &targets, options.run.jobs, LIMIT, Arc::new(talk))?;
    let row = |(target, answer): (&Target, Result<Vec<HotfixState>>)| {
        let (hotfixes, error) = match answer {
            Ok(hotfixes) => (hotfixes, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        HotfixRow { instrument: target.plan.instrument.clone(), hotfixes, error }
    };
    let rows: Vec<HotfixRow> = targets.iter().zip(answers).map(row).collect();
    document(global, &rows, || report::hotfixes(&rows, global.verbose, global.screen()))?;
    Ok(if rows.iter().all(|row| row.error.is_none()) { exit::OK } else { exit::SOME_FAILED })
}

async fn hotfixes(mut link: Link) -> Result<Vec<HotfixState>> {
    match link.query(Query::Hotfixes).await? {
        QueryReply::Hotfixes(hotfixes) => {
            link.goodbye().await;
            Ok(hotfixes)
        }
        _ => Err(unexpected_reply()),
    }
}
