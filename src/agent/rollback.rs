//! Undoing runs that are finished: the newest first, never over files that were changed since without saving them.

use super::driver::{Driver, Guarded, Source, UndoReport, Undoing, added_since, changed_by_others, changed_since};
use super::machine::Machine;
use super::resume::{Intent, Resume};
use super::stranded::stranded;
use super::worker::Worker;
use super::{journal, measuring, prune, queries};
use crate::actions::git::GitUndo;
use crate::actions::sync::counted;
use crate::actions::{UndoRecord, since, volumes};
use crate::content::{ContentHash, Hashing};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::events::{EventKind, Outcome, RunId};
use crate::files;
use crate::paths::{Place, WinPath};
use crate::plan::{Hold, InstrumentPlan};
use crate::platform::facts::Systems;
use crate::platform::systems::ActiveSystem;
use crate::protocol::{RollbackOptions, RollbackPreview};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// With this file a machine starts IBEX when it starts itself.
const AUTOSTART: &str = "var\\tmp\\ibex_running.txt";

/// What is left to do when nobody knows any more what a run did.
const DAMAGED: &str = "release again, which makes every file right, or restore a backup";

/// What a rollback is to undo; `rollback.json` in its run's folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RollbackOrder {
    /// The newest first.
    runs: Vec<RunId>,
    /// Files changed since, which are saved and discarded.
    newer: Vec<String>,
    /// Those of them, and older changes, that no run of these ever touched: nobody has an older copy.
    #[serde(default)]
    untouched: BTreeSet<WinPath>,
}

impl RollbackOrder {
    /// The runs that are taken back.
    pub(crate) fn runs(&self) -> &[RunId] {
        &self.runs
    }
}

/// A finished run that can be undone.
struct Finished {
    dir: PathBuf,
    plan: InstrumentPlan,
    resume: Resume,
}

/// What undoing a run would touch.
///
/// # Errors
/// When it cannot be undone.
pub(crate) fn preview(worker: &Worker, run: &str, options: &RollbackOptions) -> Result<RollbackPreview> {
    let runs = to_undo(worker, run)?;
    refuse_under_ibex(&worker.machine, &runs)?;
    refuse_while_measuring(worker, &runs, options)?;
    let newer = newer_files(&worker.machine, &runs)?;
    Ok(RollbackPreview { runs: runs.iter().map(|r| r.plan.run.0.clone()).collect(), newer })
}

/// The order and the plan of a rollback.
///
/// # Errors
/// When the run cannot be undone, or files were changed since and may not be discarded.
pub(crate) fn order(worker: &Worker, run: &str, options: &RollbackOptions) -> Result<(RollbackOrder, InstrumentPlan)> {
    let runs = to_undo(worker, run)?;
    refuse_under_ibex(&worker.machine, &runs)?;
    let newer = newer_files(&worker.machine, &runs)?;
    if !newer.is_empty() && !options.discard_newer {
        let shown: Vec<&str> = newer.iter().take(5).map(String::as_str).collect();
        return Err(Error::new(
            ErrorKind::Refused,
            format!(
                "{} files were changed since the run: {}{}",
                newer.len(),
                shown.join(", "),
                if newer.len() > 5 { ", ..." } else { "" }
            ),
        )
        .next("look at them; with `--discard-newer` files are saved, rows and commits kept aside, and then all is taken back"));
    }
    // Last of all: looking at the files may have taken minutes.
    refuse_while_measuring(worker, &runs, options)?;
    let mut untouched = BTreeSet::new();
    for run in &runs {
        untouched.extend(changed_by_others(&worker.machine, &run.dir)?);
    }
    let newest = runs.first().ok_or_else(|| Error::internal("a rollback of nothing"))?;
    let mut plan = newest.plan.clone();
    plan.run = RunId(options.as_run.clone());
    plan.operator = options.operator.clone();
    plan.playbook = "rollback".to_owned();
    plan.hold = Hold::No;
    Ok((RollbackOrder { runs: runs.into_iter().map(|r| r.plan.run).collect(), newer, untouched }, plan))
}

/// Refuses to take files back under IBEX that were changed while SECI was active: such a run neither stopped IBEX nor
/// started it, so that taking it back would not either.
fn refuse_under_ibex(machine: &Machine, runs: &[Finished]) -> Result<()> {
    let Some(newest) = runs.first() else { return Ok(()) };
    let mut ibex = Systems::now(&*machine.platform, &machine.drives, &newest.plan.places)?.active().is_ibex();
    for run in runs {
        let found = run.resume.facts.as_ref().and_then(ActiveSystem::in_facts);
        if run.plan.playbook == SWITCH {
            // Taken back, it makes that active which was so before.
            ibex = found.is_some_and(ActiveSystem::is_ibex);
        } else if ibex && found == Some(ActiveSystem::Seci) && run.resume.open_intents().any(|i| replaces_programs(&i.record)) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("the run {} was made while SECI was active, and IBEX runs now: it would not be stopped", run.plan.run),
            )
            .next("stop IBEX at the instrument (`stop_ibex_server.bat`), roll back, and start it again"));
        }
    }
    Ok(())
}

/// Never into a measurement, unless the operator says so.
fn refuse_while_measuring(worker: &Worker, runs: &[Finished], options: &RollbackOptions) -> Result<()> {
    if options.even_if_measuring {
        return Ok(());
    }
    let records = |run: &'_ Finished| run.resume.open_intents().map(|intent| intent.record.clone()).collect();
    let runs: Vec<_> = runs.iter().map(|run| measuring::Undone { plan: &run.plan, records: records(run) }).collect();
    measuring::refuse(worker, &runs)
}

/// The playbook that changes between IBEX and SECI.
const SWITCH: &str = "switch";

fn replaces_programs(record: &UndoRecord) -> bool {
    matches!(record, UndoRecord::Sync(_) | UndoRecord::Restore(_) | UndoRecord::Writes(_))
}

/// The run and all that were made after it and changed something, the newest first.
fn to_undo(worker: &Worker, run: &str) -> Result<Vec<Finished>> {
    let mut undoable = Vec::new();
    if let Some(stranded) = stranded(&worker.machine.home)? {
        return Err(stranded.refusal(&worker.machine.platform.host_name()));
    }
    let wanted = (!run.is_empty()).then(|| worker.run_dir(run)).transpose()?;
    for dir in worker.machine.home.run_dirs()?.into_iter().rev() {
        if dir.join("rollback.json").exists() {
            if wanted.as_ref() == Some(&dir) {
                return Err(Error::new(ErrorKind::Refused, format!("the run {run} is itself a rollback"))
                    .next("run the release again instead"));
            }
            continue;
        }
        let is_wanted = wanted.as_ref() == Some(&dir);
        let finished = read(&dir)?;
        match refusal(&finished) {
            None => undoable.push(finished),
            // What is older cannot be undone under it either.
            Some(error) if stands_in_the_way(&finished) => return Err(error),
            Some(error) if is_wanted => return Err(error),
            Some(_) => {}
        }
        if is_wanted || (wanted.is_none() && !undoable.is_empty()) {
            break;
        }
    }
    if undoable.is_empty() {
        return Err(
            Error::new(ErrorKind::Refused, "there is no run that could be undone").next("`ibexdeploy runs list` shows the runs")
        );
    }
    Ok(undoable)
}

fn read(dir: &Path) -> Result<Finished> {
    let loaded = journal::read(&dir.join("journal.jsonl"))?;
    Ok(Finished { dir: dir.to_path_buf(), plan: queries::stored_plan(dir)?, resume: Resume::from_journal(&loaded) })
}

/// True when a run that cannot be undone has changed files, or may have.
fn stands_in_the_way(run: &Finished) -> bool {
    !run.resume.damage.is_empty()
        || (prune::is_pruned(&run.dir) && run.resume.undone_by.is_none() && run.resume.open_intents().next().is_some())
}

/// Why a run cannot be undone.
fn refusal(run: &Finished) -> Option<Error> {
    let name = &run.plan.run;
    let refused = |text: String, next: &str| Some(Error::new(ErrorKind::Refused, text).next(next));
    if let Some(by) = &run.resume.undone_by {
        return refused(format!("the run {name} was undone by {by} already"), "`ibexdeploy status` shows what is installed");
    }
    if !run.resume.damage.is_empty() {
        let damage = run.resume.damage.join("; ");
        return refused(format!("the journal of {name} is damaged: {damage}"), DAMAGED);
    }
    match run.resume.finished {
        None => return refused(format!("the run {name} is not finished"), "cancel it instead: that undoes it"),
        Some(Outcome::RolledBack) => return refused(format!("the run {name} undid itself"), "there is nothing left to undo"),
        Some(_) => {}
    }
    if run.resume.open_intents().next().is_none() {
        return refused(format!("the run {name} changed nothing"), "there is nothing to undo");
    }
    if prune::is_pruned(&run.dir) {
        return refused(format!("what {name} kept for its undo was pruned"), "restore a backup, or release the older version");
    }
    None
}

/// Files that changed since the runs; where two runs changed one folder (or one file of it), the newer one tells.
fn newer_files(machine: &Machine, runs: &[Finished]) -> Result<Vec<String>> {
    let mut told: Vec<Guarded> = Vec::new();
    let mut came: Vec<WinPath> = Vec::new();
    let mut newer = Vec::new();
    for run in runs {
        newer.extend(newer_commits(run)?);
        newer.extend(newer_rows(machine, run)?);
        for (guarded, paths) in changed_since(machine, &run.dir)? {
            let by_newer = |path: &&WinPath| {
                told.iter().any(|known| known.folder == guarded.folder && known.covers(path))
                    || came.iter().any(|known| path.is_within(known))
            };
            newer.extend(paths.iter().filter(|path| !by_newer(path)).map(WinPath::to_string));
            told.push(guarded);
        }
        newer.extend(newer_than_moves(machine, run, &told, &mut came)?);
    }
    Ok(newer)
}

/// What somebody changed in files that a restore, a copy or an edit had put in place. Folders that have an index are told
/// by that, and paths that a later step has put in place by that step.
fn newer_than_moves(machine: &Machine, run: &Finished, told: &[Guarded], came: &mut Vec<WinPath>) -> Result<Vec<String>> {
    let windows = |native: &PathBuf| machine.drives.windows(native);
    let mut newer = Vec::new();
    let intents: Vec<&Intent> = run.resume.open_intents().collect();
    for intent in intents.into_iter().rev() {
        let moves = match &intent.record {
            UndoRecord::Restore(undo) => &undo.moves,
            UndoRecord::Copy(undo) => &undo.moves,
            UndoRecord::File(undo) => &undo.moves,
            _ => continue,
        };
        let found = since::put_in_place(moves)?;
        let indexed = |path: &WinPath| told.iter().any(|g| path.is_within(&g.folder) && g.covers(path));
        let by_later = |path: &WinPath| came.iter().any(|known| path.is_within(known));
        let changed = found.changed.iter().filter_map(windows).filter(|path| !indexed(path) && !by_later(path));
        newer.extend(changed.map(|path| named_in_git(&path)));
        came.extend(found.came.iter().filter_map(windows));
    }
    newer.dedup();
    Ok(newer)
}

/// What is below `.git` is told by its work tree, in one line for all of it.
fn named_in_git(path: &WinPath) -> String {
    match path.as_str().to_lowercase().find("\\.git\\") {
        Some(at) => path.as_str().get(..at).map_or_else(|| path.to_string(), |tree| format!("{tree} (commits made since)")),
        None => path.to_string(),
    }
}

/// Data folders of servers that a run has put in place: whatever was written to them since, they are going to be replaced.
fn newer_rows(machine: &Machine, run: &Finished) -> Result<Vec<String>> {
    let mut folders = BTreeSet::new();
    for intent in run.resume.open_intents() {
        if let UndoRecord::Mysql(undo) = &intent.record {
            folders.extend(undo.finished_data()?);
        }
    }
    let shown = |folder: &PathBuf| machine.drives.windows(folder).map_or_else(|| folder.display().to_string(), |p| p.to_string());
    Ok(folders.iter().map(|folder| format!("{} (rows written since)", shown(folder))).collect())
}

/// Work trees of git that have commits made since the run. Only the last step that changed a tree knows how it was left.
fn newer_commits(run: &Finished) -> Result<Vec<String>> {
    let mut last: BTreeMap<&Path, &GitUndo> = BTreeMap::new();
    for intent in run.resume.open_intents() {
        if let UndoRecord::Git(undo) = &intent.record {
            last.insert(undo.tree(), undo);
        }
    }
    let trees = last.into_values().filter_map(|undo| undo.newer_commits().transpose());
    trees.map(|tree| tree.map(|path| format!("{} (commits made since)", path.display()))).collect()
}

/// Carries a rollback out, from wherever it is.
pub(crate) fn carry_out(mut driver: Driver, order: &RollbackOrder) -> Outcome {
    if !driver.resumes_rollback() {
        let names: Vec<&str> = order.runs.iter().map(RunId::as_str).collect();
        let because = format!("{} asked for the rollback of {}", driver.run.plan.operator, names.join(", "));
        driver.run.emit(EventKind::RollbackStarted { because });
    }
    driver.gather_facts();
    let (mut left, mut kept) = (Vec::new(), BTreeSet::new());
    let saved = save_newer(&driver, order).and_then(|()| discard_added(&driver, order));
    match saved {
        Ok(()) => {
            for run in &order.runs {
                match undo_run(&driver, run, order) {
                    Ok(report) => {
                        left.extend(report.left);
                        kept.extend(report.kept);
                    }
                    Err(error) => left.push(format!("{run}: {error}")),
                }
            }
        }
        Err(error) => left.push(format!("nothing was undone, because files changed since could not be saved: {error}")),
    }
    name_kept(&driver, &kept);
    if brings_ibex_back(&driver.machine, order) {
        driver.prove_back();
    }
    driver.end_outage();
    remind_of_autostart(&driver);
    remind_of_what_is_stopped(&driver, order);
    driver.run.emit(EventKind::RollbackFinished { ok: left.is_empty(), left: left.clone() });
    driver.finish_rollback(left)
}

/// True when IBEX ran before the first of the runs that are taken back.
fn brings_ibex_back(machine: &Machine, order: &RollbackOrder) -> bool {
    let oldest = order.runs.last().and_then(|run| read(&machine.home.run(run).ok()?).ok());
    let facts = oldest.and_then(|run| run.resume.facts);
    facts.as_ref().and_then(ActiveSystem::in_facts).is_some_and(ActiveSystem::is_ibex)
}

/// The file that makes a restart start IBEX is put back with everything else. Under SECI nobody wants that.
fn remind_of_autostart(driver: &Driver) {
    let (machine, places) = (&driver.machine, &driver.run.plan.places);
    let Ok(marker) = Place(AUTOSTART.to_owned()).resolve(places) else { return };
    let there = machine.drives.native(&marker).is_ok_and(|path| path.exists());
    let active = Systems::now(&*machine.platform, &machine.drives, places).map(|found| found.active());
    if there && active.is_ok_and(|active| active == ActiveSystem::Seci) {
        let text = format!("SECI is active, and {marker} is there again: remove it, or a restart of the machine starts IBEX");
        driver.run.emit(EventKind::Reminder { text });
    }
}

/// Where IBEX was started by a run that is taken back, it is stopped with it.
fn remind_of_what_is_stopped(driver: &Driver, order: &RollbackOrder) {
    let (machine, ran) = (&driver.machine, ActiveSystem::in_facts(&driver.facts).is_some_and(ActiveSystem::is_ibex));
    if !ran || brings_ibex_back(machine, order) {
        return;
    }
    let now = Systems::now(&*machine.platform, &machine.drives, &driver.run.plan.places);
    if now.is_ok_and(|found| found.active() == ActiveSystem::None) {
        let text = "IBEX is stopped again, as it was before the run that was taken back".to_owned();
        driver.run.emit(EventKind::Reminder { text });
    }
}

/// Says which files stay as somebody made them since.
fn name_kept(driver: &Driver, kept: &BTreeSet<WinPath>) {
    if kept.is_empty() {
        return;
    }
    let all: Vec<&str> = kept.iter().map(WinPath::as_str).collect();
    let text = format!(
        "files that were changed later and never by the run stay as they are, for nobody has them as they were: {}",
        all.join(", ")
    );
    driver.run.emit(EventKind::Reminder { text });
}

fn undo_run(driver: &Driver, run: &RunId, order: &RollbackOrder) -> Result<UndoReport> {
    let machine = &driver.machine;
    let finished = read(&machine.home.run(run)?)?;
    let intents: Vec<Intent> = finished.resume.open_intents().cloned().collect();
    let undoing = Undoing {
        source: Source { plan: &finished.plan, dir: &finished.dir },
        intents: &intents,
        undone: driver.undone_of(run),
        quiet: finished.resume.quiet.clone(),
        untouched: &order.untouched,
        of_run: Some(run.clone()),
    };
    let report = driver.undo(&undoing);
    if report.left.is_empty() {
        driver.restore_state(run)?;
        let (mut writer, loaded) = journal::Writer::open(&finished.dir)?;
        if Resume::from_journal(&loaded).undone_by.is_none() {
            writer.append(jiff::Timestamp::now(), journal::Body::UndoneBy { run: driver.run.id().clone() }, true)?;
        }
        writer.close();
        driver.clear_undone(&finished.dir);
    } else {
        driver.keep_half_undone(&finished.dir);
    }
    Ok(report)
}

/// Saves the files that are going to be discarded, in the form of a patch.
fn save_newer(driver: &Driver, order: &RollbackOrder) -> Result<()> {
    let folder = driver.machine.home.folder().join("hand-changes");
    let archive = folder.join(format!("{}-rollback.zip", driver.run.id()));
    if order.newer.is_empty() || archive.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).cannot(|| format!("make the folder {}", folder.display()))?;
    let mut guarded = Vec::new();
    for run in &order.runs {
        let dir = driver.machine.home.run(run)?;
        guarded.extend(changed_since(&driver.machine, &dir)?.into_iter().map(|(g, _)| g));
    }
    let saved = write_archive(&driver.machine, order, &guarded, &archive)?;
    if saved.is_empty() {
        // Rows and commits are kept where they are.
        return files::remove(&archive);
    }
    for run in &order.runs {
        since::note_saved(&driver.machine.home.run(run)?, &saved)?;
    }
    let (count, are) = (counted(saved.len(), "file"), if saved.len() == 1 { "was" } else { "were" });
    let text = format!("{count} changed since the run {are} saved as {} before the rollback", archive.display());
    driver.run.emit(EventKind::Reminder { text });
    Ok(())
}

/// Removes the files that were made since and are in the archive now: undoing knows nothing of them.
fn discard_added(driver: &Driver, order: &RollbackOrder) -> Result<()> {
    for run in &order.runs {
        let dir = driver.machine.home.run(run)?;
        for path in added_since(&driver.machine, &dir)? {
            // What came after the operator was told is not in the archive, and stays.
            if order.newer.iter().any(|newer| newer == path.as_str()) {
                let native = driver.machine.drives.native(&path)?;
                std::fs::remove_file(&native).cannot(|| format!("remove {path}, which is saved"))?;
            }
        }
    }
    Ok(())
}

/// Gives the content that it has of each file.
fn write_archive(
    machine: &Machine,
    order: &RollbackOrder,
    guarded: &[Guarded],
    archive: &Path,
) -> Result<BTreeMap<PathBuf, ContentHash>> {
    let what = || format!("write {}", archive.display());
    let fault = |e: zip::result::ZipError| Error::new(ErrorKind::Io, format!("cannot write {}", archive.display())).because(e);
    let mut written = BTreeMap::new();
    files::write_with(archive, |out| {
        let mut zip = zip::ZipWriter::new(out);
        let options = zip::write::SimpleFileOptions::default();
        for path in &order.newer {
            let Ok(path) = WinPath::parse(path) else { continue };
            let native = machine.drives.native(&path)?;
            // A file that was removed since has nothing to save.
            let Some((folder, name)) = native.parent().zip(native.file_name()) else { continue };
            let key = volumes::resolved(folder)?.join(name);
            if !native.is_file() || written.contains_key(&key) {
                continue;
            }
            zip.start_file(archive_name(&path, guarded), options).map_err(fault)?;
            let mut file = std::fs::File::open(&native).cannot(|| format!("read {}", native.display()))?;
            let mut hashing = Hashing::new(&mut zip);
            std::io::copy(&mut file, &mut hashing).cannot(what)?;
            let hash = hashing.hash();
            written.insert(key, hash);
        }
        zip.finish().map_err(fault)?;
        Ok(())
    })?;
    Ok(written)
}

/// Component and path inside it, as patches have it.
fn archive_name(path: &WinPath, guarded: &[Guarded]) -> String {
    let Some(home) = guarded.iter().find(|g| path.is_within(&g.folder)) else {
        return path.as_str().replace(':', "").replace('\\', "/");
    };
    let below = path.as_str()[home.folder.as_str().len()..].replace('\\', "/");
    let name = home.component.clone().or_else(|| home.folder.file_name().map(str::to_owned)).unwrap_or_default();
    format!("{name}/{}", below.trim_start_matches('/'))
}
