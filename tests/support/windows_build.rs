//! Where the Windows build is, and the Wine prefix that machines are copied from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What `scripts/build-windows` has made.
pub(crate) struct WindowsBuild {
    /// `ibexdeploy.exe`, or what IBEXDEPLOY_EXE names.
    pub(crate) executable: PathBuf,
    pub(crate) prefix: PathBuf,
}

impl WindowsBuild {
    /// Nothing, and a line that says why, where it is missing or not wanted.
    pub(crate) fn find() -> Option<Self> {
        let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if given("IBEXDEPLOY_NO_WINDOWS").is_some() {
            eprintln!("skipped: IBEXDEPLOY_NO_WINDOWS is set");
            return None;
        }
        let windows = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("windows");
        let or = |name: &str, below: &str| PathBuf::from(given(name).unwrap_or_else(|| OsString::from(windows.join(below))));
        let found = Self {
            executable: or("IBEXDEPLOY_EXE", "ibexdeploy.exe"),
            prefix: or("IBEXDEPLOY_WINDOWS_TOOLCHAIN", "toolchain").join("prefix"),
        };
        let missing = [&found.executable, &found.prefix.join("system.reg")].into_iter().find(|path| !path.exists()).cloned();
        if let Some(missing) = missing {
            eprintln!("skipped: {} is not there; scripts/build-windows makes it", missing.display());
            return None;
        }
        Some(found)
    }
}
