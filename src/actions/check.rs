//! `check`: a gate before, a proof after.

use super::{Applied, Perform, Probe, StepContext};
use crate::error::{Error, Result};
use crate::paths::Place;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// Checks that something is so; exactly one of the kinds is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Polls until it is so, at most this long; looks once unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pv: Option<PvCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitCheck>,
}

/// Free space on the volume of a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskCheck {
    /// A place on the volume.
    pub place: Place,
    /// A size, or `auto`: what the plan will stage, keep for undo and back up.
    pub free: FreeSpace,
}

/// How much space must be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum FreeSpace {
    Auto,
    AtLeast(Size),
}

impl TryFrom<String> for FreeSpace {
    type Error = Error;
    fn try_from(s: String) -> Result<Self> {
        if s == "auto" { Ok(Self::Auto) } else { s.parse().map(Self::AtLeast) }
    }
}
impl From<FreeSpace> for String {
    fn from(f: FreeSpace) -> Self {
        match f {
            FreeSpace::Auto => "auto".to_owned(),
            FreeSpace::AtLeast(size) => size.into(),
        }
    }
}

/// Installed memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryCheck {
    /// How much there must be.
    pub at_least: Size,
}

/// The first word of a `VERSION.txt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionCheck {
    /// The folder that holds `VERSION.txt`.
    pub at: Place,
    /// What it must be.
    pub is: String,
}

/// A service's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceCheck {
    /// The service's name.
    pub name: String,
    /// The state it must be in.
    pub is: super::service::ServiceState,
}

/// Programs that must or must not be there; see the action `process`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessCheck {
    /// Programs whose executable, script or working folder lies in one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under: Vec<Place>,
    /// Programs with one of these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<String>,
    /// Whether they must be there.
    pub is: super::process::ProcessState,
}

/// An account of the inventory must be logged on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionCheck {
    /// The account's name in the inventory, for example `instrument`.
    pub account: String,
}

/// Something must listen on a TCP port of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortCheck {
    /// The number of the port.
    pub port: u16,
}

/// A file or folder must be there (or not), and may have to contain a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileCheck {
    /// The file or folder.
    pub path: Place,
    /// Text it must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// It must not exist.
    #[serde(default)]
    pub absent: bool,
}

/// A program's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputCheck {
    /// The working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// A line for the command interpreter.
    pub run: String,
    /// The output must contain this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Exit codes that will do; 0 unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<i32>,
}

/// A process variable, read through the instrument's `caget`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PvCheck {
    /// The process variable's whole name.
    pub name: String,
    /// The value it must have; any value unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    /// Text that its value must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// How the value is written; `plain` unless said.
    #[serde(default)]
    pub format: PvFormat,
    /// What an unreadable one means; `refuse` unless said.
    #[serde(default)]
    pub unreadable: Unreadable,
}

/// How a process variable holds its value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PvFormat {
    #[default]
    Plain,
    /// zlib-compressed JSON as hexadecimal digits, as the block server writes it.
    HexZlibJson,
}

/// What a process variable that cannot be read means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unreadable {
    /// The check fails.
    #[default]
    Refuse,
    /// It holds when the server is not running (nothing can be disturbed), and fails otherwise.
    ServerDown,
    /// The check holds.
    Accept,
}

/// The state of a git work tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GitCheck {
    /// The work tree.
    pub at: Place,
    /// The branch that must be checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// No uncommitted changes.
    #[serde(default)]
    pub clean: bool,
}

impl Perform for Check {
    fn describe(&self) -> String {
        "check".to_owned()
    }
    fn probe(&self, _cx: &StepContext<'_>) -> Result<Probe> {
        Err(Error::internal("not built"))
    }
    fn apply(&self, _cx: &StepContext<'_>) -> Result<Applied> {
        Err(Error::internal("not built"))
    }
}
