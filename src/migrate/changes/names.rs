//! Names of PVs and OPIs, wherever they stand.

use super::{Changing, DASHBOARD, SCREENS, SYNOPTICS};
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::dashboard::Dashboard;
use crate::migrate::model::{RemoveScreen, Rename, Stop};
use crate::migrate::xml::{Edit, Id, Xml};
use crate::paths::RelPath;

pub(super) fn rename_pv(cx: &mut Changing<'_>, rename: &Rename) -> Result<()> {
    let renamed = |value: &str| value.contains(&rename.from).then(|| value.replace(&rename.from, &rename.to));
    for (path, element) in pv_files(cx)? {
        cx.edit_xml(&path, |xml| {
            let found = xml.named(element).filter_map(|id| xml.set_value(id, &renamed(&xml.value(id)?)?));
            found.collect()
        })?;
    }
    if let Some(path) = cx.file(DASHBOARD)? {
        let shown = cx.tree.shown(&path);
        cx.edit_text(&path, |text| Ok(Dashboard::read(&shown, text)?.map_strings(renamed)))?;
    }
    Ok(())
}

/// The XML files in which PVs stand, each with the element that holds them.
fn pv_files(cx: &Changing<'_>) -> Result<Vec<(RelPath, &'static str)>> {
    let blocks = cx.config_files("blocks.xml")?.into_iter().map(|path| (path, "read_pv"));
    let synoptics = cx.files(&[SYNOPTICS])?.into_iter().map(|path| (path, "address"));
    Ok(blocks.chain(synoptics).collect())
}

/// The first file that has a PV with one of these in its name.
fn find_pv(cx: &mut Changing<'_>, parts: &[String]) -> Result<Option<(String, String)>> {
    let hit = |value: &str| parts.iter().any(|part| value.contains(part));
    for (path, element) in pv_files(cx)? {
        let xml = cx.tree.xml(&path)?;
        if let Some(pv) = xml.named(element).filter_map(|id| xml.value(id)).find(|value| hit(value)) {
            return Ok(Some((cx.tree.shown(&path), pv.into_owned())));
        }
    }
    if let Some(path) = cx.file(DASHBOARD)? {
        let (shown, bytes) = (cx.tree.shown(&path), cx.tree.bytes(&path)?);
        let text = crate::text::Text::read(&bytes)?.into_string();
        let dashboard = Dashboard::read(&shown, &text)?;
        if let Some(pv) = dashboard.strings().find(|value| hit(value)) {
            return Ok(Some((shown, pv.to_owned())));
        }
    }
    Ok(None)
}

pub(super) fn rename_opi(cx: &mut Changing<'_>, rename: &Rename) -> Result<()> {
    let renamed = |xml: &Xml, id: Id| (xml.value(id)? == rename.from).then(|| xml.set_value(id, &rename.to)).flatten();
    for path in cx.files(&[SYNOPTICS])? {
        cx.edit_xml(&path, |xml| within(xml, "target", "name").filter_map(|id| renamed(xml, id)).collect())?;
    }
    if let Some(path) = cx.file(SCREENS)? {
        cx.edit_xml(&path, |xml| within(xml, "device", "key").filter_map(|id| renamed(xml, id)).collect())?;
    }
    Ok(())
}

/// Elements of a name that stand directly in one of another.
fn within<'a>(xml: &'a Xml, outer: &'a str, inner: &'a str) -> impl Iterator<Item = Id> + 'a {
    xml.named(inner).filter(move |id| xml.parent(*id).is_some_and(|parent| xml.name(parent) == outer))
}

pub(super) fn remove_screen(cx: &mut Changing<'_>, remove: &RemoveScreen) -> Result<()> {
    let Some(path) = cx.file(SCREENS)? else { return Ok(()) };
    cx.edit_xml(&path, |xml| {
        let keys = within(xml, "device", "key").filter(|id| xml.value(*id).as_deref() == Some(remove.key.as_str()));
        let mut devices: Vec<Id> = keys.filter_map(|id| xml.parent(id)).collect();
        devices.dedup();
        devices.into_iter().map(|id| xml.remove(id)).collect::<Vec<Edit>>()
    })
}

pub(super) fn stop(cx: &mut Changing<'_>, stop: &Stop) -> Result<()> {
    let mut found = find_pv(cx, &stop.if_pv)?.map(|(file, pv)| format!("{file} has {pv}"));
    if let Some(path) = &stop.if_exists {
        let path = RelPath::parse(path)?;
        if cx.tree.find(&path).or_else(|| cx.tree.find_folder(&path)).is_some() {
            found = Some(format!("{} is there", cx.tree.shown(&path)));
        }
    }
    match found {
        None => Ok(()),
        Some(what) => Err(Error::new(ErrorKind::StepFailed, stop.message.clone()).because(what).next(stop.next.clone())),
    }
}
