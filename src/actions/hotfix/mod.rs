//! `hotfix`: a few files of an archive over the installed trees, a hotfix taken back, or its checks.
//!
//! The archive is read at the controller when the plan is made; its files come by hash like any other content, are staged
//! beside the running IBEX, and change places by journaled renames. Files in use are moved aside, never written over.

mod apply;
pub mod installed;
pub mod release;
mod revert;
#[cfg(test)]
#[cfg(unix)]
mod tests;

pub use installed::{HotfixState, HotfixedFile, InstalledHotfix, Known};
pub use release::HotfixPolicy;

use super::moves::{Moves, MovesRecord};
use super::{Applied, FetchStats, Perform, Probe, SpaceNeed, StepContext, UndoRecord, Undone};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::kit::hotfix::Patch;
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Puts the files of a hotfix archive in place (`patch`), takes an installed hotfix back (`revert`), or looks whether the
/// checks of an archive hold (`prove`); exactly one of the three.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hotfix {
    /// The archive, a file at the controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// The name of an installed hotfix; its files become what they were before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<String>,
    /// The archive whose `checks` must hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prove: Option<String>,
    /// Where each component is installed; `EPICS: server, Client: client, genie_python_3: python` unless said.
    #[serde(default = "usual_places")]
    pub to: BTreeMap<String, Place>,
    /// With `revert`: goes on although files were changed since; those are saved first.
    #[serde(default)]
    pub discard_newer: bool,
    /// What the archive holds, put in when the plan is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub content: Option<Patch>,
}

fn usual_places() -> BTreeMap<String, Place> {
    let usual = [("EPICS", "server"), ("Client", "client"), ("genie_python_3", "python")];
    usual.into_iter().map(|(component, place)| (component.to_owned(), Place(place.to_owned()))).collect()
}

/// What the step is for.
enum Task<'a> {
    Apply(&'a Patch),
    Revert(&'a str),
    Prove(&'a Patch),
}

/// What a step has done, as its run's folder keeps it from before the first rename on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    Applied(Box<InstalledHotfix>),
    /// The hotfix's name.
    Reverted(String),
}

/// Moves that are to be carried out one after the other, each in a folder of its own.
#[derive(Serialize, Deserialize)]
struct Work {
    done: Done,
    /// The files that hold the moves.
    moves: Vec<PathBuf>,
    summary: String,
    result: serde_json::Value,
}

impl Hotfix {
    fn task(&self) -> Result<Task<'_>> {
        let content = || self.content.as_ref().ok_or_else(|| Error::internal("the hotfix was not read when the plan was made"));
        match (&self.patch, &self.revert, &self.prove) {
            (Some(_), None, None) => Ok(Task::Apply(content()?)),
            (None, Some(id), None) => Ok(Task::Revert(id)),
            (None, None, Some(_)) => Ok(Task::Prove(content()?)),
            _ => Err(Error::bad_input("`hotfix` takes exactly one of: patch, revert, prove")),
        }
    }

    /// True when the step changes files.
    pub fn changes_files(&self) -> bool {
        self.prove.is_none()
    }

    /// What the step has done, or is about to; nothing before it began.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn done(cx: &StepContext<'_>) -> Result<Option<Done>> {
        Ok(Work::begun(cx)?.map(|work| work.done))
    }
}

impl Work {
    fn file(cx: &StepContext<'_>) -> PathBuf {
        cx.data_file("hotfix.json")
    }

    /// Work that was begun before a crash.
    fn begun(cx: &StepContext<'_>) -> Result<Option<Self>> {
        files::read_json(&Self::file(cx))
    }

    /// From here on the step is begun, and is carried out as it is written.
    fn begin(self, cx: &StepContext<'_>) -> Result<Self> {
        files::write_json(&Self::file(cx), &self)?;
        Ok(self)
    }

    /// Carries it out, or the rest of it.
    fn carry_out(&self, cx: &StepContext<'_>) -> Result<()> {
        for file in &self.moves {
            let Some((moves, record)) = Moves::begun(file)? else {
                return Err(Error::new(ErrorKind::Integrity, format!("{} is gone", file.display())));
            };
            cx.undo_log.intend(UndoRecord::Hotfix(HotfixUndo { moves: record }))?;
            moves.run(cx)?;
        }
        Ok(())
    }
}

impl Perform for Hotfix {
    fn describe(&self) -> String {
        let id = self.content.as_ref().map(|patch| patch.id.as_str());
        match (&self.revert, &self.prove) {
            (Some(revert), _) => format!("take the hotfix {revert} back"),
            (None, Some(_)) => format!("the checks of {}", id.unwrap_or("the hotfix")),
            (None, None) => format!("hotfix {}", id.unwrap_or_default()),
        }
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        match self.task()? {
            Task::Apply(patch) => apply::probe(self, patch, cx),
            Task::Revert(id) => revert::probe(self, id, cx),
            Task::Prove(patch) => {
                let summary = format!("{} checks", patch.checks.len());
                Ok(Probe { summary, items: patch.checks.iter().map(Perform::describe).collect(), ..Probe::default() })
            }
        }
    }

    fn space(&self, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
        match self.task()? {
            Task::Apply(patch) => apply::space(self, patch, cx),
            Task::Revert(id) => revert::space(id, cx),
            Task::Prove(_) => Ok(Vec::new()),
        }
    }

    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        if Work::begun(cx)?.is_some() {
            return Ok(FetchStats::default());
        }
        match self.task()? {
            Task::Apply(patch) => apply::stage(self, patch, cx),
            Task::Revert(id) => revert::stage(self, id, cx),
            Task::Prove(_) => Ok(FetchStats::default()),
        }
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let task = self.task()?;
        if let Task::Prove(patch) = &task {
            return prove(patch, cx);
        }
        let work = match (Work::begun(cx)?, &task) {
            (Some(begun), _) => Some(begun),
            (None, Task::Apply(patch)) => apply::prepare(self, patch, cx)?,
            (None, Task::Revert(id)) => revert::prepare(self, id, cx)?,
            (None, Task::Prove(_)) => None,
        };
        let Some(work) = work else { return Ok(Applied::ok("already as wanted")) };
        work.carry_out(cx)?;
        match &work.done {
            Done::Applied(hotfix) => apply::verify(hotfix, cx)?,
            Done::Reverted(id) => revert::verify(id, cx)?,
        }
        Ok(Applied::changed(work.summary).with_result(work.result))
    }
}

/// The checks that the hotfix itself asks for.
fn prove(patch: &Patch, cx: &StepContext<'_>) -> Result<Applied> {
    for check in &patch.checks {
        check.apply(cx).map_err(|e| e.context(format!("a check of the hotfix {} does not hold", patch.id)))?;
    }
    Ok(Applied::ok(match patch.checks.len() {
        0 => "the hotfix has no checks".to_owned(),
        1 => "1 check holds".to_owned(),
        n => format!("{n} checks hold"),
    }))
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HotfixUndo {
    pub moves: MovesRecord,
}

impl HotfixUndo {
    /// Puts back what was there.
    ///
    /// # Errors
    /// When a rename is refused.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        self.moves.undo(cx)
    }
}
