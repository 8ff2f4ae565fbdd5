//! `ibexdeploy runs show`.

use crate::cli::{GlobalOptions, exit, output};
use crate::error::Result;
use crate::events::{RunFolder, RunState};
use crate::report::{StoredRun, Where, run_events, run_show};
use clap::Args;

/// Show a run: what it was, where each instrument stands, how it ended; with -v its events too
#[derive(Debug, Args)]
pub(in crate::cli) struct Show {
    /// The run, or the beginning of its name [default: the newest]
    #[arg(value_name = "ID")]
    id: Option<String>,
}

impl Show {
    pub(in crate::cli) fn run(self, global: &GlobalOptions) -> Result<u8> {
        let folder = RunFolder::open_or_newest(&global.state_folder()?, self.id.as_deref())?;
        let log = folder.read()?;
        let mut state = RunState::of(&log.events);
        state.run.get_or_insert_with(|| folder.id().clone());
        output::document(global, &StoredRun { state: &state, damage: &log.damage }, || {
            let place = Where { folder: Some(folder.path().to_owned()) };
            let mut text = if global.verbose > 0 { run_events(&log.events, global.verbose) } else { String::new() };
            text.push_str(&run_show(&state, &log.damage, &place, global.screen()));
            text
        })?;
        Ok(exit::OK)
    }
}
