//! What must be true of a component's files before they are sent to Windows machines.

use crate::content::tree::{Special, Stamp, TreeEntry};
use crate::error::{Error, Result};
use crate::paths::{RelPath, windows_name_problem};
use std::collections::HashMap;
use std::path::Path;

/// Written beside the client's tree when its copying has ended.
const COPY_COMPLETE: &str = "COPY_COMPLETE.txt";

/// The packed duplicate of the client's tree lies beside it; nothing installs it, so it is not part of the kit.
const DUPLICATE: &str = "zips";

/// How many paths an error names.
const NAMED: usize = 5;

/// True when the component is a folder of its own name beside other things, as `Client\Client` is.
pub(super) fn is_nested(name: &str, folder: &Path) -> bool {
    folder.join(name).is_dir()
}

/// Patterns of what in the component's folder is not part of it.
pub(super) fn left_out(name: &str, folder: &Path) -> Vec<String> {
    if is_nested(name, folder) { vec![DUPLICATE.to_owned()] } else { Vec::new() }
}

/// The client is copied to the share by a build that takes a while, and says when it is done.
pub(super) fn copying_has_ended(name: &str, folder: &Path) -> Result<()> {
    if !is_nested(name, folder) || folder.join(COPY_COMPLETE).exists() {
        return Ok(());
    }
    Err(Error::bad_input(format!("{} is still being copied: it has no {COPY_COMPLETE}", folder.display()))
        .next(format!("wait until the build has written {COPY_COMPLETE}, or choose another release with --kit")))
}

/// Only files, folders and links: anything else has no content that could be sent.
pub(super) fn nothing_special(folder: &Path, special: &[Special]) -> Result<()> {
    if special.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = special.iter().map(|s| format!("{} is {}", s.path, s.kind)).collect();
    Err(Error::bad_input(format!("{} holds what cannot be sent: {}", folder.display(), named(&all)))
        .next("remove it from the kit, or put a file in its place"))
}

/// No links, only names that Windows can have, no two that it takes for the same.
pub(super) fn files(folder: &Path, found: &[TreeEntry]) -> Result<()> {
    let links: Vec<_> =
        found.iter().filter_map(|e| e.link.as_ref().map(|to| format!("{} -> {}", e.path, to.display()))).collect();
    if !links.is_empty() {
        return Err(Error::bad_input(format!("{} has links inside: {}", folder.display(), named(&links)))
            .next("replace each link by what it leads to; only a whole component may be a link"));
    }
    let mut bad = Vec::new();
    for entry in found {
        if let Some(problem) = entry.path.names().find_map(windows_name_problem) {
            bad.push(format!("{} ({problem})", entry.path));
        }
    }
    if !bad.is_empty() {
        return Err(Error::bad_input(format!("{} has names that Windows cannot have: {}", folder.display(), named(&bad)))
            .next("rename or remove them in the kit"));
    }
    same_but_for_case(folder, found)
}

/// Folders count as well: `Lib/a` and `lib/b` would become one folder.
fn same_but_for_case(folder: &Path, found: &[TreeEntry]) -> Result<()> {
    let mut seen: HashMap<String, RelPath> = HashMap::new();
    let mut pairs = Vec::new();
    for entry in found {
        let mut path = Some(entry.path.clone());
        while let Some(now) = path {
            path = now.parent();
            let before = seen.entry(now.case_key()).or_insert_with(|| now.clone());
            if *before == now {
                continue;
            }
            let pair = format!("{before} and {now}");
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
    }
    if pairs.is_empty() {
        return Ok(());
    }
    Err(Error::bad_input(format!("{} has names that differ only in case: {}", folder.display(), named(&pairs)))
        .next("Windows takes them for one: rename or remove one of each in the kit"))
}

/// Compares the listing from before the hashing with one from after it.
pub(super) fn unchanged(folder: &Path, before: &[TreeEntry], after: &[TreeEntry]) -> Result<()> {
    let stamps = |list: &[TreeEntry]| list.iter().map(|e| (e.path.clone(), e.stamp)).collect::<HashMap<RelPath, Stamp>>();
    let (old, new) = (stamps(before), stamps(after));
    let mut moved: Vec<String> =
        old.iter().filter(|(path, stamp)| new.get(*path) != Some(*stamp)).map(|(p, _)| p.to_string()).collect();
    moved.extend(new.keys().filter(|path| !old.contains_key(*path)).map(RelPath::to_string));
    if moved.is_empty() {
        return Ok(());
    }
    moved.sort_unstable();
    Err(changed_meanwhile(folder, &moved))
}

/// The error for a kit that somebody writes to.
pub(super) fn changed_meanwhile(folder: &Path, moved: &[String]) -> Error {
    Error::bad_input(format!("{} changed while it was read: {}", folder.display(), named(moved)))
        .next("wait until nothing is copied into the release any more, then try again")
}

/// The first few, and how many more.
pub(super) fn named(list: &[String]) -> String {
    let mut text = list.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if list.len() > NAMED {
        text.push_str(&format!(" and {} more", list.len() - NAMED));
    }
    text
}
