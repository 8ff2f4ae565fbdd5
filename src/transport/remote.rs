//! The agent's place on the far machine: paths and command lines, as text for its shell and its file server.

use crate::content::ContentHash;
use crate::error::{Error, Result};

/// The agent's home on a Windows machine.
const WINDOWS_HOME: &str = r"C:\ProgramData\ibexdeploy";

/// Where the agent is at home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RemoteHome {
    Windows,
    /// A Linux machine that stands for an instrument: the folder that its drives lie under.
    Unix {
        root: String,
    },
}

impl RemoteHome {
    /// # Errors
    /// When `root` is not an absolute path that a shell can be told.
    pub(super) fn of(root: Option<&str>) -> Result<Self> {
        let Some(root) = root else { return Ok(Self::Windows) };
        let root = root.trim_end_matches('/');
        if !root.starts_with('/') || root.contains(|c: char| c.is_control()) {
            return Err(Error::bad_input(format!("`root: {root}` is not an absolute path"))
                .next("write the folder on that machine as /folder/sandbox"));
        }
        Ok(Self::Unix { root: root.to_owned() })
    }

    /// The folder that stands for the drives, on a Linux machine.
    pub(super) fn root(&self) -> Option<&str> {
        match self {
            Self::Windows => None,
            Self::Unix { root } => Some(root),
        }
    }

    /// The system and processor that an executable for it is built for.
    pub(super) fn platform(&self) -> Platform {
        match self {
            Self::Windows => Platform::Windows,
            Self::Unix { .. } => Platform::Linux,
        }
    }

    /// The home, as SFTP names it.
    pub(super) fn folder(&self) -> String {
        match self {
            Self::Windows => format!("/{}", WINDOWS_HOME.replace('\\', "/")),
            Self::Unix { root } => format!("{root}/.ibexdeploy"),
        }
    }

    /// A file below the home, as SFTP names it.
    pub(super) fn file(&self, below: &str) -> String {
        format!("{}/{below}", self.folder())
    }

    /// The agent's executable below the home; `None`: one that somebody else put there.
    pub(super) fn executable(&self, build: Option<&ContentHash>) -> String {
        let name = format!("ibexdeploy{}", self.platform().suffix());
        match build {
            Some(build) => format!("bin/{}/{name}", build.short()),
            None => format!("bin/{name}"),
        }
    }

    /// The command line that starts an executable below the home, in any of the shells that an account may have.
    pub(super) fn command(&self, executable: &str, arguments: &str) -> String {
        match self {
            // No quotes: cmd.exe and PowerShell read them differently, and nothing here needs them.
            Self::Windows => format!(r"{WINDOWS_HOME}\{} agent {arguments}", executable.replace('/', "\\")),
            Self::Unix { root } => {
                format!("{} agent {arguments} --root {}", quoted(&format!("{root}/.ibexdeploy/{executable}")), quoted(root))
            }
        }
    }
}

/// A word for a POSIX shell; plain where that is enough, so that other shells understand it too.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',' | ':' | '@');
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// A system that agents are built for; all instruments have the same kind of processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    Windows,
    Linux,
}

impl Platform {
    fn suffix(self) -> &'static str {
        match self {
            Self::Windows => ".exe",
            Self::Linux => "",
        }
    }

    /// The name of a build for it that lies beside the executable or in `--agent-dir`.
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Windows => "ibexdeploy-x86_64-windows.exe",
            Self::Linux => "ibexdeploy-x86_64-linux",
        }
    }

    /// True when this very executable runs there.
    pub(super) fn is_this(self) -> bool {
        let system = match self {
            Self::Windows => cfg!(windows),
            Self::Linux => cfg!(target_os = "linux"),
        };
        system && cfg!(target_arch = "x86_64")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_need_no_quotes_where_none_are_needed() {
        let build = ContentHash::of(b"x");
        let windows = RemoteHome::Windows;
        let executable = windows.executable(Some(&build));
        assert_eq!(
            windows.command(&executable, "attach"),
            format!(r"C:\ProgramData\ibexdeploy\bin\{}\ibexdeploy.exe agent attach", build.short())
        );
        assert_eq!(windows.file("bin"), "/C:/ProgramData/ibexdeploy/bin");
        let linux = RemoteHome::Unix { root: "/srv/box".into() };
        assert_eq!(
            linux.command(&linux.executable(None), "attach"),
            "/srv/box/.ibexdeploy/bin/ibexdeploy agent attach --root /srv/box"
        );
        let odd = RemoteHome::Unix { root: "/srv/Tom's box".into() };
        assert_eq!(
            odd.command("bin/ibexdeploy", "attach"),
            r"'/srv/Tom'\''s box/.ibexdeploy/bin/ibexdeploy' agent attach --root '/srv/Tom'\''s box'"
        );
    }

    #[test]
    fn a_root_is_an_absolute_path() {
        for root in ["box", "", "/a\nb"] {
            assert!(RemoteHome::of(Some(root)).is_err(), "{root:?}");
        }
    }
}
