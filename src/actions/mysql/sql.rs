//! SQL files that belong to something else, run on the databases of an instrument by the same door.

use super::client::Client;
use super::server::Installed;
use super::{dump, dump_to, port, rows, services};
use crate::actions::StepContext;
use crate::actions::moves::{make_folder, shown};
use crate::error::{Error, Result};
use crate::files;
use crate::plan::PlanStep;
use crate::platform::ServiceStatus;
use crate::playbook::RunAs;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a step has run, a file of the run: written before the first statement.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Begun {
    /// The databases as they were before.
    dump: PathBuf,
    /// The dump is complete.
    dumped: bool,
}

/// Runs the files in their order, once, after everything was dumped. Gives the dump; nothing where no server runs.
///
/// # Errors
/// When the databases cannot be dumped, or a statement is refused; what the files did until then stays.
pub(in crate::actions) fn run_files(cx: &StepContext<'_>, secret: &str, sql: &[PathBuf]) -> Result<Option<PathBuf>> {
    // The password is for the agent's own programs, and not for the session of the instrument's account.
    let step = PlanStep { run_as: RunAs::Admin, ..cx.step.clone() };
    let cx = &StepContext { step: &step, ..*cx };
    let Some(server) = Installed::find(cx, &services())? else { return Ok(None) };
    if cx.platform.service(&server.service.name)? != Some(ServiceStatus::Running) {
        return Ok(None);
    }
    let client = Client { bin: server.bin, port: port(), secret };
    let file = begun_file(cx);
    let mut begun = match files::read_json(&file)? {
        Some(begun) => begun,
        None => Begun { dump: dump::free_name(&cx.native(&dump_to())?)?, dumped: false },
    };
    if !begun.dumped {
        files::write_json(&file, &begun)?;
        if let Some(folder) = begun.dump.parent() {
            make_folder(cx, folder)?;
        }
        let databases = rows::databases(cx, &client)?;
        client.dump(cx, &databases, &begun.dump)?;
        dump::expect_complete(&begun.dump, &databases)?;
        begun.dumped = true;
        files::write_json(&file, &begun)?;
    }
    for (number, path) in sql.iter().enumerate() {
        let what = |e: Error| {
            let (path, dump) = (shown(cx, path), shown(cx, &begun.dump));
            e.context(format!("{path} was not run to its end; the databases as they were before are in {dump}"))
        };
        client.run_file(cx, &format!("sql-{number}"), path).map_err(what)?;
    }
    Ok(Some(begun.dump))
}

/// Says what an undo leaves: statements have no way back.
///
/// # Errors
/// When the file that tells cannot be read.
pub(in crate::actions) fn remind_of_files(cx: &StepContext<'_>) -> Result<()> {
    if let Some(Begun { dump, dumped: true }) = files::read_json(&begun_file(cx))? {
        let dump = shown(cx, &dump);
        cx.progress.remind(&format!(
            "the SQL files of the migrations were run on the databases, which is not taken back; as they were before, the \
             databases are in {dump}"
        ));
    }
    Ok(())
}

fn begun_file(cx: &StepContext<'_>) -> PathBuf {
    cx.data_file("sql.json")
}

/// An SQL file of the server, where it is there.
pub(in crate::actions) fn file_of_server(server: &Path, name: &str) -> Option<PathBuf> {
    let below = crate::paths::RelPath::parse(name).ok()?;
    Some(below.under(server)).filter(|path| path.is_file())
}
