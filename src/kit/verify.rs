//! Manifests written into a release, and what is found when the files are compared with them.

use super::{Component, MANIFESTS, checks};
use crate::content::{Manifest, ManifestEntry};
use crate::error::{Error, Result};
use crate::files;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What stands in the release about a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// No manifest: the files are readable and their names are fit for Windows, no more can be said.
    None,
    /// All files are as the manifest says.
    Matches,
    /// The manifest was written now.
    Now,
}

/// A component that was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComponentReport {
    pub component: String,
    pub release: String,
    pub files: u64,
    /// Bytes.
    pub bytes: u64,
    /// Hash of the manifest, as hex.
    pub manifest: String,
    pub written: Written,
}

/// Compares a component with its written manifest, or writes it.
pub(super) fn component(release: &Path, name: &str, component: &Component, write: bool) -> Result<ComponentReport> {
    let written = if write {
        write_manifest(&file_of(release, name), &component.manifest)?;
        Written::Now
    } else if against_written(release, name, component)? {
        Written::Matches
    } else {
        Written::None
    };
    Ok(ComponentReport {
        component: name.to_owned(),
        release: component.release.clone(),
        files: component.manifest.files.len() as u64,
        bytes: component.bytes,
        manifest: component.manifest_hash.to_string(),
        written,
    })
}

fn file_of(release: &Path, component: &str) -> PathBuf {
    release.join(MANIFESTS).join(format!("{component}.json"))
}

fn write_manifest(file: &Path, manifest: &Manifest) -> Result<()> {
    files::write(file, &manifest.to_bytes()?)
}

/// False when no manifest is written.
///
/// # Errors
/// When files are missing, differ, or are too many.
pub(super) fn against_written(release: &Path, name: &str, component: &Component) -> Result<bool> {
    let file = file_of(release, name);
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::io(format!("read {}", file.display()), &e)),
    };
    let written = Manifest::from_bytes(&bytes)
        .map_err(|e| Error::bad_input(format!("{} is not a manifest", file.display())).because(e).next(rewrite(release)))?;
    let by_path = |m: &Manifest| m.files.iter().map(|f| (f.path.clone(), f.clone())).collect::<BTreeMap<_, ManifestEntry>>();
    let (wanted, found) = (by_path(&written), by_path(&component.manifest));
    let mut problems = Vec::new();
    for (path, entry) in &wanted {
        match found.get(path) {
            None => problems.push(format!("{path} is missing")),
            // The right to run is not kept by every file system a kit is copied over.
            Some(now) if now.hash != entry.hash || now.size != entry.size => problems.push(format!("{path} has other content")),
            Some(_) => {}
        }
    }
    problems.extend(found.keys().filter(|p| !wanted.contains_key(*p)).map(|p| format!("{p} is not in it")));
    if problems.is_empty() {
        return Ok(true);
    }
    Err(Error::bad_input(format!(
        "{} is not as {} says: {}",
        component.folder.display(),
        file.display(),
        checks::named(&problems)
    ))
    .next(format!("copy the release again; if the change is meant, {}", rewrite(release))))
}

fn rewrite(release: &Path) -> String {
    let name = release.file_name().map_or_else(|| release.display().to_string(), |n| n.to_string_lossy().into_owned());
    format!("write the manifest anew: ibexdeploy kit verify {name} --write")
}
