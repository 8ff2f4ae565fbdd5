//! An archive that comes from anywhere: what its entries are called and what they are, before one byte of them is used.

use super::central::names_given_twice;
use super::{HEAD_FILE, Head, HeadText, PatchPath};
use crate::error::{Error, Result};
use crate::paths::{RelPath, windows_name_problem};
use crate::units::Size;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

/// A hotfix is a few files; more than this is something else.
const MOST_ENTRIES: usize = 20_000;
/// Bytes of all files together.
const MOST_BYTES: u64 = 2 << 30;
/// From this size on an archive may not grow by more than [`MOST_GROWTH`] when it is unpacked.
const GROWTH_COUNTS_FROM: u64 = 100 << 20;
const MOST_GROWTH: u64 = 100;
/// No `hotfix.yaml` is longer, in bytes.
const LONGEST_HEAD: u64 = 1 << 20;

/// File types in the upper bits of a Unix mode.
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
/// The attribute of a Windows archive that marks junctions and links (`FILE_ATTRIBUTE_REPARSE_POINT`).
const REPARSE_POINT: u32 = 0x400;

/// What the directory of an archive holds.
pub(super) struct Entries {
    pub(super) files: BTreeMap<PatchPath, Found>,
    /// Where `hotfix.yaml` is.
    pub(super) head: Option<usize>,
}

/// A file in the archive.
pub(super) struct Found {
    pub(super) index: usize,
    /// As the archive has it.
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) executable: bool,
}

/// What one entry is.
enum Seen {
    Folder,
    Head,
    File(PatchPath, Found),
}

/// How paths stand in the archive, by what Windows takes them for: files, and the folders above them.
#[derive(Default)]
struct Spelled(BTreeMap<String, (String, bool)>);

pub(super) struct Source {
    /// The archive's file name.
    name: String,
    path: PathBuf,
    length: u64,
    zip: ZipArchive<BufReader<File>>,
}

impl Source {
    /// Opens an archive and reads its directory.
    ///
    /// # Errors
    /// When it cannot be read or is no zip.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let refused = |e: std::io::Error| {
            let next = "check its name, and that you may read it";
            Error::bad_input(format!("cannot read the hotfix {shown}")).because(e).next(next)
        };
        let data = std::fs::metadata(path).map_err(refused)?;
        if !data.is_file() {
            return Err(Error::bad_input(format!("{shown} is not a file"))
                .next("name a zip archive; `ibexdeploy hotfix pack` makes one of a folder"));
        }
        let file = File::open(path).map_err(refused)?;
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|e| {
            Error::bad_input(format!("{shown} is not a zip archive, or is damaged"))
                .because(e)
                .next("copy it again from where it was made; `ibexdeploy hotfix pack` makes one of a folder")
        })?;
        let name = path.file_name().map_or_else(|| shown.to_string(), |n| n.to_string_lossy().into_owned());
        Ok(Self { name, path: path.to_path_buf(), length: data.len(), zip })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A mistake of the archive as a whole.
    pub(super) fn wrong(&self, what: impl std::fmt::Display) -> Error {
        Error::bad_input(format!("the hotfix {}: {what}", self.name))
    }

    /// A mistake of one entry.
    fn bad_entry(&self, entry: &str, what: impl std::fmt::Display) -> Error {
        self.wrong(format!("the entry `{}` {what}", entry.escape_debug()))
    }

    /// Looks at all entries without reading their content.
    ///
    /// # Errors
    /// Everything that is wrong with names, kinds and sizes.
    pub(super) fn entries(&mut self) -> Result<Entries> {
        self.expect_sound()?;
        let mut found = Entries { files: BTreeMap::new(), head: None };
        let (mut spelled, mut mistakes, mut bytes) = (Spelled::default(), Vec::new(), 0_u64);
        for index in 0..self.zip.len() {
            match self.look(index) {
                Ok(Seen::Folder) => {}
                Ok(Seen::Head) => found.head = Some(index),
                Ok(Seen::File(path, entry)) => {
                    bytes = bytes.saturating_add(entry.size);
                    match spelled.note(&path, &entry.name) {
                        Ok(()) => drop(found.files.insert(path, entry)),
                        Err(other) => mistakes.push(
                            self.bad_entry(&entry.name, format!("is the same to Windows as `{}`", other.escape_debug()))
                                .next("keep one of the two: which is meant is not clear"),
                        ),
                    }
                }
                Err(mistake) => mistakes.push(mistake),
            }
        }
        mistakes.extend(self.too_large(bytes));
        Error::of_all(mistakes).map_or(Ok(found), Err)
    }

    /// Whether the directory itself is one that can be trusted.
    fn expect_sound(&mut self) -> Result<()> {
        if self.zip.len() > MOST_ENTRIES {
            let what = format!("it has {} entries, and {MOST_ENTRIES} is the most", self.zip.len());
            return Err(self.wrong(what).next("a hotfix is a few files; bring more than that as a release"));
        }
        if self.zip.has_duplicate_names() {
            let twice = File::open(&self.path).map(|mut f| names_given_twice(&mut f, self.zip.central_directory_start()));
            let twice: Vec<String> = twice.unwrap_or_default().iter().map(|n| format!("`{}`", n.escape_debug())).collect();
            let what =
                if twice.is_empty() { "an entry is there twice".into() } else { format!("{} is there twice", twice.join(", ")) };
            return Err(self.wrong(what).next("pack it again: which of the two is meant is not clear"));
        }
        if self.zip.has_overlapping_entries().map_err(|e| self.damaged("its directory", e))? {
            return Err(self
                .wrong("entries share the same bytes, as in an archive that is to fill a disk")
                .next("no honest tool makes such an archive; pack it again"));
        }
        Ok(())
    }

    fn too_large(&self, bytes: u64) -> Option<Error> {
        if bytes > MOST_BYTES {
            let what = format!("it holds {}, and {} is the most", Size(bytes), Size(MOST_BYTES));
            return Some(self.wrong(what).next("a hotfix is a few files; bring more than that as a release"));
        }
        (bytes > GROWTH_COUNTS_FROM && bytes / MOST_GROWTH > self.length).then(|| {
            let what = format!("it would grow from {} to {} when it is unpacked", Size(self.length), Size(bytes));
            self.wrong(what).next("no useful file is so regular: look at what made the archive")
        })
    }

    fn look(&mut self, index: usize) -> Result<Seen> {
        // Only the directory is read: `raw` decompresses and decrypts nothing.
        let entry = self.zip.by_index_raw(index);
        let looked = entry.map(|e| Look::of(index, &e));
        match looked {
            Ok(look) => look.judge(self),
            Err(error) => Err(self.damaged(&format!("entry {}", index + 1), error)),
        }
    }

    /// The text of `hotfix.yaml`.
    ///
    /// # Errors
    /// When it is damaged, too long or no text.
    pub(super) fn head(&mut self, index: usize) -> Result<HeadText> {
        let size = self.zip.by_index_raw(index).map(|entry| entry.size());
        let size = size.map_err(|e| self.damaged(HEAD_FILE, e))?;
        if size > LONGEST_HEAD {
            return Err(self.bad_entry(HEAD_FILE, format!("is {}, and {} is the most", Size(size), Size(LONGEST_HEAD))));
        }
        let mut bytes = Vec::new();
        self.copy(index, HEAD_FILE, size, &mut bytes)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| self.bad_entry(HEAD_FILE, "is not UTF-8 text").next("save it as UTF-8 and pack it again"))?;
        Ok(HeadText { file: format!("{}: {HEAD_FILE}", self.name), text })
    }

    /// The paths that `deletes` names.
    ///
    /// # Errors
    /// When one is no path under a component, or is brought as well.
    pub(super) fn deletes(&self, head: &Head, files: &BTreeMap<PatchPath, Found>) -> Result<Vec<PatchPath>> {
        let mut spelled = Spelled::default();
        for (path, entry) in files {
            // They were found to be different before.
            let _ = spelled.note(path, &entry.name);
        }
        let (mut all, mut mistakes) = (Vec::new(), Vec::new());
        for text in &head.deletes {
            let wrong = |what: String| self.wrong(format!("`deletes` names `{}`, which {what}", text.escape_debug()));
            match path_of(text) {
                Err((what, next)) => mistakes.push(wrong(what).next(next)),
                Ok(path) => match spelled.note(&path, text) {
                    Ok(()) => all.push(path),
                    Err(other) => mistakes
                        .push(wrong(format!("is there as `{}` as well", other.escape_debug())).next("keep one of the two")),
                },
            }
        }
        all.sort();
        Error::of_all(mistakes).map_or(Ok(all), Err)
    }

    /// Writes the content of an entry, which must have the size that the directory says, and its checksum.
    ///
    /// # Errors
    /// When it is damaged, or `out` cannot be written.
    pub(super) fn copy(&mut self, index: usize, name: &str, size: u64, out: &mut (impl Write + ?Sized)) -> Result<()> {
        let archive = self.name.clone();
        let damaged = |cause: String| {
            Error::bad_input(format!("the hotfix {archive}: the entry `{}` is damaged", name.escape_debug()))
                .because(cause)
                .next("copy the archive again from where it was made, or pack it again")
        };
        let mut entry = self.zip.by_index(index).map_err(|e| damaged(e.to_string()))?;
        let mut buffer = vec![0; 128 * 1024];
        let mut left = size;
        loop {
            let read = entry.read(&mut buffer).map_err(|e| damaged(e.to_string()))?;
            if read == 0 {
                break;
            }
            left =
                left.checked_sub(read as u64).ok_or_else(|| damaged(format!("it is longer than the {size} bytes it claims")))?;
            out.write_all(&buffer[..read]).map_err(|e| Error::io("unpack a hotfix", &e))?;
        }
        if left > 0 { Err(damaged(format!("{left} of {size} bytes are missing"))) } else { Ok(()) }
    }

    fn damaged(&self, what: &str, error: ZipError) -> Error {
        self.wrong(format!("{what} is damaged"))
            .because(error)
            .next("copy the archive again from where it was made, or pack it again")
    }
}

/// What the directory tells of an entry.
struct Look {
    index: usize,
    name: Result<String, String>,
    size: u64,
    mode: u32,
    folder: bool,
    link: bool,
    encrypted: bool,
}

impl Look {
    fn of<R: Read>(index: usize, entry: &ZipFile<'_, R>) -> Self {
        let name = entry.name().map(std::borrow::Cow::into_owned);
        Self {
            index,
            name: name.map_err(|_| String::from_utf8_lossy(entry.name_raw()).into_owned()),
            size: entry.size(),
            mode: entry.unix_mode().unwrap_or(0),
            folder: entry.is_dir() || entry.unix_mode().is_some_and(|mode| mode & TYPE == FOLDER),
            link: entry.is_symlink() || entry.external_attributes() & REPARSE_POINT != 0,
            encrypted: entry.encrypted(),
        }
    }

    fn judge(self, source: &Source) -> Result<Seen> {
        let name =
            self.name.map_err(|raw| source.bad_entry(&raw, "has a name that is no text").next("rename it and pack again"))?;
        let refused = |what: &str, next: &str| Err(source.bad_entry(&name, what).next(next));
        if self.encrypted {
            return refused("is encrypted", "pack it again without a password");
        }
        let kind = self.mode & TYPE;
        if self.link || kind == LINK {
            return refused("is a link", "pack what it leads to instead: a link could lead anywhere on the instrument");
        }
        if !matches!(kind, 0 | REGULAR | FOLDER) {
            return refused("is neither a file nor a folder", "pack files only");
        }
        if name == HEAD_FILE && !self.folder {
            return Ok(Seen::Head);
        }
        let path = match path_of(&name) {
            Ok(path) => path,
            // The folder of a component itself.
            Err(_) if self.folder && RelPath::parse(&name).is_ok_and(|p| windows_name_problem(p.as_str()).is_none()) => {
                return Ok(Seen::Folder);
            }
            Err((what, next)) => return refused(&what, &next),
        };
        if self.folder {
            return Ok(Seen::Folder);
        }
        Ok(Seen::File(path, Found { index: self.index, size: self.size, executable: self.mode & 0o111 != 0, name }))
    }
}

/// Folders that their own programs keep: of git, and of the agent.
const NOT_OURS: [&str; 2] = [".git", ".ibexdeploy"];

/// A path under a component, or what is wrong with it and what to do.
fn path_of(text: &str) -> Result<PatchPath, (String, String)> {
    let wrong = |what: &str, next: &str| Err((what.to_owned(), next.to_owned()));
    let under = "write paths under a component, for example `EPICS/ioc/master/GALIL/st.cmd`";
    let slashed = text.replace('\\', "/");
    let mut names = slashed.split('/');
    if slashed.starts_with('/') {
        return wrong("is an absolute path", under);
    }
    if text.as_bytes().get(1) == Some(&b':') {
        return wrong("begins with a drive letter", under);
    }
    if names.clone().any(|name| name == "..") {
        return wrong("leads out of its folder with `..`", under);
    }
    if names.clone().any(|name| name == ".") {
        return wrong("is not a plain path", under);
    }
    if let Some(problem) = names.find_map(|name| (!name.is_empty()).then(|| windows_name_problem(name)).flatten()) {
        return wrong(&format!("cannot be on Windows: {problem}"), "rename it and pack again");
    }
    let Ok(path) = RelPath::parse(text) else { return wrong("is not a plain path", under) };
    match path.as_str().split_once('/') {
        Some((component, below)) => match RelPath::parse(below) {
            Ok(below) => {
                let own = below.names().find(|name| NOT_OURS.iter().any(|own| own.eq_ignore_ascii_case(name)));
                if let Some(own) = own {
                    let next = "leave it out: git and ibexdeploy alone write there";
                    return wrong(&format!("lies in `{own}`, which is no part of a release"), next);
                }
                Ok(PatchPath { component: component.to_owned(), path: below })
            }
            Err(_) => wrong("is not a plain path", under),
        },
        None => wrong(
            "lies beside the components",
            "files lie in the folder of their component; only `hotfix.yaml` stands at the top",
        ),
    }
}

impl Spelled {
    /// Notes a file and the folders above it. Gives how the same path stands elsewhere: as another file, or as a folder
    /// where this is a file, or the other way round.
    fn note(&mut self, path: &PatchPath, name: &str) -> Result<(), String> {
        let whole = format!("{}/{}", path.component, path.path).to_lowercase();
        if let Some((other, _)) = self.0.get(&whole) {
            return Err(other.clone());
        }
        let above: Vec<&str> = whole.match_indices('/').map(|(at, _)| &whole[..at]).collect();
        if let Some((other, _)) = above.iter().find_map(|folder| self.0.get(*folder).filter(|(_, file)| *file)) {
            return Err(other.clone());
        }
        for folder in above {
            self.0.entry(folder.to_owned()).or_insert_with(|| (name.to_owned(), false));
        }
        self.0.insert(whole, (name.to_owned(), true));
        Ok(())
    }
}
