//! Who has a file open: the Restart Manager knows, which installers ask.

use super::system::{error_of, text_of, wide};
use crate::error::Result;
use std::path::{Path, PathBuf};
use windows_sys::Win32::Foundation::{ERROR_MORE_DATA, ERROR_SUCCESS};
use windows_sys::Win32::System::RestartManager::{
    CCH_RM_SESSION_KEY, RM_PROCESS_INFO, RmEndSession, RmGetList, RmRegisterResources, RmStartSession,
};

/// Of a folder, so many files are asked about; asking takes time for each.
const FILES: usize = 500;

/// Programs may come while they are counted: it is asked again so often.
const ATTEMPTS: usize = 3;

/// The programs that have a file, or one in a folder, open, or run from it, each with its number.
pub(super) fn holders(path: &Path) -> Vec<String> {
    ask(path).unwrap_or_else(|error| {
        tracing::debug!(%error, "who has a file open cannot be found out");
        Vec::new()
    })
}

fn ask(path: &Path) -> Result<Vec<String>> {
    let files = files_of(path);
    let session = Session::start()?;
    session.register(&files)?;
    let mut holders: Vec<String> = session.list()?.iter().map(described).collect();
    holders.sort();
    holders.dedup();
    Ok(holders)
}

fn files_of(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_path_buf()];
    }
    let entries = walkdir::WalkDir::new(path).into_iter().flatten();
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).take(FILES).collect()
}

fn described(info: &RM_PROCESS_INFO) -> String {
    let pid = info.Process.dwProcessId;
    let image = super::processes::image(pid).and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let name = image.unwrap_or_else(|| text_of(&info.strAppName).to_string_lossy().into_owned());
    format!("{name} ({pid})")
}

/// A session with the Restart Manager.
struct Session(u32);

impl Session {
    fn start() -> Result<Self> {
        let (mut session, mut key) = (0, [0_u16; CCH_RM_SESSION_KEY as usize + 1]);
        // SAFETY: the number is written to a place of ours, and the key's place is as long as it must be.
        let code = unsafe { RmStartSession(&raw mut session, 0, key.as_mut_ptr()) };
        done(code, "begin to ask who has files open").map(|()| Self(session))
    }

    fn register(&self, files: &[PathBuf]) -> Result<()> {
        let names: Vec<Vec<u16>> = files.iter().map(|file| wide(super::plain(file))).collect();
        let pointers: Vec<*const u16> = names.iter().map(Vec::as_ptr).collect();
        // SAFETY: so many names, each ended by a zero; neither processes nor services.
        let code = unsafe {
            RmRegisterResources(self.0, pointers.len() as u32, pointers.as_ptr(), 0, std::ptr::null(), 0, std::ptr::null())
        };
        done(code, "say which files are meant")
    }

    fn list(&self) -> Result<Vec<RM_PROCESS_INFO>> {
        let mut found: Vec<RM_PROCESS_INFO> = Vec::new();
        let mut code = ERROR_MORE_DATA;
        for _ in 0..ATTEMPTS {
            let (mut needed, mut count, mut reasons) = (0, found.len() as u32, 0);
            // SAFETY: the list has room for so many entries; the numbers are written to places of ours.
            code = unsafe { RmGetList(self.0, &raw mut needed, &raw mut count, found.as_mut_ptr(), &raw mut reasons) };
            if code != ERROR_MORE_DATA {
                found.truncate(count as usize);
                break;
            }
            // SAFETY: a plain structure, for which all zeros are a value.
            found.resize_with(needed as usize, || unsafe { std::mem::zeroed() });
        }
        done(code, "list who has files open").map(|()| found)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: a session of ours, ended once.
        unsafe { RmEndSession(self.0) };
    }
}

fn done(code: u32, what: &str) -> Result<()> {
    if code == ERROR_SUCCESS { Ok(()) } else { Err(error_of(code, what)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_never_fails_and_names_only_who_has_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let file = std::fs::File::create(&path).unwrap();
        // Wine's Restart Manager knows nobody; Windows' knows this program.
        let own = format!("({})", std::process::id());
        assert!(holders(&path).iter().all(|holder| holder.ends_with(&own)));
        drop(file);
        assert_eq!(holders(&path), Vec::<String>::new());
        assert_eq!(files_of(folder.path()), [path]);
    }
}
