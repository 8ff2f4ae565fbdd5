//! Checks over the whole inventory, and what is worth a person's attention.

use super::file::{InventoryFile, Settings};
use super::{Instrument, Inventory, KitTransfer, names, placed};
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

/// The mistakes in the names of a file: instruments, groups, places, variables, accounts and secrets.
pub(super) fn names(file: &InventoryFile, tree: &Tree) -> Vec<Error> {
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    if file.instruments.is_empty() {
        let error = Error::bad_input("the inventory has no instruments").next("add them under `instruments:`, as NDXLARMOR: {}");
        return vec![placed(error, tree.key_position("/instruments"))];
    }
    let mut mistakes = settings_names(&file.defaults, tree, "/defaults");
    for (name, settings) in &file.instruments {
        let at = format!("/instruments/{}", pointer_part(name));
        if let Some(error) = instrument_name_problem(name) {
            mistakes.push(placed(error, tree.key_position(&at)));
        } else if let Some(first) = known.insert(names::short(name).to_lowercase(), name) {
            mistakes.push(twice(tree, first, name));
        }
        mistakes.extend(settings_names(settings, tree, &at));
    }
    for (name, settings) in &file.groups {
        let at = format!("/groups/{}", pointer_part(name));
        mistakes.extend(group_name_problem(name, &known).map(|error| placed(error, tree.key_position(&at))));
        mistakes.extend(settings_names(settings, tree, &at));
    }
    mistakes
}

fn instrument_name_problem(name: &str) -> Option<Error> {
    if let Some(problem) = names::label_problem(name) {
        let error = Error::bad_input(format!("`{name}` cannot be an instrument's name: {problem}"))
            .next("use the machine's name, for example NDXLARMOR; a longer host name goes into `host:`");
        return Some(error);
    }
    names::EVERYTHING.iter().any(|n| n.eq_ignore_ascii_case(name)).then(|| {
        Error::bad_input(format!("`{name}` cannot be an instrument's name: patterns use it for every instrument"))
            .next("use the machine's name, for example NDXLARMOR")
    })
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

fn group_name_problem(name: &str, instruments: &BTreeMap<String, &str>) -> Option<Error> {
    if let Some(problem) = names::label_problem(name) {
        Some(Error::bad_input(format!("`{name}` cannot be a group's name: {problem}")).next("rename the group"))
    } else if names::EVERYTHING.iter().any(|n| n.eq_ignore_ascii_case(name)) {
        let error = Error::bad_input(format!("`{name}` cannot be a group's name: patterns use it for every instrument"));
        Some(error.next("put what all instruments share under `defaults:`"))
    } else {
        instruments.get(&names::short(name).to_lowercase()).map(|instrument| {
            Error::bad_input(format!("`{name}` cannot be a group's name: the instrument `{instrument}` answers to it"))
                .next("rename the group")
        })
    }
}

/// The mistakes in the names inside one layer of settings.
fn settings_names(settings: &Settings, tree: &Tree, at: &str) -> Vec<Error> {
    let words = [
        ("places", "a place", settings.places.keys().collect::<Vec<_>>()),
        ("vars", "a variable", settings.vars.keys().collect()),
        ("accounts", "an account", settings.accounts.keys().collect()),
        ("secrets", "a secret", settings.secrets.keys().collect()),
    ];
    let mut mistakes = Vec::new();
    for (section, what, keys) in words {
        for key in keys {
            let error = if let Some(problem) = names::word_problem(key) {
                Error::bad_input(format!("`{key}` cannot name {what}: {problem}"))
                    .next("templates use the name, so it must be one word")
            } else if section == "vars" && names::RESERVED.contains(&key.as_str()) {
                Error::bad_input(format!("`{key}` cannot name a variable: templates have it already"))
                    .next("give the variable another name")
            } else {
                continue;
            };
            mistakes.push(placed(error, tree.key_position(&format!("{at}/{section}/{}", pointer_part(key)))));
        }
    }
    mistakes
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
                "{}: SECI's retirement date {date} has passed: agree a new date with its scientists, or take `seci` out when it is gone",
                instrument.name
            ),
            Some(_) => continue,
        };
        let position = ["/seci/retire", "/seci"].iter().find(|p| instrument.origins.contains_key(**p));
        warnings.push(Warning { message, position: position.and_then(|p| inventory.position_of(instrument, p)) });
    }
    warnings.extend(inventory.instruments.iter().filter_map(|instrument| slow(inventory, instrument)));
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

/// Files that are pushed over WinRM: docs/windows.md says where the numbers come from.
fn slow(inventory: &Inventory, instrument: &Instrument) -> Option<Warning> {
    let (TransportSpec::Winrm(_), KitTransfer::Push) = (&instrument.transport, &instrument.kits) else { return None };
    Some(Warning {
        message: format!(
            "{}: WinRM carries some 20 MB of files a second at best, a gigabyte in a minute; `kits: pull` lets the instrument read \
             the share itself",
            instrument.name
        ),
        position: inventory.position_of(instrument, "/kits").or_else(|| Some(instrument.position.clone())),
    })
}
