//! `check: disk`

use super::{Finding, Look};
use crate::actions::StepContext;
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Place;
use crate::units::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

impl Look for DiskCheck {
    fn wish(&self) -> String {
        match self.free {
            FreeSpace::Auto => format!("space for the plan on the volume of {}", self.place),
            FreeSpace::AtLeast(size) => format!("{size} free on the volume of {}", self.place),
        }
    }

    fn look(&self, cx: &StepContext<'_>) -> Result<Finding> {
        let (path, native) = (cx.path(&self.place)?, cx.native(&self.place)?);
        let free = cx.platform.free_space(&native)?;
        let (wanted, parts) = match self.free {
            FreeSpace::AtLeast(size) => (size.0, Vec::new()),
            FreeSpace::Auto => {
                let parts = needs_on_volume(cx, cx.platform.volume_of(&native)?)?;
                (parts.iter().map(|(_, bytes)| bytes).sum(), parts)
            }
        };
        if free >= wanted {
            let summary = format!("{} free on the volume of {path}, {} wanted", Size(free), Size(wanted));
            return Ok(Finding::Holds(summary, serde_json::json!({ "free": free, "wanted": wanted })));
        }
        let message = format!("{} are free on the volume of {path}, and {} are wanted", Size(free), Size(wanted));
        let mut error = Error::new(ErrorKind::OutOfSpace, message);
        for (what, bytes) in parts {
            error = error.because(format!("{what}: {}", Size(bytes)));
        }
        let missing = Size(wanted - free);
        Ok(Finding::Fails(error.next(format!("free {missing} there: old backups and logs are the usual finds"))))
    }
}

/// What the steps from this one on will take on a volume, as far as they can say by now: what cannot be known before
/// it is staged is counted by the space check at the end of `stage`.
fn needs_on_volume(cx: &StepContext<'_>, volume: u64) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let later = cx.plan.steps.iter().skip_while(|s| s.id != cx.step.id).skip(1);
    for step in later.filter(|s| s.skip.is_none() && s.late.is_empty()) {
        let needs = match step.action.performer().space(&StepContext { step, ..*cx }) {
            Ok(needs) => needs,
            Err(error) => {
                cx.progress.note(&format!("{} cannot say yet how much space it takes: {error}", step.name));
                continue;
            }
        };
        for need in needs {
            if cx.platform.volume_of(&cx.drives.native(&need.on)?)? == volume {
                found.push((need.what, need.bytes));
            }
        }
    }
    Ok(found)
}
