//! The chain of versions, with its migrations.

use super::model::{ChainFile, Change, Kind, Migration};
use crate::error::{Error, Result, SourcePosition};
use crate::nearest::nearest;
use crate::paths::{PathPatterns, RelPath};
use crate::yaml::{self, Tree};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The name of the file with the list of versions.
pub const CHAIN_FILE: &str = "chain.yaml";

/// The versions in their order, each with what leads to the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Never empty; the last has no migration.
    pub links: Vec<Link>,
}

/// A version, and what leads to the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub version: String,
    /// Nothing changes but the version without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
}

/// A chain with the files that it was read from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub chain: Chain,
    /// Path and text, the chain's own file first.
    pub files: Vec<(PathBuf, String)>,
}

impl Chain {
    /// Reads the chain of a folder and checks it.
    ///
    /// # Errors
    /// The first of its mistakes, with its place; the further ones are with it.
    pub fn load(folder: &Path) -> Result<Loaded> {
        let path = folder.join(CHAIN_FILE);
        let (file, text): (ChainFile, String) = yaml::load(&path)?;
        let tree = Tree::parse(&path.display().to_string(), &text)?;
        let mut files = vec![(path, text)];
        let mut errors = wrong_list(&file, &tree);
        let mut links = Vec::new();
        for (n, entry) in file.versions.iter().enumerate() {
            let migration = entry.migration.as_ref().map(|name| {
                let path = folder.join(name);
                let missing = |e: Error| match e.details().position {
                    Some(_) => e,
                    None => e.at(at(&tree, &format!("/versions/{n}/migration"))),
                };
                let (migration, text) = yaml::load::<Migration>(&path).map_err(missing)?;
                let own = Tree::parse(&path.display().to_string(), &text)?;
                files.push((path, text));
                Error::of_all(wrong_changes(&migration.changes, &own)).map_or(Ok(migration), Err)
            });
            match migration.transpose() {
                Ok(migration) => links.push(Link { version: entry.version.clone(), migration }),
                Err(error) => errors.push(error),
            }
        }
        match Error::of_all(errors) {
            Some(error) => Err(error),
            None => Ok(Loaded { chain: Self { links }, files }),
        }
    }

    /// The version that all settings end at.
    pub fn newest(&self) -> &str {
        self.links.last().map_or("", |link| &link.version)
    }

    /// The version that settings without one are taken to have.
    pub fn oldest(&self) -> &str {
        self.links.first().map_or("", |link| &link.version)
    }

    /// Where a version stands in the list.
    pub fn index_of(&self, version: &str) -> Option<usize> {
        self.links.iter().position(|link| link.version == version)
    }

    /// What to say about a version that is not in the list.
    pub(super) fn unknown(&self, version: &str) -> Error {
        let next = match nearest(version, self.links.iter().map(|link| link.version.as_str())) {
            Some(near) => format!("did you mean {near}? the chain knows {} to {}", self.oldest(), self.newest()),
            None => format!("the chain knows {} to {}; nothing was changed", self.oldest(), self.newest()),
        };
        Error::bad_input(format!("the chain of migrations does not know the version `{version}`")).next(next)
    }
}

fn at(tree: &Tree, pointer: &str) -> SourcePosition {
    tree.position(pointer).unwrap_or_else(|| SourcePosition { file: tree.file().to_owned(), line: 1, column: 1, excerpt: None })
}

fn wrong_list(file: &ChainFile, tree: &Tree) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut wrong = |pointer: String, message: String, next: &str| {
        errors.push(Error::bad_input(message).at(at(tree, &pointer)).next(next));
    };
    if file.versions.is_empty() {
        wrong("/versions".to_owned(), "the chain has no versions".to_owned(), "list at least the newest one");
    }
    for (n, entry) in file.versions.iter().enumerate() {
        let version = &entry.version;
        let pointer = format!("/versions/{n}/version");
        let numbers = version.split('.').count() >= 3 && version.split('.').all(|part| part.parse::<u32>().is_ok());
        if !numbers {
            wrong(pointer, format!("`{version}` is not a version"), "write three or four numbers: 7.2.1, 7.2.1.1");
        } else if file.versions[..n].iter().any(|other| other.version == *version) {
            wrong(pointer, format!("the version {version} is listed twice"), "take one of the two out");
        }
        if n + 1 == file.versions.len() && entry.migration.is_some() {
            let message = format!("{version} is the last version, and a migration leads away from it");
            wrong(format!("/versions/{n}/migration"), message, "list the version that it leads to behind it");
        }
    }
    errors
}

/// What is wrong in a list of changes beyond its form.
fn wrong_changes(changes: &[Change], tree: &Tree) -> Vec<Error> {
    let mut errors = Vec::new();
    for (n, change) in changes.iter().enumerate() {
        let pointer = format!("/changes/{n}");
        match change.kinds().as_slice() {
            [(key, kind)] => errors.extend(
                wrong_kind(*kind).into_iter().map(|(below, error)| error.at(at(tree, &format!("{pointer}/{key}{below}")))),
            ),
            [] => errors.push(Error::bad_input("this change does not say what").at(at(tree, &pointer)).next(
                "give it one of: change_macro, add_macro, rename_ioc, rename_pv, rename_opi, add_lines, stop, ...; \
                     `ibexdeploy schema migrations` shows them all",
            )),
            [_, (second, _), ..] => errors.push(
                Error::bad_input("this change is of two kinds")
                    .at(at(tree, &format!("{pointer}/{second}")))
                    .next("write two changes, one after the other"),
            ),
        }
        if !change.only_on.is_empty() && !change.not_on.is_empty() {
            let error = Error::bad_input("this change has both `only_on` and `not_on`");
            errors.push(error.at(at(tree, &format!("{pointer}/not_on"))).next("leave one of them out"));
        }
    }
    errors
}

/// Mistakes in the arguments of a change, each with the place below it.
fn wrong_kind(kind: Kind<'_>) -> Vec<(String, Error)> {
    let mut found: Vec<(String, Option<Error>)> = Vec::new();
    match kind {
        Kind::ChangeMacro(m) => {
            found.push(("/name".to_owned(), from_start(&m.name).err()));
            found.push(("/value".to_owned(), m.value.as_deref().and_then(|v| from_start(v).err())));
            let idle = m.rename.is_none() && m.set.is_none();
            found
                .push((String::new(), idle.then(|| Error::bad_input("nothing changes").next("give it `rename`, `set` or both"))));
        }
        Kind::AddLines(a) => found.push(("/file".to_owned(), RelPath::parse(&a.file).err())),
        Kind::EditLines(e) => {
            found.push(("/files".to_owned(), PathPatterns::new(&[&e.files]).err()));
            found.push(("/replace".to_owned(), regex(&e.replace).err()));
            found.push(("/having".to_owned(), e.having.as_deref().and_then(|r| regex(r).err())));
            found.push(("/unless".to_owned(), e.unless.as_deref().and_then(|r| regex(r).err())));
        }
        Kind::DeleteFolders(d) => {
            let folders = d.folders.iter().enumerate().map(|(n, f)| (format!("/folders/{n}"), RelPath::parse(f).err()));
            found.extend(folders);
            let since = d.unchanged_since.as_deref().and_then(|text| moment(text).err());
            found.push(("/unchanged_since".to_owned(), since));
            let mute = d.unchanged_since.is_some() && d.message.is_none();
            found.push((
                String::new(),
                mute.then(|| {
                    Error::bad_input("it does not say what to do when a folder has changed").next("give it a `message`")
                }),
            ));
        }
        Kind::Stop(s) => {
            found.push(("/if_exists".to_owned(), s.if_exists.as_deref().and_then(|path| RelPath::parse(path).err())));
            let never = s.if_exists.is_none() && s.if_pv.is_empty();
            found.push((
                String::new(),
                never.then(|| Error::bad_input("it does not say when to stop").next("give it `if_exists` or `if_pv`")),
            ));
        }
        Kind::RenamePv(r) | Kind::RenameOpi(r) | Kind::RenameIoc(r) if r.from.is_empty() => {
            found.push(("/from".to_owned(), Some(Error::bad_input("there is no name to look for").next("write the old name"))));
        }
        _ => {}
    }
    found.into_iter().filter_map(|(below, error)| Some((below, error?))).collect()
}

/// A regular expression.
///
/// # Errors
/// When it is none.
pub(super) fn regex(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|e| {
        // The library draws the expression over several lines; its last one says what is wrong.
        let why = e.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Error::bad_input(format!("`{text}` is not a regular expression"))
            .because(why)
            .next("put a `\\` before signs that mean themselves; look-around and back-references are not known")
    })
}

/// A regular expression that matches from the start of a text.
///
/// # Errors
/// When it is none.
pub(super) fn from_start(text: &str) -> Result<Regex> {
    regex(text)?;
    regex(&format!("^(?:{text})"))
}

/// A moment as a file has it.
///
/// # Errors
/// When it is not date, time and offset.
pub(super) fn moment(text: &str) -> Result<jiff::Timestamp> {
    text.parse().map_err(|e: jiff::Error| {
        Error::bad_input(format!("`{text}` is not a moment")).because(e).next("write it as 2024-09-01T00:00:00+01:00")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_order_is_that_of_the_list() {
        let chain = "versions:\n- {version: 7.2.1}\n- {version: 7.2.0.1, migration: m.yaml}\n- {version: 7.2.0.2}\n";
        let migration = "description: d\nchanges:\n- rename_pv: {from: A, to: B}\n  only_on: [NDXA]\n";
        let folder = folder(&[("chain.yaml", chain), ("m.yaml", migration)]);
        let loaded = Chain::load(folder.path()).unwrap();
        assert_eq!((loaded.chain.oldest(), loaded.chain.newest()), ("7.2.1", "7.2.0.2"));
        assert_eq!(loaded.chain.links[1].migration.as_ref().unwrap().changes[0].only_on, ["NDXA"]);
        assert_eq!(loaded.files.len(), 2);
    }

    #[test]
    fn mistakes_are_told_together_each_with_its_place() {
        let chain = "versions:\n- {version: 7.2.1, migration: m.yaml}\n- {version: 7.2.1}\n- {version: '7'}\n- {version: 8.0.0, migration: gone.yaml}\n";
        let migration = "description: d\nchanges:\n- change_macro: {ioc: A, name: '(', set: x}\n- {}\n- rename_pv: {from: a, to: b}\n  sql: {file: x}\n- stop: {message: m, next: n}\n- delete_folders: {folders: [..], unchanged_since: soon}\n- add_lines: {file: /x, lines: []}\n  only_on: [A]\n  not_on: [B]\n";
        let files = folder(&[("chain.yaml", chain), ("m.yaml", migration)]);
        let folder = files.path();
        let error = Chain::load(folder).unwrap_err();
        let mut all = vec![&error];
        let mut told = Vec::new();
        while let Some(error) = all.pop() {
            all.extend(&error.details().others);
            let at =
                error.details().position.as_ref().map(|p| format!("{}:{}", p.file.rsplit(['/', '\\']).next().unwrap(), p.line));
            told.push(format!("{} {}", at.unwrap_or_default(), error.details().message));
        }
        told.sort();
        let told = told.join("\n").replace(folder.to_string_lossy().as_ref(), "DIR").replace('\\', "/");
        insta::assert_snapshot!(told, @"
        chain.yaml:3 the version 7.2.1 is listed twice
        chain.yaml:4 `7` is not a version
        chain.yaml:5 8.0.0 is the last version, and a migration leads away from it
        chain.yaml:5 cannot read DIR/gone.yaml
        m.yaml:11 this change has both `only_on` and `not_on`
        m.yaml:3 `(` is not a regular expression
        m.yaml:4 this change does not say what
        m.yaml:6 this change is of two kinds
        m.yaml:7 it does not say when to stop
        m.yaml:8 `..` is not a path inside a folder
        m.yaml:8 `soon` is not a moment
        m.yaml:8 it does not say what to do when a folder has changed
        m.yaml:9 `/x` is not a path inside a folder
        ");
    }
}
