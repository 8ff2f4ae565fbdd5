//! Where Windows paths lie on the machine the agent runs on.

use super::WinPath;
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Maps Windows paths to native ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drives {
    /// The machine's own drives (Windows).
    Native,
    /// A sandbox: `C:\X` is `<root>/c/X`, `\\server\share\X` is `<root>/unc/server/share/X`.
    Sandbox { root: PathBuf },
}

impl Drives {
    /// The native path of a Windows path.
    ///
    /// # Errors
    /// On a system without drive letters, when this is not a sandbox.
    pub fn native(&self, path: &WinPath) -> Result<PathBuf> {
        match self {
            Self::Native if cfg!(windows) => Ok(PathBuf::from(path.as_str())),
            Self::Native => Err(Error::bad_input(format!("{path} has no meaning on this system"))
                .next("give the instrument a `root:` folder, so that it is a sandbox")),
            Self::Sandbox { root } => {
                let mut native = root.clone();
                match (path.drive(), path.share()) {
                    (Some(letter), _) => native.push(letter.to_string()),
                    (None, Some((server, share))) => {
                        native.push("unc");
                        native.push(server);
                        native.push(share);
                    }
                    (None, None) => return Err(Error::internal(format!("{path} has neither drive nor share"))),
                }
                native.extend(path.names());
                Ok(native)
            }
        }
    }

    /// The Windows path of a native one, where it has one: for messages.
    pub fn windows(&self, native: &Path) -> Option<WinPath> {
        match self {
            Self::Native => WinPath::parse(&without_prefix(native.to_str()?)).ok(),
            Self::Sandbox { root } => {
                let native = without_prefix(native.to_str()?);
                let below = Path::new(&*native).strip_prefix(root).ok()?.to_str()?;
                let (first, rest) = below.split_once(std::path::is_separator).unwrap_or((below, ""));
                if first == "unc" {
                    return WinPath::parse(&format!("\\\\{}", rest.replace('/', "\\"))).ok();
                }
                (first.len() == 1).then(|| WinPath::parse(&format!("{}:\\{rest}", first.to_uppercase())).ok())?
            }
        }
    }

    /// The root of the volume-like area a path belongs to in a sandbox, where the agent's own folders may lie.
    pub fn sandbox_root(&self) -> Option<&Path> {
        match self {
            Self::Native => None,
            Self::Sandbox { root } => Some(root),
        }
    }
}

/// A resolved path of Windows (`\\?\C:\X`, `\\?\UNC\server\share`) as people write it.
fn without_prefix(text: &str) -> Cow<'_, str> {
    match text.strip_prefix("\\\\?\\") {
        Some(rest) => rest.strip_prefix("UNC\\").map_or(Cow::Borrowed(rest), |share| Cow::Owned(format!("\\\\{share}"))),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolved_paths_of_windows_are_shown_as_people_write_them() -> Result<()> {
        for (native, shown) in [("\\\\?\\C:\\x", "C:\\x"), ("\\\\?\\UNC\\srv\\inst$\\x", "\\\\srv\\inst$\\x"), ("C:\\x", "C:\\x")]
        {
            assert_eq!(Drives::Native.windows(Path::new(native)), Some(WinPath::parse(shown)?));
        }
        Ok(())
    }

    #[test]
    fn a_sandbox_maps_both_ways() -> Result<()> {
        let drives = Drives::Sandbox { root: "/s/NDXLARMOR".into() };
        for (win, native) in [
            ("C:\\Instrument\\Apps", "/s/NDXLARMOR/c/Instrument/Apps"),
            ("\\\\srv\\inst$\\Kits$", "/s/NDXLARMOR/unc/srv/inst$/Kits$"),
        ] {
            let path = WinPath::parse(win)?;
            assert_eq!(drives.native(&path)?, PathBuf::from(native));
            assert_eq!(drives.windows(Path::new(native)), Some(path));
        }
        Ok(())
    }
}
