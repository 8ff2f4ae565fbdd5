//! External programs on behalf of an action: as whom they run, under which job, and what their failure means.

use super::{JobEnd, JobSpec, Progress, StepContext};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::events::Unit;
use crate::files;
use crate::paths::Place;
use crate::platform::is_logged_on;
use crate::playbook::RunAs;
use secrecy::ExposeSecret;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The account of the inventory that steps `as: instrument` run under.
const INSTRUMENT: &str = "instrument";

/// What to do when a program was kept from running.
const BLOCKED: &str = "antivirus or AppLocker may block it: ask for an exception for this file, see that it exists and that \
    the account may run it, then run this again";

/// Output that is read as a value may have this many bytes; a block server's list and the changes of settings stay far
/// below.
const LONGEST_VALUE: u64 = 256 << 20;

/// A program, before it is known under which job and as whom it runs.
#[derive(Debug, Clone, Default)]
pub(super) struct External {
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) folder: Option<PathBuf>,
    pub(super) env: Vec<(String, String)>,
    pub(super) stdin: Option<String>,
    /// Its standard input, where that is a file.
    pub(super) stdin_file: Option<PathBuf>,
    /// The secrets in `env` and `stdin`.
    pub(super) secrets: Vec<String>,
}

impl External {
    /// A line for the command interpreter.
    pub(super) fn line(cx: &StepContext<'_>, line: &str) -> Self {
        let (program, args) = cx.platform.shell_line(line);
        Self { program, args, ..Self::default() }
    }

    /// A program by its place, or by a name that `PATH` finds.
    pub(super) fn program(cx: &StepContext<'_>, program: &Place, args: Vec<String>) -> Result<Self> {
        let by_name = !program.as_str().contains(['\\', '/']) && !cx.plan.places.contains_key(program.as_str());
        let program = if by_name { program.0.clone() } else { cx.native(program)?.display().to_string() };
        Ok(Self { program, args, ..Self::default() })
    }

    /// A secret that the program is given: its output will not show it.
    pub(super) fn secret(&mut self, cx: &StepContext<'_>, name: &str) -> Result<String> {
        let value = cx.secrets.get(name)?.expose_secret().to_owned();
        self.secrets.push(value.clone());
        Ok(value)
    }

    #[must_use]
    pub(super) fn at(mut self, folder: Option<PathBuf>) -> Self {
        self.folder = folder;
        self
    }

    fn job(self, cx: &StepContext<'_>, id: String, repeatable: bool) -> Result<JobSpec> {
        if let Some(folder) = &self.folder
            && !folder.is_dir()
        {
            let shown = cx.platform.windows_path(folder).map_or_else(|| folder.display().to_string(), String::from);
            return Err(Error::step_failed(format!("the working folder {shown} does not exist"))
                .next("correct `at`, or make the folder in an earlier step"));
        }
        let mut env = cx.platform.environment();
        env.extend(self.env);
        let Self { program, args, folder, stdin, stdin_file, secrets, .. } = self;
        // A sandbox has no accounts of its own: whoever rehearses plays them all.
        let user = account(cx)?.filter(|_| !cx.platform.is_sandbox());
        Ok(JobSpec { id, program, args, folder, env, stdin, stdin_file, secrets, user, repeatable })
    }
}

/// Runs a program that changes something, under a job that is found again after a crash.
pub(super) fn run(cx: &StepContext<'_>, id: String, external: External) -> Result<JobEnd> {
    let shown = external.program.clone();
    let job = external.job(cx, id, false)?;
    cx.jobs.run(job, cx.progress, cx.deadline).map_err(|e| explain_start(cx, e, &shown))
}

/// What a program that only looks wrote.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) exit_code: i32,
    pub(super) output: String,
    pub(super) tail: Vec<String>,
}

/// Runs a program that only looks. Each look is a new job, and its files are removed afterwards: what was seen before
/// a crash says nothing about now.
pub(super) fn look(cx: &StepContext<'_>, purpose: &str, external: External) -> Result<Seen> {
    seen(cx, purpose, external, cx.progress)
}

/// Runs a program whose output is for us alone, and which may be run again: as [`look`], and nobody is shown its lines.
pub(super) fn answer(cx: &StepContext<'_>, purpose: &str, external: External) -> Result<Seen> {
    seen(cx, purpose, external, &Quiet(cx.progress))
}

/// Passes on everything but a program's lines.
pub(super) struct Quiet<'a>(pub(super) &'a dyn Progress);

impl Progress for Quiet<'_> {
    fn waiting(&self, what: &str, elapsed: Duration, limit: Duration) {
        self.0.waiting(what, elapsed, limit);
    }
    fn advanced(&self, done: u64, total: u64, unit: Unit) {
        self.0.advanced(done, total, unit);
    }
    fn output(&self, _line: &str) {}
    fn note(&self, text: &str) {
        self.0.note(text);
    }
    fn remind(&self, text: &str) {
        self.0.remind(text);
    }
    fn hand_changes(&self, component: &str, files: Option<u64>, archive: Option<&str>) {
        self.0.hand_changes(component, files, archive);
    }
}

fn seen(cx: &StepContext<'_>, purpose: &str, external: External, progress: &dyn Progress) -> Result<Seen> {
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    let number = LOOKS.fetch_add(1, Ordering::Relaxed);
    let id = format!("{}.{purpose}.{}-{number}", cx.step.id, jiff::Timestamp::now().as_millisecond());
    let shown = external.program.clone();
    let job = external.job(cx, id.clone(), true)?;
    let end = cx.jobs.run(job, progress, cx.deadline).map_err(|e| explain_start(cx, e, &shown))?;
    let output = read_start(&end.output)?;
    if !output.ends_with('\n') {
        // What a program writes on a full disk is lost without a word.
        files::expect_room_beside(&end.output)?;
    }
    if let Some(folder) = end.output.parent().filter(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&id))) {
        // What stays behind costs a little space, and goes with the run's other files.
        let _ = std::fs::remove_dir_all(folder);
    }
    Ok(Seen { exit_code: end.exit_code, output, tail: redacted(cx, &end.tail) })
}

fn read_start(path: &std::path::Path) -> Result<String> {
    use std::io::Read;
    let cannot = || format!("read {}", path.display());
    let mut bytes = Vec::new();
    std::fs::File::open(path).cannot(cannot)?.take(LONGEST_VALUE).read_to_end(&mut bytes).cannot(cannot)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whose session the step's programs run in; nothing for the agent itself.
fn account(cx: &StepContext<'_>) -> Result<Option<String>> {
    if cx.step.run_as == RunAs::Admin {
        return Ok(None);
    }
    let Some(account) = cx.plan.accounts.get(INSTRUMENT) else {
        return Err(Error::bad_input(format!("the inventory has no account `{INSTRUMENT}` for {}", cx.plan.instrument))
            .next("add it under `accounts:`, or run the step `as: admin`"));
    };
    if account.logged_on && !is_logged_on(&cx.platform.logged_on()?, &account.user) {
        return Err(nobody_logged_on(&account.user));
    }
    Ok(Some(account.user.clone()))
}

pub(super) fn nobody_logged_on(user: &str) -> Error {
    Error::new(ErrorKind::Refused, format!("nobody is logged on as {user}"))
        .next(format!("log on as {user} at the instrument's console and try again"))
}

/// Lines without the secrets that a program may have written.
pub(super) fn redacted(cx: &StepContext<'_>, lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| cx.secrets.redact(line)).collect()
}

/// The error of a program that ended in a way it should not.
pub(super) fn failed(cx: &StepContext<'_>, what: &str, exit_code: i32, tail: &[String]) -> Error {
    let what = cx.secrets.redact(what);
    let error = Error::step_failed(format!("`{what}` ended with exit code {exit_code}")).with_output(redacted(cx, tail));
    if was_blocked(exit_code, tail) {
        return error.because("the system did not run it, or a program it needs").next(BLOCKED);
    }
    error.next("read its output, put right what it says, and run this again")
}

/// True when the program, or one that it started, was kept from running: 126 and 127 are the shell's words for "not
/// allowed" and "not found", 9009 is that of cmd.exe, 1260 is Windows' for a group policy.
fn was_blocked(exit_code: i32, tail: &[String]) -> bool {
    matches!(exit_code, 126 | 127 | 1260 | 9009) || (exit_code != 0 && tail.iter().any(|line| says_blocked(line)))
}

fn says_blocked(text: &str) -> bool {
    let text = text.to_lowercase();
    ["access is denied", "access denied", "blocked by group policy", "error 1260", "0x800704ec", "contains a virus"]
        .iter()
        .any(|phrase| text.contains(phrase))
}

/// Adds what to do to the error of a program that could not be started.
fn explain_start(cx: &StepContext<'_>, error: Error, program: &str) -> Error {
    if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Cancelled) {
        return error;
    }
    let text = error.to_string();
    if says_blocked(&text) || text.to_lowercase().contains("permission denied") {
        let program = cx.secrets.redact(program);
        return error.context(format!("`{program}` was kept from running")).next(BLOCKED);
    }
    error
}
