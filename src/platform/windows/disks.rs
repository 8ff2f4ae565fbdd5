//! Virtual disks, through PowerShell: the module Storage for disks of this machine, Hyper-V's own for those that a host attaches.
//! The host is reached by PowerShell's remoting, with the account that the agent runs as: that of the machine, for the service.

use super::powershell;
use crate::error::Result;
use crate::platform::disks::{DiskFile, VirtualDisk};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one question or change may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Writes a line of JSON about the disk in the file `$env:IBEXDEPLOY_DISK`.
pub(super) const LOOK: &str = include_str!("scripts/look_at_disk.ps1");

/// Attaches it. `$env:IBEXDEPLOY_DISK_AT` is the folder that shows its largest volume then; drive letters are given without.
pub(super) const ATTACH: &str = include_str!("scripts/attach_disk.ps1");

/// Takes it out of the folders that show it, and detaches it.
pub(super) const DETACH: &str = include_str!("scripts/detach_disk.ps1");

/// The same three of a disk of the virtual machine `$env:IBEXDEPLOY_MACHINE`, on its host `$env:IBEXDEPLOY_HOST`.
pub(super) const HOST_LOOK: &str = include_str!("scripts/look_at_disk_on_host.ps1");

pub(super) const HOST_ATTACH: &str = include_str!("scripts/attach_disk_on_host.ps1");

pub(super) const HOST_DETACH: &str = include_str!("scripts/detach_disk_on_host.ps1");

#[derive(Debug, Deserialize)]
struct Found {
    exists: bool,
    attached: bool,
    at: Vec<String>,
}

/// What is known of a disk.
///
/// # Errors
/// When Windows or the host does not tell.
pub(super) fn look(file: &DiskFile) -> Result<VirtualDisk> {
    read(&run("look at", file, [LOOK, HOST_LOOK], None)?)
}

/// Attaches a disk.
///
/// # Errors
/// When Windows or the host refuses.
pub(super) fn attach(file: &DiskFile, at: Option<&Path>) -> Result<()> {
    run("attach", file, [ATTACH, HOST_ATTACH], at).map(drop)
}

/// Detaches a disk.
///
/// # Errors
/// When Windows or the host refuses.
pub(super) fn detach(file: &DiskFile) -> Result<()> {
    run("detach", file, [DETACH, HOST_DETACH], None).map(drop)
}

fn run(what: &str, file: &DiskFile, [here, on_host]: [&str; 2], at: Option<&Path>) -> Result<String> {
    let what = format!("{what} the disk {file}");
    match file {
        DiskFile::Here(path) => {
            let (path, at) = (super::plain(path).display().to_string(), at.map(|at| super::plain(at).display().to_string()));
            let environment = [("IBEXDEPLOY_DISK", path.as_str()), ("IBEXDEPLOY_DISK_AT", at.as_deref().unwrap_or_default())];
            powershell::run(&what, here, &environment, Some(LIMIT))
        }
        DiskFile::OnHost { host, machine, path } => {
            let path = path.to_string();
            let environment = [("IBEXDEPLOY_DISK", path.as_str()), ("IBEXDEPLOY_HOST", host), ("IBEXDEPLOY_MACHINE", machine)];
            powershell::run(&what, on_host, &environment, Some(LIMIT)).map_err(|error| {
                error.next(format!(
                    "see that {host} runs Hyper-V and takes PowerShell's remoting, and that this machine's account ({machine}$) is in \
                     its groups Hyper-V Administrators and Remote Management Users (docs/windows.md)"
                ))
            })
        }
    }
}

fn read(output: &str) -> Result<VirtualDisk> {
    let line = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let found: Found = serde_json::from_str(line).map_err(|e| powershell::not_understood(line).because(e))?;
    // Folders come with a backslash at the end, and so do drives, which need theirs.
    let folder = |path: &String| PathBuf::from(if path.len() > 3 { path.trim_end_matches('\\') } else { path });
    Ok(VirtualDisk { exists: found.exists, attached: found.attached, at: found.at.iter().map(folder).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_powershell_says_of_a_disk_is_read() {
        let output = "\r\n{\"attached\":true,\"exists\":true,\"at\":[\"C:\\\\Instrument\\\\Apps\\\\\",\"E:\\\\\"]}\r\n\r\n";
        let at = vec![PathBuf::from("C:\\Instrument\\Apps"), PathBuf::from("E:\\")];
        assert_eq!(read(output).unwrap(), VirtualDisk { exists: true, attached: true, at });
        assert_eq!(read("{\"attached\":false,\"exists\":false,\"at\":[]}\r\n").unwrap(), VirtualDisk::default());
        assert!(read("WARNING: none\r\n").is_err());
    }
}
