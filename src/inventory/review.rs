//! Checks over the whole inventory, and what is worth a person's attention.

use super::file::{InventoryFile, Settings};
use super::{Inventory, names, placed};
use crate::error::{Error, Result, SourcePosition};
use crate::plan::TransportSpec;
use crate::yaml::{Tree, pointer_part};
use jiff::civil::Date;
use std::collections::BTreeMap;
use std::path::Path;

/// Something that is not wrong, but that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub message: String,
    pub position: Option<SourcePosition>,
}

/// Checks all names of a file: instruments, groups, places, variables, accounts and secrets.
pub(super) fn names(file: &InventoryFile, tree: &Tree) -> Result<()> {
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    if file.instruments.is_empty() {
        let error = Error::bad_input("the inventory has no instruments").next("add them under `instruments:`, as NDXLARMOR: {}");
        return Err(placed(error, tree.key_position("/instruments")));
    }
    for (name, settings) in &file.instruments {
        let at = format!("/instruments/{}", pointer_part(name));
        let position = || tree.key_position(&at);
        if let Some(problem) = names::label_problem(name) {
            let error = Error::bad_input(format!("`{name}` cannot be an instrument's name: {problem}"))
                .next("use the machine's name, for example NDXLARMOR; a longer host name goes into `host:`");
            return Err(placed(error, position()));
        }
        if names::EVERYTHING.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            let error =
                Error::bad_input(format!("`{name}` cannot be an instrument's name: patterns use it for every instrument"))
                    .next("use the machine's name, for example NDXLARMOR");
            return Err(placed(error, position()));
        }
        if let Some(first) = known.insert(names::short(name).to_lowercase(), name) {
            return Err(twice(tree, first, name));
        }
        settings_names(settings, tree, &at)?;
    }
    for (name, settings) in &file.groups {
        let at = format!("/groups/{}", pointer_part(name));
        group_name(name, &known, tree.key_position(&at))?;
        settings_names(settings, tree, &at)?;
    }
    settings_names(&file.defaults, tree, "/defaults")
}

/// Two spellings of one name; the error stands at the later one.
fn twice(tree: &Tree, one: &str, other: &str) -> Error {
    let place = |name: &str| tree.key_position(&format!("/instruments/{}", pointer_part(name)));
    let mut both = [(place(one), one), (place(other), other)];
    both.sort_by_key(|(position, _)| position.as_ref().map(|p| (p.line, p.column)));
    let [(first, one), (second, other)] = both;
    let line = first.map_or(0, |p| p.line);
    let error = Error::bad_input(format!("the instrument `{other}` is given twice"))
        .next(format!("`{one}` stands on line {line} already; case and NDX in front make no difference: keep one"));
    placed(error, second)
}

fn group_name(name: &str, instruments: &BTreeMap<String, &str>, position: Option<SourcePosition>) -> Result<()> {
    let error = if let Some(problem) = names::label_problem(name) {
        Error::bad_input(format!("`{name}` cannot be a group's name: {problem}")).next("rename the group")
    } else if names::EVERYTHING.iter().any(|n| n.eq_ignore_ascii_case(name)) {
        Error::bad_input(format!("`{name}` cannot be a group's name: patterns use it for every instrument"))
            .next("put what all instruments share under `defaults:`")
    } else if let Some(instrument) = instruments.get(&names::short(name).to_lowercase()) {
        Error::bad_input(format!("`{name}` cannot be a group's name: the instrument `{instrument}` answers to it"))
            .next("rename the group")
    } else {
        return Ok(());
    };
    Err(placed(error, position))
}

/// Checks the names inside one layer of settings.
fn settings_names(settings: &Settings, tree: &Tree, at: &str) -> Result<()> {
    let words = [
        ("places", "a place", settings.places.keys().collect::<Vec<_>>()),
        ("vars", "a variable", settings.vars.keys().collect()),
        ("accounts", "an account", settings.accounts.keys().collect()),
        ("secrets", "a secret", settings.secrets.keys().collect()),
    ];
    for (section, what, keys) in words {
        for key in keys {
            let position = || tree.key_position(&format!("{at}/{section}/{}", pointer_part(key)));
            if let Some(problem) = names::word_problem(key) {
                let error = Error::bad_input(format!("`{key}` cannot name {what}: {problem}"))
                    .next("templates use the name, so it must be one word");
                return Err(placed(error, position()));
            }
            if section == "vars" && names::RESERVED.contains(&key.as_str()) {
                let error = Error::bad_input(format!("`{key}` cannot name a variable: templates have it already"))
                    .next("give the variable another name");
                return Err(placed(error, position()));
            }
        }
    }
    Ok(())
}

/// Refuses two entries for one machine: two runs would work on it at once.
pub(super) fn machines(inventory: &Inventory) -> Result<()> {
    let mut hosts: BTreeMap<String, &str> = BTreeMap::new();
    for instrument in &inventory.instruments {
        if let Some(first) = hosts.insert(instrument.host.to_lowercase(), &instrument.name) {
            let error = Error::bad_input(format!(
                "`{first}` and `{}` are one machine: both have the host {}",
                instrument.name, instrument.host
            ))
            .next("remove one of them, or give it the host it really has");
            let own = inventory
                .position_of(instrument, "/host")
                .filter(|_| instrument.origins.get("/host").is_some_and(|o| o.layer == super::Layer::Instrument));
            return Err(error.at(own.unwrap_or_else(|| instrument.position.clone())));
        }
    }
    sandboxes(inventory)
}

/// Refuses two sandboxes in one folder.
fn sandboxes(inventory: &Inventory) -> Result<()> {
    let mut roots: BTreeMap<&Path, &str> = BTreeMap::new();
    for instrument in &inventory.instruments {
        let TransportSpec::Local { root } = &instrument.transport else { continue };
        if let Some(first) = roots.insert(root, &instrument.name) {
            let error = Error::bad_input(format!(
                "`{first}` and `{}` are one machine: both have the sandbox {}",
                instrument.name,
                root.display()
            ))
            .next("give each its own folder, for example sandboxes/{{ name }}");
            return Err(placed(error, inventory.position_of(instrument, "/transport/local/root")));
        }
    }
    Ok(())
}

/// As [`Inventory::warnings`].
pub(super) fn warnings(inventory: &Inventory, today: Date) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for instrument in &inventory.instruments {
        let Some(seci) = &instrument.seci else { continue };
        let message = match seci.retire {
            None => format!("{}: no date is agreed for SECI to retire", instrument.name),
            Some(date) if date <= today => format!(
                "{}: SECI's retirement date {date} has passed: it need not be kept able to run, and `seci` can go",
                instrument.name
            ),
            Some(_) => continue,
        };
        let position = ["/seci/retire", "/seci"].iter().find(|p| instrument.origins.contains_key(**p));
        warnings.push(Warning { message, position: position.and_then(|p| inventory.position_of(instrument, p)) });
    }
    for group in &inventory.groups {
        if !inventory.instruments.iter().any(|i| i.groups.contains(group)) {
            warnings.push(Warning {
                message: format!("the group `{group}` has no instruments"),
                position: inventory.tree.key_position(&format!("/groups/{}", pointer_part(group))),
            });
        }
    }
    warnings
}
