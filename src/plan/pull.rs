//! Releases that an instrument reads itself.

use crate::error::Error;
use crate::paths::WinPath;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Content comes from a folder of releases instead of over the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    pub from: KitFolder,
    /// Who reads there: of a share, an account that it knows; of an address, the name for HTTP's Basic. Without it the agent reads
    /// as who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The name of the secret with that user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The certificate authorities that are trusted for an address, as PEM, instead of the instrument's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// A folder of releases, as the instrument sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KitFolder {
    /// A share, or a folder of the instrument.
    Share(WinPath),
    /// The address of a folder on a web server, `https://host/folder`, without a slash at the end.
    Web(String),
}

impl KitFolder {
    /// Reads a path or an address.
    ///
    /// # Errors
    /// When it is neither, or an address that anybody on the way could read along with.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let scheme = text.split_once("://").map(|(scheme, rest)| (scheme.to_lowercase(), rest));
        let Some((scheme, rest)) = scheme else {
            return WinPath::parse(text).map(Self::Share).map_err(|_| {
                Error::bad_input(format!("`{text}` is neither an absolute Windows path nor an address"))
                    .next("write it as \\\\server\\share\\folder or https://host/folder, without quotes or in single quotes")
            });
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let problem = match scheme.as_str() {
            "https" if host.is_empty() => Some("it names no host"),
            "https" if host.contains('@') => Some("a user stands in `user`, and the name of his password's secret in `password`"),
            "https" if rest.contains(['?', '#', ' ']) => Some("it must be a folder: without `?`, `#` and blanks"),
            "https" => None,
            _ => Some("only https shows who answers, and that nobody reads along"),
        };
        match problem {
            None => Ok(Self::Web(format!("https://{}", rest.trim_end_matches('/')))),
            Some(problem) => Err(Error::bad_input(format!("`{text}` cannot be the address of a folder: {problem}"))
                .next("write it as https://host/folder")),
        }
    }
}

impl TryFrom<String> for KitFolder {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl From<KitFolder> for String {
    fn from(folder: KitFolder) -> Self {
        folder.to_string()
    }
}

impl fmt::Display for KitFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(path) => write!(f, "{path}"),
            Self::Web(address) => f.write_str(address),
        }
    }
}
