//! Walks a folder with several threads.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::locks::locked;
use crate::paths::{PathPatterns, RelPath, windows_name_problem};
use std::collections::VecDeque;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

/// What a file looks like from outside: when none of this changed, its content is taken to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970; negative before.
    pub mtime_ns: i64,
    /// The inode, where the system has one; else 0.
    pub file_id: u64,
}

impl Stamp {
    /// The stamp of a file or link.
    pub fn of(metadata: &Metadata) -> Self {
        let mtime_ns = metadata.modified().map_or(0, |t| match t.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
        });
        Self { size: metadata.len(), mtime_ns, file_id: file_id(metadata) }
    }
}

#[cfg(unix)]
fn file_id(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn file_id(_metadata: &Metadata) -> u64 {
    0
}

/// The permission bits of a file, or 0 where the system has none.
#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::mode(metadata) & 0o7777
}

#[cfg(not(unix))]
fn mode(_metadata: &Metadata) -> u32 {
    0
}

/// A file, or a link that was not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    pub path: RelPath,
    pub stamp: Stamp,
    /// Permission bits; 0 where the system has none.
    pub mode: u32,
    /// Where a link leads, as it is written in the link.
    pub link: Option<PathBuf>,
}

impl TreeEntry {
    /// True when the file may be run on systems that ask for that.
    pub fn executable(&self) -> bool {
        self.mode & 0o111 != 0
    }
}

/// How many threads work on a tree: at least two, so that one can wait for the disk while the other computes.
pub(crate) fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

/// What a walk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// All files and links, sorted by path.
    pub entries: Vec<TreeEntry>,
    /// The folders that have nothing in them, sorted.
    pub empty_folders: Vec<RelPath>,
    /// What is neither file nor folder nor link, sorted.
    pub special: Vec<Special>,
}

/// Something in a tree that has no content to be copied or compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Special {
    pub path: RelPath,
    /// What it is, with its article.
    pub kind: &'static str,
}

/// What a thing is that is neither file nor folder nor link.
#[cfg(unix)]
fn special_kind(kind: std::fs::FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match () {
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    }
}

#[cfg(not(unix))]
fn special_kind(_kind: std::fs::FileType) -> &'static str {
    "a device"
}

/// All files and links below `root`, as [`walk_all`] finds them.
///
/// # Errors
/// As [`walk_all`].
pub fn walk(root: &Path, skip: &PathPatterns) -> Result<Vec<TreeEntry>> {
    Ok(walk_all(root, skip)?.entries)
}

/// What lies below `root`, without what `skip` covers. `root` itself may be a link; links inside are not followed. Files
/// that vanish meanwhile are left out.
///
/// # Errors
/// When a folder cannot be read, or a name can be no [`RelPath`] (it is not Unicode or has a `:` or `\`).
pub fn walk_all(root: &Path, skip: &PathPatterns) -> Result<Found> {
    let queue =
        Queue { state: Mutex::new(State { folders: VecDeque::from([None]), busy: 0, error: None }), more: Condvar::new() };
    let mut all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers()).map(|_| scope.spawn(|| walk_folders(root, skip, &queue))).collect();
        let mut all = Found::default();
        for thread in threads {
            let part = thread.join().map_err(|_| Error::internal(format!("a thread that read {} died", root.display())))?;
            all.entries.extend(part.entries);
            all.empty_folders.extend(part.empty_folders);
            all.special.extend(part.special);
        }
        Ok::<_, Error>(all)
    })?;
    if let Some(error) = locked(&queue.state).error.take() {
        return Err(error);
    }
    all.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    all.empty_folders.sort_unstable();
    all.special.sort_unstable();
    Ok(all)
}

/// Folders that are still to be read; nothing stands for the root.
struct Queue {
    state: Mutex<State>,
    more: Condvar,
}

struct State {
    folders: VecDeque<Option<RelPath>>,
    busy: usize,
    error: Option<Error>,
}

impl Queue {
    /// The next folder, or nothing once all are read or one could not be.
    fn take(&self) -> Option<Option<RelPath>> {
        let mut state = locked(&self.state);
        loop {
            if state.error.is_some() {
                return None;
            }
            if let Some(folder) = state.folders.pop_front() {
                state.busy += 1;
                return Some(folder);
            }
            if state.busy == 0 {
                return None;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self, found: Result<Vec<RelPath>>) {
        let mut state = locked(&self.state);
        state.busy -= 1;
        match found {
            Ok(folders) => state.folders.extend(folders.into_iter().map(Some)),
            Err(error) => state.error = Some(error),
        }
        self.more.notify_all();
    }
}

fn walk_folders(root: &Path, skip: &PathPatterns, queue: &Queue) -> Found {
    let mut found = Found::default();
    while let Some(folder) = queue.take() {
        let folders = read_folder(root, folder.as_ref(), skip, &mut found);
        queue.done(folders);
    }
    found
}

/// Reads one folder; the folders in it are returned.
fn read_folder(root: &Path, folder: Option<&RelPath>, skip: &PathPatterns, found: &mut Found) -> Result<Vec<RelPath>> {
    let native = folder.map_or_else(|| root.to_path_buf(), |f| f.under(root));
    let listing = match std::fs::read_dir(&native) {
        Ok(listing) => listing,
        // A folder below the root that a running program just removed.
        Err(e) if folder.is_some() && e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(format!("read the folder {}", native.display()), &e)),
    };
    let (mut folders, mut is_empty) = (Vec::new(), true);
    for item in listing {
        is_empty = false;
        let item = item.cannot(|| format!("read the folder {}", native.display()))?;
        let path = child_path(&native, folder, &item.file_name())?;
        if skip.covers(&path) {
            continue;
        }
        let metadata = match item.metadata() {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io(format!("look at {}", item.path().display()), &e)),
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            folders.push(path);
        } else if kind.is_symlink() {
            let to = std::fs::read_link(item.path()).cannot(|| format!("read the link {}", item.path().display()))?;
            found.entries.push(TreeEntry { path, stamp: Stamp::of(&metadata), mode: 0, link: Some(to) });
        } else if kind.is_file() {
            found.entries.push(TreeEntry { path, stamp: Stamp::of(&metadata), mode: mode(&metadata), link: None });
        } else {
            found.special.push(Special { path, kind: special_kind(kind) });
        }
    }
    found.empty_folders.extend(folder.filter(|_| is_empty).cloned());
    Ok(folders)
}

/// The file or link at one path; nothing when there is none, or a folder.
///
/// # Errors
/// When the system does not tell.
pub(super) fn look_at(root: &Path, path: &RelPath) -> Result<Option<TreeEntry>> {
    let native = path.under(root);
    let metadata = match std::fs::symlink_metadata(&native) {
        Ok(metadata) => metadata,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(Error::io(format!("look at {}", native.display()), &e)),
    };
    let stamp = Stamp::of(&metadata);
    if metadata.is_symlink() {
        let to = std::fs::read_link(&native).cannot(|| format!("read the link {}", native.display()))?;
        return Ok(Some(TreeEntry { path: path.clone(), stamp, mode: 0, link: Some(to) }));
    }
    Ok(metadata.is_file().then(|| TreeEntry { path: path.clone(), stamp, mode: mode(&metadata), link: None }))
}

fn child_path(native: &Path, folder: Option<&RelPath>, name: &std::ffi::OsStr) -> Result<RelPath> {
    let bad = |why: String| {
        Error::new(ErrorKind::BadInput, format!("{}: {why}", native.join(name).display()))
            .next("rename or remove it, then try again")
    };
    let Some(text) = name.to_str() else {
        return Err(bad("the name is not Unicode".to_owned()));
    };
    // Of the names that Windows cannot have, those with a separator would become other paths.
    if text.contains(['\\', ':']) {
        return Err(bad(windows_name_problem(text).unwrap_or_else(|| "Windows cannot have this name".to_owned())));
    }
    match folder {
        Some(folder) => Ok(folder.child(text)),
        None => RelPath::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(entries: &[TreeEntry]) -> Vec<&str> {
        entries.iter().map(|e| e.path.as_str()).collect()
    }

    #[test]
    fn finds_every_file_in_order_and_leaves_out_what_is_skipped() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        for file in ["b/c/d.txt", "a.txt", "b/e", "b.txt", "skip/x", "b/skip.log"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let entries = walk(dir.path(), &PathPatterns::new(&["skip", "**/*.log"])?)?;
        assert_eq!(paths(&entries), ["a.txt", "b.txt", "b/c/d.txt", "b/e"]);
        assert_eq!(entries[2].stamp.size, 9);
        Ok(())
    }

    #[test]
    fn a_folder_with_nothing_in_it_is_named() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["a/b", "a/skip", "c/d", "full"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("full/skip"), "").unwrap();
        let found = walk_all(dir.path(), &PathPatterns::new(&["**/skip"])?)?;
        // What is left out fills a folder all the same.
        assert_eq!(found.empty_folders.iter().map(RelPath::as_str).collect::<Vec<_>>(), ["a/b", "c/d"]);
        assert_eq!(found.entries, []);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn links_are_named_and_not_followed() -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("real/f"), "x").unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let entries = walk(dir.path(), &PathPatterns::default())?;
        assert_eq!(paths(&entries), ["link", "real/f"]);
        assert_eq!(entries[0].link.as_deref(), Some(Path::new("real")));
        std::fs::write(dir.path().join("a:b"), "x").unwrap();
        assert_eq!(walk(dir.path(), &PathPatterns::default()).unwrap_err().kind(), ErrorKind::BadInput);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_has_no_content_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(dir.path().join("sub/pipe")).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let found = walk_all(dir.path(), &PathPatterns::default()).unwrap();
        let named: Vec<(&str, &str)> = found.special.iter().map(|s| (s.path.as_str(), s.kind)).collect();
        assert_eq!(named, [("socket", "a socket"), ("sub/pipe", "a pipe")]);
        assert_eq!((found.entries, found.empty_folders), (vec![], vec![]));
    }

    #[test]
    fn a_missing_root_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(walk(&dir.path().join("no"), &PathPatterns::default()).unwrap_err().kind(), ErrorKind::Io);
    }
}
