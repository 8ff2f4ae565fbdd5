//! `package`: a vendor's installer, run unless what it installs is there already.

use super::command::{LogFile, Tries, intend_undo};
use super::external::{self, External};
use super::installer::{Judged, Verdict, installation, run_when_free};
use super::{Action, Applied, Difference, FetchStats, Perform, Probe, StepContext, UndoRecord, Undone};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Outcome;
use crate::paths::Place;
use crate::plan::PlanStep;
use crate::platform::updates::Program;
use crate::playbook::UndoSpec;
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::cmp::Ordering;
use std::time::Duration;
use wildmatch::WildMatch;

/// Installs a vendor's package, unless it is there already. Exit codes are understood: a restart that is needed (3010) is
/// kept in mind, another installation that is going on (1618) is waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The installer: an `.exe`, `.msi`, `.msp`, `.msu` or `.cab` file. For all but `.exe` the arguments that keep it from
    /// asking and from restarting are known.
    pub installer: Place,
    /// Arguments of the installer; each is passed as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// What the system calls the installed program; `*` and `?` stand for parts of the name. Where it is there, nothing
    /// is done, and afterwards it must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// The lowest version of `product` that will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// A file that is there when it is installed: then nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creates: Option<Place>,
    /// A log file that the installer writes. Name it in `args` as well, as the installer wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Place>,
    /// Text at which the log ends. For installers that return while they still work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<String>,
    /// Where there is no such installer, nothing is done.
    #[serde(default)]
    pub if_exists: bool,
    /// How long another installation is waited for; 15 min unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<Span>,
}

/// How long another installation is waited for unless the step says so.
const BUSY: Span = Span(Duration::from_secs(15 * 60));

impl Package {
    /// Why there is nothing to do.
    fn not_needed(&self, cx: &StepContext<'_>) -> Result<Option<String>> {
        if let Some(program) = self.installed(cx)? {
            return Ok(Some(format!("{} is installed", shown(&program))));
        }
        if let Some(creates) = &self.creates
            && cx.native(creates)?.exists()
        {
            return Ok(Some(format!("{} exists", cx.path(creates)?)));
        }
        if cx.native(&self.installer)?.is_file() {
            return Ok(None);
        }
        let path = cx.path(&self.installer)?;
        if self.if_exists {
            return Ok(Some(format!("there is no {path}")));
        }
        Err(Error::step_failed(format!("there is no installer {path}"))
            .next("copy it there, or correct the path where it is given (`--set`, or `installer` in the playbook)"))
    }

    /// True when an earlier step may bring the installer: then nobody can miss it yet.
    fn may_come(&self, cx: &StepContext<'_>) -> Result<bool> {
        let installer = cx.path(&self.installer)?;
        let brings = |step: &PlanStep| {
            let to = match &step.action {
                Action::Sync(sync) => Some(&sync.to),
                Action::Copy(copy) => Some(&copy.to),
                Action::Clone(clone) => Some(&clone.to),
                Action::File(file) => Some(&file.path),
                _ => None,
            };
            to.and_then(|to| cx.path(to).ok()).iter().chain(&step.writes).any(|folder| installer.is_within(folder))
        };
        Ok(cx.plan.steps.iter().filter(|step| step.skip.is_none()).any(brings))
    }

    /// The installed program that will do.
    fn installed(&self, cx: &StepContext<'_>) -> Result<Option<Program>> {
        let Some(product) = &self.product else { return Ok(None) };
        let pattern = WildMatch::new_case_insensitive(product);
        let will_do = |p: &Program| {
            let new_enough = |wanted: &String| compare_versions(&p.version, wanted) != Ordering::Less;
            pattern.matches(&p.name) && self.version.as_ref().is_none_or(new_enough)
        };
        Ok(cx.platform.installed_programs()?.into_iter().find(will_do))
    }

    fn external(&self, cx: &StepContext<'_>) -> Result<External> {
        let log = self.log.as_ref().map(|log| cx.native(log)).transpose()?;
        Ok(installation(&cx.native(&self.installer)?, &self.args, log.as_deref()))
    }

    fn install(&self, cx: &StepContext<'_>) -> Result<Judged> {
        let tries = Tries::open(cx, &cx.step.id)?;
        if !tries.is_open() {
            self.remove_old_log(cx)?;
        }
        let log = self.log.as_ref().map(|log| LogFile::new(cx, log, &tries)).transpose()?;
        tries.begin(log.as_ref())?;
        let result = self.run(cx, &tries, log.as_ref());
        // A cancelled worker may be started again for this very step; the installer is found by its job then.
        if result.as_ref().is_err_and(|error| error.kind() != ErrorKind::Cancelled) {
            tries.failed()?;
        }
        result
    }

    /// What an earlier installation wrote says nothing about this one, also when it would be the same words.
    fn remove_old_log(&self, cx: &StepContext<'_>) -> Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        match std::fs::remove_file(cx.native(log)?) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("remove the old log {}", cx.path(log)?), &e))
            }
            _ => Ok(()),
        }
    }

    fn run(&self, cx: &StepContext<'_>, tries: &Tries, log: Option<&LogFile>) -> Result<Judged> {
        let busy = self.busy.unwrap_or(BUSY);
        let (judged, end) = run_when_free(cx, &tries.job_id(), busy, || self.external(cx), |end| Ok(end.exit_code))?;
        let mut output = end.tail;
        let waited = self.wait_for_success(cx, judged, log);
        output.extend(log.map(|log| log.last_lines(20)).unwrap_or_default());
        let output = external::redacted(cx, &output);
        waited.map_err(|e| e.with_output(output.clone()))?;
        if !judged.verdict.is_good() {
            return Err(Error::step_failed(format!("{}: {judged}", self.installer)).with_output(output).next(judged.next));
        }
        Ok(judged)
    }

    /// Some installers return while they still work: their log says when they are done.
    fn wait_for_success(&self, cx: &StepContext<'_>, judged: Judged, log: Option<&LogFile>) -> Result<()> {
        let (Some(wanted), Some(log), true) = (&self.success, log, judged.verdict.has_changed()) else { return Ok(()) };
        let what = format!("the log of {} to say `{wanted}`", self.installer);
        let waited = cx.deadline.wait_for(&what, cx.progress, || Ok(log.says(wanted)?.then_some(())));
        waited.map_err(|e| match e.kind() {
            ErrorKind::TimedOut => {
                e.next("read the end of the log: the installer did not do its work, or `success` is not what it writes")
            }
            _ => e,
        })
    }

    /// What was to be installed must be there; where a restart is needed, only after that.
    fn verify(&self, cx: &StepContext<'_>, judged: Judged) -> Result<()> {
        let Some(product) = self.product.as_ref().filter(|_| judged.verdict != Verdict::NeedsRestart) else { return Ok(()) };
        if self.installed(cx)?.is_some() {
            return Ok(());
        }
        let version = self.version.as_ref().map_or_else(String::new, |v| format!(" in version {v} or later"));
        Err(Error::step_failed(format!("{} ended well ({judged}), and `{product}`{version} is not installed", self.installer))
            .next("see what the system calls it, and correct `product` or `version`"))
    }
}

fn shown(program: &Program) -> String {
    format!("{} {}", program.name, program.version).trim_end().to_owned()
}

/// Compares versions number by number; what is no number counts as 0, and missing numbers as well.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let numbers = |v: &str| v.split(['.', '-', '+', ' ']).map(|n| n.parse::<u64>().unwrap_or(0)).collect::<Vec<_>>();
    let (mut a, mut b) = (numbers(a), numbers(b));
    let longest = a.len().max(b.len());
    a.resize(longest, 0);
    b.resize(longest, 0);
    a.cmp(&b)
}

impl Perform for Package {
    fn describe(&self) -> String {
        format!("install {}", self.product.as_deref().unwrap_or(self.installer.as_str()))
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let (difference, summary) = match self.not_needed(cx) {
            Ok(Some(why)) => (Difference::None, why),
            Ok(None) => (Difference::Some, format!("{} would be run", cx.path(&self.installer)?)),
            // An earlier step may bring it.
            Err(error) => (Difference::Unknown, format!("not so now: {error}")),
        };
        Ok(Probe { difference, summary, ..Probe::default() })
    }

    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        // Better found now than while IBEX is stopped.
        if !self.may_come(cx)? {
            self.not_needed(cx)?;
        }
        Ok(FetchStats::default())
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        if !Tries::open(cx, &cx.step.id)?.any() {
            if let Some(why) = self.not_needed(cx)? {
                return Ok(Applied::ok(why));
            }
            intend_undo(cx)?;
            if !matches!(cx.step.undo, Some(UndoSpec::Command(_))) {
                cx.undo_log.intend(UndoRecord::Installed(Stays { what: vec![self.describe()] }))?;
            }
        }
        let judged = self.install(cx)?;
        self.verify(cx, judged)?;
        if judged.verdict == Verdict::NeedsRestart {
            cx.progress.remind(&format!("{} is complete after a restart of the machine", self.describe()));
        }
        let outcome = if judged.verdict.has_changed() { Outcome::Changed } else { Outcome::Ok };
        let result = json!({ "exit_code": judged.code, "needs_restart": judged.verdict == Verdict::NeedsRestart });
        Ok(Applied { outcome, summary: format!("{}: {judged}", self.installer), result })
    }

    fn cannot_undo(&self) -> bool {
        true
    }
}

/// What stays when a run is undone. It is said, so that nobody takes the machine for what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stays {
    /// In a few words each.
    pub what: Vec<String>,
}

impl Stays {
    /// Says what stays. Whoever wrote the playbook knew it, so that it is no failure of the undo.
    ///
    /// # Errors
    /// Never.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let what = self.what.join(", ");
        cx.progress.remind(&format!("was not taken back, and may be installed: {what}"));
        Ok(Undone { summary: format!("stays: {what}"), left: Vec::new() })
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
