//! Writes archives in the form that is read.

use super::{HEAD_FILE, Head, PatchPath};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use crate::yaml;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{System, ZipWriter};

/// A file for an archive.
#[derive(Debug, Clone)]
pub struct Entry {
    pub path: PatchPath,
    pub content: Content,
    pub executable: bool,
}

/// Where its bytes are.
#[derive(Debug, Clone)]
pub enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// Writes an archive, which is on disk when this returns, or is not there. The same entries give the same bytes.
///
/// # Errors
/// When a file cannot be read, or the archive cannot be written.
pub fn write(archive: &Path, head: &Head, mut entries: Vec<Entry>) -> Result<()> {
    let cannot = |e: ZipError| match e {
        ZipError::Io(e) => Error::io(format!("write {}", archive.display()), &e),
        other => Error::new(ErrorKind::Io, format!("cannot write {}", archive.display())).because(other),
    };
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let head = yaml::to_string(head)?;
    files::write_with(archive, |out| {
        let mut zip = ZipWriter::new(out);
        zip.start_file(HEAD_FILE, options(false, head.len() as u64)).map_err(cannot)?;
        zip.write_all(head.as_bytes()).cannot(|| format!("write {}", archive.display()))?;
        for entry in &entries {
            let what = || format!("write {} into {}", entry.path, archive.display());
            match &entry.content {
                Content::Bytes(bytes) => {
                    zip.start_file(entry.path.to_string(), options(entry.executable, bytes.len() as u64)).map_err(cannot)?;
                    zip.write_all(bytes).cannot(what)?;
                }
                Content::File(path) => {
                    let mut file = File::open(path).cannot(|| format!("open {}", path.display()))?;
                    let size = file.metadata().cannot(|| format!("look at {}", path.display()))?.len();
                    zip.start_file(entry.path.to_string(), options(entry.executable, size)).map_err(cannot)?;
                    std::io::copy(&mut file, &mut zip).cannot(what)?;
                }
            }
        }
        zip.finish().map_err(cannot)?;
        Ok(())
    })
}

fn options(executable: bool, size: u64) -> SimpleFileOptions {
    // On every system: as Windows' own entries have it there is no place for what may be run.
    let mode = if executable { 0o755 } else { 0o644 };
    SimpleFileOptions::default().system(System::Unix).unix_permissions(mode).large_file(size >= u64::from(u32::MAX))
}
