//! The migrations of the server's own, which come with the kit.

use super::Migrate;
use crate::actions::command::Command;
use crate::actions::writes::WritesUndo;
use crate::actions::{Applied, Perform, StepContext};
use crate::content::Manifest;
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::chain::Chain;
use crate::migrate::kit_chain_end;
use crate::paths::Place;

/// The component that is the server.
const SERVER: &str = "EPICS";

/// The folder with the server's migrations.
const FOLDER: &str = "misc\\upgrade\\master";

/// The script that runs them.
pub(super) const SCRIPT: &str = "upgrade.bat";

/// The file that lists the versions.
const LIST: &str = "misc/upgrade/master/upgrade.py";

/// Looks whether the chain that the kit brings ends at a version that ours knows.
///
/// # Errors
/// When it goes further: then the release needs migrations that are not there.
pub(super) fn expect_not_newer(cx: &StepContext<'_>, ours: &Chain) -> Result<()> {
    let Some(component) = cx.plan.components.get(SERVER) else { return Ok(()) };
    let manifest = Manifest::from_bytes(&cx.content.blob(&component.manifest, cx.progress, cx.deadline)?)?;
    let Some(list) = manifest.files.iter().find(|file| file.path.as_str().eq_ignore_ascii_case(LIST)) else { return Ok(()) };
    let script = cx.content.blob(&list.hash, cx.progress, cx.deadline)?;
    match kit_chain_end(&String::from_utf8_lossy(&script)) {
        Some(end) if ours.index_of(&end).is_none() => Err(Error::new(
            ErrorKind::Refused,
            format!("the kit migrates settings to {end}, and our chain of migrations ends at {}", ours.newest()),
        )
        .next(format!("add what is missing to the migrations beside the playbook, up to {end}; or say `chain: kit`"))),
        _ => Ok(()),
    }
}

/// Runs the server's script. What it changes is saved first and put back by an undo; what it pushes is not.
pub(super) fn apply(migrate: &Migrate, cx: &StepContext<'_>) -> Result<Applied> {
    WritesUndo::save(cx, &[cx.path(&migrate.at)?])?;
    let command = Command {
        at: Some(Place(format!("{}\\{FOLDER}", migrate.server))),
        run: Some(SCRIPT.to_owned()),
        program: None,
        args: Vec::new(),
        env: std::collections::BTreeMap::new(),
        stdin_secret: None,
        exit_codes: Vec::new(),
        success: None,
        log: None,
        creates: None,
        unless: None,
        systems: Vec::new(),
        read_only: false,
        gate: None,
    };
    command.apply(cx)
}
