//! The rounds: search, install, restart, and once more.

use super::super::external::{self, External};
use super::super::installer::{Judged, Verdict, installation, run_when_free};
use super::super::package::Stays;
use super::super::reboot::{wait_for_restart, warn};
use super::super::{Applied, JobEnd, Progress, StepContext, UndoRecord};
use super::OsPatch;
use super::course::{Course, End, Open, Restarting, Tried};
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::events::Unit;
use crate::platform::updates::{Answer, Task, Update};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often an update is tried.
const ATTEMPTS: u32 = 2;
/// The endings of packages.
const PACKAGES: [&str; 5] = ["cab", "exe", "msi", "msp", "msu"];
/// How long an installer may take to restart the machine, once it said that it does.
const RESTARTS_ITSELF: Duration = Duration::from_secs(300);
const REASON: &str = "updates of the operating system";

/// The work of one step, from wherever it is.
pub(super) struct Rounds<'a> {
    wanted: &'a OsPatch,
    cx: &'a StepContext<'a>,
    course: Course,
}

/// Why nothing more is installed.
enum Over {
    NothingLeft,
    /// Updates that are left, and why.
    Left(Vec<Update>, String),
}

impl<'a> Rounds<'a> {
    pub(super) fn open(wanted: &'a OsPatch, cx: &'a StepContext<'a>) -> Result<Self> {
        Ok(Self { wanted, cx, course: Course::read(cx)? })
    }

    /// What is offered before anything was done.
    pub(super) fn look(wanted: &'a OsPatch, cx: &'a StepContext<'a>) -> Result<Vec<Update>> {
        Self { wanted, cx, course: Course::default() }.search()
    }

    pub(super) fn go(mut self) -> Result<Applied> {
        let (limit, most) = (self.wanted.limit()?, self.wanted.rounds()?);
        if !self.course.has_begun() {
            let what = vec!["updates of the operating system".to_owned()];
            self.cx.undo_log.intend(UndoRecord::Installed(Stays { what }))?;
        }
        self.finish_restart()?;
        self.finish_open()?;
        let over = self.rounds(limit as usize, most)?;
        self.report(over)
    }

    fn rounds(&mut self, limit: usize, most: u32) -> Result<Over> {
        loop {
            // Nothing can be installed on top of a restart that is due. A machine that says so for ever is not restarted for ever.
            let fresh = self.course.rounds == 0 && self.course.restarts == 0;
            if self.course.needs_restart || (fresh && self.cx.platform.pending_reboot()?.is_some()) {
                if !self.wanted.restart {
                    let left = self.search()?;
                    return Ok(Over::Left(left, "the machine must be restarted first".to_owned()));
                }
                self.restart()?;
            }
            let offered = self.search()?;
            self.doubt(&offered)?;
            let todo: Vec<Update> = offered.into_iter().filter(|u| self.is_to_do(u)).collect();
            if todo.is_empty() {
                return Ok(Over::NothingLeft);
            }
            if self.course.rounds >= most {
                return Ok(Over::Left(todo, format!("{} rounds were made, which is the limit", self.course.rounds)));
            }
            for (n, update) in todo.iter().enumerate() {
                if self.course.installed() >= limit {
                    let why = format!("{} updates were installed, which is the limit", self.course.installed());
                    return Ok(Over::Left(todo[n..].to_vec(), why));
                }
                self.cx.progress.advanced(n as u64, todo.len() as u64, Unit::Items);
                self.install(update)?;
            }
            self.course.rounds += 1;
            self.course.write(self.cx)?;
        }
    }

    /// Not installed yet, and not failed for good.
    fn is_to_do(&self, update: &Update) -> bool {
        self.course.tried(&update.id).is_none_or(|tried| !tried.end.is_good() && tried.attempts < ATTEMPTS)
    }

    // -- searching --

    fn search(&self) -> Result<Vec<Update>> {
        let mut offered = match self.wanted.folder() {
            Some(folder) => packages(&self.cx.native(folder)?, self.cx.path(folder)?.as_str())?,
            None => self.offered()?,
        };
        offered.retain(|update| self.wanted.wants(update));
        Ok(offered)
    }

    fn offered(&self) -> Result<Vec<Update>> {
        let seen = external::answer(self.cx, "search", self.task(&Task::List)?)?;
        match Task::read(&seen.output) {
            Some(Ok(Answer::Offered(updates))) => Ok(updates),
            Some(Ok(Answer::Installed(_))) => Err(Error::internal("a search for updates was answered with something else")),
            Some(Err(error)) => Err(error),
            None => Err(external::failed(self.cx, "agent updates", seen.exit_code, &seen.tail)),
        }
    }

    fn task(&self, task: &Task) -> Result<External> {
        let program = std::env::current_exe().cannot(|| "find this executable")?.display().to_string();
        Ok(External { program, args: task.arguments(self.cx.drives.sandbox_root()), ..External::default() })
    }

    /// What says that it is installed and is offered again was not installed; what was interrupted and is no longer
    /// offered was.
    fn doubt(&mut self, offered: &[Update]) -> Result<()> {
        if self.wanted.folder().is_some() {
            // A package stays in its folder whether or not it is installed.
            return Ok(());
        }
        let mut doubted = false;
        for tried in &mut self.course.updates {
            let is_offered = offered.iter().any(|u| u.id == tried.id);
            let (end, words) = match tried.end {
                End::Said(verdict) if verdict.has_changed() && is_offered => {
                    (End::OfferedAgain, "it says that it is installed, and is offered again")
                }
                End::Interrupted if !is_offered => (End::Said(Verdict::Installed), "installed; the machine went down meanwhile"),
                _ => continue,
            };
            (tried.end, tried.words, doubted) = (end, words.to_owned(), true);
        }
        if doubted { self.course.write(self.cx) } else { Ok(()) }
    }

    // -- installing --

    fn install(&mut self, update: &Update) -> Result<()> {
        self.course.open = Some(Open {
            id: update.id.clone(),
            title: update.title.clone(),
            attempt: self.course.attempts(&update.id) + 1,
            boot_id: self.cx.platform.boot_id()?,
            pending: self.cx.platform.pending_reboot()?.is_some(),
        });
        self.course.write(self.cx)?;
        self.finish_open()
    }

    /// Brings the update that is open to its end, whether it begins now or was begun before the agent came back.
    fn finish_open(&mut self) -> Result<()> {
        let Some(open) = self.course.open.clone() else { return Ok(()) };
        let begun = Instant::now();
        let tried = |end, words: String, next: &str| Tried {
            id: open.id.clone(),
            title: open.title.clone(),
            attempts: open.attempt,
            end,
            words,
            next: next.to_owned(),
            seconds: begun.elapsed().as_secs(),
        };
        let tried = match self.run(&open) {
            Ok(judged) => tried(End::Said(judged.verdict), judged.to_string(), judged.next),
            Err(error) if error.kind() == ErrorKind::Cancelled || self.cx.deadline.is_over() => return Err(error),
            // The program is gone and left no exit code, as after a power cut.
            Err(error) if self.cx.platform.boot_id()? != open.boot_id => {
                tried(End::Interrupted, error.details().message.clone(), "")
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => tried(
                End::Broken,
                format!("it took longer than {} and was ended", self.wanted.each()),
                "see whether its installer waits for an answer at the screen; give it more time with `each`",
            ),
            Err(error) => {
                let next =
                    error.details().next.clone().unwrap_or_else(|| "look at the machine: it may still be at work".to_owned());
                tried(End::Broken, error.details().message.clone(), &next)
            }
        };
        self.cx.progress.note(&format!("{} {}: {}", tried.id, tried.title, tried.words));
        let restarts = tried.end == End::Said(Verdict::Restarts);
        // Some installers say nothing of the restart that the system now waits for.
        let now_pending = !open.pending && self.cx.platform.pending_reboot()?.is_some();
        self.course.needs_restart |= restarts || now_pending || tried.end == End::Said(Verdict::NeedsRestart);
        self.course.restarting = restarts.then(|| Restarting { boot_id: open.boot_id.clone(), by_installer: true });
        self.course.open = None;
        self.course.keep(tried);
        self.course.write(self.cx)?;
        if restarts { self.finish_restart() } else { Ok(()) }
    }

    fn run(&self, open: &Open) -> Result<Judged> {
        let deadline = self.cx.deadline.within(self.wanted.each().0);
        // The answer of our own process is nothing to read.
        let quiet = external::Quiet(self.cx.progress);
        let progress: &dyn Progress = if self.wanted.folder().is_some() { self.cx.progress } else { &quiet };
        let cx = StepContext { deadline: &deadline, progress, ..*self.cx };
        let id = format!("{}.{}.{}", cx.step.id, file_part(&open.id), open.attempt);
        let (judged, _) = match self.wanted.folder() {
            Some(folder) => {
                let file = cx.native(folder)?.join(&open.id);
                run_when_free(&cx, &id, self.wanted.busy(), || Ok(installation(&file, &[], None)), |end| Ok(end.exit_code))?
            }
            None => {
                let task = Task::Install { id: open.id.clone() };
                run_when_free(&cx, &id, self.wanted.busy(), || self.task(&task), |end| answered_code(&cx, end))?
            }
        };
        Ok(judged)
    }

    // -- restarting --

    fn restart(&mut self) -> Result<()> {
        warn(self.cx, self.wanted.warn, REASON)?;
        self.course.restarting = Some(Restarting { boot_id: self.cx.platform.boot_id()?, by_installer: false });
        self.course.write(self.cx)?;
        self.cx.progress.note("the machine restarts, as updates need it");
        self.finish_restart()
    }

    /// Sees a restart that was asked for come to its end. Asked again after a crash: the first word may not have reached the
    /// system, and twice does no harm.
    fn finish_restart(&mut self) -> Result<()> {
        let Some(Restarting { boot_id, by_installer }) = self.course.restarting.clone() else { return Ok(()) };
        if by_installer {
            self.give_time_to_restart(&boot_id)?;
        }
        if self.cx.platform.boot_id()? == boot_id {
            self.cx.platform.reboot(REASON)?;
            wait_for_restart(self.cx, &boot_id)?;
        }
        self.course.restarting = None;
        self.course.needs_restart = false;
        self.course.restarts += 1;
        self.course.write(self.cx)
    }

    /// An installer that says that it restarts the machine mostly does.
    fn give_time_to_restart(&self, before: &str) -> Result<()> {
        let nearer = self.cx.deadline.within(RESTARTS_ITSELF);
        let cx = StepContext { deadline: &nearer, ..*self.cx };
        match wait_for_restart(&cx, before) {
            Err(e) if e.kind() == ErrorKind::TimedOut && !self.cx.deadline.is_over() => Ok(()),
            other => other,
        }
    }

    // -- the end --

    fn report(self, over: Over) -> Result<Applied> {
        let Self { cx, course, .. } = self;
        let left = match over {
            Over::NothingLeft => Vec::new(),
            Over::Left(left, why) => {
                if !left.is_empty() {
                    let named: Vec<String> = left.iter().map(|u| format!("{} {}", u.id, u.title)).collect();
                    cx.progress.remind(&format!("{} updates are left, because {why}: {}", left.len(), named.join(", ")));
                }
                left
            }
        };
        if !self.wanted.restart && cx.platform.pending_reboot()?.is_some() {
            cx.progress.remind("updates are complete after a restart of the machine");
        }
        let failed: Vec<&Tried> = course.updates.iter().filter(|t| !t.end.is_good()).collect();
        let tail = match (course.restarts, left.len()) {
            (0, 0) => "none left".to_owned(),
            (0, n) => format!("{n} left"),
            (restarts, 0) => format!("{} and none left", counted(restarts as usize, "restart")),
            (restarts, n) => format!("{} and {n} left", counted(restarts as usize, "restart")),
        };
        let summary = format!(
            "{} installed in {}, {tail}",
            counted(course.installed(), "update"),
            counted(course.rounds as usize, "round")
        );
        if let Some(first) = failed.first() {
            let lines: Vec<String> = failed.iter().map(|t| format!("{} {}: {}", t.id, t.title, t.words)).collect();
            let message = format!("{} of {} updates failed: {}", failed.len(), course.updates.len(), lines.join("; "));
            return Err(Error::step_failed(message).because(summary).next(first.next.clone()));
        }
        let result = json!({ "installed": course.installed(), "rounds": course.rounds, "restarts": course.restarts,
            "updates": course.updates, "left": left });
        let changed = course.installed() > 0 || course.restarts > 0;
        let applied = if changed { Applied::changed(summary) } else { Applied::ok(summary) };
        Ok(applied.with_result(result))
    }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The identity of an update as a part of file names; what is left out of it is told apart by a hash.
fn file_part(id: &str) -> String {
    let plain: String = id.chars().filter(|c| c.is_ascii_alphanumeric()).take(40).collect();
    format!("{plain}-{}", ContentHash::of(id.as_bytes()).short())
}

/// The exit code that the process of an installation has answered.
fn answered_code(cx: &StepContext<'_>, end: &JobEnd) -> Result<i32> {
    let output = std::fs::read_to_string(&end.output).cannot(|| format!("read {}", end.output.display()))?;
    match Task::read(&output) {
        Some(Ok(Answer::Installed(code))) => Ok(code),
        Some(Ok(Answer::Offered(_))) => Err(Error::internal("an installation was answered with something else")),
        Some(Err(error)) => Err(error),
        None => Err(external::failed(cx, "agent updates", end.exit_code, &end.tail)),
    }
}

/// The packages in a folder, by name.
pub(super) fn packages(folder: &Path, shown: &str) -> Result<Vec<Update>> {
    let cannot = || format!("read the folder {shown}");
    let entries = std::fs::read_dir(folder).map_err(|e| {
        let error = Error::io(cannot(), &e);
        match e.kind() {
            std::io::ErrorKind::NotFound => error.next("copy the packages there, or correct `--updates` (`from` in a playbook)"),
            _ => error,
        }
    })?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.cannot(cannot)?.path();
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        let Some(name) = path.file_name().filter(|_| ending.is_some_and(|e| PACKAGES.contains(&e.as_str()))) else { continue };
        let name = name.to_string_lossy().into_owned();
        let bytes = path.metadata().cannot(cannot)?.len();
        found.push(Update { title: String::new(), id: name, bytes });
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}
