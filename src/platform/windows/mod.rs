//! The platform of a real instrument: Windows.

pub(crate) mod access_list;
mod disks;
mod helper;
mod in_use;
pub(crate) mod launch;
mod machine;
mod powershell;
pub(crate) mod processes;
mod programs;
pub(crate) mod quoting;
pub(crate) mod rights;
pub mod self_test;
pub(crate) mod service_process;
pub(crate) mod services;
mod shares;
pub(crate) mod system;
mod tasks;
mod updates;
mod volumes;

pub(crate) use volumes::plain;

use super::disks::{DiskFile, VirtualDisk};
use super::updates::{Program, Update};
use super::{Platform, ProcessInfo, ScheduledTask, ServiceControl, ServiceDefinition, ServiceStatus};
use crate::error::Result;
use crate::files::read_json;
use crate::paths::{Drives, WinPath};
use serde::Deserialize;
use std::any::Any;
use std::path::{Path, PathBuf};

/// This machine.
#[derive(Debug)]
pub(super) struct Windows {
    /// The agent's home.
    home: PathBuf,
}

/// `identity.json` in the agent's home, where an instrument's machine has another name than the inventory knows.
#[derive(Debug, Deserialize)]
struct Identity {
    host: String,
}

/// The agent's home on this machine.
pub(crate) fn home() -> PathBuf {
    machine::program_data().join("ibexdeploy")
}

impl Windows {
    pub(super) fn open() -> Self {
        Self { home: home() }
    }
}

impl Platform for Windows {
    fn name(&self) -> &'static str {
        "windows"
    }

    fn host_name(&self) -> String {
        match read_json::<Identity>(&self.home.join("identity.json")) {
            Ok(Some(identity)) => identity.host,
            Ok(None) => machine::host_name(),
            Err(error) => {
                tracing::warn!(%error, "the machine's own name is used");
                machine::host_name()
            }
        }
    }

    fn boot_id(&self) -> Result<String> {
        machine::boot_id()
    }

    fn reboot(&self, reason: &str) -> Result<()> {
        machine::reboot(reason)
    }

    fn pending_reboot(&self) -> Result<Option<String>> {
        programs::pending_reboot()
    }

    fn service(&self, name: &str) -> Result<Option<ServiceStatus>> {
        services::status(name)
    }

    fn control_service(&self, name: &str, control: ServiceControl) -> Result<()> {
        services::control(name, control)
    }

    fn service_definition(&self, name: &str) -> Result<Option<ServiceDefinition>> {
        services::definition(name)
    }

    fn register_service(&self, definition: &ServiceDefinition) -> Result<()> {
        services::register(definition)
    }

    fn remove_service(&self, name: &str) -> Result<()> {
        services::remove(name)
    }

    fn service_process(&self, name: &str) -> Result<Option<u32>> {
        services::process(name)
    }

    fn processes(&self) -> Result<Vec<ProcessInfo>> {
        processes::programs(&self.home.join("bin"))
    }

    fn kill(&self, pid: u32) -> Result<()> {
        processes::is_the_systems(pid).map_or_else(|| processes::end(pid), Err)
    }

    fn task(&self, name: &str) -> Result<Option<ScheduledTask>> {
        tasks::find(name)
    }

    fn register_task(&self, task: &ScheduledTask) -> Result<()> {
        tasks::register(task, &self.home)
    }

    fn remove_task(&self, name: &str) -> Result<()> {
        tasks::remove(name)
    }

    fn logged_on(&self) -> Result<Vec<String>> {
        Ok(machine::sessions()?.into_iter().map(|session| session.user).collect())
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        volumes::free_space(path)
    }

    fn volume_of(&self, path: &Path) -> Result<u64> {
        volumes::volume_of(path)
    }

    fn memory(&self) -> Result<u64> {
        machine::memory()
    }

    fn connect_share(&self, share: &WinPath, user: &str, password: &str) -> Result<Box<dyn Any + Send + Sync>> {
        shares::connect(share, user, password).map(|connection| Box::new(connection) as Box<dyn Any + Send + Sync>)
    }

    fn make_link(&self, at: &Path, to: &Path) -> Result<()> {
        volumes::make_link(at, to)
    }

    fn virtual_disk(&self, file: &DiskFile) -> Result<VirtualDisk> {
        disks::look(file)
    }

    fn attach_disk(&self, file: &DiskFile, at: Option<&Path>) -> Result<()> {
        disks::attach(file, at)
    }

    fn detach_disk(&self, file: &DiskFile) -> Result<()> {
        disks::detach(file)
    }

    fn copy_rights(&self, like: &Path, path: &Path) -> Result<()> {
        rights::copy(like, path)
    }

    fn flush_volume(&self, path: &Path) -> Result<()> {
        volumes::flush(path)
    }

    fn holders(&self, path: &Path) -> Vec<String> {
        in_use::holders(path)
    }

    fn offered_updates(&self) -> Result<Vec<Update>> {
        updates::offered()
    }

    fn install_update(&self, id: &str) -> Result<i32> {
        updates::install(id)
    }

    fn installed_programs(&self) -> Result<Vec<Program>> {
        programs::installed()
    }

    fn shell_line(&self, line: &str) -> (String, Vec<String>) {
        ("cmd.exe".to_owned(), ["/d", "/s", "/c", line].map(str::to_owned).to_vec())
    }

    fn environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn background_priority(&self, on: bool) {
        machine::background_priority(on);
    }

    fn windows_path(&self, native: &Path) -> Option<WinPath> {
        Drives::Native.windows(native)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_what_facts_need() {
        let machine = Windows::open();
        assert_eq!(machine.name(), "windows");
        assert!(!machine.host_name().is_empty());
        assert!(home().parent().is_some_and(Path::is_dir));
        assert_eq!(machine.boot_id().unwrap(), machine.boot_id().unwrap());
        assert!(machine.memory().unwrap() > 0);
        assert!(machine.logged_on().is_ok());
        assert!(machine.pending_reboot().is_ok());
        assert!(machine.kill(4).is_err());
        machine.background_priority(true);
        machine.background_priority(false);
    }

    #[test]
    fn resolved_paths_are_shown_as_people_know_them() {
        let folder = tempfile::tempdir().unwrap();
        let resolved = folder.path().canonicalize().unwrap();
        let shown = Windows::open().windows_path(&resolved).unwrap();
        assert!(!shown.as_str().contains('?'), "{shown}");
        assert!(Path::new(shown.as_str()).is_dir());
    }
}
