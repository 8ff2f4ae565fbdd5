//! `command`: a program or shell line as a job.

use super::check::Check;
use super::external::{self, External};
use super::writes::WritesUndo;
use super::{Applied, Difference, FetchStats, JobEnd, Perform, Probe, SpaceNeed, StepContext, UndoRecord, Undone};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files::write_json;
use crate::paths::{Place, WinPath};
use crate::platform::facts::Systems;
use crate::platform::systems::ActiveSystem;
use crate::playbook::UndoSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runs an external program as a job that outlives a lost link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Place>,
    /// A line for the command interpreter (`cmd.exe /c`; `sh -c` in a sandbox). One of `run` and `program` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// A program, started without an interpreter: a place, or a name found by `PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Place>,
    /// Arguments of `program`, each passed as it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment variables to add. `{secret: NAME}` gives one of the inventory's secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, EnvValue>,
    /// A secret that the program reads from its standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_secret: Option<String>,
    /// Exit codes that mean success; 0 unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exit_codes: Vec<i32>,
    /// The output, or the file `log`, must contain this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<String>,
    /// A log file that the program writes; its end is shown on failure and searched for `success`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Place>,
    /// Skipped when this exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creates: Option<Place>,
    /// Skipped when this line succeeds (exit code 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<String>,
    /// Runs only while one of these control systems is active (`ibex`, `mini`, `seci`, `none`), by a look at that moment; else
    /// it is skipped. An `undo` says by it what must not be started or stopped when somebody has switched since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub systems: Vec<ActiveSystem>,
    /// Changes nothing: its outcome is `ok`, and it needs no undo.
    #[serde(default)]
    pub read_only: bool,
    /// A check, looked at last before the program is started: when it does not hold, the program is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Box<Check>>,
}

/// The value of an environment variable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnvValue {
    /// Plain text: `{value: ...}`.
    Value(String),
    /// The name of a secret: `{secret: ...}`.
    Secret(String),
}

impl Command {
    /// The line or program, for messages.
    fn shown(&self) -> String {
        match (&self.run, &self.program) {
            (Some(line), _) => line.clone(),
            (None, Some(program)) => {
                let words = std::iter::once(program.as_str()).chain(self.args.iter().map(String::as_str));
                words.collect::<Vec<_>>().join(" ")
            }
            (None, None) => String::new(),
        }
    }

    fn external(&self, cx: &StepContext<'_>) -> Result<External> {
        let mut external = match (&self.run, &self.program) {
            (Some(line), None) => External::line(cx, line),
            (None, Some(program)) => External::program(cx, program, self.args.clone())?,
            _ => {
                return Err(Error::bad_input("a command has one of `run` and `program`")
                    .next("write `run` for a line of the command interpreter, `program` and `args` for one program"));
            }
        };
        for (name, value) in &self.env {
            let value = match value {
                EnvValue::Value(text) => text.clone(),
                EnvValue::Secret(secret) => external.secret(cx, secret)?,
            };
            external.env.push((name.clone(), value));
        }
        if let Some(secret) = &self.stdin_secret {
            external.stdin = Some(external.secret(cx, secret)?);
        }
        Ok(external.at(self.at.as_ref().map(|at| cx.native(at)).transpose()?))
    }

    /// Why there is nothing to do, by `systems`, `creates` and `unless`.
    fn not_needed(&self, cx: &StepContext<'_>) -> Result<Option<String>> {
        if !self.systems.is_empty() {
            let active = Systems::now(cx.platform, cx.drives, &cx.plan.places)?.active();
            if !self.systems.contains(&active) {
                return Ok(Some(format!("{} is active", active.name())));
            }
        }
        if let Some(creates) = &self.creates
            && cx.native(creates)?.exists()
        {
            return Ok(Some(format!("{} exists", cx.path(creates)?)));
        }
        if let Some(line) = &self.unless {
            let at = self.at.as_ref().map(|at| cx.native(at)).transpose()?;
            let seen = external::look(cx, "unless", External::line(cx, line).at(at))?;
            if seen.exit_code == 0 {
                return Ok(Some(format!("`{line}` succeeds")));
            }
        }
        Ok(None)
    }

    /// Runs it under the job id and judges how it ended.
    fn run_job(&self, cx: &StepContext<'_>, id: &str) -> Result<JobEnd> {
        let tries = Tries::open(cx, id)?;
        let log = self.log.as_ref().map(|log| LogFile::new(cx, log, &tries)).transpose()?;
        let external = self.external(cx)?;
        tries.begin(log.as_ref())?;
        let result = external::run(cx, tries.job_id(), external).and_then(|end| {
            self.judge(cx, &end, log.as_ref())?;
            Ok(end)
        });
        // A cancelled worker may be started again for this very step; the program then is found by its job.
        if let Err(error) = &result
            && error.kind() != ErrorKind::Cancelled
        {
            tries.failed()?;
        }
        result
    }

    fn judge(&self, cx: &StepContext<'_>, end: &JobEnd, log: Option<&LogFile>) -> Result<()> {
        let fine = if self.exit_codes.is_empty() { end.exit_code == 0 } else { self.exit_codes.contains(&end.exit_code) };
        if !fine {
            return Err(external::failed(cx, &self.shown(), end.exit_code, &with_log(end, log)));
        }
        let Some(wanted) = &self.success else { return Ok(()) };
        let in_output = || contains(&end.output, wanted);
        let Some(log) = log else {
            return if in_output()? { Ok(()) } else { Err(self.no_success(cx, wanted, end, None)) };
        };
        // Some installers return while they still work: their log says when they are done.
        let what = format!("{} to say `{wanted}`", log.shown);
        let waited = cx.deadline.wait_for(&what, cx.progress, || Ok((log.says(wanted)? || in_output()?).then_some(())));
        match waited {
            Err(e) if e.kind() == ErrorKind::TimedOut => Err(self.no_success(cx, wanted, end, Some(log))),
            other => other,
        }
    }

    fn no_success(&self, cx: &StepContext<'_>, wanted: &str, end: &JobEnd, log: Option<&LogFile>) -> Error {
        let whose = log.map_or_else(|| "its output".to_owned(), |l| format!("its log {}", l.shown));
        let what = cx.secrets.redact(&self.shown());
        Error::step_failed(format!("`{what}` ended with exit code {}, but {whose} does not say `{wanted}`", end.exit_code))
            .with_output(external::redacted(cx, &with_log(end, log)))
            .next("read the output: the program did not do its work, or `success` is not what it writes")
    }
}

fn contains(path: &Path, text: &str) -> Result<bool> {
    let bytes = std::fs::read(path).cannot(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).contains(text))
}

/// The last lines of the output, and of the log behind them.
fn with_log(end: &JobEnd, log: Option<&LogFile>) -> Vec<String> {
    let mut lines = end.tail.clone();
    if let Some(log) = log {
        lines.push(format!("-- end of {} --", log.shown));
        lines.extend(log.last_lines(20));
    }
    lines
}

impl Perform for Command {
    fn describe(&self) -> String {
        format!("run {}", self.shown())
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let certain = self.creates.is_some() || self.unless.is_some() || !self.systems.is_empty();
        let (difference, summary) = match self.not_needed(cx)? {
            Some(why) => (Difference::None, why),
            None if certain => (Difference::Some, format!("`{}` would run", self.shown())),
            None => (Difference::Unknown, format!("`{}` would run; what it changes is its own affair", self.shown())),
        };
        Ok(Probe { difference, summary, ..Probe::default() })
    }

    fn space(&self, cx: &StepContext<'_>) -> Result<Vec<SpaceNeed>> {
        let need = |folder: &WinPath| {
            let what = format!("what `{}` writes to in {folder}, kept for undo", self.shown());
            Ok(SpaceNeed { on: folder.clone(), bytes: WritesUndo::bytes(cx, folder)?, what })
        };
        cx.step.writes.iter().map(need).collect()
    }

    /// Copies the folders of `writes` beside the running IBEX, so that saving them in the outage is quick.
    fn stage(&self, cx: &StepContext<'_>) -> Result<FetchStats> {
        if !cx.step.writes.is_empty() {
            WritesUndo::prepare(cx, &cx.step.writes)?;
        }
        Ok(FetchStats::default())
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let begun = Tries::open(cx, &cx.step.id)?.any();
        if !begun {
            if let Some(why) = self.not_needed(cx)? {
                return Ok(Applied::ok(why));
            }
            if let Some(gate) = &self.gate {
                gate.hold(cx)?;
            }
            if !self.read_only {
                intend_undo(cx)?;
            }
        }
        let end = self.run_job(cx, &cx.step.id);
        if !cx.step.writes.is_empty() {
            WritesUndo::note_left(cx, &cx.step.writes);
        }
        let end = end?;
        let tail = external::redacted(cx, &end.tail);
        let summary = format!("`{}` ended with exit code {}", cx.secrets.redact(&self.shown()), end.exit_code);
        let applied = if self.read_only { Applied::ok(summary) } else { Applied::changed(summary) };
        Ok(applied.with_result(json!({ "exit_code": end.exit_code, "output": tail.join("\n"), "lines": tail })))
    }
}

/// Writes down how the step is taken back. The program is taken back first, and then its folders are compared: so
/// they are saved first.
pub(super) fn intend_undo(cx: &StepContext<'_>) -> Result<()> {
    if !cx.step.writes.is_empty() {
        WritesUndo::save(cx, &cx.step.writes)?;
    }
    match &cx.step.undo {
        Some(UndoSpec::Command(inverse)) => cx.undo_log.intend(UndoRecord::Command((**inverse).clone())),
        _ => Ok(()),
    }
}

/// Runs the program of a step's `undo:`.
///
/// # Errors
/// When it cannot be run. When it ran and failed, that is in [`Undone::left`].
pub fn undo_by_command(command: &Command, cx: &StepContext<'_>) -> Result<Undone> {
    let id = format!("{}.undo", cx.step.id);
    let shown = cx.secrets.redact(&command.shown());
    if !Tries::open(cx, &id)?.any()
        && let Some(why) = command.not_needed(cx)?
    {
        return Ok(Undone { summary: format!("`{shown}` is not needed: {why}"), left: Vec::new() });
    }
    match command.run_job(cx, &id) {
        Ok(_) => Ok(Undone { summary: format!("ran `{shown}`"), left: Vec::new() }),
        Err(error) if error.kind() == ErrorKind::StepFailed => {
            let last = error.details().output.iter().rfind(|line| !line.trim().is_empty());
            let says = last.map(|line| format!("; it says: {line}")).unwrap_or_default();
            Ok(Undone { summary: format!("`{shown}` failed"), left: vec![format!("{error}{says}")] })
        }
        Err(error) => Err(error),
    }
}

/// How often a job of the step failed, kept in the run's folder: a retry is a new job, while a job that was open when
/// the worker died is found again under its id.
pub(super) struct Tries {
    id: String,
    file: PathBuf,
    state: TriesState,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct TriesState {
    /// Begun, whether or not it ended.
    begun: bool,
    failed: u32,
    /// The log's length and hash before the program ran.
    log: Option<(u64, ContentHash)>,
}

impl Tries {
    pub(super) fn open(cx: &StepContext<'_>, id: &str) -> Result<Self> {
        let file = cx.run_dir.join(format!("{id}.tries.json"));
        let state = match std::fs::read(&file) {
            // A torn file was being written when the power failed: before the program ran.
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => TriesState::default(),
            Err(e) => return Err(Error::io(format!("read {}", file.display()), &e)),
        };
        Ok(Self { id: id.to_owned(), file, state })
    }

    pub(super) fn any(&self) -> bool {
        self.state.begun || self.state.failed > 0
    }

    /// Begun by a worker that died since, or right now.
    pub(super) fn is_open(&self) -> bool {
        self.state.begun
    }

    pub(super) fn job_id(&self) -> String {
        if self.state.failed == 0 { self.id.clone() } else { format!("{}.try{}", self.id, self.state.failed + 1) }
    }

    pub(super) fn begin(&self, log: Option<&LogFile>) -> Result<()> {
        self.write(&TriesState { begun: true, failed: self.state.failed, log: log.and_then(|l| l.before) })
    }

    pub(super) fn failed(&self) -> Result<()> {
        self.write(&TriesState { begun: false, failed: self.state.failed + 1, log: None })
    }

    fn write(&self, state: &TriesState) -> Result<()> {
        write_json(&self.file, state)
    }
}

/// The log that a program writes. What stood in it before does not count.
pub(super) struct LogFile {
    path: PathBuf,
    shown: WinPath,
    before: Option<(u64, ContentHash)>,
}

impl LogFile {
    pub(super) fn new(cx: &StepContext<'_>, log: &Place, tries: &Tries) -> Result<Self> {
        let (path, shown) = (cx.native(log)?, cx.path(log)?);
        let before = match std::fs::read(&path) {
            _ if tries.state.begun => tries.state.log,
            Ok(bytes) => Some((bytes.len() as u64, ContentHash::of(&bytes))),
            Err(_) => None,
        };
        Ok(Self { path, shown, before })
    }

    /// What was written since the program began: behind the old text, or everything when the file was made anew.
    fn text(&self) -> Result<String> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
            Err(e) => return Err(Error::io(format!("read {}", self.shown), &e)),
        };
        let old = self.before.and_then(|(length, hash)| {
            let head = bytes.get(..usize::try_from(length).ok()?)?;
            (ContentHash::of(head) == hash).then_some(head.len())
        });
        Ok(String::from_utf8_lossy(&bytes[old.unwrap_or(0)..]).into_owned())
    }

    pub(super) fn says(&self, wanted: &str) -> Result<bool> {
        Ok(self.text()?.contains(wanted))
    }

    pub(super) fn last_lines(&self, count: usize) -> Vec<String> {
        let text = self.text().unwrap_or_else(|e| e.to_string());
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].iter().map(|l| (*l).to_owned()).collect()
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
