//! Where a run's staged content and undo data lie: on the volume of the target itself, so that applying is renaming.

use super::StepContext;
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The agent's folder at the root of a sandbox or of a volume. A target can be the root of a volume: then it lies inside
/// the target, where it is nobody's content.
pub const OWN_FOLDER: &str = ".ibexdeploy";

/// The two kinds of area a run has on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// Content that waits to be renamed into place.
    Stage,
    /// What was there before.
    Undo,
}

impl Area {
    fn folder(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Undo => "undo",
        }
    }
}

/// The areas of one step for one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Areas {
    pub stage: PathBuf,
    pub undo: PathBuf,
}

/// The path with the links in its existing part followed; the part that does not exist yet stays as it is.
///
/// # Errors
/// When the system cannot resolve the existing part.
pub fn resolved(path: &Path) -> Result<PathBuf> {
    let mut missing: Vec<OsString> = Vec::new();
    let mut here = path;
    loop {
        if std::fs::symlink_metadata(here).is_ok() {
            let mut found = std::fs::canonicalize(here).cannot(|| format!("follow {}", here.display()))?;
            found.extend(missing.iter().rev());
            return Ok(found);
        }
        let (Some(parent), Some(name)) = (here.parent(), here.file_name()) else {
            return Ok(path.to_path_buf());
        };
        missing.push(name.to_owned());
        here = parent;
    }
}

/// The area of this run on the volume of `target` (a native path, which need not exist yet). Makes the folder and
/// notes it in the run's folder, so that [`areas_of_run`] finds it again.
///
/// # Errors
/// When the volume cannot be told or the folder cannot be made.
pub fn run_area(cx: &StepContext<'_>, target: &Path, area: Area) -> Result<PathBuf> {
    let base = run_base(cx, &resolved(target)?)?;
    let folder = base.join(area.folder());
    if !folder.is_dir() {
        note_base(cx.run_dir, &base)?;
        std::fs::create_dir_all(&folder).cannot(|| format!("make the folder {}", folder.display()))?;
    }
    Ok(folder)
}

/// The areas of a step for one of its targets; each target has its own, also when a step runs for several items.
///
/// # Errors
/// As [`run_area`].
pub fn step_areas(cx: &StepContext<'_>, target: &Path) -> Result<Areas> {
    areas_on(cx, target, target)
}

/// The areas for a path that is itself moved and not followed (a link, a single file): on the volume of the folder it
/// lies in.
///
/// # Errors
/// As [`run_area`].
pub fn areas_beside(cx: &StepContext<'_>, path: &Path) -> Result<Areas> {
    areas_on(cx, path.parent().unwrap_or(path), path)
}

fn areas_on(cx: &StepContext<'_>, on: &Path, target: &Path) -> Result<Areas> {
    let name = format!("{}-{}", cx.step.id, target_key(target));
    let make = |area| -> Result<PathBuf> {
        let folder = run_area(cx, on, area)?.join(&name);
        std::fs::create_dir_all(&folder).cannot(|| format!("make the folder {}", folder.display()))?;
        Ok(folder)
    };
    Ok(Areas { stage: make(Area::Stage)?, undo: make(Area::Undo)? })
}

/// Takes over what an earlier run staged for the same step and target and never applied (the command `stage`), by
/// renaming it. Names in a stage area stand for their content, and whoever uses it checks that. Only one run is open at
/// a time, so nobody else wants it any more.
///
/// # Errors
/// When folders cannot be read or something cannot be renamed.
pub fn take_over_staged(areas: &Areas) -> Result<()> {
    let (Some(key), Some(run)) = (areas.stage.file_name(), areas.stage.parent().and_then(Path::parent)) else { return Ok(()) };
    let Some(runs) = run.parent() else { return Ok(()) };
    for other in listed(runs)?.into_iter().filter(|other| other != run) {
        for staged in listed(&other.join(Area::Stage.folder()).join(key))? {
            let Some(name) = staged.file_name() else { continue };
            let here = areas.stage.join(name);
            if std::fs::symlink_metadata(&here).is_err() {
                std::fs::rename(&staged, &here).cannot(|| format!("take over {}", staged.display()))?;
            }
        }
    }
    Ok(())
}

/// What a folder holds; nothing when there is none.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("list {}", folder.display());
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>().cannot(cannot),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(e) => Err(Error::io(cannot(), &e)),
    }
}

/// A few letters that stand for a target in file names.
pub fn target_key(target: &Path) -> String {
    ContentHash::of(target.to_string_lossy().as_bytes()).short()[..8].to_owned()
}

/// The folders on all volumes that hold a run's areas, by what [`run_area`] noted.
///
/// # Errors
/// When the note cannot be read.
pub fn areas_of_run(run_dir: &Path) -> Result<Vec<PathBuf>> {
    let file = run_dir.join("areas.jsonl");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(format!("read {}", file.display()), &e)),
    };
    let mut bases: Vec<PathBuf> = Vec::new();
    // A last line that was torn by a crash names a folder that was not made yet.
    for base in text.lines().filter_map(|line| serde_json::from_str::<PathBuf>(line).ok()) {
        if !bases.contains(&base) {
            bases.push(base);
        }
    }
    Ok(bases)
}

/// Removes all areas of a run that was undone, unless its undo moved files aside that programs had made in the meantime:
/// nobody has these anywhere else, so they stay, and are returned.
///
/// # Errors
/// When a folder cannot be read or removed.
pub fn remove_undone(run_dir: &Path) -> Result<Vec<PathBuf>> {
    let mut aside = Vec::new();
    for base in areas_of_run(run_dir)? {
        for step in listed(&base.join(Area::Undo.folder()))? {
            let made_since = |path: &PathBuf| path.extension().is_some_and(|e| e == MADE_SINCE);
            aside.extend(listed(&step)?.into_iter().filter(made_since));
        }
    }
    remove_areas(run_dir, aside.is_empty())?;
    Ok(aside)
}

/// The ending of names in an undo area for what was made in a target after the change and moved aside by the undo.
pub const MADE_SINCE: &str = "since";

/// Removes the stage areas of a run, and with `undo` also what it kept for its undo.
///
/// # Errors
/// When a folder cannot be removed.
pub fn remove_areas(run_dir: &Path, undo: bool) -> Result<()> {
    for base in areas_of_run(run_dir)? {
        let gone = if undo { base.clone() } else { base.join(Area::Stage.folder()) };
        files::remove_folder(&gone)?;
        if undo && let Some(parent) = base.parent() {
            // The folder above is shared by the runs: it goes with the last of them.
            let _ = std::fs::remove_dir(parent);
        }
    }
    Ok(())
}

fn run_base(cx: &StepContext<'_>, target: &Path) -> Result<PathBuf> {
    let volume = cx.platform.volume_of(target)?;
    if let Some(root) = cx.drives.sandbox_root()
        && cx.platform.volume_of(root)? == volume
    {
        return Ok(root.join(OWN_FOLDER).join("volumes").join(cx.plan.run.as_str()));
    }
    let mut top = nearest_folder(target)?;
    while let Some(parent) = top.parent() {
        if cx.platform.volume_of(parent)? != volume {
            break;
        }
        top = parent.to_path_buf();
    }
    Ok(top.join(OWN_FOLDER).join(cx.plan.run.as_str()))
}

/// The nearest folder above (or at) a path that exists.
///
/// # Errors
/// When not even the root of the path exists: a drive that is not there.
pub fn nearest_folder(path: &Path) -> Result<PathBuf> {
    path.ancestors()
        .find(|p| p.is_dir())
        .map(Path::to_path_buf)
        .ok_or_else(|| Error::new(ErrorKind::Io, format!("no part of {} exists", path.display())).next("is the drive attached?"))
}

/// [`nearest_folder`] for many paths, each folder looked for once.
#[derive(Debug, Default)]
pub struct NearestFolders(HashMap<PathBuf, PathBuf>);

impl NearestFolders {
    /// The nearest folder of a path that exists.
    ///
    /// # Errors
    /// As [`nearest_folder`].
    pub fn of(&mut self, path: &Path) -> Result<&Path> {
        if !self.0.contains_key(path) {
            self.0.insert(path.to_path_buf(), nearest_folder(path)?);
        }
        self.0.get(path).map(PathBuf::as_path).ok_or_else(|| Error::internal("a folder that was noted is not there"))
    }
}

fn note_base(run_dir: &Path, base: &Path) -> Result<()> {
    let file = run_dir.join("areas.jsonl");
    let line = serde_json::to_string(base).map_err(|e| Error::internal("cannot write a path").because(e))?;
    let write = || -> std::io::Result<()> {
        let mut out = std::fs::OpenOptions::new().create(true).append(true).open(&file)?;
        // The line break comes first as well: after a torn line the next one still stands alone.
        writeln!(out, "\n{line}")?;
        out.sync_all()
    };
    write().cannot(|| format!("write {}", file.display()))
}
