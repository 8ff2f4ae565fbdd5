//! SECI of a rehearsed hybrid: programs that run, and what it shares with IBEX.

use super::sandbox::Sandbox;
use crate::error::{IoContext, Result};
use std::path::Path;

/// The programs, by their names in SECI's folder.
const PROGRAMS: [(&str, &str); 4] = [
    ("SeciUserInterface.exe", include_str!("scripts/seci/SeciUserInterface.exe")),
    ("KillSECI", include_str!("scripts/seci/KillSECI")),
    ("start", include_str!("scripts/seci/start")),
    ("seci.sh", include_str!("scripts/seci/seci.sh")),
];

/// What IBEX and SECI share, by names in ISISICP's folder. The real one keeps the number of the run in a form of its own.
const SHARED: [(&str, &str); 2] =
    [("icp_config.xml", "<I32>\r\n<Name>DAEType</Name>\r\n<Val>3</Val>\r\n</I32>\r\n"), ("run_number.txt", "00012345\r\n")];

/// Makes SECI in a sandbox whose inventory says where it is. Its programs are scripts of the shell: on Windows it lies there,
/// and cannot be started.
///
/// # Errors
/// When files cannot be written.
pub(super) fn make(sandbox: &Sandbox) -> Result<()> {
    if !sandbox.spec.places.contains_key("seci") {
        return Ok(());
    }
    let folder = sandbox.place("seci")?;
    for (name, text) in PROGRAMS {
        write(&folder.join(name), text)?;
        super::make_executable(&folder.join(name))?;
    }
    if sandbox.spec.places.contains_key("labview_dae") {
        let folder = sandbox.place("labview_dae")?;
        for (name, text) in SHARED {
            write(&folder.join(name), text)?;
        }
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    let what = || format!("write {}", file.display());
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).cannot(what)?;
    }
    std::fs::write(file, text).cannot(what)
}
