//! The list of hotfixes of an instrument after a run, and after a run was taken back.

use super::{Bench, Driver, Guarded};
use crate::actions::hotfix::{Done, Hotfix, HotfixedFile, InstalledHotfix, Known, installed, release};
use crate::actions::sync::hand;
use crate::actions::{Action, StepContext};
use crate::content::Seen;
use crate::error::Result;
use crate::events::{EventKind, Outcome, RunId};
use crate::files::{read_json, write_json};
use crate::paths::{RelPath, WinPath};
use crate::plan::PlanStep;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// In the folder of a run: the hotfixes before it.
fn before_file(run_dir: &Path) -> PathBuf {
    run_dir.join("previous").join("hotfixes.json")
}

/// Files of hotfixes by component, as a baseline is to have them.
type ByComponent = BTreeMap<String, BTreeMap<RelPath, Option<Seen>>>;

impl Driver {
    /// Writes down which hotfixes are in place now, so that what they changed is nobody's work by hand. May be repeated.
    pub(super) fn keep_hotfixes(&self, steps: &[PlanStep]) -> Result<()> {
        let home = self.machine.home.folder();
        let all = installed::read(home)?;
        let mut now = all.clone();
        let mut known = ByComponent::new();
        for step in steps.iter().filter(|step| self.went_well(step)) {
            let bench = Bench::new(self, self.source(), step, "close".to_owned(), self.run.deadline(step.timeout.0));
            let cx = bench.context();
            match &step.action {
                Action::Sync(_) => now = release::after(now, &release::fates(&cx)?),
                Action::Hotfix(_) => self.keep_hotfix(&cx, &mut now, &mut known)?,
                Action::Restore(restore) => self.leave_out_restored(&restore.whole_folders(&cx)?, &mut now, &mut known)?,
                _ => {}
            }
        }
        if now != all {
            let before = before_file(&self.run.dir);
            if !before.exists() {
                write_json(&before, &all)?;
            }
            installed::write(home, &now)?;
        }
        // Last: what the baseline said before stands in the list by now.
        known.iter().try_for_each(|(component, files)| hand::note_in_baseline(home, component, files))
    }

    fn keep_hotfix(&self, cx: &StepContext<'_>, now: &mut Vec<InstalledHotfix>, known: &mut ByComponent) -> Result<()> {
        match Hotfix::done(cx)? {
            None => {}
            Some(Done::Applied(mut hotfix)) => {
                if !now.iter().any(|other| other.id == hotfix.id) {
                    remember_baseline(cx.home, &mut hotfix.files)?;
                    now.push((*hotfix).clone());
                }
                hotfix.files.iter().for_each(|file| note(known, file, file.after));
            }
            Some(Done::Reverted(id)) => {
                let before: Option<Vec<InstalledHotfix>> = read_json(&before_file(&self.run.dir))?;
                let files = now.iter().chain(before.iter().flatten()).find(|h| h.id == id).map(|h| h.files.clone());
                files.iter().flatten().for_each(|file| note(known, file, as_before(file)));
                now.retain(|hotfix| hotfix.id != id);
            }
        }
        Ok(())
    }

    /// Hotfixes of which nothing is left in folders that a backup has replaced are not installed any more.
    fn leave_out_restored(&self, folders: &[WinPath], now: &mut Vec<InstalledHotfix>, known: &mut ByComponent) -> Result<()> {
        let drives = &self.machine.drives;
        for hotfix in std::mem::take(now) {
            let replaced: Vec<&HotfixedFile> = hotfix.files.iter().filter(|file| folders.contains(&file.folder)).collect();
            let mut left = replaced.is_empty();
            // A file that it took away may be missing for another reason.
            for file in hotfix.files.iter().filter(|file| file.after.is_some()) {
                left = left || file.now(drives)? == file.after;
            }
            if left {
                now.push(hotfix);
                continue;
            }
            for file in replaced {
                note(known, file, file.now(drives)?);
            }
            let text = format!("the hotfix {} is not there any more: the backup was made without it", hotfix.id);
            self.run.emit(EventKind::Reminder { text });
        }
        Ok(())
    }

    pub(super) fn went_well(&self, step: &PlanStep) -> bool {
        let ended = self.resume.steps.get(&step.id).map(|end| end.outcome);
        step.skip.is_none() && ended.is_some_and(|outcome| outcome.is_good() && outcome != Outcome::Skipped)
    }

    /// The files that the hotfix steps of the run change, by the folder they are in.
    pub(super) fn guarded_hotfixes(&self, steps: &[PlanStep]) -> Result<Vec<Guarded>> {
        let mut all = Vec::new();
        for step in steps.iter().filter(|s| s.skip.is_none()) {
            let Action::Hotfix(hotfix) = &step.action else { continue };
            if let (Some(patch), true) = (&hotfix.content, hotfix.changes_files()) {
                for component in patch.components() {
                    let Some(place) = hotfix.to.get(component) else { continue };
                    let files = patch.files.iter().filter(|f| f.component == component).map(|f| f.path.clone());
                    let gone = patch.deletes.iter().filter(|d| d.component == component).map(|d| d.path.clone());
                    all.push(Guarded::files(place.resolve(&self.run.plan.places)?, component, files.chain(gone)));
                }
            } else if let Some(id) = &hotfix.revert {
                let before: Option<Vec<InstalledHotfix>> = read_json(&before_file(&self.run.dir))?;
                let known = match before {
                    Some(before) => before,
                    None => installed::read(self.machine.home.folder())?,
                };
                let files = known.iter().filter(|h| h.id.eq_ignore_ascii_case(id)).flat_map(|h| &h.files);
                all.extend(files.map(|f| Guarded::files(f.folder.clone(), &f.component, [f.path.clone()])));
            }
        }
        Ok(all)
    }

    /// The hotfixes before a run that was taken back are those of now.
    ///
    /// # Errors
    /// When a list cannot be read or written.
    pub(super) fn restore_hotfixes(&self, run: &RunId) -> Result<()> {
        let home = self.machine.home.folder();
        let Some(before) = read_json::<Vec<InstalledHotfix>>(&before_file(&self.machine.home.run(run)?))? else { return Ok(()) };
        let now = installed::read(home)?;
        let mut known = ByComponent::new();
        let missing = |from: &[InstalledHotfix], hotfix: &InstalledHotfix| !from.iter().any(|other| other.id == hotfix.id);
        for hotfix in now.iter().filter(|hotfix| missing(&before, hotfix)) {
            hotfix.files.iter().for_each(|file| note(&mut known, file, as_before(file)));
        }
        for hotfix in before.iter().filter(|hotfix| missing(&now, hotfix)) {
            hotfix.files.iter().for_each(|file| note(&mut known, file, file.after));
        }
        known.iter().try_for_each(|(component, files)| hand::note_in_baseline(home, component, files))?;
        installed::write(home, &before)
    }
}

fn note(known: &mut ByComponent, file: &HotfixedFile, seen: Option<Seen>) {
    known.entry(file.component.clone()).or_default().insert(file.path.clone(), seen);
}

/// What the baseline has of a file once its hotfix is taken back.
fn as_before(file: &HotfixedFile) -> Option<Seen> {
    match file.baseline {
        Known::Unknown => file.before,
        Known::Absent => None,
        Known::File(seen) => Some(seen),
    }
}

/// Notes what the baselines say of files now.
fn remember_baseline(home: &Path, files: &mut [HotfixedFile]) -> Result<()> {
    let components: std::collections::BTreeSet<String> = files.iter().map(|f| f.component.clone()).collect();
    for component in components {
        let own: Vec<RelPath> = files.iter().filter(|f| f.component == component).map(|f| f.path.clone()).collect();
        let Some(said) = hand::in_baseline(home, &component, &own)? else { continue };
        for file in files.iter_mut().filter(|f| f.component == component) {
            file.baseline = match said.get(&file.path).copied().flatten() {
                Some(seen) => Known::File(seen),
                None => Known::Absent,
            };
        }
    }
    Ok(())
}
