//! Being a service: the side that the service manager talks to.

use crate::error::{Error, Result};
use std::ffi::OsString;
use std::sync::Mutex;
use std::time::Duration;
use windows_service::define_windows_service;
use windows_service::service::{ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle};
use windows_service::service_dispatcher;

/// What the service manager is told when the work failed; the log says why.
const FAILED: u32 = 1;

type Work = Box<dyn FnOnce() -> Result<()> + Send>;

/// What the service does. The service manager calls a plain function, which finds it here.
static WORK: Mutex<Option<(&'static str, Work)>> = Mutex::new(None);

define_windows_service!(called_by_the_system, carry_out);

/// Is the service of that name until its work is done.
///
/// # Errors
/// When it was not the service manager who started this process.
pub(crate) fn run(name: &'static str, work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    *crate::locks::locked(&WORK) = Some((name, Box::new(work)));
    service_dispatcher::start(name, called_by_the_system)
        .map_err(|e| Error::usage("only the service manager starts this").because(e))
}

fn carry_out(_arguments: Vec<OsString>) {
    let Some((name, work)) = crate::locks::locked(&WORK).take() else { return };
    // It cannot be stopped from outside: a run is cancelled by a controller, and then undone.
    let handler = |asked| match asked {
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    };
    let manager = match service_control_handler::register(name, handler) {
        Ok(manager) => manager,
        Err(error) => return tracing::error!(%error, "the service manager does not take the service"),
    };
    tell(manager, ServiceState::Running, ServiceExitCode::NO_ERROR);
    let code = match work() {
        Ok(()) => ServiceExitCode::NO_ERROR,
        Err(error) => {
            tracing::error!(%error, "the service failed");
            ServiceExitCode::ServiceSpecific(FAILED)
        }
    };
    tell(manager, ServiceState::Stopped, code);
}

fn tell(manager: ServiceStatusHandle, current_state: ServiceState, exit_code: ServiceExitCode) {
    let status = ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state,
        controls_accepted: ServiceControlAccept::empty(),
        exit_code,
        checkpoint: 0,
        wait_hint: Duration::ZERO,
        process_id: None,
    };
    if let Err(error) = manager.set_service_status(status) {
        tracing::warn!(%error, "the service manager does not hear of the service's state");
    }
}
