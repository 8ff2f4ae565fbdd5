//! IOCs themselves: their names, and those that every configuration has.

use super::macros::iocs;
use super::{BASE_IOCS, Changing, GLOBALS, SYNOPTICS, each_line, ioc_name};
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::chain::regex;
use crate::migrate::model::{AddBaseIoc, Rename};
use crate::paths::RelPath;

pub(super) fn rename(cx: &mut Changing<'_>, rename: &Rename) -> Result<()> {
    let name = ioc_name(&rename.from)?;
    for path in cx.config_files("iocs.xml")? {
        cx.edit_xml(&path, |xml| {
            iocs(xml, &name)
                .filter_map(|id| xml.set_attribute(id, "name", &name.replace(&xml.attribute(id, "name")?, renamed(rename))))
                .collect()
        })?;
    }
    if let Some(path) = cx.file(GLOBALS)? {
        let start = regex(&format!("^(\\s*){}((?:_[0-9]{{2}})?__)", regex::escape(&rename.from)))?;
        let to = format!("${{1}}{}${{2}}", literal(&rename.to));
        cx.edit_text(&path, |text| Ok(each_line(text, |line| Some(start.replace(line, &to).into_owned()))))?;
    }
    // In a synoptic the name stands alone or as a word of a longer value (`GALIL_01:AXIS1`).
    let word = regex(&format!("(^|[^A-Za-z0-9_]){}((?:_[0-9]{{2}})?)($|[^A-Za-z0-9_])", regex::escape(&rename.from)))?;
    let to = format!("${{1}}{}${{2}}${{3}}", literal(&rename.to));
    for path in cx.files(&[SYNOPTICS])? {
        cx.edit_xml(&path, |xml| {
            let values = xml.named("value").filter_map(|id| {
                let value = xml.value(id)?;
                let new = word.replace_all(&value, &to);
                (new != value).then(|| xml.set_value(id, &new)).flatten()
            });
            values.collect()
        })?;
    }
    Ok(())
}

/// The new name with the number of the old one.
fn renamed(rename: &Rename) -> impl Fn(&regex::Captures<'_>) -> String + '_ {
    |found| format!("{}{}", rename.to, found.get(1).map_or("", |number| number.as_str()))
}

/// A text that stands for itself in a replacement.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

pub(super) fn add_to_base(cx: &mut Changing<'_>, add: &AddBaseIoc) -> Result<()> {
    let Some(path) = cx.file(BASE_IOCS)? else {
        let shown = cx.tree.shown(&RelPath::parse(BASE_IOCS)?);
        return Err(Error::new(ErrorKind::StepFailed, format!("{shown} does not exist"))
            .next("it comes with the settings' own repository: merge its branch `master`, and migrate again"));
    };
    let shown = cx.tree.shown(&path);
    let xml = cx.tree.xml(&path)?;
    let named =
        |name: &str| xml.named("ioc").filter(|id| xml.attribute(*id, "name").as_deref() == Some(name)).collect::<Vec<_>>();
    if !named(&add.ioc).is_empty() {
        return Ok(());
    }
    let after = named(&add.after);
    let [after] = after.as_slice() else {
        let message = format!("{shown} has the IOC {} {} times, and {} belongs behind it", add.after, after.len(), add.ioc);
        return Err(Error::new(ErrorKind::StepFailed, message).next("put the file right by hand, commit it, and migrate again"));
    };
    let name = xml.escaped(&add.ioc);
    let markup =
        format!("<ioc name=\"{name}\" autostart=\"true\" restart=\"true\" simlevel=\"none\"><macros/><pvs/><pvsets/></ioc>");
    let edit = xml.after(*after, &markup);
    cx.edit_xml(&path, |_| vec![edit])
}
