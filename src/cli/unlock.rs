//! `ibexdeploy unlock`.

use super::operate::{Fleet, ask, confirm, new_run};
use super::{GlobalOptions, TargetOptions, exit, output};
use crate::error::{Error, Result};
use crate::link::{Link, unexpected_reply};
use crate::plan::Target;
use crate::protocol::{Query, QueryReply};
use crate::report::{self, Screen};
use clap::Args;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// How long an instrument may take to answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Take away the lock that a dead run left on instruments
#[derive(Debug, Args)]
pub(super) struct Unlock {
    #[command(flatten)]
    targets: TargetOptions,
    /// Also while the run is alive: it is ended, and what it was doing is left as it is
    #[arg(long)]
    force: bool,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

/// One instrument's answer.
#[derive(Debug, Serialize)]
struct Unlocked {
    instrument: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
}

impl Unlock {
    pub(super) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let fleet = Fleet::choose(global, &self.targets)?;
        let targets = fleet.bare_targets(&new_run(), "unlock");
        let names: Vec<&str> = targets.iter().map(|t| t.plan.instrument.as_str()).collect();
        let look = "see who holds it with `ibexdeploy status`, then add --yes";
        confirm(&format!("Take the lock away on {}\n", report::text::names(&names)), self.yes, look)?;
        let force = self.force;
        let talk = move |_: Target, link: Link| Box::pin(unlock(link, force)) as _;
        let answers = ask(&fleet, &targets, targets.len(), LIMIT, Arc::new(talk))?;
        let all: Vec<Unlocked> = names
            .iter()
            .zip(answers)
            .map(|(name, answer)| {
                let (done, error) = match answer {
                    Ok(done) => (Some(done), None),
                    Err(error) => (None, Some(error)),
                };
                Unlocked { instrument: (*name).to_owned(), done, error }
            })
            .collect();
        output::document(global, &all, || all.iter().map(line).collect())?;
        Ok(exit::of_answers(all.iter().filter_map(|u| u.error.as_ref())))
    }
}

fn line(one: &Unlocked) -> String {
    match (&one.done, &one.error) {
        (Some(done), _) => format!("{}: {}\n", one.instrument, report::text::clean(done)),
        (None, Some(error)) => report::error(error, Screen::of_stdout()),
        (None, None) => String::new(),
    }
}

async fn unlock(mut link: Link, force: bool) -> Result<String> {
    match link.query(Query::Unlock { force }).await? {
        QueryReply::Done { summary } => {
            link.goodbye().await;
            Ok(summary)
        }
        _ => Err(unexpected_reply()),
    }
}
