//! Disks of their own for a test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A disk in memory, until it is dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts one at a folder; nothing, and a line that says so, where mounting is not permitted.
    pub(crate) fn at(folder: &Path, options: &str) -> Option<Self> {
        if !mount(&["-t", "tmpfs", "-o", options, "tmpfs"], folder) {
            eprintln!("skipped: a disk cannot be mounted here");
            return None;
        }
        Some(Self(folder.to_owned()))
    }

    /// Nothing can be written to it from now on.
    pub(crate) fn close(&self) {
        assert!(mount(&["-o", "remount,ro"], &self.0));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: an agent may stand in it until it notices.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    Command::new("mount").args(arguments).arg(at).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}
