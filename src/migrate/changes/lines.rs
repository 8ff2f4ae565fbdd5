//! Lines of text files.

use super::{Changing, each_line};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::migrate::chain::regex;
use crate::migrate::model::{AddLines, EditLines};
use crate::migrate::run::LeftWhat;
use crate::paths::RelPath;
use crate::text::Text;
use crate::yaml::position_at;
use regex::Regex;
use std::path::Path;

pub(super) fn add(cx: &mut Changing<'_>, add: &AddLines) -> Result<()> {
    let wanted = RelPath::parse(&add.file)?;
    let found = cx.tree.find(&wanted);
    let (path, lines) = match &found {
        Some(path) => (path, &add.lines),
        None if add.new_file.is_empty() => return Ok(()),
        None => (&wanted, &add.new_file),
    };
    let old = if found.is_some() { cx.tree.bytes(path)?.to_vec() } else { Vec::new() };
    let within = |e: Error| e.context(format!("cannot edit {}", cx.tree.shown(path)));
    let mut text = Text::read(&old).map_err(within)?;
    lines.iter().try_for_each(|line| text.ensure_line(line)).map_err(within)?;
    cx.tree.set(path, &text.bytes())?;
    Ok(())
}

/// How a line loads a database.
const LOADS: &str = "dbLoadRecords";

/// An [`EditLines`], ready for use.
struct Rule {
    loading: Option<Regex>,
    having: Option<Regex>,
    unless: Option<Regex>,
    replace: Regex,
}

impl Rule {
    fn chooses(&self, line: &str) -> bool {
        let loads = |regex: &Regex| line.contains(LOADS) && regex.is_match(line);
        self.loading.as_ref().is_none_or(loads)
            && self.having.as_ref().is_none_or(|regex| regex.is_match(line))
            && !self.unless.as_ref().is_some_and(|regex| regex.is_match(line))
    }
}

pub(super) fn edit(cx: &mut Changing<'_>, edit: &EditLines) -> Result<()> {
    let by_database = !edit.loading.is_empty() || edit.loading_made_with.is_some();
    let mut files = cx.files(&[&edit.files])?;
    if by_database {
        // The server's tree is large: it is looked through only when something may come of it.
        let mut loading = Vec::new();
        for path in files {
            if Text::read(&cx.tree.bytes(&path)?).is_ok_and(|text| text.as_str().contains(LOADS)) {
                loading.push(path);
            }
        }
        files = loading;
    }
    if files.is_empty() {
        return Ok(());
    }
    let mut databases = edit.loading.clone();
    if let Some(template) = &edit.loading_made_with {
        let Some(server) = cx.site.server.clone() else {
            let text = format!(
                "lines of {} that load databases made with {template} are not edited: these are known where the server is \
                 (--server DIR names its folder)",
                edit.files
            );
            return cx.leave(LeftWhat::ByHand { text });
        };
        databases.extend(databases_made_with(&server.join("support"), template)?);
    }
    let rule = Rule {
        loading: if by_database { Some(any_of(&databases)?) } else { None },
        having: edit.having.as_deref().map(regex).transpose()?,
        unless: edit.unless.as_deref().map(regex).transpose()?,
        replace: regex(&edit.replace)?,
    };
    for path in files {
        let shown = cx.tree.shown(&path);
        cx.edit_text(&path, |text| edited(&shown, text, &rule, &edit.with))?;
    }
    Ok(())
}

fn edited(shown: &str, text: &str, rule: &Rule, with: &str) -> Result<String> {
    let mut at = 0;
    let mut odd = None;
    let new = each_line(text, |line| {
        let here = at;
        at += line.len() + text[at + line.len()..].find('\n').map_or(0, |end| end + 1);
        if !rule.chooses(line) {
            return None;
        }
        if !rule.replace.is_match(line) {
            odd.get_or_insert(here);
        }
        Some(rule.replace.replace(line, with).into_owned())
    });
    match odd {
        None => Ok(new),
        Some(at) => Err(Error::new(ErrorKind::StepFailed, "this line must be edited by hand: it is not of the usual form")
            .at(position_at(shown, text, at))
            .next(format!("edit it so that `{with}` stands where it belongs, commit it, and migrate again"))),
    }
}

/// A name of one of these files, behind a slash or a quote.
fn any_of(databases: &[String]) -> Result<Regex> {
    let names: Vec<String> = databases.iter().map(|name| regex::escape(name)).collect();
    // Without any, nothing matches.
    let names = if names.is_empty() { "[^\\s\\S]".to_owned() } else { names.join("|") };
    regex(&format!("[\\\\/\"](?:{names})"))
}

/// The databases that the server makes with a template: `jaws.substitutions` makes `jaws.db`.
fn databases_made_with(support: &Path, template: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(support).into_iter().filter_entry(|e| e.file_name() != ".git") {
        let entry = entry.map_err(|e| Error::new(ErrorKind::Io, format!("cannot read {}", support.display())).because(e))?;
        let Some(stem) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".substitutions")) else { continue };
        let bytes = std::fs::read(entry.path()).cannot(|| format!("read {}", entry.path().display()))?;
        if String::from_utf8_lossy(&bytes).contains(template) {
            found.push(format!("{}.db", stem.split('.').next().unwrap_or(stem)));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}
