//! Virtual disks of a sandbox. A disk is a real file, and what is on it a folder beside that (`FILE.content`), which a link
//! shows where the disk is attached. The files of a Hyper-V host lie below `hosts/HOST` in the sandbox.

use super::Sandbox;
use super::system;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::paths::Drives;
use crate::platform::disks::{DiskFile, VirtualDisk};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A disk that is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SimulatedDisk {
    pub(super) file: PathBuf,
    /// The virtual machine of a host's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) machine: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<PathBuf>,
}

impl Sandbox {
    pub(super) fn disk(&self, file: &DiskFile) -> Result<VirtualDisk> {
        let (native, _) = self.locate(file)?;
        let attached = self.state.read()?.disks.into_iter().find(|disk| disk.file == native);
        Ok(VirtualDisk {
            exists: native.is_file(),
            attached: attached.is_some(),
            at: attached.and_then(|disk| disk.at).into_iter().collect(),
        })
    }

    pub(super) fn attach(&self, file: &DiskFile, at: Option<&Path>) -> Result<()> {
        let (native, machine) = self.locate(file)?;
        if !native.is_file() {
            return Err(Error::new(ErrorKind::StepFailed, format!("there is no disk {file}")));
        }
        self.state.change(|state| {
            if state.disks.iter().any(|disk| disk.file == native) {
                return Err(Error::new(ErrorKind::StepFailed, format!("{file} is attached already")));
            }
            if let Some(at) = at {
                let content = content(&native);
                std::fs::create_dir_all(&content).cannot(|| format!("make {}", content.display()))?;
                std::fs::remove_dir(at).cannot(|| format!("show a disk at {}", at.display()))?;
                system::make_link(at, &content)?;
            }
            state.disks.push(SimulatedDisk { file: native.clone(), machine, at: at.map(Path::to_path_buf) });
            Ok(())
        })
    }

    pub(super) fn detach(&self, file: &DiskFile) -> Result<()> {
        let (native, _) = self.locate(file)?;
        self.state.change(|state| {
            let Some(place) = state.disks.iter().position(|disk| disk.file == native) else {
                return Err(Error::new(ErrorKind::StepFailed, format!("{file} is not attached")));
            };
            if let Some(at) = state.disks.remove(place).at {
                crate::files::remove(&at)?;
                std::fs::create_dir(&at).cannot(|| format!("make {}", at.display()))?;
            }
            Ok(())
        })
    }

    /// The real file that stands for a disk's, and the virtual machine that has it.
    fn locate(&self, file: &DiskFile) -> Result<(PathBuf, Option<String>)> {
        match file {
            DiskFile::Here(path) => Ok((path.clone(), None)),
            DiskFile::OnHost { host, machine, path } => {
                let drives = Drives::Sandbox { root: self.root.join("hosts").join(host) };
                Ok((drives.native(path)?, Some(machine.clone())))
            }
        }
    }
}

/// The folder with what is on a disk.
fn content(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".content");
    PathBuf::from(name)
}
