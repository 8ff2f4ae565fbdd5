//! Macros of IOCs: in every `iocs.xml`, and in `globals.txt`.

use super::{Changing, GLOBALS, each_line, ioc_name};
use crate::error::Result;
use crate::migrate::chain::from_start;
use crate::migrate::model::{AddMacro, ChangeMacro};
use crate::migrate::xml::{Edit, Id, Xml};
use regex::Regex;

/// A [`ChangeMacro`], ready for use.
struct Rule<'a> {
    ioc: Regex,
    name: Regex,
    value: Option<Regex>,
    to: &'a ChangeMacro,
}

impl Rule<'_> {
    /// The macro's new name and value, when it is one of those that change.
    fn applied(&self, name: &str, value: &str) -> Option<(String, String)> {
        let found = self.name.captures(name)?;
        if self.value.as_ref().is_some_and(|regex| !regex.is_match(value)) {
            return None;
        }
        let new_name = self.to.rename.as_ref().map_or_else(
            || name.to_owned(),
            |rename| {
                let mut expanded = String::new();
                found.expand(rename, &mut expanded);
                expanded
            },
        );
        Some((new_name, self.to.set.clone().unwrap_or_else(|| value.to_owned())))
    }
}

pub(super) fn change(cx: &mut Changing<'_>, change: &ChangeMacro) -> Result<()> {
    let rule = Rule {
        ioc: ioc_name(&change.ioc)?,
        name: from_start(&change.name)?,
        value: change.value.as_deref().map(from_start).transpose()?,
        to: change,
    };
    for path in cx.config_files("iocs.xml")? {
        cx.edit_xml(&path, |xml| macros_of(xml, &rule.ioc).flat_map(|id| edits(xml, id, &rule)).collect())?;
    }
    if let Some(path) = cx.file(GLOBALS)? {
        cx.edit_text(&path, |text| Ok(each_line(text, |line| global(line, &rule))))?;
    }
    Ok(())
}

fn edits(xml: &Xml, id: Id, rule: &Rule<'_>) -> Vec<Edit> {
    let (Some(name), value) = (xml.attribute(id, "name"), xml.attribute(id, "value")) else { return Vec::new() };
    let value = value.unwrap_or_default();
    let Some((new_name, new_value)) = rule.applied(&name, &value) else { return Vec::new() };
    let name = (new_name != *name).then(|| xml.set_attribute(id, "name", &new_name)).flatten();
    let value = (new_value != *value).then(|| xml.set_attribute(id, "value", &new_value)).flatten();
    name.into_iter().chain(value).collect()
}

/// A line `<IOC>_<nn>__<MACRO>=<value>`.
fn global(line: &str, rule: &Rule<'_>) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    // IOC and macro may have underscores of their own: the IOC ends where its rule says so.
    let (at, _) = key.match_indices("__").find(|(at, _)| rule.ioc.is_match(key[..*at].trim_start()))?;
    let (new_name, new_value) = rule.applied(&key[at + 2..], value)?;
    Some(format!("{}__{new_name}={new_value}", &key[..at]))
}

pub(super) fn add(cx: &mut Changing<'_>, add: &AddMacro) -> Result<()> {
    let ioc = ioc_name(&add.ioc)?;
    for path in cx.config_files("iocs.xml")? {
        cx.edit_xml(&path, |xml| {
            let iocs = iocs(xml, &ioc).filter(|id| !has_macro(xml, *id, &add.name));
            iocs.map(|id| added(xml, id, add)).collect()
        })?;
    }
    Ok(())
}

fn added(xml: &Xml, ioc: Id, add: &AddMacro) -> Edit {
    let markup = format!("<macro name=\"{}\" value=\"{}\"/>", xml.escaped(&add.name), xml.escaped(&add.value));
    match xml.inside(ioc, "macros").next() {
        Some(macros) => xml.append(macros, &markup),
        None => xml.append(ioc, &format!("<macros>{markup}</macros>")),
    }
}

fn has_macro(xml: &Xml, ioc: Id, name: &str) -> bool {
    xml.inside(ioc, "macro").any(|id| xml.attribute(id, "name").as_deref() == Some(name))
}

/// The IOCs whose name matches.
pub(super) fn iocs<'a>(xml: &'a Xml, name: &'a Regex) -> impl Iterator<Item = Id> + 'a {
    xml.named("ioc").filter(move |id| xml.attribute(*id, "name").is_some_and(|n| name.is_match(&n)))
}

fn macros_of<'a>(xml: &'a Xml, name: &'a Regex) -> impl Iterator<Item = Id> + 'a {
    let macros = iocs(xml, name).flat_map(move |ioc| xml.inside(ioc, "macro"));
    macros.filter(|id| xml.parent(*id).is_some_and(|parent| xml.name(parent) == "macros"))
}
