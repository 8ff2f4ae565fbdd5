//! Plans on disk, and whether what they were made from is still the same.

use super::make::{PlanRequest, ReadFiles};
use super::model::{PLAN_FORMAT, Plan};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use std::collections::BTreeMap;
use std::path::Path;

/// The digests of all files that a plan is made from, by path as shown.
pub(super) fn sources(request: &PlanRequest<'_>, read: &ReadFiles) -> BTreeMap<String, ContentHash> {
    let mut sources: BTreeMap<_, _> = request.playbook.files.iter().map(|f| (f.path.display().to_string(), f.digest)).collect();
    sources.extend(read.iter().map(|(path, (digest, _))| (path.clone(), *digest)));
    sources.insert(request.inventory.file.display().to_string(), request.inventory.digest);
    sources
}

/// Writes a plan; a reader sees the old file or the whole new one.
///
/// # Errors
/// When it cannot be written.
pub fn save(plan: &Plan, path: &Path) -> Result<()> {
    files::write_pretty_json(path, plan)
}

/// Reads a plan that [`save`] wrote.
///
/// # Errors
/// When it cannot be read, is damaged, or was written by a newer version of this program.
pub fn load(path: &Path) -> Result<Plan> {
    let text = std::fs::read(path).cannot(|| format!("read the plan {}", path.display()))?;
    let damaged = |e: serde_json::Error| {
        Error::new(ErrorKind::Integrity, format!("the plan {} cannot be read", path.display()))
            .because(e)
            .next("start a new run; what the instruments did stands in their own journals")
    };
    let format = serde_json::from_slice::<serde_json::Value>(&text).map_err(damaged)?["format"].as_u64();
    if format.is_some_and(|f| f > u64::from(PLAN_FORMAT)) {
        return Err(Error::new(ErrorKind::Refused, format!("the plan {} was made by a newer ibexdeploy", path.display()))
            .next("use the version that made it, or a newer one"));
    }
    serde_json::from_slice(&text).map_err(damaged)
}

/// Looks whether the files that a plan was made from are still what they were.
///
/// # Errors
/// When one of them changed, naming all that did; nothing may then be done by this plan.
pub fn check_unchanged(plan: &Plan) -> Result<()> {
    let changed: Vec<&str> = plan
        .sources
        .iter()
        .filter(|(path, digest)| ContentHash::of_file(Path::new(path)).ok().as_ref() != Some(digest))
        .map(|(path, _)| path.as_str())
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, format!("{} changed since the plan was made", changed.join(", ")))
        .next("start again, so that the plan is made anew and can be confirmed"))
}
