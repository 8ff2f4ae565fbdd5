//! The releases in a folder, as on the share.

use super::ReleaseVersion;
use crate::error::{Error, IoContext, Result};
use crate::nearest::nearest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder inside a release that holds manifests written by `kit verify --write`.
pub const MANIFESTS: &str = "manifests";

/// A release as it lies in its folder; nothing of it is read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The folder's name.
    pub name: String,
    /// What the name says, when it is a release's.
    pub version: Option<ReleaseVersion>,
    pub folder: PathBuf,
    /// Folders of components by name; such a folder may be a link to another release's.
    pub components: BTreeMap<String, PathBuf>,
}

impl Release {
    /// Looks at a folder.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let what = || format!("read the release {}", folder.display());
        let name = match folder.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => std::fs::canonicalize(folder)
                .cannot(what)?
                .file_name()
                .map_or_else(|| folder.display().to_string(), |n| n.to_string_lossy().into_owned()),
        };
        let mut components = BTreeMap::new();
        for item in std::fs::read_dir(folder).cannot(what)? {
            let item = item.cannot(what)?;
            let component = item.file_name().to_string_lossy().into_owned();
            // A link that leads nowhere is listed too, so that it is met with its own error and not taken as absent.
            let kind = item.file_type().cannot(what)?;
            if (item.path().is_dir() || kind.is_symlink()) && component != MANIFESTS && !component.starts_with('.') {
                components.insert(component, item.path());
            }
        }
        Ok(Self { version: ReleaseVersion::parse(&name), name, folder: folder.to_path_buf(), components })
    }

    /// The folder of a component; case does not count, as on the share.
    pub fn component(&self, name: &str) -> Option<&Path> {
        let found = self.components.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, folder)| folder.as_path())
    }

    pub(super) fn is_plain(&self) -> bool {
        self.version.as_ref().is_some_and(ReleaseVersion::is_plain)
    }
}

/// All releases in `folder`, the oldest first.
pub(super) fn list(folder: &Path) -> Result<Vec<Release>> {
    let next = "check --kits (IBEXDEPLOY_KITS): it names the folder that holds the releases";
    let what = || format!("read the folder of releases {}", folder.display());
    let mut releases = Vec::new();
    if !folder.is_dir() {
        return Err(Error::bad_input(format!("there is no folder of releases {}", folder.display())).next(next));
    }
    for item in std::fs::read_dir(folder).cannot(what)? {
        let item = item.cannot(what)?;
        let named = ReleaseVersion::parse(&item.file_name().to_string_lossy()).is_some();
        if named && item.path().is_dir() {
            releases.push(Release::open(&item.path())?);
        }
    }
    releases.sort_by(|a, b| a.version.cmp(&b.version).then_with(|| a.name.cmp(&b.name)));
    Ok(releases)
}

/// The release of a name, or the newest plain one.
pub(super) fn choose(folder: &Path, releases: &[Release], wanted: Option<&str>) -> Result<Release> {
    let Some(wanted) = wanted else {
        return releases.iter().rfind(|r| r.is_plain()).cloned().ok_or_else(|| none_found(folder, releases));
    };
    if let Some(release) = releases.iter().find(|r| r.name.eq_ignore_ascii_case(wanted)) {
        return Ok(release.clone());
    }
    let near = nearest_release(wanted, releases);
    let next = match (near, releases.last()) {
        (Some(near), _) => format!("did you mean `{near}`? `ibexdeploy kit list` shows all"),
        (None, Some(_)) => "`ibexdeploy kit list` shows what is there".to_owned(),
        (None, None) => "the folder has no releases: check --kits".to_owned(),
    };
    Err(Error::bad_input(format!("there is no release `{wanted}` in {}", folder.display())).next(next))
}

/// The most alike name; of equally alike ones the newest.
fn nearest_release<'a>(wanted: &str, releases: &'a [Release]) -> Option<&'a str> {
    nearest(wanted, releases.iter().map(|r| r.name.as_str()))
}

fn none_found(folder: &Path, releases: &[Release]) -> Error {
    let error = Error::bad_input(format!("no release found in {}", folder.display()));
    if releases.is_empty() {
        return error.next("check --kits: releases are folders named like 26.8.0 in it");
    }
    let names: Vec<_> = releases.iter().map(|r| r.name.as_str()).collect();
    error.next(format!("only plain x.y.z names count as newest; name one with --kit: {}", names.join(", ")))
}
