//! What has to go and to come so that a tree is as wanted.

use crate::actions::moves::Stamp;
use crate::content::{ContentHash, Manifest, TreeIndex};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::paths::{PathPatterns, RelPath};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// A file that the tree should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its path inside the component, which differs from the one in the tree when a leading folder is stripped.
    pub source: RelPath,
    /// Bytes.
    pub size: u64,
    pub hash: ContentHash,
    pub executable: bool,
}

/// Files by their path in the tree.
pub type WantedTree = BTreeMap<RelPath, Wanted>;

/// The empty folders of a component, by their path in the tree, as [`wanted_tree`] has the files.
///
/// # Errors
/// When `from` is no path.
pub fn wanted_folders(
    manifest: &Manifest,
    from: Option<&str>,
    excluded: &PathPatterns,
    kept: &PathPatterns,
) -> Result<BTreeSet<RelPath>> {
    let from = from.map(RelPath::parse).transpose()?;
    let all = manifest.empty_folders.iter().filter(|path| !excluded.covers(path));
    Ok(all.filter_map(|path| strip(path, from.as_ref())).filter(|path| !kept.covers(path)).collect())
}

/// The files of a component as the tree should have them: the folder `from` is the tree, `excluded` paths of the
/// component are left out, and what is kept on the instrument is nobody else's.
///
/// # Errors
/// When nothing is left: a wrong `from` would otherwise empty the tree.
pub fn wanted_tree(manifest: &Manifest, from: Option<&str>, excluded: &PathPatterns, kept: &PathPatterns) -> Result<WantedTree> {
    let from = from.map(RelPath::parse).transpose()?;
    let mut tree = WantedTree::new();
    for file in manifest.files.iter().filter(|f| !excluded.covers(&f.path)) {
        let Some(path) = strip(&file.path, from.as_ref()) else { continue };
        if !kept.covers(&path) {
            let wanted = Wanted { source: file.path.clone(), size: file.size, hash: file.hash, executable: file.executable };
            tree.insert(path, wanted);
        }
    }
    if tree.is_empty() {
        let what = from.map_or_else(String::new, |f| format!(" in `{f}`"));
        return Err(Error::bad_input(format!("the component {} has no files{what}", manifest.component))
            .next("look at the kit with `ibexdeploy kit show`, and at the step's `from` and `exclude`"));
    }
    Ok(tree)
}

fn strip(path: &RelPath, from: Option<&RelPath>) -> Option<RelPath> {
    let Some(from) = from else { return Some(path.clone()) };
    let head = path.as_str().get(..from.as_str().len())?;
    let rest = path.as_str()[head.len()..].strip_prefix('/')?;
    head.eq_ignore_ascii_case(from.as_str()).then(|| RelPath::parse(rest).ok())?
}

/// How a tree is compared.
#[derive(Debug)]
pub struct Rules<'a> {
    /// The installed tree's folder.
    pub target: &'a Path,
    pub kept: &'a PathPatterns,
    pub generated: &'a PathPatterns,
    pub units: &'a PathPatterns,
    pub remove_extra: bool,
    /// Folders that the tree should have, although nothing is in them.
    pub empty_folders: &'a BTreeSet<RelPath>,
}

/// What comes to a path: one file, or a folder with all its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub path: RelPath,
    pub folder: bool,
    /// The paths of its files in the tree; the path itself when it is a file.
    pub files: Vec<RelPath>,
    /// The paths of its empty folders in the tree.
    pub empty_folders: Vec<RelPath>,
}

/// The difference between a tree and what is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncDifference {
    /// Files, links or whole folders that go, in order.
    pub outs: BTreeSet<RelPath>,
    pub arrivals: Vec<Arrival>,
    pub added: Vec<RelPath>,
    pub replaced: Vec<RelPath>,
    pub removed: Vec<RelPath>,
}

impl SyncDifference {
    pub fn is_empty(&self) -> bool {
        self.outs.is_empty() && self.arrivals.is_empty()
    }

    /// A line for each file that changes.
    pub fn items(&self) -> Vec<String> {
        let mut items: Vec<(&RelPath, char)> = Vec::new();
        items.extend(self.added.iter().map(|p| (p, '+')));
        items.extend(self.replaced.iter().map(|p| (p, '~')));
        items.extend(self.removed.iter().map(|p| (p, '-')));
        items.sort();
        items.into_iter().map(|(path, sign)| format!("{sign} {path}")).collect()
    }
}

/// Compares the tree that is installed with the wanted one.
///
/// # Errors
/// When a link stands where the component has a folder, or something to be kept lies in a folder that goes whole.
pub fn compare(wanted: &WantedTree, installed: &TreeIndex, rules: &Rules<'_>) -> Result<SyncDifference> {
    let in_their_case = cfg!(windows).then(|| in_case_of(wanted, installed));
    let installed = in_their_case.as_ref().unwrap_or(installed);
    let mut work = Comparison {
        wanted,
        installed,
        rules,
        by_case: HashMap::new(),
        going: BTreeSet::new(),
        folders: wanted
            .keys()
            .chain(rules.empty_folders)
            .flat_map(ancestors)
            .chain(rules.empty_folders.iter().cloned())
            .collect(),
        whole: HashMap::new(),
        done: SyncDifference::default(),
    };
    work.by_case.extend(files_of(installed).map(|p| (p.case_key(), p)));
    let units = work.units()?;
    work.files(&units)?;
    work.extra(&units)?;
    // By themselves they are no reason to stop anything: programs remove a folder that is empty.
    if !work.done.is_empty() {
        work.empty_folders()?;
    }
    let mut done = work.done;
    let all = std::mem::take(&mut done.outs);
    done.outs = all.iter().filter(|p| !ancestors(p).iter().any(|a| all.contains(a))).cloned().collect();
    done.arrivals.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(done)
}

/// The index with the wanted spelling of folders: Windows opens a path however its folders are spelled, and a folder's
/// own spelling is left as it is.
fn in_case_of(wanted: &WantedTree, installed: &TreeIndex) -> TreeIndex {
    let spelled: HashMap<String, &RelPath> = wanted.keys().map(|p| (p.case_key(), p)).collect();
    let mut index = TreeIndex::default();
    for (path, entry) in &installed.entries {
        let name = spelled.get(&path.case_key()).filter(|w| w.file_name() == path.file_name());
        index.entries.insert(name.map_or_else(|| path.clone(), |w| (*w).clone()), entry.clone());
    }
    index
}

fn files_of(index: &TreeIndex) -> impl Iterator<Item = &RelPath> {
    index.entries.iter().filter(|(_, e)| e.link.is_none()).map(|(p, _)| p)
}

/// The folders above a path, the outermost first.
fn ancestors(path: &RelPath) -> Vec<RelPath> {
    let mut found: Vec<RelPath> = std::iter::successors(path.parent(), RelPath::parent).collect();
    found.reverse();
    found
}

struct Comparison<'a> {
    wanted: &'a WantedTree,
    installed: &'a TreeIndex,
    rules: &'a Rules<'a>,
    by_case: HashMap<String, &'a RelPath>,
    /// Installed files and links that go by themselves, so that a folder of nothing else goes whole.
    going: BTreeSet<RelPath>,
    /// Folders of the wanted tree.
    folders: BTreeSet<RelPath>,
    /// Where in the arrivals the folders are.
    whole: HashMap<RelPath, usize>,
    done: SyncDifference,
}

impl Comparison<'_> {
    fn unit_of(&self, path: &RelPath) -> Option<RelPath> {
        if self.rules.units.is_empty() {
            return None;
        }
        ancestors(path).into_iter().find(|a| self.rules.units.covers(a))
    }

    /// Deals with the folders that are swapped whole, and names them.
    fn units(&mut self) -> Result<BTreeSet<RelPath>> {
        let mut wanted: BTreeMap<RelPath, Vec<&RelPath>> = BTreeMap::new();
        let mut there: BTreeMap<RelPath, Vec<&RelPath>> = BTreeMap::new();
        for path in self.wanted.keys() {
            if let Some(unit) = self.unit_of(path) {
                wanted.entry(unit).or_default().push(path);
            }
        }
        for path in self.installed.entries.keys() {
            if let Some(unit) = self.unit_of(path) {
                there.entry(unit).or_default().push(path);
            }
        }
        let all: BTreeSet<RelPath> = wanted.keys().chain(there.keys()).cloned().collect();
        for unit in &all {
            let new = wanted.get(unit).map(Vec::as_slice).unwrap_or_default();
            let old = there.get(unit).map(Vec::as_slice).unwrap_or_default();
            let same = new.len() == old.len() && new.iter().zip(old).all(|(a, b)| a == b && self.is_same(a));
            if !same && (!new.is_empty() || self.rules.remove_extra) {
                self.swap_unit(unit, new, old)?;
            }
        }
        Ok(all)
    }

    fn swap_unit(&mut self, unit: &RelPath, new: &[&RelPath], old: &[&RelPath]) -> Result<()> {
        for path in new {
            if !self.installed.entries.contains_key(*path) {
                self.done.added.push((*path).clone());
            } else if !self.is_same(path) {
                self.done.replaced.push((*path).clone());
            }
        }
        self.done.removed.extend(old.iter().filter(|p| !self.wanted.contains_key(**p)).map(|p| (*p).clone()));
        self.take_whole(unit)?;
        if !new.is_empty() {
            self.bring_folder(unit, new.iter().map(|p| (*p).clone()).collect())?;
        }
        Ok(())
    }

    fn is_same(&self, path: &RelPath) -> bool {
        matches!((self.wanted.get(path), self.installed.entries.get(path)),
            (Some(w), Some(i)) if i.link.is_none() && w.size == i.size && w.hash == i.hash)
    }

    /// A folder goes as it is, unless something to be kept lies in it.
    fn take_whole(&mut self, folder: &RelPath) -> Result<()> {
        let native = folder.under(self.rules.target);
        if Stamp::of(&native)?.is_none() {
            return Ok(());
        }
        if !self.rules.kept.is_empty() {
            for entry in walkdir::WalkDir::new(&native).into_iter().flatten() {
                let below = entry.path().strip_prefix(self.rules.target).ok().and_then(Path::to_str);
                if below.and_then(|b| RelPath::parse(b).ok()).is_some_and(|p| self.rules.kept.covers(&p)) {
                    return Err(Error::bad_input(format!(
                        "`{folder}` is swapped whole, but {} is to be kept",
                        entry.path().display()
                    ))
                    .next("take the folder out of `as_unit`, or the path out of `keep`"));
                }
            }
        }
        self.done.outs.insert(folder.clone());
        Ok(())
    }

    /// A folder comes with all its files; those above it that are missing come with it.
    fn bring_folder(&mut self, folder: &RelPath, files: Vec<RelPath>) -> Result<()> {
        let path = self.missing_above(folder)?.unwrap_or_else(|| folder.clone());
        self.arrive(path, true, files);
        Ok(())
    }

    fn arrive(&mut self, path: RelPath, folder: bool, files: Vec<RelPath>) {
        if folder && let Some(at) = self.whole.get(&path) {
            self.done.arrivals[*at].files.extend(files);
            return;
        }
        if folder {
            self.whole.insert(path.clone(), self.done.arrivals.len());
        }
        self.done.arrivals.push(Arrival { path, folder, files, empty_folders: Vec::new() });
    }

    /// Folders with nothing in them come with the folder above them that comes, else by themselves.
    fn empty_folders(&mut self) -> Result<()> {
        for path in self.rules.empty_folders {
            let coming = ancestors(path).into_iter().chain([path.clone()]).find_map(|above| self.whole.get(&above).copied());
            let at = match coming {
                Some(at) => at,
                None => {
                    let there = Stamp::of(&path.under(self.rules.target))?;
                    // What lies in its place is somebody's, and stays.
                    if there.is_some() && !self.lies_in_out(path) {
                        continue;
                    }
                    let top = self.missing_above(path)?.unwrap_or_else(|| path.clone());
                    self.arrive(top.clone(), true, Vec::new());
                    self.whole[&top]
                }
            };
            self.done.arrivals[at].empty_folders.push(path.clone());
        }
        Ok(())
    }

    /// The outermost folder above a path that is not there yet. A file in its place goes.
    fn missing_above(&mut self, path: &RelPath) -> Result<Option<RelPath>> {
        for folder in ancestors(path) {
            match Stamp::of(&folder.under(self.rules.target))? {
                Some(Stamp::Folder) => {}
                Some(Stamp::Link) => {
                    return Err(Error::new(
                        ErrorKind::Refused,
                        format!("{} is a link, and the component has a folder there", folder.under(self.rules.target).display()),
                    )
                    .next("`keep` the path, or give what it leads to a place and a `sync` step of its own"));
                }
                Some(Stamp::File { .. }) => {
                    if self.done.outs.insert(folder.clone()) {
                        self.done.removed.push(folder.clone());
                    }
                    self.going.insert(folder.clone());
                    return Ok(Some(folder));
                }
                None => return Ok(Some(folder)),
            }
        }
        Ok(None)
    }

    fn files(&mut self, units: &BTreeSet<RelPath>) -> Result<()> {
        let (wanted, installed) = (self.wanted, self.installed);
        // The folder of the file before, when it is known to be there: most files share theirs.
        let mut there: Option<RelPath> = None;
        // The folder that the file before comes with: most files come with the same.
        let mut coming: Option<RelPath> = None;
        for path in wanted.keys().filter(|p| !in_unit(p, units)) {
            if self.is_same(path) {
                continue;
            }
            if installed.entries.contains_key(path) {
                self.done.replaced.push(path.clone());
                self.done.outs.insert(path.clone());
                self.arrive(path.clone(), false, vec![path.clone()]);
                continue;
            }
            let has_variant = self.note_new(path);
            if let Some(folder) = coming.as_ref().filter(|folder| path.is_within(folder)) {
                self.arrive(folder.clone(), true, vec![path.clone()]);
                continue;
            }
            if there.is_none() || there != path.parent() {
                if let Some(folder) = self.missing_above(path)? {
                    self.arrive(folder.clone(), true, vec![path.clone()]);
                    coming = Some(folder);
                    continue;
                }
                there = path.parent();
            }
            self.bring_file(path, has_variant)?;
        }
        Ok(())
    }

    /// Counts a file that is not there under this very name; one that differs only in case is the same file to Windows.
    fn note_new(&mut self, path: &RelPath) -> bool {
        match self.by_case.get(&path.case_key()).copied() {
            Some(variant) if !self.wanted.contains_key(variant) => {
                self.done.replaced.push(path.clone());
                self.going.insert(variant.clone());
                true
            }
            _ => {
                self.done.added.push(path.clone());
                false
            }
        }
    }

    fn bring_file(&mut self, path: &RelPath, has_variant: bool) -> Result<()> {
        match Stamp::of(&path.under(self.rules.target))? {
            // Windows sees the file of the other spelling, which goes under that one.
            Some(Stamp::File { .. }) if cfg!(windows) && has_variant => {}
            Some(Stamp::Folder) => {
                self.take_whole(path)?;
                let inside: Vec<RelPath> =
                    self.installed.entries.keys().filter(|p| *p != path && p.is_within(path)).cloned().collect();
                self.going.extend(inside.iter().cloned());
                self.done.removed.extend(inside);
            }
            Some(_) => {
                self.done.outs.insert(path.clone());
            }
            None => {}
        }
        self.arrive(path.clone(), false, vec![path.clone()]);
        Ok(())
    }

    /// What the component does not have goes, in whole folders where nothing else is in them.
    fn extra(&mut self, units: &BTreeSet<RelPath>) -> Result<()> {
        let mut going: BTreeSet<RelPath> = std::mem::take(&mut self.going);
        if self.rules.remove_extra {
            let all = self.installed.entries.keys();
            for path in all.filter(|p| !in_unit(p, units) && !self.rules.generated.covers(p)) {
                if !self.wanted.contains_key(path) && going.insert(path.clone()) {
                    self.done.removed.push(path.clone());
                }
            }
        }
        let mut tops: BTreeSet<RelPath> = BTreeSet::new();
        for path in &going {
            if self.lies_in_out(path) {
                continue;
            }
            match ancestors(path).into_iter().find(|a| !self.folders.contains(a)) {
                Some(top) => {
                    tops.insert(top);
                }
                None => {
                    self.done.outs.insert(path.clone());
                }
            }
        }
        for top in tops {
            let mut outs = Vec::new();
            if self.goes_whole(&top, &going, &mut outs)? == Goes::Whole {
                self.done.outs.insert(top);
            } else {
                self.done.outs.extend(outs);
            }
        }
        Ok(())
    }

    fn lies_in_out(&self, path: &RelPath) -> bool {
        self.done.outs.contains(path) || ancestors(path).iter().any(|a| self.done.outs.contains(a))
    }

    /// Whether everything in a folder goes; when only parts of it do, `outs` gets them.
    fn goes_whole(&self, folder: &RelPath, going: &BTreeSet<RelPath>, outs: &mut Vec<RelPath>) -> Result<Goes> {
        let native = folder.under(self.rules.target);
        let (mut parts, mut stays) = (Vec::new(), false);
        for entry in std::fs::read_dir(&native).cannot(|| format!("list {}", native.display()))? {
            let entry = entry.cannot(|| format!("list {}", native.display()))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                stays = true;
                continue;
            };
            let path = folder.child(&name);
            let is_folder = entry.file_type().cannot(|| format!("look at {}", entry.path().display()))?.is_dir();
            let goes = if self.done.outs.contains(&path) || going.contains(&path) {
                Goes::Whole
            } else if !is_folder || self.rules.kept.covers(&path) || self.rules.generated.covers(&path) {
                Goes::Stays
            } else {
                self.goes_whole(&path, going, &mut parts)?
            };
            match goes {
                Goes::Whole => parts.push(path),
                Goes::Empty => {}
                Goes::Stays => stays = true,
            }
        }
        if stays {
            outs.extend(parts);
            return Ok(Goes::Stays);
        }
        Ok(if parts.is_empty() { Goes::Empty } else { Goes::Whole })
    }
}

/// What becomes of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    /// All that is in it goes, and the folder with it.
    Whole,
    /// There is nothing in it, and was not: it goes only with the folder it lies in.
    Empty,
    Stays,
}

fn in_unit(path: &RelPath, units: &BTreeSet<RelPath>) -> bool {
    !units.is_empty() && ancestors(path).iter().any(|a| units.contains(a))
}
