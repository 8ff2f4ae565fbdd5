//! Rehearsals: kits of realistic shape, and sandboxes to release them to.
//!
//! Tests use the same: [`make_kits`] with [`KitShape::small`] (`.without_git()` where `.git` does not matter, which is
//! the quickest), then [`make_sandboxes`] with the older release installed.

mod content;
mod git;
mod kit;
pub mod mysql;
mod sandbox;
mod seci;
mod settings;
mod shape;
#[cfg(windows)]
pub mod site_programs;

pub use kit::{RehearsalKits, is_of_a_rehearsal, make_kits};
pub use sandbox::{HOME, Identity, Sandbox, SandboxSpec, SandboxState, SandboxUpdate, make_sandboxes};
pub use settings::make_remote as make_settings_remote;
pub use shape::{KitShape, TreeShape};

use crate::content::tree;
use crate::error::{Error, IoContext, Result};
use crate::locks::locked;
use crate::paths::PathPatterns;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a rehearsal gives for a secret: sandboxes have nothing that a real one would open.
pub fn stand_in(secret: &str) -> String {
    format!("stand-in for {secret}")
}

/// Copies a tree's files, with their rights.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let mut made = std::collections::BTreeSet::new();
    for entry in tree::walk(from, &PathPatterns::default())? {
        let (source, target) = (entry.path.under(from), entry.path.under(to));
        if let Some(parent) = target.parent()
            && made.insert(parent.to_path_buf())
        {
            std::fs::create_dir_all(parent).cannot(|| format!("make the folder {}", parent.display()))?;
        }
        std::fs::copy(&source, &target).cannot(|| format!("copy {} to {}", source.display(), target.display()))?;
    }
    Ok(())
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).cannot(|| format!("make {} executable", path.display()))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> Result<()> {
    Ok(())
}

/// Does the same to each, by a few threads; the first error ends it.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..tree::workers() {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if locked(&failed).is_some() {
                        return;
                    }
                    if let Err(error) = work(item) {
                        locked(&failed).get_or_insert(error);
                    }
                }
            });
        }
    });
    locked(&failed).take().map_or(Ok(()), Err)
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
