//! `task`: something that the machine's own scheduler starts, with the rights of the system.

use super::undo::kept_before;
use super::{Applied, Difference, Perform, Probe, StepContext, UndoRecord, Undone};
use crate::content::ContentHash;
use crate::error::{Error, IoContext, Result};
use crate::files;
use crate::paths::Place;
use crate::plan::InstrumentPlan;
use crate::platform::ScheduledTask;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder of the scheduler that our tasks lie in.
pub const FOLDER: &str = "ibexdeploy";

/// In the agent's home: the plans that tasks carry out.
pub const STORED: &str = "tasks";

/// Registers a task that runs with the rights of the system, and that an account of the inventory may start without having
/// those rights itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Its name in the scheduler, below the folder `ibexdeploy`.
    pub name: String,
    /// A playbook beside this one. It is planned for the instrument now, and carried out there whenever the task is
    /// started, without a controller. One of `playbook` and `run` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playbook: Option<String>,
    /// Variables of that playbook.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Value>,
    /// With `playbook`: the file that what happened is written to each time, with the rights of the system: it must lie where
    /// only administrators can write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Place>,
    /// A line for the command interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The account of the inventory that may start it; only administrators unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_by: Option<String>,
    /// Starts by itself each day at this time, for example `03:30`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily: Option<String>,
    /// The plan, put in when the plan around it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub plan: Option<Box<InstrumentPlan>>,
}

/// A plan as a task finds it in the agent's home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredTask {
    /// The build in `bin/` that carries it out, so that this one stays there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    pub plan: InstrumentPlan,
}

/// What was there before.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    scheduled: Option<ScheduledTask>,
    stored: Option<StoredTask>,
}

/// What is to be there.
struct Wanted {
    scheduled: ScheduledTask,
    stored: Option<StoredTask>,
    /// Where the plan is kept.
    file: PathBuf,
}

/// True for a time of day as `HH:MM`.
pub fn is_time_of_day(text: &str) -> bool {
    let number = |part: &str, below: u32| part.len() == 2 && part.parse::<u32>().is_ok_and(|n| n < below);
    text.split_once(':').is_some_and(|(hours, minutes)| number(hours, 24) && number(minutes, 60))
}

/// Why something cannot be a task's name.
pub fn name_problem(name: &str) -> Option<&'static str> {
    let plain = |c: char| c.is_alphanumeric() || " -_.()".contains(c);
    match name.trim() {
        "" => Some("it is empty"),
        trimmed if trimmed != name || !name.chars().all(plain) => Some("it may hold letters, digits, spaces and -_.()"),
        _ => None,
    }
}

impl Task {
    /// The name by which the scheduler knows it.
    fn full_name(&self) -> String {
        format!("{FOLDER}\\{}", self.name)
    }

    fn wanted(&self, cx: &StepContext<'_>) -> Result<Wanted> {
        if let Some(problem) = name_problem(&self.name) {
            return Err(Error::bad_input(format!("`{}` cannot be a task's name: {problem}", self.name)));
        }
        let file = cx.home.join(STORED).join(format!("{}.json", self.name));
        let (program, args, stored) = match (&self.plan, &self.run) {
            (Some(plan), None) => {
                let (program, args) = self.player(cx, &file)?;
                let stored = StoredTask { build: build_in(cx.home, &program), plan: (**plan).clone() };
                (program, args, Some(stored))
            }
            (None, Some(line)) => {
                let (program, args) = cx.platform.shell_line(line);
                (PathBuf::from(program), args, None)
            }
            _ => return Err(Error::internal("the plan of a task was not made when the plan was")),
        };
        let startable_by = self.start_by.as_ref().map(|account| self.user(cx, account)).transpose()?;
        let scheduled = ScheduledTask { name: self.full_name(), program, args, startable_by, daily: self.daily.clone() };
        Ok(Wanted { scheduled, stored, file })
    }

    /// How the agent's own executable carries out the stored plan.
    fn player(&self, cx: &StepContext<'_>, file: &Path) -> Result<(PathBuf, Vec<String>)> {
        let program = std::env::current_exe().cannot(|| "find this executable")?;
        let mut args = vec!["agent".to_owned(), "play".to_owned()];
        if let Some(root) = cx.drives.sandbox_root() {
            args.extend(["--root".to_owned(), root.display().to_string()]);
        }
        if let Some(report) = &self.report {
            args.extend(["--report".to_owned(), cx.native(report)?.display().to_string()]);
        }
        args.push(file.display().to_string());
        Ok((program, args))
    }

    fn user(&self, cx: &StepContext<'_>, account: &str) -> Result<String> {
        let known = || cx.plan.accounts.keys().cloned().collect::<Vec<_>>().join(", ");
        cx.plan.accounts.get(account).map(|a| a.user.clone()).ok_or_else(|| {
            Error::bad_input(format!("the inventory has no account `{account}` for {}", cx.plan.instrument))
                .next(format!("add it under `accounts:`; there are: {}", known()))
        })
    }
}

impl Wanted {
    /// A plan that is damaged is as good as none.
    fn now(&self, cx: &StepContext<'_>) -> Result<Before> {
        Ok(Before {
            scheduled: cx.platform.task(&self.scheduled.name)?,
            stored: files::read_json(&self.file).unwrap_or_default(),
        })
    }

    fn is(&self, now: &Before) -> bool {
        now.scheduled.as_ref() == Some(&self.scheduled) && now.stored == self.stored
    }
}

/// The build that an executable in the home's `bin` is; nothing for one that lies elsewhere.
fn build_in(home: &Path, program: &Path) -> Option<String> {
    let folder = program.parent()?;
    let build = folder.file_name()?.to_str()?;
    (folder.parent()? == home.join("bin")).then(|| build.to_owned())
}

/// Makes the plan and the scheduler's entry as they are told; both may be nothing.
fn put(
    cx: &StepContext<'_>,
    name: &str,
    file: &Path,
    scheduled: Option<&ScheduledTask>,
    stored: Option<&StoredTask>,
) -> Result<()> {
    // A task never finds a plan that is not there yet.
    if let Some(stored) = stored {
        files::write_pretty_json(file, stored)?;
    }
    match scheduled {
        Some(task) => cx.platform.register_task(task)?,
        None => cx.platform.remove_task(name)?,
    }
    if stored.is_none() {
        match std::fs::remove_file(file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io(format!("remove {}", file.display()), &e));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Perform for Task {
    fn describe(&self) -> String {
        format!("task {}", self.name)
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let wanted = self.wanted(cx)?;
        let now = wanted.now(cx)?;
        let (difference, summary) = match &now.scheduled {
            _ if wanted.is(&now) => (Difference::None, "already as wanted"),
            Some(_) => (Difference::Some, "to be changed"),
            None => (Difference::Some, "to be registered"),
        };
        Ok(Probe { difference, summary: summary.to_owned(), ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let wanted = self.wanted(cx)?;
        let kept = cx.data_file(&format!("{}.task.json", ContentHash::of(self.name.as_bytes()).short()));
        if !kept.exists() {
            let now = wanted.now(cx)?;
            if wanted.is(&now) {
                return Ok(Applied::ok("already as wanted"));
            }
            files::write_json(&kept, &now)?;
        }
        let hash = ContentHash::of_file(&kept)?;
        cx.undo_log.intend(UndoRecord::Task(TaskUndo {
            name: wanted.scheduled.name.clone(),
            file: wanted.file.clone(),
            kept,
            hash,
        }))?;
        put(cx, &wanted.scheduled.name, &wanted.file, Some(&wanted.scheduled), wanted.stored.as_ref())?;
        if !wanted.is(&wanted.now(cx)?) {
            return Err(Error::step_failed(format!("the scheduler does not have the task {} as it was registered", self.name))
                .next("look at it in the Task Scheduler; a policy of the site may change tasks"));
        }
        Ok(Applied::changed(format!("{} is registered", wanted.scheduled.name)))
    }
}

/// How to take it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskUndo {
    name: String,
    /// Where the task's plan lies.
    file: PathBuf,
    /// What was there before.
    kept: PathBuf,
    hash: ContentHash,
}

impl TaskUndo {
    /// Puts the task back as it was, or removes it.
    ///
    /// # Errors
    /// When the scheduler refuses, or what was kept is damaged.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let before: Before = kept_before(&self.kept, self.hash)?;
        put(cx, &self.name, &self.file, before.scheduled.as_ref(), before.stored.as_ref())?;
        let summary = if before.scheduled.is_some() { "as it was" } else { "removed" };
        Ok(Undone { summary: format!("the task {} is {summary}", self.name), left: Vec::new() })
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::events::Outcome;
    use crate::platform::testing::Bench;
    use serde_json::json;

    fn bench(daily: &str) -> Bench {
        Bench::of(json!({"task": {"name": "log rotation", "run": "logrotate.bat", "daily": daily}}))
    }

    #[test]
    fn a_task_is_registered_once_and_removed_by_its_undo() {
        let bench = bench("03:30");
        assert_eq!(bench.probe().unwrap().summary, "to be registered");
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        let task = bench.platform.task("IBEXDEPLOY\\Log Rotation").unwrap().unwrap();
        assert_eq!((task.daily.as_deref(), task.startable_by), (Some("03:30"), None));
        assert_eq!(bench.probe().unwrap().difference, Difference::None);
        let undone = bench.undo();
        assert_eq!(undone[0].summary, "the task ibexdeploy\\log rotation is removed");
        assert_eq!(bench.platform.task("ibexdeploy\\log rotation").unwrap(), None);
    }

    #[test]
    fn one_that_was_there_before_is_put_back_also_after_a_crash_in_between() {
        let bench = bench("03:30");
        let name = "ibexdeploy\\log rotation".to_owned();
        let before =
            ScheduledTask { name: name.clone(), program: "old.exe".into(), args: vec![], startable_by: None, daily: None };
        bench.platform.register_task(&before).unwrap();
        bench.apply().unwrap();
        // The worker died before the step's end was written down: the step begins again, and remembers what it found first.
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        bench.undo();
        assert_eq!(bench.platform.task(&name).unwrap(), Some(before));
    }

    #[test]
    fn names_and_times_are_judged() {
        assert!(is_time_of_day("00:00") && is_time_of_day("23:59"));
        assert!(["24:00", "3:30", "03:60", "0330", "", "aa:bb"].iter().all(|text| !is_time_of_day(text)));
        assert_eq!(name_problem("switch to SECI (new)"), None);
        assert!(["", " x", "a\\b", "a/b", "..\\x", "a\"b"].iter().all(|name| name_problem(name).is_some()));
    }
}
