//! Instruments, groups, places, variables and their precedence, patterns, and where secrets come from.

mod file;
mod merge;
mod names;
mod pattern;
mod resolve;
mod review;
pub mod secrets;

pub use file::{Seci, SecretSource};
pub use merge::{Layer, Origin};
pub use pattern::Selection;
pub use review::Warning;

use crate::content::ContentHash;
use crate::error::{Error, Result, SourcePosition};
use crate::paths::WinPath;
use crate::plan::{Account, Pull, TransportSpec};
use crate::yaml::{self, Tree, pointer_part};
use file::InventoryFile;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// An inventory: checked, merged and rendered.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The file it was read from, as the operator named it.
    pub file: PathBuf,
    /// The hash of the file: a plan made from another one is noticed.
    pub digest: ContentHash,
    /// The instruments in the order of the file.
    pub instruments: Vec<Instrument>,
    /// All groups that are declared, those without members included.
    pub groups: BTreeSet<String>,
    tree: Tree,
}

/// An instrument with all its settings resolved.
#[derive(Debug, Clone)]
pub struct Instrument {
    /// For example `NDXLARMOR`.
    pub name: String,
    pub host: String,
    pub groups: BTreeSet<String>,
    pub places: BTreeMap<String, WinPath>,
    pub accounts: BTreeMap<String, Account>,
    pub vars: BTreeMap<String, Value>,
    pub transport: TransportSpec,
    pub kits: KitTransfer,
    /// The folder of versions that the places of components are links into; nothing where each place is a folder itself.
    pub versions: Option<WinPath>,
    pub secrets: BTreeMap<String, SecretSource>,
    /// Present on hybrids.
    pub seci: Option<Seci>,
    /// Where the instrument stands in the file.
    pub position: SourcePosition,
    /// The transport's settings as data, for example `{"ssh": {"user": "gamekeeper"}}`.
    pub transport_settings: Value,
    /// Where each value was set, by JSON pointer (`/places/server`).
    pub origins: BTreeMap<String, Origin>,
}

/// How a release's files get to an instrument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KitTransfer {
    /// Over the link.
    Push,
    /// The instrument reads them itself.
    Pull(Pull),
}

impl Inventory {
    /// Reads and checks an inventory.
    ///
    /// # Errors
    /// With the place in the file and what to do next, when anything in it is not right.
    pub fn load(path: &Path) -> Result<Self> {
        let text = yaml::read(path).map_err(|e| {
            if path.exists() { e } else { e.next("name the inventory with --inventory FILE or IBEXDEPLOY_INVENTORY") }
        })?;
        Self::parse(path, &text)
    }

    /// Checks an inventory at hand; `path` is what errors call it and what its relative paths are relative to.
    ///
    /// # Errors
    /// As [`Inventory::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let file_name = path.display().to_string();
        let file: InventoryFile = yaml::parse_all(&file_name, text).map_err(all)?;
        let tree = Tree::parse(&file_name, text)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut errors = review::names(&file, &tree);
        // A mistake in the defaults is one mistake, although every instrument meets it.
        let mut note = |error: Error| {
            let same =
                |e: &Error| e.details().position == error.details().position && e.details().message == error.details().message;
            if !errors.iter().any(same) {
                errors.push(error);
            }
        };
        // Groups that no instrument lists are checked as well.
        for (name, group) in &file.groups {
            merge::check_groups(&file, &tree, name, group).unwrap_or_else(&mut note);
        }
        let mut instruments = Vec::new();
        // What is no machine's name is told already, and is no host name either.
        for (name, own) in file.instruments.iter().filter(|(name, _)| names::label_problem(name).is_none()) {
            let resolved = merge::merge(&file, &tree, name, own).and_then(|merged| resolve::resolve(name, merged, &tree, folder));
            match resolved {
                Ok(instrument) => instruments.push(instrument),
                Err(error) => note(error),
            }
        }
        if let Some(error) = Error::of_all(errors) {
            return Err(error);
        }
        instruments.sort_by_key(|i| (i.position.line, i.position.column));
        let inventory = Self {
            file: path.to_owned(),
            digest: ContentHash::of(text.as_bytes()),
            instruments,
            groups: file.groups.into_keys().collect(),
            tree,
        };
        review::machines(&inventory)?;
        Ok(inventory)
    }

    /// The instruments that a selection names, in the order of the inventory.
    ///
    /// # Errors
    /// When a pattern matches nothing (what is near is named), or nothing was chosen at all.
    pub fn select(&self, selection: &Selection) -> Result<Vec<&Instrument>> {
        pattern::select(self, selection)
    }

    /// The instrument of this name, any case, with or without `NDX`.
    ///
    /// # Errors
    /// When there is none; the nearest name is given.
    pub fn instrument(&self, name: &str) -> Result<&Instrument> {
        self.instruments.iter().find(|i| i.is_called(name)).ok_or_else(|| pattern::unknown(self, name))
    }

    /// What is worth a person's attention, though nothing is wrong. `today` decides what is past.
    pub fn warnings(&self, today: jiff::civil::Date) -> Vec<Warning> {
        review::warnings(self, today)
    }

    /// Where a value of an instrument was set, by JSON pointer (`/places/server`).
    pub fn position_of(&self, instrument: &Instrument, pointer: &str) -> Option<SourcePosition> {
        match instrument.origins.get(pointer) {
            Some(origin) => self.tree.position(&origin.pointer),
            None => self.tree.position(&format!("/instruments/{}{pointer}", pointer_part(&instrument.name))),
        }
    }
}

impl Instrument {
    /// The name without `NDX`: `LARMOR`.
    pub fn inst(&self) -> &str {
        names::short(&self.name)
    }

    /// True for its name in any case, with or without `NDX`, and for its host name.
    pub fn is_called(&self, name: &str) -> bool {
        [self.name.as_str(), self.inst(), &self.host].iter().any(|n| n.eq_ignore_ascii_case(name))
    }
}

/// The JSON Schema of an inventory's file.
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(InventoryFile)
}

/// Several mistakes as one error.
fn all(mistakes: Vec<Error>) -> Error {
    Error::of_all(mistakes).unwrap_or_else(|| Error::internal("an inventory cannot be read, and why is not known"))
}

/// The error at a place, where one is known.
fn placed(error: Error, position: Option<SourcePosition>) -> Error {
    match position {
        Some(position) => error.at(position),
        None => error,
    }
}

#[cfg(test)]
mod tests;
