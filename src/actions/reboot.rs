//! `reboot`: restart the machine and see it come back.

use super::{Applied, Difference, Perform, Probe, StepContext};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::Path;

/// Restarts the machine; the worker goes on by itself afterwards. It counts as done when the boot id is a new one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reboot {
    /// Why, for the system's log and the people at the screen.
    pub reason: String,
    /// Only when the system says that a restart is pending.
    #[serde(default)]
    pub if_pending: bool,
    /// How long the people at the screen are warned before; none unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn: Option<Span>,
}

/// What is kept before the restart is asked for.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    boot_id: String,
}

/// Waits while the people at the screen read the warning.
pub(super) fn warn(cx: &StepContext<'_>, warn: Option<Span>, reason: &str) -> Result<()> {
    // At a rehearsed machine nobody reads it.
    let Some(warn) = warn.filter(|_| !cx.plan.rehearsal) else { return Ok(()) };
    cx.progress.note(&format!("the machine restarts in {warn}: {reason}"));
    pause(cx, warn, &format!("the warning of {warn} to pass"))
}

/// Waits, unless the operator cancels or the step's time is over.
pub(super) fn pause(cx: &StepContext<'_>, span: Span, what: &str) -> Result<()> {
    match cx.deadline.within(span.0).wait_for::<()>(what, cx.progress, || Ok(None)) {
        Err(e) if e.kind() == ErrorKind::TimedOut && !cx.deadline.is_over() => Ok(()),
        Err(e) => Err(e),
        Ok(()) => Ok(()),
    }
}

impl Reboot {
    fn is_needed(&self, cx: &StepContext<'_>) -> Result<bool> {
        Ok(!self.if_pending || cx.platform.pending_reboot()?.is_some())
    }
}

/// The boot id from before the restart, when one was asked for.
fn kept(path: &Path) -> Result<Option<Before>> {
    match std::fs::read(path) {
        // A torn file was being written: nothing was asked for yet.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format!("read {}", path.display()), &e)),
    }
}

fn keep(path: &Path, before: &Before) -> Result<()> {
    let cannot = || format!("write {}", path.display());
    let text = serde_json::to_vec(before).map_err(|e| Error::internal("cannot write the boot id").because(e))?;
    let mut file = std::fs::File::create(path).cannot(cannot)?;
    file.write_all(&text).and_then(|()| file.sync_all()).cannot(cannot)
}

/// Waits until the machine has another boot id than `before`.
pub(super) fn wait_for_restart(cx: &StepContext<'_>, before: &str) -> Result<()> {
    cx.deadline.wait_for("the machine to restart", cx.progress, || Ok((cx.platform.boot_id()? != before).then_some(()))).map_err(
        |e| match e.kind() {
            ErrorKind::TimedOut => e.next("look at the machine's screen: a program may hold up the restart"),
            _ => e,
        },
    )
}

impl Perform for Reboot {
    fn describe(&self) -> String {
        if self.if_pending { "reboot if pending".to_owned() } else { "reboot".to_owned() }
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let pending = cx.platform.pending_reboot()?;
        let why =
            pending.as_ref().map_or_else(|| "no restart is pending".to_owned(), |why| format!("a restart is pending: {why}"));
        let difference = if self.is_needed(cx)? { Difference::Some } else { Difference::None };
        Ok(Probe { difference, summary: why, ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let path = cx.data_file("boot.json");
        let now = cx.platform.boot_id()?;
        match kept(&path)? {
            Some(before) if before.boot_id != now => return Ok(Applied::changed("the machine has restarted")),
            Some(_) => {}
            None if !self.is_needed(cx)? => return Ok(Applied::ok("no restart is pending")),
            None => {
                warn(cx, self.warn, &self.reason)?;
                keep(&path, &Before { boot_id: now.clone() })?;
            }
        }
        // Asked again after a crash: the first word may not have reached the system, and twice does no harm.
        cx.platform.reboot(&self.reason)?;
        wait_for_restart(cx, &now)?;
        Ok(Applied::changed("the machine has restarted"))
    }

    fn cannot_undo(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::events::Outcome;
    use crate::platform::testing::Bench;
    use serde_json::json;

    #[test]
    fn the_machine_restarts_once_even_when_the_step_runs_again() {
        let bench = Bench::of(json!({"reboot": {"reason": "new driver"}}));
        let before = bench.platform.boot_id().unwrap();
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        let after = bench.platform.boot_id().unwrap();
        assert_ne!(before, after);
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        assert_eq!(bench.platform.boot_id().unwrap(), after, "the second call only sees the new boot id");
    }

    #[test]
    fn only_when_pending() {
        let bench = Bench::of(json!({"reboot": {"reason": "patches", "if_pending": true}}));
        let before = bench.platform.boot_id().unwrap();
        assert_eq!(bench.probe().unwrap().difference, Difference::None);
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Ok);
        assert_eq!(bench.platform.boot_id().unwrap(), before);
        bench.sandbox_state(|s| s["pending_reboot"] = json!("patches were installed"));
        assert_eq!(bench.probe().unwrap().summary, "a restart is pending: patches were installed");
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        assert_eq!(bench.platform.pending_reboot().unwrap(), None);
    }

    #[test]
    fn a_cancel_during_the_warning_asks_for_nothing() {
        let bench = Bench::of(json!({"reboot": {"reason": "x", "warn": "1h"}}));
        let before = bench.platform.boot_id().unwrap();
        let flag = std::sync::Arc::clone(&bench.cancelled);
        *bench.told.at_first_wait.lock().unwrap() = Some(Box::new(move || flag.store(true, std::sync::atomic::Ordering::SeqCst)));
        assert_eq!(bench.apply().unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(bench.platform.boot_id().unwrap(), before);
    }
}
