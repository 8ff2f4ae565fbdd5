//! Runs that are not over and cannot go on, because what they need to know was lost.

use super::home::Home;
use super::journal::{self, Body};
use super::queries::stored_plan;
use super::resume::Resume;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{EventKind, Outcome, RunId};
use crate::plan::InstrumentPlan;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A run that was left somewhere in the middle.
pub(super) struct Stranded {
    pub(super) run: RunId,
    dir: PathBuf,
    /// What was lost.
    why: String,
    /// Files were changed, or nobody knows.
    changed: bool,
    /// The plan's digest, when nothing but the plan was lost.
    digest: Option<String>,
}

impl Stranded {
    /// What stands in the folder of a run; nothing when it is over, or goes on, or never began.
    pub(super) fn at(dir: &Path) -> Option<Self> {
        let file = dir.join("journal.jsonl");
        if journal::is_over(&file) || !file.exists() {
            return None;
        }
        let stranded = |why: String, changed, digest| {
            let run = RunId(dir.file_name()?.to_string_lossy().into_owned());
            Some(Self { run, dir: dir.to_path_buf(), why, changed, digest })
        };
        let loaded = match journal::read(&file) {
            Ok(loaded) => loaded,
            Err(error) => return stranded(error.to_string(), true, None),
        };
        let resume = Resume::from_journal(&loaded);
        if resume.finished.is_some() || (resume.accepted.is_none() && resume.damage.is_empty()) {
            return None;
        }
        let changed = resume.outage_started.is_some() || !resume.intents.is_empty();
        match (stored_plan(dir), loaded.damage_text()) {
            (Ok(_), None) => None,
            (_, Some(damage)) => stranded(format!("its journal is damaged: {damage}"), true, None),
            (Err(error), None) => {
                let digest = loaded.entries.into_iter().find_map(|entry| match entry.body {
                    Body::Event(EventKind::Accepted { plan, .. }) => Some(plan),
                    _ => None,
                });
                let rollback = dir.join("rollback.json").exists();
                stranded(error.to_string(), changed, digest.filter(|_| !rollback))
            }
        }
    }

    /// True when this is the plan that was lost.
    pub(super) fn lacks(&self, plan: &InstrumentPlan) -> bool {
        plan.digest().is_ok_and(|digest| self.digest.as_ref() == Some(&digest.to_string()))
    }

    /// What was lost and what helps, in one line.
    pub(super) fn told(&self) -> String {
        format!("it was not finished: {}; {}{}", self.why, self.state(), self.advice())
    }

    fn state(&self) -> &'static str {
        if self.changed { "the instrument may be half on the old release and half on the new one; " } else { "" }
    }

    fn advice(&self) -> String {
        let again = format!("`ibexdeploy runs resume {}` by whoever began it brings the plan again; or ", self.run);
        let again = if self.digest.is_some() { again.as_str() } else { "" };
        format!("{again}give it up with `ibexdeploy unlock --force`, then release again, which makes every file right")
    }

    /// The refusal of whatever would begin on top of it.
    pub(super) fn refusal(&self, host: &str) -> Error {
        Error::new(ErrorKind::Refused, format!("the run {} was not finished here, and cannot go on", self.run))
            .because(&self.why)
            .because("the instrument may be half on the old release and half on the new one")
            .on_host(host)
            .next(self.advice())
    }

    /// Writes down that it is over, as far as anybody will go with it.
    ///
    /// # Errors
    /// When its journal cannot be written.
    pub(super) fn give_up(&self) -> Result<()> {
        let (mut writer, _) = journal::Writer::open(&self.dir)?;
        let error = Error::new(ErrorKind::Cancelled, "given up where it stood, because it could not go on").because(&self.why);
        let last_word = EventKind::InstrumentFinished {
            outcome: Outcome::Failed,
            versions: BTreeMap::new(),
            outage_ms: 0,
            longest: Vec::new(),
            ms: 0,
            error: Some(error),
        };
        writer.append(Timestamp::now(), Body::Event(last_word), true)?;
        writer.close();
        Ok(())
    }
}

/// The newest run that has left the instrument in the middle; nothing when a good run has changed it since.
///
/// # Errors
/// When the runs cannot be listed.
pub(super) fn stranded(home: &Home) -> Result<Option<Stranded>> {
    for dir in home.run_dirs()?.into_iter().rev() {
        match Stranded::at(&dir) {
            Some(found) if found.changed => return Ok(Some(found)),
            Some(_) => {}
            None if made_right(&dir) => return Ok(None),
            None => {}
        }
    }
    Ok(None)
}

/// True when the last run before `own` that changed files neither ended well nor was taken back: every file may be as
/// wanted, and the programs that set the release up and start it were perhaps never run.
///
/// # Errors
/// When the runs cannot be listed.
pub(super) fn is_unproven(home: &Home, own: &Path) -> Result<bool> {
    for dir in home.run_dirs()?.into_iter().rev().filter(|dir| dir != own) {
        let Ok(loaded) = journal::read(&dir.join("journal.jsonl")) else { return Ok(true) };
        let resume = Resume::from_journal(&loaded);
        if !resume.damage.is_empty() {
            return Ok(true);
        }
        if !resume.intents.is_empty() {
            let well = resume.finished.is_some_and(|outcome| outcome.is_good() || outcome == Outcome::RolledBack);
            return Ok(!well && resume.undone_by.is_none());
        }
    }
    Ok(false)
}

/// True for a run that ended well after it had changed files.
fn made_right(dir: &Path) -> bool {
    journal::read(&dir.join("journal.jsonl")).is_ok_and(|loaded| {
        let resume = Resume::from_journal(&loaded);
        resume.finished.is_some_and(Outcome::is_good) && !resume.intents.is_empty()
    })
}
