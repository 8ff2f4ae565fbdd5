//! What people and programs see of a run: consumers of events, and the only room that formats for people.

mod answers;
mod backups;
mod check;
mod error;
mod estimate;
mod hotfix;
mod json;
mod lines;
mod plain;
mod planned;
mod pretty;
mod recorder;
mod runs;
mod style;
mod summary;
mod table;
pub mod text;
mod trust;

pub use answers::{DryRun, StatusRow, dry_run, rollback_previews, status, what_will_happen};
pub use backups::{BackupRow, backups};
pub use check::{CheckRow, Found, check};
pub use error::{error, error_json};
pub use estimate::{Estimate, EstimateFrom, PastRun, estimate};
pub use hotfix::{HotfixRow, hotfix, hotfixes};
pub use lines::Verbosity;
pub use planned::planned;
pub use recorder::Recorder;
pub use runs::{StoredRun, damage_lines, run_events, run_list, run_pruned, run_show};
pub use style::Screen;
pub use summary::{Report, Where};
pub use table::{Column, Table};
pub use trust::{TrustRow, trust};

use crate::events::{Event, RunState};
use indicatif::ProgressDrawTarget;
use std::io::Write;

/// Where a reporter writes.
pub type Out = Box<dyn Write + Send>;

/// Shows a run while it happens.
pub trait Reporter {
    /// One more event; `state` has it already.
    fn event(&mut self, state: &RunState, event: &Event);

    /// The run is over: shows the final report.
    fn finish(&mut self, state: &RunState);

    /// Keeps still while somebody else uses the terminal, to ask a question.
    fn paused(&mut self, talk: &mut dyn FnMut()) {
        talk();
    }
}

/// How a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A bar, a few rows, colours.
    Pretty,
    /// A line for each noteworthy event.
    Plain,
    /// Each event as a line of JSON.
    Json,
}

/// A reporter that writes to `out`, which is standard output unless a test wants it otherwise. The bar of the pretty
/// form is drawn on standard error, and only when that is a terminal.
pub fn open(form: Form, verbose: Verbosity, screen: Screen, place: Where, out: Out) -> Box<dyn Reporter + Send> {
    match form {
        Form::Pretty => {
            let measure = Box::new(|| Screen::of_stderr().width);
            Box::new(pretty::Pretty::new(out, verbose, screen, measure, ProgressDrawTarget::stderr(), place))
        }
        Form::Plain => Box::new(plain::Plain::new(out, verbose, place)),
        Form::Json => Box::new(json::JsonLines::new(out)),
    }
}

#[cfg(test)]
mod tests;
