//! The playbooks of a folder.

use super::load::load;
use crate::error::{Error, IoContext, Result};
use std::path::{Path, PathBuf};

/// A playbook of a folder.
#[derive(Debug, Clone)]
pub struct Listed {
    pub name: String,
    pub file: PathBuf,
    /// Its description; the error, when it has mistakes.
    pub description: Result<String>,
}

/// The playbooks of a folder by name. Lists of steps for inclusion lie in folders below it and are not listed.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Listed>> {
    let listed = names(folder)?.into_iter().map(|name| Listed {
        file: folder.join(format!("{name}.yaml")),
        description: load(folder, &name).map(|p| p.description),
        name,
    });
    Ok(listed.collect())
}

/// The names of the playbooks of a folder, sorted.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = std::fs::read_dir(folder).map_err(|e| {
        Error::usage(format!("cannot read the folder of playbooks {}", folder.display()))
            .because(e)
            .next("name the folder with --playbooks DIR or IBEXDEPLOY_PLAYBOOKS")
    })?;
    for entry in entries {
        let path = entry.cannot(|| format!("read the folder of playbooks {}", folder.display()))?.path();
        if path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("yaml")) {
            names.extend(path.file_stem().map(|s| s.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}
