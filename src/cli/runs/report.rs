//! `ibexdeploy runs report`.

use crate::cli::{GlobalOptions, exit, output};
use crate::error::Result;
use crate::events::{RunFolder, RunState};
use crate::report::{self, Screen, StoredRun, Where, damage_lines};
use clap::Args;

/// Write the final report of a run again, for the shutdown log
#[derive(Debug, Args)]
pub(in crate::cli) struct Report {
    /// The run, or the beginning of its name [default: the newest]
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// In Markdown
    #[arg(long)]
    markdown: bool,
}

impl Report {
    pub(in crate::cli) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let folder = RunFolder::open_or_newest(&global.state_folder()?, self.id.as_deref())?;
        let log = folder.read()?;
        let mut state = RunState::of(&log.events);
        state.run.get_or_insert_with(|| folder.id().clone());
        let place = Where { folder: Some(folder.path().to_owned()) };
        output::document(global, &StoredRun { state: &state, damage: &log.damage }, || {
            let screen = if self.markdown { Screen::PLAIN } else { global.screen() };
            let damage = damage_lines(&log.damage, screen);
            let report = report::Report::new(&state, &place);
            damage + &if self.markdown { report.markdown() } else { report.text(screen) }
        })?;
        Ok(exit::OK)
    }
}
