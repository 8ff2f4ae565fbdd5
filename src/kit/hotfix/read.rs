//! From an archive to a hotfix: its entries are checked, then its head is read, then each content goes to the store.

use super::head::expect_id;
use super::source::{Found, Source};
use super::{HEAD_FILE, Head, Patch, PatchFile, PatchPath};
use crate::content::ContentHash;
use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;

/// An archive that was read.
#[derive(Debug, Clone)]
pub struct ReadPatch {
    pub patch: Patch,
    /// Of the archive's bytes.
    pub digest: ContentHash,
    /// Its `hotfix.yaml`, for the places of mistakes that only show later.
    pub head: Option<HeadText>,
}

/// The text of a `hotfix.yaml`.
#[derive(Debug, Clone)]
pub struct HeadText {
    /// What errors call it.
    pub file: String,
    pub text: String,
}

/// Where contents go.
pub(super) trait Sink {
    /// Takes a content that `fill` writes; gives its hash.
    ///
    /// # Errors
    /// What `fill` fails with; when it cannot be kept.
    fn take(&self, fill: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<ContentHash>;
}

/// Reads an archive into `sink`.
///
/// # Errors
/// Everything that is wrong with it, each mistake with the entry it is in. Nothing outside of the sink is written.
pub(super) fn read(path: &Path, sink: &dyn Sink) -> Result<ReadPatch> {
    let mut source = Source::open(path)?;
    let entries = source.entries()?;
    let text = entries.head.map(|index| source.head(index)).transpose()?;
    let head = text.as_ref().map(|t| Head::parse(&t.file, &t.text)).transpose()?.unwrap_or_default();
    let deletes = source.deletes(&head, &entries.files)?;
    if entries.files.is_empty() && deletes.is_empty() {
        let next = format!("put files under their component, for example `EPICS/ioc/master/...`, or `deletes:` into {HEAD_FILE}");
        return Err(source.wrong("it brings no file and deletes none").next(next));
    }
    let mut files = Vec::with_capacity(entries.files.len());
    for (PatchPath { component, path }, Found { index, name, size, executable }) in entries.files {
        let hash = sink.take(&mut |out| source.copy(index, &name, size, out))?;
        files.push(PatchFile { component, path, size, hash, executable });
    }
    files.sort();
    let patch = Patch {
        id: head.id.map_or_else(|| id_of(path), Ok)?,
        description: head.description,
        archive: source.name().to_owned(),
        requires: head.requires,
        restart: head.restart,
        files,
        deletes,
        checks: head.checks,
    };
    Ok(ReadPatch { patch, digest: ContentHash::of_file(path)?, head: text })
}

/// A name made from the archive's.
fn id_of(path: &Path) -> Result<String> {
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let id: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' }).collect();
    let id = id.trim_matches(['-', '.']).to_owned();
    let named: Result<()> = expect_id(&id);
    named.map(|()| id).map_err(|e: Error| e.next(format!("give the hotfix a name: `id:` in {HEAD_FILE}")))
}
