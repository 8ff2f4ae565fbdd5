//! `process`: programs that run, or do not.

use super::{Applied, Deadline, Difference, Perform, Probe, StepContext};
use crate::error::{Error, ErrorKind, Result};
use crate::paths::Place;
use crate::platform::ProcessInfo;
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Waits until programs have ended (or are running), and may end those that stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Programs whose executable, script or working folder lies in one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under: Vec<Place>,
    /// Programs with one of these names, for example `ibex-client.exe`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<String>,
    /// Programs with these names do not count, and are never ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spare: Vec<String>,
    /// `none`: they have ended. `running`: there is at least one.
    pub state: ProcessState,
    /// How long to wait; 30 s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// Ends what is still there after the wait. A shell that only stands in a folder is named, never ended.
    #[serde(default)]
    pub kill: bool,
}

/// Whether the programs should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    None,
    Running,
}

impl ProcessState {
    /// The word of playbooks.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Running => "running",
        }
    }
}

/// Which programs a step or check is about.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The places as the playbook has them, with their resolved folders.
    folders: Vec<(Place, PathBuf)>,
    names: Vec<String>,
    spared: Vec<String>,
}

impl Wanted {
    pub(super) fn new(cx: &StepContext<'_>, under: &[Place], named: &[String]) -> Result<Self> {
        if under.is_empty() && named.is_empty() {
            return Err(Error::bad_input("which programs? neither `under` nor `named` is set")
                .next("write `under: [server]` for what runs from a place, or `named: [ibex-client.exe]`"));
        }
        let mut folders = Vec::new();
        for place in under {
            let native = cx.native(place)?;
            // Links are followed, as the system does when it says where a program lies.
            folders.push((place.clone(), native.canonicalize().unwrap_or(native)));
        }
        Ok(Self { folders, names: named.to_vec(), spared: Vec::new() })
    }

    /// The same without programs of these names.
    #[must_use]
    fn without(mut self, spared: &[String]) -> Self {
        self.spared = spared.to_vec();
        self
    }

    /// The programs that are there now.
    pub(super) fn find(&self, cx: &StepContext<'_>) -> Result<Vec<Found>> {
        let processes = cx.platform.processes()?;
        Ok(processes.into_iter().filter_map(|p| self.judge(cx, p)).collect())
    }

    fn judge(&self, cx: &StepContext<'_>, process: ProcessInfo) -> Option<Found> {
        let is_called = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case(&process.name));
        if is_called(&self.spared) {
            return None;
        }
        let named = is_called(&self.names);
        let runs = named || self.folders.iter().any(|(_, folder)| process.runs_below(folder));
        let stands = self.folders.iter().any(|(_, folder)| process.stands_below(folder));
        if !runs && !stands {
            return None;
        }
        let stands_in = (!runs).then(|| {
            let folder = process.folder.clone().unwrap_or_default();
            cx.platform.windows_path(&folder).map_or_else(|| folder.display().to_string(), String::from)
        });
        Some(Found { name: process.name, pid: process.pid, stands_in })
    }

    /// For messages: `programs under server, client`.
    pub(super) fn words(&self) -> String {
        let mut words = Vec::new();
        if !self.folders.is_empty() {
            let places: Vec<&str> = self.folders.iter().map(|(place, _)| place.as_str()).collect();
            words.push(format!("programs under {}", places.join(", ")));
        }
        if !self.names.is_empty() {
            words.push(self.names.join(", "));
        }
        words.join(" and ")
    }
}

/// A program that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    name: String,
    pid: u32,
    /// A shell that runs nothing from there and only stands in this folder: somebody's prompt.
    pub(super) stands_in: Option<String>,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The programs in a few words, at most five of them.
pub(super) fn list(found: &[Found]) -> String {
    let mut names: Vec<String> = found.iter().take(5).map(ToString::to_string).collect();
    if found.len() > 5 {
        names.push(format!("{} more", found.len() - 5));
    }
    names.join(", ")
}

/// The error about a prompt that is open where files are to be changed.
pub(super) fn standing_error(found: &[Found]) -> Option<Error> {
    let lines: Vec<String> = found
        .iter()
        .filter_map(|f| f.stands_in.as_ref().map(|folder| format!("a shell ({}, pid {}) stands in {folder}", f.name, f.pid)))
        .collect();
    (!lines.is_empty()).then(|| {
        Error::new(ErrorKind::Refused, lines.join("; "))
            .next("close it, or change to another folder in it, and try again: it is somebody's prompt and never ended from here")
    })
}

const USUAL_WAIT: Duration = Duration::from_secs(30);
/// How long programs that were ended may take to disappear.
const AFTER_KILL: Duration = Duration::from_secs(10);

impl Process {
    fn wanted(&self, cx: &StepContext<'_>) -> Result<Wanted> {
        Ok(Wanted::new(cx, &self.under, &self.named)?.without(&self.spare))
    }

    /// Waits until no program is left; the wait is named after those that are.
    fn wait_until_none(&self, cx: &StepContext<'_>, wanted: &Wanted, deadline: &Deadline) -> Result<()> {
        loop {
            let present = wanted.find(cx)?;
            if present.is_empty() {
                return Ok(());
            }
            let done = deadline.within(deadline.left()).wait_for(&list(&present), cx.progress, || {
                let now = wanted.find(cx)?;
                Ok((now != present).then_some(now.is_empty()))
            })?;
            if done {
                return Ok(());
            }
        }
    }

    fn end_those_left(&self, cx: &StepContext<'_>, wanted: &Wanted) -> Result<Vec<Found>> {
        let left = wanted.find(cx)?;
        let (prompts, programs): (Vec<_>, Vec<_>) = left.into_iter().partition(|f| f.stands_in.is_some());
        for program in &programs {
            cx.platform.kill(program.pid)?;
            cx.progress.note(&format!("ended {program}"));
        }
        if let Some(error) = standing_error(&prompts) {
            return Err(error);
        }
        match self.wait_until_none(cx, wanted, &cx.deadline.within(AFTER_KILL)) {
            Err(e) if e.kind() == ErrorKind::TimedOut => Err(e.next("it was ended and is still there: restart the machine")),
            Err(e) => Err(e),
            Ok(()) => Ok(programs),
        }
    }

    fn none(&self, cx: &StepContext<'_>, wanted: &Wanted) -> Result<Applied> {
        if wanted.find(cx)?.is_empty() {
            return Ok(Applied::ok(format!("no {}", wanted.words())));
        }
        let wait = cx.deadline.within(self.wait.map_or(USUAL_WAIT, |w| w.0));
        match self.wait_until_none(cx, wanted, &wait) {
            Ok(()) => Ok(Applied::ok(format!("{} have ended", wanted.words()))),
            Err(e) if e.kind() == ErrorKind::TimedOut && self.kill => {
                let ended = self.end_those_left(cx, wanted)?;
                Ok(Applied::changed(format!("ended {}", list(&ended))))
            }
            Err(e) if e.kind() == ErrorKind::TimedOut => {
                Err(standing_error(&wanted.find(cx)?)
                    .unwrap_or_else(|| e.next("end them, or let the step do it with `kill: true`")))
            }
            Err(e) => Err(e),
        }
    }

    fn running(&self, cx: &StepContext<'_>, wanted: &Wanted) -> Result<Applied> {
        let running = || -> Result<Option<Vec<Found>>> {
            let mut found = wanted.find(cx)?;
            found.retain(|f| f.stands_in.is_none());
            Ok((!found.is_empty()).then_some(found))
        };
        let wait = cx.deadline.within(self.wait.map_or(USUAL_WAIT, |w| w.0));
        let found = wait.wait_for(&format!("{} to run", wanted.words()), cx.progress, running).map_err(|e| match e.kind() {
            ErrorKind::TimedOut => e.next("see why it did not start: the logs in `Var\\logs` and the step that starts it"),
            _ => e,
        })?;
        Ok(Applied::ok(format!("{} running", list(&found))))
    }
}

impl Perform for Process {
    fn describe(&self) -> String {
        let mut what: Vec<&str> = self.under.iter().map(Place::as_str).collect();
        what.extend(self.named.iter().map(String::as_str));
        format!("programs {} {}", what.join(", "), self.state.word())
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let found = self.wanted(cx)?.find(cx)?;
        let so = found.is_empty() == (self.state == ProcessState::None);
        let summary = if found.is_empty() { "none is running".to_owned() } else { list(&found) };
        let difference = if so { Difference::None } else { Difference::Some };
        let mut items: Vec<String> = found.iter().map(ToString::to_string).collect();
        items.extend(standing_error(&found).filter(|_| !so).map(|e| e.to_string()));
        Ok(Probe { difference, summary, items, ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let wanted = self.wanted(cx)?;
        match self.state {
            ProcessState::None => self.none(cx, &wanted),
            ProcessState::Running => self.running(cx, &wanted),
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::events::Outcome;
    use crate::platform::testing::{Bench, Running};
    use serde_json::json;

    const IOC: &str = "C:\\Instrument\\Apps\\EPICS\\ioc.exe";

    fn none_under_server(wait: &str, kill: bool) -> Bench {
        Bench::of(json!({"process": {"under": ["server"], "state": "none", "wait": wait, "kill": kill}}))
    }

    #[test]
    fn nothing_to_wait_for_is_ok() {
        let bench = none_under_server("1s", false);
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Ok);
        assert_eq!(bench.probe().unwrap().difference, Difference::None);
    }

    #[test]
    fn the_wait_is_named_after_the_program_and_ends_with_it() {
        let bench = none_under_server("20s", false);
        let program = bench.program(IOC);
        let pid = program.pid();
        assert_eq!(bench.probe().unwrap().items, [format!("ioc.exe (pid {pid})")]);
        *bench.told.at_first_wait.lock().unwrap() = Some(Box::new(move || drop(program)));
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Ok);
        assert_eq!(bench.told.waits.lock().unwrap()[0], format!("ioc.exe (pid {pid})"));
    }

    #[test]
    fn what_stays_is_named_or_ended() {
        let bench = none_under_server("20ms", false);
        let mut program = bench.program(IOC);
        let error = bench.apply().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains(&format!("ioc.exe (pid {})", program.pid())), "{error}");
        let mut ending = none_under_server("20ms", true);
        ending.plan.places.insert("server".into(), bench.plan.places["server"].clone());
        ending.drives = bench.drives.clone();
        ending.platform = crate::platform::open(Some(&bench.root)).unwrap();
        assert_eq!(ending.apply().unwrap().outcome, Outcome::Changed);
        assert!(!program.0.wait().unwrap().success());
    }

    #[test]
    fn a_prompt_in_the_folder_is_named_and_never_ended() {
        let bench = none_under_server("20ms", true);
        let program = bench.program(IOC);
        let folder = bench.native("C:\\Instrument\\Apps\\EPICS");
        let mut prompt =
            std::process::Command::new("sh").stdin(std::process::Stdio::piped()).current_dir(folder).spawn().unwrap();
        let error = bench.apply().unwrap_err();
        let expected = format!("a shell (sh, pid {}) stands in C:\\Instrument\\Apps\\EPICS", prompt.id());
        let name = error.to_string().replace("(dash,", "(sh,").replace("(bash,", "(sh,");
        assert!(name.contains(&expected), "{error}");
        assert!(error.details().next.as_deref().is_some_and(|n| n.starts_with("close it")));
        assert!(prompt.try_wait().unwrap().is_none());
        drop((prompt.stdin.take(), program));
        prompt.wait().unwrap();
    }

    #[test]
    fn a_link_to_the_folder_is_followed() {
        let mut bench = none_under_server("20ms", false);
        let _program: Running = bench.program("E:\\Versions\\26.8.0\\ioc.exe");
        bench.write("C:\\Instrument\\Apps\\x", "");
        let server = bench.native("C:\\Instrument\\Apps\\EPICS");
        bench.platform.make_link(&server, &bench.native("E:\\Versions\\26.8.0")).unwrap();
        assert!(bench.apply().is_err());
        bench.set(json!({"process": {"named": ["IOC.EXE"], "state": "running"}}));
        assert!(bench.apply().unwrap().summary.contains("ioc.exe"));
    }

    #[test]
    fn which_programs_must_be_said() {
        let bench = Bench::of(json!({"process": {"state": "none"}}));
        assert_eq!(bench.probe().unwrap_err().kind(), ErrorKind::BadInput);
    }
}
