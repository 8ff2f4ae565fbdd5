//! `link`: a junction or symbolic link.

use super::moves::{Moves, MovesRecord, Stamp, shown};
use super::remove::{moves_file, split};
use super::{Applied, Difference, Perform, Probe, StepContext, UndoRecord, Undone, volumes};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Makes a link (a junction on Windows) or points it elsewhere, in one rename.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The link itself.
    pub at: Place,
    /// The folder it leads to; it must exist.
    pub to: Place,
}

impl Link {
    fn leads_there(&self, cx: &StepContext<'_>, at: &Path) -> Result<bool> {
        let to = cx.native(&self.to)?;
        match Stamp::of(at)? {
            Some(Stamp::Link) => Ok(matches!((at.canonicalize(), to.canonicalize()), (Ok(a), Ok(b)) if a == b)),
            Some(_) => Err(Error::new(ErrorKind::Refused, format!("{} is there and is no link", shown(cx, at)))
                .next("move what is in it to its new place, remove the folder, and start again")),
            None => Ok(false),
        }
    }

    fn must_exist(&self, cx: &StepContext<'_>) -> Result<()> {
        if cx.native(&self.to)?.is_dir() {
            return Ok(());
        }
        Err(Error::step_failed(format!("{} is not a folder, so no link can lead to it", cx.path(&self.to)?))
            .next("a step before this one has to make it"))
    }
}

impl Perform for Link {
    fn describe(&self) -> String {
        format!("link {} to {}", self.at, self.to)
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let at = cx.native(&self.at)?;
        if self.leads_there(cx, &at)? {
            return Ok(Probe { difference: Difference::None, summary: "leads there already".to_owned(), ..Probe::default() });
        }
        let summary = match std::fs::read_link(&at) {
            Ok(now) => format!("leads to {} now", shown(cx, &now)),
            Err(_) => "to be made".to_owned(),
        };
        Ok(Probe { difference: Difference::Some, summary, ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let at = cx.native(&self.at)?;
        let file = moves_file(cx, &at);
        let (moves, record) = match Moves::begun(&file)? {
            Some(begun) => begun,
            None if self.leads_there(cx, &at)? => return Ok(Applied::ok("leads there already")),
            None => {
                self.must_exist(cx)?;
                prepare_switch(cx, &at, &cx.native(&self.to)?, &file)?
            }
        };
        cx.undo_log.intend(UndoRecord::Link(LinkUndo { moves: record }))?;
        moves.run(cx)?;
        if !self.leads_there(cx, &at)? {
            return Err(Error::step_failed(format!("{} does not lead to {}", shown(cx, &at), cx.path(&self.to)?)));
        }
        Ok(Applied::changed(format!("leads to {}", cx.path(&self.to)?)))
    }
}

/// Makes a link to `to` in the stage area, and writes down the moves that bring it to its place. What is there, a link or a
/// folder, goes to the undo area.
///
/// # Errors
/// When the link cannot be made.
pub(super) fn prepare_switch(cx: &StepContext<'_>, at: &Path, to: &Path, file: &Path) -> Result<(Moves, MovesRecord)> {
    let (folder, name) = split(at)?;
    let areas = volumes::areas_beside(cx, at)?;
    let staged = areas.stage.join("link");
    if Stamp::of(&staged)?.is_some() {
        files::remove(&staged)?;
    }
    cx.platform.make_link(&staged, to)?;
    let mut moves = Moves::below(&folder, &areas);
    moves.over = true;
    moves.take(name.clone())?;
    moves.bring(name, "link")?;
    let record = moves.write(file)?;
    Ok((moves, record))
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkUndo {
    pub moves: MovesRecord,
}

impl LinkUndo {
    /// Puts the old link back, or removes the new one.
    ///
    /// # Errors
    /// When the rename is refused.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        self.moves.undo(cx)
    }
}
