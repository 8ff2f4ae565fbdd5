//! `retention`: old backups move to a share.

mod transfer;

use super::backup::catalogue::{BackupFolder, BackupState, backups_in};
use super::backup::remove_half_backups;
use super::backup::write::counting;
use super::moves::shown;
use super::sync::counted;
use super::{Applied, Difference, Perform, Probe, StepContext};
use crate::error::{Error, ErrorKind, Result};
use crate::paths::{Place, RelPath, WinPath};
use crate::playbook::Phase;
use crate::units::Size;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use transfer::transfer;

/// Moves old backups to a share: copied, compared with what was written when they were made, and only then removed. The
/// newest good ones stay. What cannot be moved stays too and is reported; the run goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// How many of the newest good backups stay on the instrument, with whatever is newer than the oldest of them.
    pub keep: u32,
    /// The folder on the share. A folder with the machine's name is added, unless the path ends with one.
    pub move_to: Place,
    /// Where the backups are; the place `backups` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
}

/// What is to be done.
struct Look {
    /// Where the backups go.
    to: WinPath,
    /// How many stay.
    staying: usize,
    /// The oldest first.
    going: Vec<BackupFolder>,
}

impl Look {
    /// Bytes of the zips that go; a backup has hardly anything else.
    fn bytes(&self) -> u64 {
        self.going.iter().flat_map(|b| b.zips.values()).sum()
    }
}

impl Retention {
    fn look(&self, cx: &StepContext<'_>) -> Result<Look> {
        let at = cx.native(self.at.as_ref().unwrap_or(&Place("backups".to_owned())))?;
        let mut all = backups_in(&at)?;
        // The last good one never goes, whatever the number says.
        let keep = usize::try_from(self.keep).unwrap_or(usize::MAX).max(1);
        let good = all.iter().enumerate().filter(|(_, b)| b.state == BackupState::Good).map(|(n, _)| n);
        let staying = good.take(keep).nth(keep - 1).map_or(all.len(), |last| last + 1);
        let mut going = all.split_off(staying);
        going.reverse();
        Ok(Look { to: self.to(cx)?, staying, going })
    }

    /// What an attempt that was killed had moved, and not removed to the end, takes space for nothing.
    fn remove_half(&self, cx: &StepContext<'_>) -> Result<()> {
        let at = cx.native(self.at.as_ref().unwrap_or(&Place("backups".to_owned())))?;
        if at.is_dir() { remove_half_backups(cx, &at) } else { Ok(()) }
    }

    fn to(&self, cx: &StepContext<'_>) -> Result<WinPath> {
        let to = cx.path(&self.move_to)?;
        let name = &cx.plan.instrument;
        let is_its_own = to.file_name().is_some_and(|last| last.eq_ignore_ascii_case(name));
        if is_its_own { Ok(to) } else { Ok(to.join(&RelPath::parse(name)?)) }
    }

    /// Moves them one by one. Gives how many went; what did not is for the operator to look at.
    fn move_all(cx: &StepContext<'_>, look: &Look, to: &std::path::Path) -> Result<usize> {
        // Every byte counts twice: it is copied, and read back.
        let total = 2 * look.bytes();
        let done = AtomicU64::new(0);
        let alive = counting(cx, total, &done);
        let mut moved = 0;
        for backup in &look.going {
            match transfer(cx, backup, to, &alive) {
                Ok(at) => {
                    moved += 1;
                    cx.progress.note(&format!("the backup {} is in {} now", backup.name, shown(cx, &at)));
                }
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                Err(error) => {
                    remind(cx, &format!("the old backup {} was not moved to {}", backup.name, look.to), &error);
                    // What the share refuses once it refuses again; a backup that is damaged is no reason to keep others.
                    if error.kind() != ErrorKind::Integrity {
                        break;
                    }
                }
            }
        }
        Ok(moved)
    }
}

fn remind(cx: &StepContext<'_>, what: &str, error: &Error) {
    let next = error.details().next.as_ref().map_or_else(String::new, |next| format!(" ({next})"));
    cx.progress.remind(&format!("{what}: {error}{next}"));
}

impl Perform for Retention {
    fn describe(&self) -> String {
        format!("move old backups to {}", self.move_to)
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let look = self.look(cx)?;
        if look.going.is_empty() {
            let summary = format!("{} there, none is to go", counted(look.staying, "backup"));
            return Ok(Probe { difference: Difference::None, summary, ..Probe::default() });
        }
        Ok(Probe {
            difference: Difference::Some,
            summary: format!("{} to {}, {}", counted(look.going.len(), "backup"), look.to, Size(look.bytes())),
            items: look.going.iter().map(|b| format!("- {}", shown(cx, &b.path))).collect(),
            fetch_bytes: 0,
        })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        if let Err(error) = self.remove_half(cx) {
            remind(cx, "what is left of backups that were moved is still there", &error);
        }
        let look = match self.look(cx) {
            Ok(look) => look,
            Err(error) => {
                remind(cx, "old backups were not looked for", &error);
                return Ok(Applied::ok("nothing was moved: see what is left for you"));
            }
        };
        if look.going.is_empty() {
            return Ok(Applied::ok(format!("{} there, none is to go", counted(look.staying, "backup"))));
        }
        let to: PathBuf = cx.drives.native(&look.to)?;
        // IBEX runs, and nobody waits for this.
        cx.platform.background_priority(true);
        let moved = Self::move_all(cx, &look, &to);
        cx.platform.background_priority(cx.step.phase == Phase::Stage);
        let moved = moved?;
        let left = look.staying + look.going.len() - moved;
        let summary = format!("{moved} of {} moved to {}, {left} stay", counted(look.going.len(), "old backup"), look.to);
        let result = serde_json::json!({"moved": moved, "stay": left, "to": look.to});
        let applied = if moved == 0 { Applied::ok(summary) } else { Applied::changed(summary) };
        Ok(applied.with_result(result))
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
