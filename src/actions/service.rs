//! `service`: a Windows service in the wanted state.

use super::{Applied, Deadline, Difference, Perform, Probe, StepContext, UndoRecord, Undone};
use crate::error::{Error, ErrorKind, Result};
use crate::platform::{ServiceControl, ServiceStatus};
use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

/// Brings a service into a state and waits until it is so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The service's name, for example `MYSQL84`.
    pub name: String,
    /// What it should be.
    pub state: ServiceState,
    /// How long to wait for the state; 60 s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
    /// Ends the service's process when it does not stop in time.
    #[serde(default)]
    pub kill: bool,
    /// A service that does not exist counts as stopped.
    #[serde(default)]
    pub may_be_absent: bool,
}

/// What a service should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    Running,
    Stopped,
    /// Stopped and started again.
    Restarted,
}

impl ServiceState {
    /// The word of playbooks.
    pub fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Restarted => "restarted",
        }
    }
}

const USUAL_WAIT: Duration = Duration::from_secs(60);
/// How long a service whose process was ended may take to be stopped.
const AFTER_KILL: Duration = Duration::from_secs(15);

impl Service {
    fn waits(&self, cx: &StepContext<'_>) -> Deadline {
        cx.deadline.within(self.wait.map_or(USUAL_WAIT, |w| w.0))
    }

    /// The service's state; an error with the service's name when there is none and that is not allowed.
    fn present(&self, cx: &StepContext<'_>) -> Result<Option<ServiceStatus>> {
        let status = cx.platform.service(&self.name)?;
        let fine = self.may_be_absent && self.state == ServiceState::Stopped;
        if status.is_none() && !fine {
            return Err(missing(&self.name));
        }
        Ok(status)
    }

    fn stop(&self, cx: &StepContext<'_>) -> Result<()> {
        cx.platform.control_service(&self.name, ServiceControl::Stop)?;
        match wait_until(cx, &self.name, ServiceStatus::Stopped, &self.waits(cx)) {
            Err(e) if e.kind() == ErrorKind::TimedOut => self.end_process(cx, e),
            other => other,
        }
    }

    /// Ends the process of a service that did not stop in time, when the step allows it.
    fn end_process(&self, cx: &StepContext<'_>, timed_out: Error) -> Result<()> {
        let process = cx.platform.service_process(&self.name)?;
        let Some(pid) = process.filter(|_| self.kill) else {
            let hint = if self.kill { "it has no process that could be ended" } else { "stop it by hand, or allow `kill: true`" };
            return Err(timed_out.next(hint));
        };
        cx.platform.kill(pid)?;
        cx.progress.note(&format!("ended the process of {} (pid {pid}), which did not stop", self.name));
        wait_until(cx, &self.name, ServiceStatus::Stopped, &cx.deadline.within(AFTER_KILL))
    }

    fn start(&self, cx: &StepContext<'_>) -> Result<()> {
        start(cx, &self.name, &self.waits(cx))
    }
}

fn missing(name: &str) -> Error {
    Error::step_failed(format!("there is no service {name}"))
        .next("correct the name; `sc query` at the instrument lists the services")
}

/// Starts a service, and waits until it runs.
pub(super) fn start(cx: &StepContext<'_>, name: &str, waits: &Deadline) -> Result<()> {
    cx.platform.control_service(name, ServiceControl::Start)?;
    wait_until(cx, name, ServiceStatus::Running, waits).map_err(|e| {
        if e.kind() == ErrorKind::TimedOut { e.next("see the service's own log for why it does not start") } else { e }
    })
}

/// Waits until a service is in a state.
pub(super) fn wait_until(cx: &StepContext<'_>, name: &str, wanted: ServiceStatus, waits: &Deadline) -> Result<()> {
    let what = format!("service {name} to be {}", wanted.word());
    waits.wait_for(&what, cx.progress, || Ok((cx.platform.service(name)? == Some(wanted)).then_some(())))
}

impl Perform for Service {
    fn describe(&self) -> String {
        format!("service {} {}", self.name, self.state.word())
    }

    fn probe(&self, cx: &StepContext<'_>) -> Result<Probe> {
        let status = self.present(cx)?;
        let word = status.map_or("absent", ServiceStatus::word);
        let so = match self.state {
            ServiceState::Running => status == Some(ServiceStatus::Running),
            ServiceState::Stopped => matches!(status, None | Some(ServiceStatus::Stopped)),
            ServiceState::Restarted => false,
        };
        let difference = if so { Difference::None } else { Difference::Some };
        let summary =
            if so { format!("{} is {word}", self.name) } else { format!("{} is {word}, to be {}", self.name, self.state.word()) };
        Ok(Probe { difference, summary, ..Probe::default() })
    }

    fn apply(&self, cx: &StepContext<'_>) -> Result<Applied> {
        let Some(before) = self.present(cx)? else {
            return Ok(Applied::ok(format!("there is no service {}", self.name)));
        };
        let result = json!({ "before": before.word() });
        match (self.state, before) {
            (ServiceState::Running, ServiceStatus::Running) | (ServiceState::Stopped, ServiceStatus::Stopped) => {
                return Ok(Applied::ok(format!("{} is {} already", self.name, before.word())).with_result(result));
            }
            _ => {}
        }
        let ran = matches!(before, ServiceStatus::Running | ServiceStatus::Starting);
        cx.undo_log.intend(UndoRecord::Service(ServiceUndo { name: self.name.clone(), ran }))?;
        match self.state {
            ServiceState::Running => self.start(cx)?,
            ServiceState::Stopped => self.stop(cx)?,
            ServiceState::Restarted => {
                self.stop(cx)?;
                self.start(cx)?;
            }
        }
        Ok(Applied::changed(format!("{} {}", self.name, self.state.word())).with_result(result))
    }
}

/// How to take it back: the state before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceUndo {
    name: String,
    /// It was running, or starting.
    ran: bool,
}

impl ServiceUndo {
    /// Brings the service into the state it had.
    ///
    /// # Errors
    /// When the service manager does not answer, or the operator cancels.
    pub fn undo(&self, cx: &StepContext<'_>) -> Result<Undone> {
        let wanted = if self.ran { ServiceStatus::Running } else { ServiceStatus::Stopped };
        let left = match self.bring_back(cx, wanted) {
            Ok(()) => Vec::new(),
            Err(e) if matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::StepFailed) => {
                vec![format!("service {} should be {}: {e}", self.name, wanted.word())]
            }
            Err(e) => return Err(e),
        };
        Ok(Undone { summary: format!("service {} {} as before", self.name, wanted.word()), left })
    }

    fn bring_back(&self, cx: &StepContext<'_>, wanted: ServiceStatus) -> Result<()> {
        match cx.platform.service(&self.name)? {
            Some(status) if status == wanted => Ok(()),
            None => Err(missing(&self.name)),
            Some(_) => {
                let waits = cx.deadline.within(USUAL_WAIT);
                if self.ran {
                    return start(cx, &self.name, &waits);
                }
                cx.platform.control_service(&self.name, ServiceControl::Stop)?;
                wait_until(cx, &self.name, wanted, &waits)
            }
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::events::Outcome;
    use crate::platform::testing::Bench;

    fn service(arguments: serde_json::Value) -> Bench {
        Bench::of(json!({ "service": arguments }))
    }

    fn status(bench: &Bench) -> Option<ServiceStatus> {
        bench.platform.service("MYSQL80").unwrap()
    }

    #[test]
    fn a_stop_is_taken_back() {
        let bench = service(json!({"name": "MYSQL80", "state": "stopped"}));
        assert_eq!(bench.probe().unwrap().summary, "MYSQL80 is running, to be stopped");
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        assert_eq!(status(&bench), Some(ServiceStatus::Stopped));
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Ok, "a second time there is nothing to do");
        let undone = bench.undo();
        assert_eq!((undone.len(), undone[0].left.len()), (1, 0));
        assert_eq!(status(&bench), Some(ServiceStatus::Running));
    }

    #[test]
    fn a_start_and_a_restart_are_taken_back() {
        let mut bench = service(json!({"name": "MYSQL80", "state": "running"}));
        bench.sandbox_state(|s| s["services"]["MYSQL80"]["running"] = json!(false));
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        bench.undo();
        assert_eq!(status(&bench), Some(ServiceStatus::Stopped));
        bench.set(json!({"service": {"name": "MYSQL80", "state": "restarted"}}));
        bench.sandbox_state(|s| s["services"]["MYSQL80"]["running"] = json!(true));
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        assert_eq!(status(&bench), Some(ServiceStatus::Running));
        bench.undo();
        assert_eq!(status(&bench), Some(ServiceStatus::Running));
    }

    #[test]
    fn a_missing_service_is_an_error_unless_allowed() {
        let error = service(json!({"name": "MYSQL84", "state": "stopped"})).apply().unwrap_err();
        assert!(error.to_string().contains("there is no service MYSQL84"), "{error}");
        let bench = service(json!({"name": "MYSQL84", "state": "stopped", "may_be_absent": true}));
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Ok);
        assert!(service(json!({"name": "MYSQL84", "state": "running", "may_be_absent": true})).apply().is_err());
    }

    #[test]
    fn a_service_that_does_not_stop_is_ended_when_allowed() {
        let mut bench = service(json!({"name": "MYSQL80", "state": "stopped", "wait": "20ms"}));
        let mut process = bench.program("C:\\Instrument\\Apps\\MySQL\\bin\\mysqld.exe");
        let pid = process.pid();
        bench.sandbox_state(|s| s["services"]["MYSQL80"] = json!({"stubborn": true, "pid": pid}));
        let error = bench.apply().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("service MYSQL80 to be stopped"), "{error}");
        assert_eq!(status(&bench), Some(ServiceStatus::Stopping));
        bench.set(json!({"service": {"name": "MYSQL80", "state": "stopped", "wait": "20ms", "kill": true}}));
        assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
        assert_eq!(status(&bench), Some(ServiceStatus::Stopped));
        assert!(!process.0.wait().unwrap().success());
    }

    #[test]
    fn a_service_that_does_not_come_back_is_left_and_named() {
        let bench = service(json!({"name": "MYSQL80", "state": "stopped"}));
        bench.apply().unwrap();
        bench.sandbox_state(|s| s["services"]["MYSQL80"]["broken"] = json!("my.ini is missing"));
        let left = &bench.undo()[0].left;
        assert!(left[0].contains("MYSQL80") && left[0].contains("my.ini is missing"), "{left:?}");
    }
}
