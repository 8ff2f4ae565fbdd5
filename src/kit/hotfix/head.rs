//! `hotfix.yaml`: what an archive says of itself.

use crate::actions::check::Check;
use crate::error::{Error, Result, SourcePosition};
use crate::yaml;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The file's name, at the top of the archive.
pub const HEAD_FILE: &str = "hotfix.yaml";

/// The longest name a hotfix may have, in characters.
const LONGEST_ID: usize = 100;

/// What a hotfix says of itself. All of it may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its name on the instruments: letters, digits, `.`, `_` and `-`. The archive's name unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it mends, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Versions that must be installed, by component: the first word of its `VERSION.txt`, for example `EPICS: 26.8.0`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requires: BTreeMap<String, String>,
    /// Files to remove, as paths under a component: `EPICS/ioc/master/GALIL/old.db`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deletes: Vec<String>,
    /// What has to be restarted for it; nothing unless said.
    #[serde(default, skip_serializing_if = "Restart::is_none")]
    pub restart: Restart,
    /// What must be so afterwards, as in the action `check`. A check of a hotfix runs no line (`output`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

/// What has to be restarted for a hotfix: `none`, `server`, or `{iocs: [GALIL_01]}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Nothing: files in use are moved aside, and are used until their programs end.
    #[default]
    None,
    /// The IBEX server is stopped and started.
    Server,
    /// These IOCs.
    Iocs(Vec<String>),
}

impl Restart {
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The word that playbooks compare with.
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Server => "server",
            Self::Iocs(_) => "iocs",
        }
    }

    /// The IOCs, when it is some.
    pub fn iocs(&self) -> &[String] {
        match self {
            Self::Iocs(names) => names,
            Self::None | Self::Server => &[],
        }
    }
}

impl Head {
    /// Reads a head; `file` is what errors call it.
    ///
    /// # Errors
    /// Every mistake in it, with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let head: Self = yaml::parse(file, text)?;
        let tree = yaml::Tree::parse(file, text)?;
        let place = |pointer: &str| tree.position(pointer).unwrap_or_else(|| top(file));
        let mistakes = head.mistakes().into_iter().map(|(pointer, error)| error.at(place(&pointer)));
        Error::of_all(mistakes.collect()).map_or(Ok(head), Err)
    }

    /// What is wrong beyond the types, each with its JSON pointer.
    pub(super) fn mistakes(&self) -> Vec<(String, Error)> {
        let mut found = Vec::new();
        if let Some(Err(error)) = self.id.as_deref().map(expect_id) {
            found.push(("/id".to_owned(), error));
        }
        if let Restart::Iocs(names) = &self.restart {
            if names.is_empty() {
                let error = Error::bad_input("`restart` names no IOC");
                found.push(("/restart".to_owned(), error.next("write `restart: {iocs: [GALIL_01]}`, `server` or `none`")));
            }
            for (n, name) in names.iter().enumerate().filter(|(_, name)| !is_ioc(name)) {
                let error = Error::bad_input(format!("`{name}` is not the name of an IOC"));
                let next = "names of IOCs have letters, digits and `_`, for example `GALIL_01`";
                found.push((format!("/restart/iocs/{n}"), error.next(next)));
            }
        }
        for (n, check) in self.checks.iter().enumerate() {
            if let Some(error) = check_mistake(check) {
                found.push((format!("/checks/{n}"), error));
            }
        }
        found
    }
}

fn top(file: &str) -> SourcePosition {
    SourcePosition { file: file.to_owned(), line: 1, column: 1, excerpt: None }
}

/// Names go on a command line, so nothing else may be in them.
fn is_ioc(name: &str) -> bool {
    !name.is_empty() && name.len() <= 60 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn check_mistake(check: &Check) -> Option<Error> {
    if check.output.is_some() {
        let error = Error::bad_input("a check of a hotfix runs no line, so it cannot be `output`");
        return Some(error.next("check a file, a process, a service or a PV, or put the check into the playbook"));
    }
    check.expect_one_kind().err()
}

/// Whether a text can be the name of a hotfix.
///
/// # Errors
/// When it cannot: it becomes a part of file names, and people type it.
pub(super) fn expect_id(id: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let well = !id.is_empty() && id.len() <= LONGEST_ID && id.chars().all(plain) && !id.starts_with(['.', '-']);
    if well {
        return Ok(());
    }
    Err(Error::bad_input(format!("`{id}` cannot be the name of a hotfix"))
        .next("use letters, digits, `.`, `_` and `-`, for example `galil-timeout`"))
}
