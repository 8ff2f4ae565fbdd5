//! The way from the version that settings have to another one of the chain.

use super::Chain;
use super::changes::Changing;
use super::tree::Tree;
use crate::error::{Error, Result};
use crate::paths::RelPath;
use crate::text::Text;
use crate::yaml::position_at;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The file whose first line is the version of the settings.
pub(super) const VERSION_FILE: &str = "configurations/config_version.txt";

/// When a folder was last committed, in seconds since 1970; nothing when it never was.
pub type NewestCommit<'a> = &'a dyn Fn(&RelPath) -> Result<Option<i64>>;

/// Where the settings belong.
pub struct Site<'a> {
    /// The machine's name, for changes that are made only there.
    pub machine: String,
    /// The native folder of the server, where there is one.
    pub server: Option<PathBuf>,
    /// The settings are a git work tree.
    pub has_history: bool,
    pub newest_commit: NewestCommit<'a>,
}

impl fmt::Debug for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("machine", &self.machine).field("server", &self.server).finish_non_exhaustive()
    }
}

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    pub from: String,
    pub to: String,
    /// The versions that were left, in their order.
    pub passed: Vec<Passed>,
    /// What a migration does not do by itself.
    pub left: Vec<Left>,
}

/// One version that was left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passed {
    pub from: String,
    pub to: String,
    /// Of the migration; nothing when there is none.
    pub description: Option<String>,
    /// What has changed by it, as it is then; nothing for a file that is gone.
    #[serde(skip)]
    pub files: BTreeMap<RelPath, Option<Vec<u8>>>,
}

/// Something that belongs to a migration and is not a change of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The version whose migration it belongs to.
    pub version: String,
    pub what: LeftWhat,
}

/// What a [`Left`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftWhat {
    /// An SQL file of the server.
    Sql { file: String },
    /// A remote of a git work tree that is to lead elsewhere.
    Remote { folder: String, remote: String, url: String },
    /// For a person.
    ByHand { text: String },
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {}: ", self.version)?;
        match &self.what {
            LeftWhat::Sql { file } => write!(f, "the SQL file {file} of the server"),
            LeftWhat::Remote { folder, remote, url } => write!(f, "the remote {remote} of {folder} leads to {url}"),
            LeftWhat::ByHand { text } => f.write_str(text),
        }
    }
}

/// Takes settings to a version of the chain, the newest unless `to` names one. Changes nothing but the tree in memory,
/// whose changes count for nothing after an error.
///
/// # Errors
/// When the version is not known, a file is not well-formed (with its line), or a person must act first.
pub fn migrate(tree: &mut Tree, chain: &Chain, site: &Site<'_>, to: Option<&str>) -> Result<Migrated> {
    let to = to.unwrap_or_else(|| chain.newest());
    let end = chain.index_of(to).ok_or_else(|| chain.unknown(to))?;
    let version = Version::read(tree)?;
    let from = version.as_ref().map_or_else(|| chain.oldest().to_owned(), |v| v.version.clone());
    let start = chain.index_of(&from).ok_or_else(|| match &version {
        Some(version) => chain.unknown(&from).at(position_at(&tree.shown(&version.path), &from, 0)),
        None => chain.unknown(&from),
    })?;
    if start > end {
        return Err(Error::bad_input(format!("the settings have the version {from} already, which comes after {to}"))
            .next("migrations lead forward only; git has the settings as they were before"));
    }
    let mut migrated = Migrated { from, to: to.to_owned(), passed: Vec::new(), left: Vec::new() };
    for (link, next) in chain.links[start..=end].iter().zip(chain.links[start..=end].iter().skip(1)) {
        if let Some(migration) = &link.migration {
            let mut changing = Changing { tree, site, version: &link.version, left: &mut migrated.left };
            let within = |e: Error| e.because(format!("in the migration from {} to {}", link.version, next.version));
            migration.changes.iter().try_for_each(|change| changing.make(change)).map_err(within)?;
        }
        Version::write(tree, &next.version)?;
        migrated.passed.push(Passed {
            from: link.version.clone(),
            to: next.version.clone(),
            description: link.migration.as_ref().map(|m| m.description.clone()),
            files: tree.take_touched(),
        });
    }
    Ok(migrated)
}

/// The version file, as it is.
struct Version {
    path: RelPath,
    version: String,
}

impl Version {
    fn read(tree: &mut Tree) -> Result<Option<Self>> {
        let Some(path) = tree.find(&RelPath::parse(VERSION_FILE)?) else { return Ok(None) };
        let text = Text::read(&tree.bytes(&path)?)?;
        let version = text.as_str().lines().next().unwrap_or_default().trim().to_owned();
        Ok(Some(Self { path, version }))
    }

    /// Writes the first line; what stands below it stays.
    fn write(tree: &mut Tree, version: &str) -> Result<()> {
        let wanted = RelPath::parse(VERSION_FILE)?;
        let Some(path) = tree.find(&wanted) else {
            return tree.set(&wanted, format!("{version}\n").as_bytes()).map(|_| ());
        };
        let text = Text::read(&tree.bytes(&path)?)?;
        let old = text.as_str();
        let rest = old.find(['\r', '\n']).map_or("", |end| &old[end..]);
        let new = text.with(format!("{version}{rest}"))?;
        tree.set(&path, &new.bytes()).map(|_| ())
    }
}

/// The newest version that a kit's own chain of migrations knows, by the text of its script; nothing when it lists none.
pub fn kit_chain_end(script: &str) -> Option<String> {
    // Each version is the first of a pair: ("7.2.1", ...). Lines that are comments list none.
    let code: String = script.lines().filter(|line| !line.trim_start().starts_with('#')).fold(String::new(), |mut all, line| {
        all.push_str(line);
        all.push('\n');
        all
    });
    let pairs = super::chain::regex(r#"\(\s*["']([0-9]+(?:\.[0-9]+){2,3})["']\s*,"#).ok()?;
    pairs.captures_iter(&code).last().and_then(|found| Some(found.get(1)?.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_kit_s_chain_is_read_from_its_script() {
        let script = "STEPS = [\n    (\"6.0.0\", A()),\n    (\n        '7.2.1',\n        B(\"1.2.3\"),\n    ),  # (\"9.9.9\", x\n    # (\"99.0.0\", C()),\n    (\"25.2.2\", None),\n]\n";
        assert_eq!(kit_chain_end(script).as_deref(), Some("25.2.2"));
        assert_eq!(kit_chain_end("nothing"), None);
    }
}
