//! Kits: a release's files, from the folder of releases to packs that are sent.

mod checks;
pub mod hotfix;
mod load;
mod release;
mod store;
mod verify;
mod version;
mod version_file;

pub use release::{MANIFESTS, Release};
pub use store::{ContentStore, Pack, PackReader};
pub use verify::{ComponentReport, Written};
pub use version::ReleaseVersion;
pub use version_file::{VERSION_FILE, version_of_tree};

use crate::content::{ContentHash, Manifest};
use crate::error::{Error, ErrorKind, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The components of a whole release.
pub const COMPONENTS: [&str; 3] = ["EPICS", "Client", "genie_python_3"];

/// A release, read and hashed.
#[derive(Debug, Clone)]
pub struct Kit {
    /// The release's name, for example `26.9.0`.
    pub version: String,
    pub folder: PathBuf,
    pub components: BTreeMap<String, Component>,
    /// What an operator should know: components that come from another release.
    pub notes: Vec<String>,
}

/// A component of a kit.
#[derive(Debug, Clone)]
pub struct Component {
    pub manifest: Manifest,
    /// Names the manifest as a blob: the hash of [`Manifest::to_bytes`].
    pub manifest_hash: ContentHash,
    /// Where the files are.
    pub folder: PathBuf,
    /// The release the files come from.
    pub release: String,
    /// True when that is another release than the kit's.
    pub borrowed: bool,
    /// Bytes of all files.
    pub bytes: u64,
}

/// How far reading a kit is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KitProgress {
    pub component: String,
    pub files: u64,
    pub total_files: u64,
    pub bytes: u64,
    pub total_bytes: u64,
}

/// Hears of the progress, from several threads.
pub type OnProgress<'a> = &'a (dyn Fn(&KitProgress) + Sync);

/// The folder of releases.
#[derive(Debug, Clone)]
pub struct KitStore {
    folder: PathBuf,
    cache: PathBuf,
}

/// Where a component of a release lies.
struct Source {
    folder: PathBuf,
    release: String,
    borrowed: bool,
    note: Option<String>,
}

impl KitStore {
    /// `folder` holds the releases; hashes are remembered in the folder `cache`.
    pub fn open(folder: &Path, cache: &Path) -> Self {
        Self { folder: folder.to_path_buf(), cache: cache.to_path_buf() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All releases, the oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn releases(&self) -> Result<Vec<Release>> {
        release::list(&self.folder)
    }

    /// The release to use: the newest plain `x.y.z`, or the one of that name, or the folder of that path.
    ///
    /// # Errors
    /// When there is none; the nearest name is given.
    pub fn choose(&self, wanted: Option<&str>) -> Result<Release> {
        if let Some(path) = wanted.filter(|w| w.contains(['/', '\\']) || *w == "." || *w == "..") {
            let folder = Path::new(path);
            if !folder.is_dir() {
                return Err(Error::bad_input(format!("there is no kit folder {path}"))
                    .next("--kit takes the name of a release, or the path of a folder that holds EPICS, Client, ..."));
            }
            return Release::open(folder);
        }
        release::choose(&self.folder, &self.releases()?, wanted)
    }

    /// Where each component of the release lies: in itself, behind a link, or in the newest older release that has it.
    /// Empty `components` means those that the release has.
    fn sources(&self, release: &Release, components: &[String]) -> Result<BTreeMap<String, Source>> {
        let own: Vec<String> = release.components.keys().cloned().collect();
        let wanted = if components.is_empty() { &own } else { components };
        if wanted.is_empty() {
            return Err(Error::bad_input(format!("{} holds no component", release.folder.display()))
                .next("a kit is a folder that holds EPICS, Client, genie_python_3"));
        }
        let mut older = None;
        let mut sources = BTreeMap::new();
        for name in wanted {
            let source = match release.component(name) {
                Some(folder) => own_source(release, name, folder)?,
                None => {
                    let older = match &older {
                        Some(known) => known,
                        None => older.insert(self.older_than(release)?),
                    };
                    borrowed_source(release, name, older)?
                }
            };
            sources.insert(name.clone(), source);
        }
        Ok(sources)
    }

    /// Plain releases before this one, the newest first. For a folder that is not named like a release: all.
    fn older_than(&self, release: &Release) -> Result<Vec<Release>> {
        let all = if self.folder.is_dir() { self.releases()? } else { Vec::new() };
        let older = |r: &Release| match (&r.version, &release.version) {
            (Some(theirs), Some(own)) => theirs.numbers <= own.numbers,
            _ => true,
        };
        Ok(all.into_iter().rev().filter(|r| r.is_plain() && r.name != release.name && older(r)).collect())
    }

    /// Reads a release: lists and checks all files, hashes those that the cache does not know, several at a time.
    ///
    /// # Errors
    /// `BadInput`, with the path and what to do, when a component is nowhere to be found, its copying has not ended,
    /// it holds links or names that Windows cannot have, it changes meanwhile, or its written manifest tells otherwise.
    pub fn load(&self, release: &Release, components: &[String], progress: OnProgress<'_>) -> Result<Kit> {
        let mut kit =
            Kit { version: release.name.clone(), folder: release.folder.clone(), components: BTreeMap::new(), notes: Vec::new() };
        for (name, source) in self.sources(release, components)? {
            kit.notes.extend(source.note.clone());
            let component = load::component(&name, source, Some(&self.cache), progress)?;
            verify::against_written(&release.folder, &name, &component)?;
            kit.components.insert(name, component);
        }
        Ok(kit)
    }

    /// True when the release has a component, or takes it from an older one.
    ///
    /// # Errors
    /// When the folder of releases cannot be read.
    pub fn has(&self, release: &Release, component: &str) -> Result<bool> {
        if release.component(component).is_some() {
            return Ok(true);
        }
        Ok(self.older_than(release)?.iter().any(|older| older.component(component).is_some()))
    }

    /// As [`KitStore::load`], with all components of the release and those of a whole one that older releases have.
    ///
    /// # Errors
    /// As [`KitStore::load`].
    pub fn load_complete(&self, release: &Release, progress: OnProgress<'_>) -> Result<Kit> {
        let mut components: Vec<String> = release.components.keys().cloned().collect();
        let older = self.older_than(release)?;
        for name in COMPONENTS {
            if release.component(name).is_none() && older.iter().any(|r| r.component(name).is_some()) {
                components.push(name.to_owned());
            }
        }
        self.load(release, &components, progress)
    }

    /// Reads every file of a release anew, whatever the cache says, and compares with the written manifests.
    ///
    /// # Errors
    /// As [`KitStore::load`]; all that differs from a written manifest is named.
    pub fn verify(&self, release: &Release, write: bool, progress: OnProgress<'_>) -> Result<Vec<ComponentReport>> {
        let mut reports = Vec::new();
        for (name, source) in self.sources(release, &[])? {
            let component = load::component(&name, source, None, progress)?;
            reports.push(verify::component(&release.folder, &name, &component, write)?);
        }
        Ok(reports)
    }
}

fn own_source(release: &Release, name: &str, folder: &Path) -> Result<Source> {
    let linked = std::fs::symlink_metadata(folder).is_ok_and(|m| m.file_type().is_symlink());
    if !linked {
        return Ok(Source { folder: folder.to_path_buf(), release: release.name.clone(), borrowed: false, note: None });
    }
    let real = std::fs::canonicalize(folder).map_err(|e| {
        Error::bad_input(format!("{} is a link that leads nowhere", folder.display()))
            .because(e)
            .next("repair or remove the link: a component that is missing is taken from the newest older release")
    })?;
    let parent = real.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
    let from = parent.unwrap_or_else(|| real.display().to_string());
    Ok(Source {
        note: Some(format!("{name} of {} is a link to {}", release.name, real.display())),
        folder: folder.to_path_buf(),
        borrowed: from != release.name,
        release: from,
    })
}

fn borrowed_source(release: &Release, name: &str, older: &[Release]) -> Result<Source> {
    let Some((from, folder)) = older.iter().find_map(|r| r.component(name).map(|folder| (r, folder))) else {
        let near = crate::nearest::nearest(name, release.components.keys().map(String::as_str));
        let next = near.map_or_else(
            || "copy the component into the release, or choose another one with --kit".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(Error::new(
            ErrorKind::BadInput,
            format!("neither {} nor an older release has the component `{name}`", release.folder.display()),
        )
        .next(next));
    };
    let source = own_source(from, name, folder)?;
    Ok(Source {
        borrowed: true,
        note: Some(format!("{name} comes from {}: {} does not have it", source.release, release.name)),
        ..source
    })
}

#[cfg(test)]
mod tests;
