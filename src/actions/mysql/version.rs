//! Versions of the server, and the ways from one to another.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A version as programs and kits give it: `8.4.3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct ServerVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl From<ServerVersion> for String {
    fn from(version: ServerVersion) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for ServerVersion {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        Self::starting(&text).ok_or_else(|| format!("`{text}` is no version of a server"))
    }
}

impl ServerVersion {
    /// The version that a text begins with.
    fn starting(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut numbers = text[..end].split('.').map(|n| n.parse::<u32>().ok());
        let version = Self { major: numbers.next()??, minor: numbers.next()??, patch: numbers.next()?? };
        numbers.next().is_none().then_some(version)
    }

    /// What the kit's file says: `mysql-8.4.3-winx64.zip`.
    pub(super) fn of_zip(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("mysql-")?;
        let version = Self::starting(rest)?;
        rest.ends_with("-winx64.zip").then_some(version)
    }

    /// What `mysqld --version` writes: `mysqld.exe  Ver 8.4.3 for Win64 on x86_64 (MySQL Community Server - GPL)`.
    pub(super) fn in_output(output: &str) -> Option<Self> {
        output.split("Ver ").skip(1).find_map(|rest| Self::starting(rest.trim_start()))
    }

    /// What a service is called by the site's custom: `MYSQL84`.
    pub(super) fn service(self) -> String {
        format!("MYSQL{}{}", self.major, self.minor)
    }
}

/// The way from what is installed to what the kit has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Route {
    /// No server is there yet.
    New,
    /// The same series: the new server takes a copy of the data and upgrades it.
    InPlace,
    /// Another series: everything is dumped, and read into new data.
    Reload,
}

impl Route {
    /// The way; nothing when the version is the wanted one already.
    ///
    /// # Errors
    /// When it would lead back, which data do not survive.
    pub(super) fn between(old: Option<ServerVersion>, new: ServerVersion) -> Result<Option<Self>> {
        let Some(old) = old else { return Ok(Some(Self::New)) };
        if old == new {
            return Ok(None);
        }
        if old > new {
            return Err(Error::step_failed(format!("MySQL {old} is installed, and the kit has {new}"))
                .because("an older server cannot read the data of a newer one")
                .next("name a newer zip, or leave the step out"));
        }
        let same_series = (old.major, old.minor) == (new.major, new.minor);
        Ok(Some(if same_series { Self::InPlace } else { Self::Reload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> ServerVersion {
        ServerVersion::starting(text).unwrap()
    }

    #[test]
    fn versions_are_read_where_programs_write_them() {
        assert_eq!(ServerVersion::of_zip("mysql-8.4.3-winx64.zip"), Some(v("8.4.3")));
        assert_eq!(ServerVersion::of_zip("mysql-8.4.3-winx64-debug-test.zip"), None);
        assert_eq!(ServerVersion::of_zip("mysql-8.4-winx64.zip"), None);
        let windows =
            "C:\\Instrument\\Apps\\MySQL\\bin\\mysqld.exe  Ver 8.0.36 for Win64 on x86_64 (MySQL Community Server - GPL)";
        assert_eq!(ServerVersion::in_output(windows), Some(v("8.0.36")));
        assert_eq!(ServerVersion::in_output("mysqld  Ver 5.7.44-log for Win64"), Some(v("5.7.44")));
        assert_eq!(ServerVersion::in_output("no such option"), None);
        assert_eq!(v("8.4.3").service(), "MYSQL84");
    }

    #[test]
    fn ways_between_versions() {
        let way = |old: &str, new: &str| Route::between(Some(v(old)), v(new)).unwrap();
        assert_eq!(way("8.4.3", "8.4.3"), None);
        assert_eq!(way("8.4.3", "8.4.10"), Some(Route::InPlace));
        assert_eq!(way("8.0.36", "8.4.3"), Some(Route::Reload));
        assert_eq!(way("5.7.44", "8.4.3"), Some(Route::Reload));
        assert_eq!(Route::between(None, v("8.4.3")).unwrap(), Some(Route::New));
        assert!(Route::between(Some(v("8.4.10")), v("8.4.9")).unwrap_err().to_string().contains("8.4.10 is installed"));
    }
}
