//! `check: file`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Place;
use crate::platform::facts::version_in;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

/// A file or folder must be there (or not), and may have to contain a text. `register` keeps its `first_line`.
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

/// Bytes that a first line may have.
const LONGEST_LINE: u64 = 4096;

impl Look for FileCheck {
    fn wish(&self) -> String {
        match (&self.contains, self.absent) {
            (_, true) => format!("{} to be gone", self.path),
            (Some(text), false) => format!("{} to contain `{text}`", self.path),
            (None, false) => format!("{} to exist", self.path),
        }
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        if self.absent && self.contains.is_some() {
            return Err(Error::bad_input("a file cannot be absent and contain something").next("drop `absent` or `contains`"));
        }
        let (path, native) = (cx.path(&self.path)?, cx.native(&self.path)?);
        let exists = native.try_exists().map_err(|e| Error::io(format!("look at {path}"), &e))?;
        let fails = |what: String, next: &str| Ok(Finding::Fails(Error::step_failed(what).next(next)));
        match (exists, self.absent) {
            (true, true) if self.is_ibex(cx) => return Ok(Finding::Fails(installed(cx, &native))),
            (true, true) => return fails(format!("{path} exists, and should not"), "remove it, or the step that makes it"),
            (false, false) => return fails(format!("{path} does not exist"), "see which step or program should have made it"),
            (false, true) => return Ok(Finding::holds(format!("{path} does not exist"))),
            (true, false) => {}
        }
        let Some(wanted) = &self.contains else {
            let first_line = first_line(&native).map_err(|e| Error::io(format!("read {path}"), &e))?;
            return Ok(Finding::Holds(format!("{path} exists"), serde_json::json!({ "first_line": first_line })));
        };
        let bytes = std::fs::read(&native).map_err(|e| Error::io(format!("read {path}"), &e))?;
        if String::from_utf8_lossy(&bytes).contains(wanted) {
            return Ok(Finding::holds(format!("{path} contains `{wanted}`")));
        }
        fails(format!("{path} does not contain `{wanted}`"), "look into the file: what it says tells why")
    }
}

impl FileCheck {
    /// True for the file by which IBEX is known to be there.
    fn is_ibex(&self, cx: &StepContext<'_>) -> bool {
        let server = cx.plan.places.get("server");
        server.is_some_and(|server| {
            cx.path(&self.path).is_ok_and(|path| path.as_str().eq_ignore_ascii_case(&format!("{server}\\VERSION.txt")))
        })
    }
}

/// Nobody should remove a file to get past this.
fn installed(cx: &StepContext<'_>, native: &Path) -> Error {
    let version = native.parent().and_then(|server| version_in(server).ok().flatten());
    let version = version.map_or_else(String::new, |version| format!(" ({version})"));
    Error::new(ErrorKind::Refused, format!("IBEX is installed there{version}"))
        .next(format!("`ibexdeploy release {}` upgrades it, and keeps what belongs to the instrument", cx.plan.instrument))
}

/// The first line of a short text file, without white space around it; nothing of a folder.
fn first_line(path: &std::path::Path) -> std::io::Result<String> {
    if path.is_dir() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LONGEST_LINE).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(text.trim_start_matches('\u{feff}').lines().next().unwrap_or_default().trim().to_owned())
}
