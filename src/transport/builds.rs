//! Which executable is the agent of a machine.

use super::remote::Platform;
use crate::content::ContentHash;
use crate::error::{Error, IoContext, Result};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Finds the builds that are brought to instruments.
#[derive(Debug, Default)]
pub(super) struct Builds {
    /// A folder with builds for other platforms.
    extra: Option<PathBuf>,
    this: OnceLock<Result<Build>>,
}

impl Builds {
    /// `extra`: where builds for other platforms lie, besides beside this executable.
    pub(super) fn new(extra: Option<PathBuf>) -> Self {
        Self { extra, this: OnceLock::new() }
    }

    /// The build for a platform.
    ///
    /// # Errors
    /// When there is none; says which file is needed.
    pub(super) fn of(&self, platform: Platform) -> Result<Build> {
        let this = self.this.get_or_init(|| {
            let path = std::env::current_exe().cannot(|| "find this executable")?;
            ContentHash::of_file(&path).map(|hash| Build { path, hash })
        });
        build_for(platform, &this.clone()?, self.extra.as_deref())
    }
}

/// An executable that can be brought.
#[derive(Debug, Clone)]
pub(super) struct Build {
    pub(super) path: PathBuf,
    pub(super) hash: ContentHash,
}

/// The build for a platform: this executable itself, or one that lies beside it or in `extra`.
///
/// # Errors
/// When there is none; says which file is needed.
fn build_for(platform: Platform, this: &Build, extra: Option<&Path>) -> Result<Build> {
    if platform.is_this() {
        return Ok(this.clone());
    }
    let beside = this.path.parent().map(Path::to_owned);
    let folders: Vec<PathBuf> = extra.map(Path::to_owned).into_iter().chain(beside).collect();
    let found = folders.iter().map(|folder| folder.join(platform.file_name())).find(|file| file.is_file());
    let Some(path) = found else {
        let looked: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        return Err(Error::bad_input(format!("the agent for that machine, {}, is not there", platform.file_name()))
            .because(format!("looked in {}", looked.join(" and ")))
            .next("put that build beside this executable, or name its folder with --agent-dir"));
    };
    let hash = ContentHash::of_file(&path)?;
    Ok(Build { path, hash })
}
