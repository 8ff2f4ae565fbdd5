//! Absolute Windows paths, and references to named places.

use super::RelPath;
use crate::error::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use typed_path::{Utf8WindowsComponent, Utf8WindowsPath, Utf8WindowsPathBuf, Utf8WindowsPrefix};

/// An absolute Windows path (`C:\Instrument\Apps` or `\\server\share\folder`), the same type on every system.
///
/// Forward slashes are accepted and become backslashes; `.` and `..` are resolved; equality and order ignore case,
/// as on the file systems of the instruments.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct WinPath {
    text: String,
    key: String,
}

impl WinPath {
    /// Reads an absolute path.
    ///
    /// # Errors
    /// When the path is relative or has no drive or share.
    pub fn parse(text: &str) -> Result<Self> {
        let path = Utf8WindowsPathBuf::from(text.replace('/', "\\")).normalize();
        let prefixed = matches!(
            path.components().next(),
            Some(Utf8WindowsComponent::Prefix(p)) if matches!(p.kind(), Utf8WindowsPrefix::Disk(_) | Utf8WindowsPrefix::UNC(..))
        );
        if !prefixed || !path.is_absolute() {
            return Err(Error::bad_input(format!("`{text}` is not an absolute Windows path"))
                .next("write it as C:\\folder\\file or \\\\server\\share\\folder"));
        }
        Ok(Self::of(path.as_str()))
    }

    fn of(text: &str) -> Self {
        let text = if text.len() > 3 { text.trim_end_matches('\\') } else { text };
        Self { text: text.to_owned(), key: text.to_lowercase() }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path below this one.
    #[must_use]
    pub fn join(&self, below: &RelPath) -> Self {
        Self::of(&format!("{}\\{}", self.text.trim_end_matches('\\'), below.as_str().replace('/', "\\")))
    }

    pub fn parent(&self) -> Option<Self> {
        Utf8WindowsPath::new(&self.text).parent().map(|p| Self::of(p.as_str()))
    }

    /// The last name, or nothing for the root of a drive.
    pub fn file_name(&self) -> Option<&str> {
        Utf8WindowsPath::new(&self.text).file_name()
    }

    /// True when this is `folder` or lies inside it.
    pub fn is_within(&self, folder: &Self) -> bool {
        let base = folder.key.trim_end_matches('\\');
        self.key.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('\\'))
    }

    /// The drive letter in lower case, or nothing for a share.
    pub fn drive(&self) -> Option<char> {
        let bytes = self.key.as_bytes();
        (bytes.get(1) == Some(&b':')).then(|| char::from(bytes[0]))
    }

    /// The names after the drive or the share, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        Utf8WindowsPath::new(&self.text).components().filter_map(|c| match c {
            Utf8WindowsComponent::Normal(name) => Some(name),
            _ => None,
        })
    }

    /// Server and share, when the path is on one.
    pub fn share(&self) -> Option<(&str, &str)> {
        match Utf8WindowsPath::new(&self.text).components().next() {
            Some(Utf8WindowsComponent::Prefix(p)) => match p.kind() {
                Utf8WindowsPrefix::UNC(server, share) => Some((server, share)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl PartialEq for WinPath {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl Eq for WinPath {}
impl PartialOrd for WinPath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for WinPath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}
impl std::hash::Hash for WinPath {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}
impl fmt::Display for WinPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl FromStr for WinPath {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Self::parse(s)
    }
}
impl TryFrom<String> for WinPath {
    type Error = String;
    fn try_from(s: String) -> Result<Self, String> {
        Self::parse(&s).map_err(|e| e.with_advice())
    }
}
impl From<WinPath> for String {
    fn from(p: WinPath) -> Self {
        p.text
    }
}

/// A reference to a folder or file as playbooks write it: a named place (`server`), something below one
/// (`server\ioc\master`), or an absolute Windows path. May hold a template until it is rendered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Place(pub String);

impl Place {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The named place this refers to, when it is not an absolute path.
    pub fn name(&self) -> Option<&str> {
        if WinPath::parse(&self.0).is_ok() {
            return None;
        }
        self.0.split(['\\', '/']).next()
    }

    /// The absolute path, by the places of an instrument.
    ///
    /// # Errors
    /// When no place has that name (the nearest one is named), or what follows it is not a plain path.
    pub fn resolve(&self, places: &BTreeMap<String, WinPath>) -> Result<WinPath> {
        if let Ok(path) = WinPath::parse(&self.0) {
            return Ok(path);
        }
        let (name, below) = self.0.split_once(['\\', '/']).unwrap_or((&self.0, ""));
        let Some(base) = places.get(name) else {
            let near = crate::nearest::nearest(name, places.keys().map(String::as_str));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None if places.is_empty() => "name folders under `places:` in the inventory, best under `defaults:`".to_owned(),
                None => format!("the places are: {}", places.keys().cloned().collect::<Vec<_>>().join(", ")),
            };
            return Err(Error::bad_input(format!("there is no place named `{name}`")).next(hint));
        };
        if below.is_empty() { Ok(base.clone()) } else { Ok(base.join(&RelPath::parse(below)?)) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_ignore_case_and_slashes() -> Result<()> {
        let a = WinPath::parse("C:/Instrument/Apps/./EPICS/")?;
        let b = WinPath::parse("c:\\instrument\\apps\\epics")?;
        assert_eq!(a, b);
        assert_eq!(a.as_str(), "C:\\Instrument\\Apps\\EPICS");
        assert!(b.is_within(&WinPath::parse("C:\\Instrument")?));
        assert!(!b.is_within(&WinPath::parse("C:\\Instr")?));
        assert!(b.is_within(&WinPath::parse("C:\\")?));
        assert_eq!(a.drive(), Some('c'));
        assert_eq!(a.names().collect::<Vec<_>>(), ["Instrument", "Apps", "EPICS"]);
        Ok(())
    }

    #[test]
    fn shares_are_absolute_and_relative_paths_are_refused() -> Result<()> {
        let share = WinPath::parse("\\\\isis.cclrc.ac.uk\\inst$\\Kits$")?;
        assert_eq!(share.share(), Some(("isis.cclrc.ac.uk", "inst$")));
        assert_eq!(share.drive(), None);
        for bad in ["", "Instrument", "C:Instrument", "\\Instrument", "..\\x"] {
            assert!(WinPath::parse(bad).is_err(), "{bad}");
        }
        Ok(())
    }

    #[test]
    fn a_place_names_the_nearest() -> Result<()> {
        let places = BTreeMap::from([("server".to_owned(), WinPath::parse("C:\\E")?)]);
        assert_eq!(Place("server\\ioc".into()).resolve(&places)?.as_str(), "C:\\E\\ioc");
        let error = Place("servr".into()).resolve(&places).unwrap_err();
        assert_eq!(error.details().next.as_deref(), Some("did you mean `server`?"));
        assert!(Place("server\\..\\x".into()).resolve(&places).is_err());
        Ok(())
    }
}
