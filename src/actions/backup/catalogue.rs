//! What backups an instrument has, from the folders themselves: each has a catalogue of its own, so that it outlives
//! everything else. Folders that the older scripts made have none, and are known by their names and zips.

use super::write::Written;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::paths::{Drives, RelPath, WinPath};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How the name of every backup folder begins.
pub(crate) const PREFIX: &str = "ibex_backup_";
/// The catalogue in a backup folder.
pub(crate) const CATALOGUE: &str = "catalogue.json";
/// The newest form of a catalogue that this build can read.
pub(super) const FORMAT: u32 = 1;

/// What a backup folder holds, in `catalogue.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalogue {
    pub(crate) format: u32,
    pub(crate) instrument: String,
    pub(crate) run: String,
    pub(crate) made: Timestamp,
    /// When all zips had been read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) verified: Option<Timestamp>,
    /// What was found wrong with it since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) damage: Option<String>,
    /// By the playbook's word for the place.
    pub(crate) places: BTreeMap<String, SavedPlace>,
}

/// One place in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedPlace {
    pub(crate) folder: WinPath,
    pub(crate) zip: String,
    /// The first word of its `VERSION.txt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// Patterns of what was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) excluded: Vec<String>,
    #[serde(flatten)]
    pub(crate) written: Written,
}

/// The catalogue of a backup folder; nothing when it has none.
///
/// # Errors
/// When it cannot be read, is damaged or of a newer form.
pub(crate) fn read_catalogue(folder: &Path) -> Result<Option<Catalogue>> {
    let file = folder.join(CATALOGUE);
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(format!("read {}", file.display()), &e)),
    };
    let catalogue: Catalogue = serde_json::from_slice(&bytes).map_err(|e| {
        Error::new(ErrorKind::Integrity, format!("{} is damaged", file.display()))
            .because(e)
            .next("the zips beside it can be unpacked with `tar -xf`; use another backup for `restore`")
    })?;
    if catalogue.format > FORMAT {
        return Err(Error::new(ErrorKind::Refused, format!("{} was written by a newer version", file.display()))
            .next("use that version of ibexdeploy"));
    }
    Ok(Some(catalogue))
}

/// Writes down in a backup's catalogue that it is damaged, so that it counts as a good one no more.
///
/// # Errors
/// When the catalogue cannot be read or written.
pub(crate) fn note_damage(folder: &Path, damage: &str) -> Result<()> {
    match read_catalogue(folder)? {
        Some(mut catalogue) => {
            catalogue.damage = Some(damage.to_owned());
            files::write_pretty_json(&folder.join(CATALOGUE), &catalogue)
        }
        None => Ok(()),
    }
}

/// How a backup stands, as far as a look tells that reads no zip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// Its zips were read back when they were made, and are there with the sizes they had.
    Good,
    /// A folder without a catalogue, as the older scripts made them: nobody wrote down what should be in it.
    Uncatalogued,
    /// Zips are missing, have other sizes or were found to be damaged, or the catalogue cannot be read.
    Damaged,
}

impl BackupState {
    /// For tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncatalogued => "no catalogue",
            Self::Damaged => "damaged",
        }
    }
}

/// A backup of an instrument, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// The folder's name, which `restore --backup` takes.
    pub name: String,
    pub folder: WinPath,
    pub state: BackupState,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// From the catalogue; else the day in the folder's name, or when it was changed last.
    pub made: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    pub zips: Vec<ZipRecord>,
}

/// A zip of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZipRecord {
    pub zip: String,
    /// Bytes of the zip.
    pub zip_bytes: u64,
    /// The playbook's word for the place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<WinPath>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Bytes before compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// BLAKE3 of the zip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Files that could not be read when it was made.
    #[serde(default)]
    pub unreadable: u64,
}

/// A backup folder that was looked at.
#[derive(Debug, Clone)]
pub(crate) struct BackupFolder {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) state: BackupState,
    pub(crate) problem: Option<String>,
    /// For the order of folders.
    pub(crate) made: Option<Timestamp>,
    pub(crate) catalogue: Option<Catalogue>,
    /// The zips that are there, with their sizes.
    pub(crate) zips: BTreeMap<String, u64>,
}

impl BackupFolder {
    /// Looks at a folder; no zip is read.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub(crate) fn look(path: &Path) -> Result<Self> {
        let listing = || format!("list {}", path.display());
        let mut zips = BTreeMap::new();
        for entry in std::fs::read_dir(path).cannot(listing)? {
            let entry = entry.cannot(listing)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.to_lowercase().ends_with(".zip")
                && let Ok(meta) = entry.metadata()
                && meta.is_file()
            {
                zips.insert(name, meta.len());
            }
        }
        let changed = || Timestamp::try_from(path.metadata().ok()?.modified().ok()?).ok();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let (state, problem, catalogue) = match read_catalogue(path) {
            Ok(Some(catalogue)) => match what_is_missing(&catalogue, &zips) {
                None => (BackupState::Good, None, Some(catalogue)),
                Some(problem) => (BackupState::Damaged, Some(problem), Some(catalogue)),
            },
            Ok(None) => (BackupState::Uncatalogued, None, None),
            Err(error) => (BackupState::Damaged, Some(error.to_string()), None),
        };
        let made = catalogue.as_ref().map(|c| c.made).or_else(|| named_day(&name)).or_else(changed);
        Ok(Self { path: path.to_path_buf(), name, state, problem, made, catalogue, zips })
    }

    /// For lists.
    pub(crate) fn record(&self, folder: WinPath) -> BackupRecord {
        let catalogue = self.catalogue.as_ref();
        let mut zips: Vec<ZipRecord> =
            catalogue.iter().flat_map(|c| &c.places).map(|(name, place)| self.saved(name, place)).collect();
        let known = |zip: &String| catalogue.is_some_and(|c| c.places.values().any(|p| p.zip == *zip));
        zips.extend(self.zips.iter().filter(|(zip, _)| !known(zip)).map(|(zip, bytes)| ZipRecord {
            zip: zip.clone(),
            zip_bytes: *bytes,
            place: None,
            folder: None,
            version: None,
            files: None,
            bytes: None,
            hash: None,
            unreadable: 0,
        }));
        BackupRecord {
            name: self.name.clone(),
            folder,
            state: self.state,
            problem: self.problem.clone(),
            made: self.made,
            verified: catalogue.and_then(|c| c.verified),
            run: catalogue.map(|c| c.run.clone()),
            zips,
        }
    }

    fn saved(&self, name: &str, place: &SavedPlace) -> ZipRecord {
        ZipRecord {
            zip: place.zip.clone(),
            zip_bytes: self.zips.get(&place.zip).copied().unwrap_or(0),
            place: Some(name.to_owned()),
            folder: Some(place.folder.clone()),
            version: place.version.clone(),
            files: Some(place.written.files),
            bytes: Some(place.written.bytes),
            hash: Some(place.written.hash.clone()),
            unreadable: place.written.unreadable.len() as u64,
        }
    }
}

/// The day in the name of a backup folder: a folder that was copied is younger than what is in it.
fn named_day(name: &str) -> Option<Timestamp> {
    let text = name.get(PREFIX.len()..)?.get(..10)?;
    let day = jiff::civil::Date::strptime("%Y_%m_%d", text).ok()?;
    Some(day.to_zoned(TimeZone::system()).ok()?.timestamp())
}

fn what_is_missing(catalogue: &Catalogue, zips: &BTreeMap<String, u64>) -> Option<String> {
    // A name that leads elsewhere is in no list of this folder.
    let by_size = || {
        catalogue.places.values().find_map(|place| match zips.get(&place.zip) {
            None => Some(format!("{} is missing", place.zip)),
            Some(bytes) if *bytes != place.written.zip_bytes => {
                Some(format!("{} has {bytes} bytes, and had {}", place.zip, place.written.zip_bytes))
            }
            Some(_) => None,
        })
    };
    catalogue.damage.clone().or_else(by_size)
}

/// The backups in a folder, the newest first; none when there is no such folder.
///
/// # Errors
/// When a folder cannot be listed.
pub(crate) fn backups_in(folder: &Path) -> Result<Vec<BackupFolder>> {
    let mut found = Vec::new();
    for entry in files::entries(folder)? {
        let named = entry.file_name().to_str().is_some_and(|n| n.to_lowercase().starts_with(PREFIX));
        if named && entry.path().is_dir() {
            found.push(BackupFolder::look(&entry.path())?);
        }
    }
    found.sort_by(|a, b| (b.made, &b.name).cmp(&(a.made, &a.name)));
    Ok(found)
}

/// The backups of an instrument, the newest first.
///
/// # Errors
/// When the folder cannot be listed.
pub(crate) fn backups(drives: &Drives, folder: &WinPath) -> Result<Vec<BackupRecord>> {
    let all = backups_in(&drives.native(folder)?)?;
    // A name that no Windows path can hold is no backup of ours.
    Ok(all.iter().filter_map(|b| Some(b.record(folder.join(&RelPath::parse(&b.name).ok()?)))).collect())
}
