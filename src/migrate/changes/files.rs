//! `meta.xml`, the dashboard, and whole folders.

use super::{Changing, DASHBOARD};
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::chain::moment;
use crate::migrate::dashboard::Dashboard;
use crate::migrate::model::{AddMeta, AddRecord, ChangeRecord, DeleteFolders};
use crate::migrate::run::LeftWhat;
use crate::paths::RelPath;

pub(super) fn add_meta(cx: &mut Changing<'_>, add: &AddMeta) -> Result<()> {
    for path in cx.config_files("meta.xml")? {
        cx.edit_xml(&path, |xml| {
            let there = xml.named(&add.element).any(|id| xml.parent(id) == Some(xml.root()));
            let markup = || format!("<{0}>{1}</{0}>", add.element, xml.escaped(&add.value));
            if there { Vec::new() } else { vec![xml.append(xml.root(), &markup())] }
        })?;
    }
    Ok(())
}

pub(super) fn change_record(cx: &mut Changing<'_>, change: &ChangeRecord) -> Result<()> {
    // An instrument without a dashboard of its own has the server's.
    let Some(path) = cx.file(DASHBOARD)? else { return Ok(()) };
    let shown = cx.tree.shown(&path);
    let mut missing = false;
    cx.edit_text(&path, |text| match Dashboard::read(&shown, text)?.with_fields(&change.record, &change.add, &change.set) {
        Some(new) => Ok(new),
        None => {
            missing = true;
            Ok(text.to_owned())
        }
    })?;
    if missing {
        let text = format!(
            "{shown} has no record {}: the dashboard is one of the site's own, look whether it needs the change",
            change.record
        );
        cx.leave(LeftWhat::ByHand { text })?;
    }
    Ok(())
}

pub(super) fn add_record(cx: &mut Changing<'_>, add: &AddRecord) -> Result<()> {
    let Some(path) = cx.file(DASHBOARD)? else { return Ok(()) };
    let shown = cx.tree.shown(&path);
    cx.edit_text(&path, |text| Ok(Dashboard::read(&shown, text)?.with_record(&add.record, &add.kind, &add.fields)))
}

pub(super) fn delete_folders(cx: &mut Changing<'_>, delete: &DeleteFolders) -> Result<()> {
    let mut there = Vec::new();
    for folder in &delete.folders {
        there.extend(cx.tree.find_folder(&RelPath::parse(folder)?));
    }
    if let Some(since) = &delete.unchanged_since
        && !there.is_empty()
    {
        if !cx.site.has_history {
            let names: Vec<String> = there.iter().map(|folder| cx.tree.shown(folder)).collect();
            let text =
                format!("no git history tells whether these have changed since {since}: look, and delete {}", names.join(", "));
            return cx.leave(LeftWhat::ByHand { text });
        }
        let limit = moment(since)?.as_second();
        for folder in &there {
            if (cx.site.newest_commit)(folder)?.is_some_and(|at| at > limit) {
                let message = format!("{} was to be deleted, and has a commit later than {since}", cx.tree.shown(folder));
                return Err(Error::new(ErrorKind::StepFailed, message).next(delete.message.clone().unwrap_or_default()));
            }
        }
    }
    there.iter().try_for_each(|folder| cx.tree.delete_folder(folder))
}
