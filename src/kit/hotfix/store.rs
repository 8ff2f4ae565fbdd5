//! The contents of hotfixes at the controller, by hash: what a run needs stays there, whatever becomes of the archive.

use super::read::{ReadPatch, Sink, read};
use crate::content::{ContentHash, Hashing};
use crate::error::{Error, IoContext, Result};
use crate::locks::locked;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// What no run has used for so long is removed: no run can wait for it any more.
const KEPT: Duration = Duration::from_secs(60 * 24 * 3600);

/// The folder of contents; archives that were read before are not read again.
#[derive(Debug)]
pub struct PatchStore {
    folder: PathBuf,
    read: Mutex<BTreeMap<PathBuf, ReadPatch>>,
}

impl PatchStore {
    /// The store in a state folder; made when it is first written to.
    pub fn open(state: &Path) -> Self {
        Self { folder: state.join("hotfixes"), read: Mutex::default() }
    }

    /// Reads an archive and keeps its contents.
    ///
    /// # Errors
    /// Everything that is wrong with the archive; when the contents cannot be kept.
    pub fn read(&self, archive: &Path) -> Result<ReadPatch> {
        let path = std::path::absolute(archive).unwrap_or_else(|_| archive.to_path_buf());
        if let Some(known) = locked(&self.read).get(&path) {
            return Ok(known.clone());
        }
        std::fs::create_dir_all(&self.folder).cannot(|| format!("make the folder {}", self.folder.display()))?;
        self.prune();
        let found = read(archive, self)?;
        locked(&self.read).insert(path, found.clone());
        Ok(found)
    }

    /// The file with a content; nothing when it is not here.
    pub fn content(&self, hash: &ContentHash) -> Option<PathBuf> {
        let path = self.folder.join(hash.to_string());
        path.is_file().then_some(path)
    }

    fn prune(&self) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let old = entry.metadata().and_then(|m| m.modified()).is_ok_and(|used| used.elapsed().is_ok_and(|age| age > KEPT));
            if old && let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::debug!(%error, "the content of an old hotfix stays");
            }
        }
    }
}

impl Sink for PatchStore {
    fn take(&self, fill: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<ContentHash> {
        let what = || format!("unpack a hotfix into {}", self.folder.display());
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.folder).cannot(what)?;
        let mut hashing = Hashing::new(BufWriter::new(file.as_file_mut()));
        fill(&mut hashing)?;
        hashing.flush().cannot(what)?;
        let hash = hashing.hash();
        drop(hashing);
        match self.content(&hash) {
            // The time of the last use, by which old ones are removed.
            Some(known) => {
                let touched = std::fs::File::options().write(true).open(known).and_then(|f| f.set_modified(SystemTime::now()));
                touched.cannot(what)?;
            }
            None => drop(file.persist(self.folder.join(hash.to_string())).map_err(|e| Error::io(what(), &e.error))?),
        }
        Ok(hash)
    }
}
