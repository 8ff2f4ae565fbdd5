//! What the kinds of changes do. Each knows the places in which its names stand, and touches nothing else.

mod files;
mod iocs;
mod lines;
mod macros;
mod names;

use super::model::{Change, Kind};
use super::run::{Left, LeftWhat, Site};
use super::tree::Tree;
use super::xml::{Edit, Xml};
use crate::error::{Error, Result};
use crate::paths::{PathPatterns, RelPath};
use regex::Regex;

const GLOBALS: &str = "configurations/globals.txt";
const DASHBOARD: &str = "configurations/dashboard.db";
const SCREENS: &str = "configurations/devices/screens.xml";
const SYNOPTICS: &str = "configurations/synoptics/*.xml";
const BASE_IOCS: &str = "configurations/components/_base/iocs.xml";

/// What a change works on.
pub(super) struct Changing<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) site: &'a Site<'a>,
    /// The version whose migration this is.
    pub(super) version: &'a str,
    pub(super) left: &'a mut Vec<Left>,
}

impl Changing<'_> {
    /// Makes a change, unless it is none of this machine's.
    ///
    /// # Errors
    /// When a file cannot be read or is not well-formed, or when a person must act first.
    pub(super) fn make(&mut self, change: &Change) -> Result<()> {
        let here = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case(&self.site.machine));
        if (!change.only_on.is_empty() && !here(&change.only_on)) || here(&change.not_on) {
            return Ok(());
        }
        let kinds = change.kinds();
        let [(_, kind)] = kinds.as_slice() else {
            return Err(Error::internal("a change of a migration is not of one kind"));
        };
        match *kind {
            Kind::ChangeMacro(c) => macros::change(self, c),
            Kind::AddMacro(c) => macros::add(self, c),
            Kind::RenameIoc(c) => iocs::rename(self, c),
            Kind::AddBaseIoc(c) => iocs::add_to_base(self, c),
            Kind::RenamePv(c) => names::rename_pv(self, c),
            Kind::RenameOpi(c) => names::rename_opi(self, c),
            Kind::RemoveScreen(c) => names::remove_screen(self, c),
            Kind::AddMeta(c) => files::add_meta(self, c),
            Kind::AddLines(c) => lines::add(self, c),
            Kind::EditLines(c) => lines::edit(self, c),
            Kind::ChangeRecord(c) => files::change_record(self, c),
            Kind::AddRecord(c) => files::add_record(self, c),
            Kind::DeleteFolders(c) => files::delete_folders(self, c),
            Kind::Stop(c) => names::stop(self, c),
            Kind::SetRemote(c) => {
                self.leave(LeftWhat::Remote { folder: c.folder.clone(), remote: c.remote.clone(), url: c.url.clone() })
            }
            Kind::Sql(c) => self.leave(LeftWhat::Sql { file: c.file.clone() }),
            Kind::ByHand(c) => self.leave(LeftWhat::ByHand { text: c.text.clone() }),
        }
    }

    fn leave(&mut self, what: LeftWhat) -> Result<()> {
        self.left.push(Left { version: self.version.to_owned(), what });
        Ok(())
    }

    fn files(&self, patterns: &[&str]) -> Result<Vec<RelPath>> {
        Ok(self.tree.matching(&PathPatterns::new(patterns)?))
    }

    /// A file of this kind of every configuration and component.
    fn config_files(&self, name: &str) -> Result<Vec<RelPath>> {
        self.files(&[&format!("configurations/configurations/*/{name}"), &format!("configurations/components/*/{name}")])
    }

    fn file(&self, path: &str) -> Result<Option<RelPath>> {
        Ok(self.tree.find(&RelPath::parse(path)?))
    }

    /// Edits an XML file; without edits, not a byte of it changes.
    fn edit_xml(&mut self, path: &RelPath, edits: impl FnOnce(&Xml) -> Vec<Edit>) -> Result<()> {
        let xml = self.tree.xml(path)?;
        let edits = edits(&xml);
        if edits.is_empty() {
            return Ok(());
        }
        let bytes = xml.with(edits).map_err(|e| e.context(format!("cannot edit {}", self.tree.shown(path))))?;
        self.tree.set(path, &bytes)?;
        Ok(())
    }

    /// Edits the characters of a text file; line ends and encoding are kept.
    fn edit_text(&mut self, path: &RelPath, edit: impl FnOnce(&str) -> Result<String>) -> Result<()> {
        let shown = self.tree.shown(path);
        let bytes = self.tree.bytes(path)?;
        let within = |e: Error| e.context(format!("cannot edit {shown}"));
        let text = crate::text::Text::read(&bytes).map_err(within)?;
        let new = edit(text.as_str())?;
        if new != text.as_str() {
            self.tree.set(path, &text.with(new).map_err(within)?.bytes())?;
        }
        Ok(())
    }
}

/// An IOC's name with those of its numbered copies: `GALIL`, `GALIL_01`. The number is the first group.
fn ioc_name(ioc: &str) -> Result<Regex> {
    super::chain::regex(&format!("^{}(_[0-9]{{2}})?$", regex::escape(ioc)))
}

/// A line without its end, and the end.
fn split_end(line: &str) -> (&str, &str) {
    let content = line.strip_suffix('\n').unwrap_or(line);
    let content = content.strip_suffix('\r').unwrap_or(content);
    line.split_at(content.len())
}

/// A text with each of its lines edited; nothing from `edit` leaves a line as it is.
fn each_line(text: &str, mut edit: impl FnMut(&str) -> Option<String>) -> String {
    let mut new = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (content, end) = split_end(line);
        match edit(content) {
            Some(other) => new.push_str(&other),
            None => new.push_str(content),
        }
        new.push_str(end);
    }
    new
}

#[cfg(test)]
mod renames;
#[cfg(test)]
mod tests;
