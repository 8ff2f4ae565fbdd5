//! Paths inside a component, and what Windows allows in a name.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// A path inside a component or an archive: `/` between names, no `.`, no `..`, no drive, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(String);

impl RelPath {
    /// Reads a relative path with either kind of slash.
    ///
    /// # Errors
    /// When it is empty, absolute, or steps out of its folder.
    pub fn parse(text: &str) -> Result<Self> {
        let slashed = text.replace('\\', "/");
        let trimmed = slashed.trim_end_matches('/');
        let bad = trimmed.is_empty()
            || trimmed.split('/').any(|n| n.is_empty() || n == "." || n == ".." || n.contains(':') || n.contains('\0'));
        if bad {
            return Err(Error::bad_input(format!("`{text}` is not a path inside a folder"))
                .next("write names joined by slashes, without `..`, a drive or a leading slash"));
        }
        Ok(Self(trimmed.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The folder that holds this path, or nothing at the top.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(head, _)| Self(head.to_owned()))
    }

    /// The path of a name inside this folder.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0))
    }

    /// True when this is `folder` or lies inside it.
    pub fn is_within(&self, folder: &Self) -> bool {
        self.0.strip_prefix(&folder.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The native path below `base`.
    pub fn under(&self, base: &Path) -> PathBuf {
        let mut path = base.to_path_buf();
        path.extend(self.names());
        path
    }

    /// What two names that differ only in case have in common.
    pub fn case_key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl TryFrom<String> for RelPath {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        Self::parse(&s).map_err(|e| e.with_advice())
    }
}
impl From<RelPath> for String {
    fn from(p: RelPath) -> Self {
        p.0
    }
}
impl AsRef<str> for RelPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Names that Windows keeps for devices, with or without an extension
/// (learn.microsoft.com, "Naming Files, Paths, and Namespaces").
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Why Windows cannot have a file of this name, or nothing when it can.
pub fn windows_name_problem(name: &str) -> Option<String> {
    if let Some(c) = name.chars().find(|c| matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\') || c.is_control()) {
        return Some(format!("the character {c:?} is not allowed in Windows names"));
    }
    if name.ends_with(['.', ' ']) {
        return Some("Windows drops a dot or space at the end of a name".to_owned());
    }
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_lowercase();
    let numbered = |p: &str| stem.strip_prefix(p).is_some_and(|n| n.len() == 1 && matches!(n.as_bytes()[0], b'1'..=b'9'));
    (DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt"))
        .then(|| format!("`{stem}` is a device name on Windows"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_relative_paths() {
        for bad in ["", "/a", "a//b", "../a", "a/./b", "C:\\a", "a:b", "\\\\s\\s"] {
            assert!(RelPath::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(RelPath::parse("a\\b/").map(String::from), Ok("a/b".to_owned()));
    }

    #[test]
    fn device_names_and_odd_ends() {
        for bad in ["CON", "aux.txt", "com1", "LPT9.log", "a.", "a ", "a?b", "x\u{7}"] {
            assert!(windows_name_problem(bad).is_some(), "{bad}");
        }
        for good in ["console", "com10", ".git", "a.b.c", "con1", "NDX LARMOR"] {
            assert_eq!(windows_name_problem(good), None, "{good}");
        }
    }
}
