//! Layers of settings become one, and every value keeps where it came from.

use super::file::{InventoryFile, Settings};
use super::placed;
use crate::error::{Error, Result};
use crate::nearest::nearest;
use crate::yaml::{Tree, pointer_part};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    Defaults,
    Group(String),
    Instrument,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.pad("defaults"),
            Self::Group(name) => f.pad(&format!("group {name}")),
            Self::Instrument => f.pad("instrument"),
        }
    }
}

/// The layer of a value, and its JSON pointer in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub layer: Layer,
    pub pointer: String,
}

/// The settings of one instrument, not rendered yet.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) settings: Settings,
    /// All groups, the weakest first.
    pub(super) groups: Vec<String>,
    /// The origins of single values and lists, by JSON pointer into the settings (`/places/server`).
    pub(super) origins: BTreeMap<String, Origin>,
}

/// Merges the layers of an instrument.
///
/// # Errors
/// When it lists a group that does not exist, or groups belong to each other in a circle.
pub(super) fn merge(file: &InventoryFile, tree: &Tree, name: &str, own: &Settings) -> Result<Merged> {
    let mut groups = Vec::new();
    add_groups(file, tree, &file.defaults.groups, "/defaults", &mut Vec::new(), &mut groups)?;
    let instrument = format!("/instruments/{}", pointer_part(name));
    add_groups(file, tree, &own.groups, &instrument, &mut Vec::new(), &mut groups)?;

    let mut merger = Merger::default();
    merger.lay(&file.defaults, Layer::Defaults, "/defaults")?;
    for group in &groups {
        if let Some(settings) = file.groups.get(group) {
            merger.lay(settings, Layer::Group(group.clone()), &format!("/groups/{}", pointer_part(group)))?;
        }
    }
    merger.lay(own, Layer::Instrument, &instrument)?;
    let settings = serde_json::from_value(Value::Object(merger.merged))
        .map_err(|e| Error::internal(format!("cannot merge the settings of {name}")).because(e))?;
    Ok(Merged { settings, groups, origins: merger.origins })
}

/// Checks the groups that a group belongs to.
///
/// # Errors
/// When one does not exist, or they belong to each other in a circle.
pub(super) fn check_groups(file: &InventoryFile, tree: &Tree, name: &str, group: &Settings) -> Result<()> {
    let at = format!("/groups/{}", pointer_part(name));
    add_groups(file, tree, &group.groups, &at, &mut vec![name], &mut Vec::new())
}

/// Adds groups and those they belong to, each once, the weaker first. `within` is the way that led here.
fn add_groups<'f>(
    file: &'f InventoryFile,
    tree: &Tree,
    listed: &'f [String],
    at: &str,
    within: &mut Vec<&'f str>,
    found: &mut Vec<String>,
) -> Result<()> {
    for (index, group) in listed.iter().enumerate() {
        let position = || tree.position(&format!("{at}/groups/{index}"));
        let Some(settings) = file.groups.get(group) else {
            return Err(placed(unknown_group(file, group), position()));
        };
        if within.contains(&group.as_str()) {
            let circle = within.join(" -> ");
            let error = Error::bad_input(format!("groups belong to each other in a circle: {circle} -> {group}"))
                .next("take one of them out of the other's `groups`");
            return Err(placed(error, position()));
        }
        within.push(group);
        add_groups(file, tree, &settings.groups, &format!("/groups/{}", pointer_part(group)), within, found)?;
        within.pop();
        if !found.contains(group) {
            found.push(group.clone());
        }
    }
    Ok(())
}

fn unknown_group(file: &InventoryFile, group: &str) -> Error {
    let next = match nearest(group, file.groups.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("declare it under `groups:`, as `{group}: {{}}`"),
    };
    Error::bad_input(format!("there is no group `{group}`")).next(next)
}

#[derive(Default)]
struct Merger {
    merged: Map<String, Value>,
    origins: BTreeMap<String, Origin>,
}

impl Merger {
    fn lay(&mut self, settings: &Settings, layer: Layer, at: &str) -> Result<()> {
        let value = serde_json::to_value(settings).map_err(|e| Error::internal("cannot read settings").because(e))?;
        if let Value::Object(mut map) = value {
            // The groups are resolved apart: those of all layers count.
            map.remove("groups");
            let mut merged = std::mem::take(&mut self.merged);
            self.lay_map(&mut merged, map, "", &layer, at);
            self.merged = merged;
        }
        Ok(())
    }

    fn lay_map(&mut self, below: &mut Map<String, Value>, above: Map<String, Value>, pointer: &str, layer: &Layer, at: &str) {
        for (key, value) in above {
            let pointer = format!("{pointer}/{}", pointer_part(&key));
            match (below.get_mut(&key), value) {
                (Some(Value::Object(old)), Value::Object(new)) if merges(&pointer, old, &new) => {
                    self.lay_map(old, new, &pointer, layer, at);
                }
                (_, value) => {
                    self.forget(&pointer);
                    self.note(&value, &pointer, layer, at);
                    below.insert(key, value);
                }
            }
        }
    }

    /// Drops the origins of what is replaced.
    fn forget(&mut self, pointer: &str) {
        let below = format!("{pointer}/");
        self.origins.retain(|p, _| p != pointer && !p.starts_with(&below));
    }

    fn note(&mut self, value: &Value, pointer: &str, layer: &Layer, at: &str) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    self.note(value, &format!("{pointer}/{}", pointer_part(key)), layer, at);
                }
            }
            _ => {
                let origin = Origin { layer: layer.clone(), pointer: format!("{at}{pointer}") };
                self.origins.insert(pointer.to_owned(), origin);
            }
        }
    }
}

/// A choice (`transport`, `kits`, `layout`, a secret's source) is replaced as a whole when another one is chosen.
fn merges(pointer: &str, old: &Map<String, Value>, new: &Map<String, Value>) -> bool {
    let parts: Vec<&str> = pointer.split('/').skip(1).collect();
    let choice = matches!(parts[..], ["transport"] | ["kits"] | ["layout"] | ["secrets", _]);
    !choice || old.keys().eq(new.keys())
}
