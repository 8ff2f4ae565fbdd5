//! The services of the machine, through the service manager.

use super::quoting;
use super::volumes::{plain, plain_argument};
use crate::error::{Error, Result};
use crate::platform::{ServiceControl, ServiceDefinition, ServiceStart, ServiceStatus};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;
use windows_service::Error as ServiceError;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl, ServiceFailureActions,
    ServiceFailureResetPeriod, ServiceInfo, ServiceStartType, ServiceState, ServiceType,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_sys::Win32::Foundation::{
    ERROR_DEPENDENT_SERVICES_RUNNING, ERROR_INVALID_LEVEL, ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_CANNOT_ACCEPT_CTRL,
    ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_NOT_ACTIVE, ERROR_SERVICE_REQUEST_TIMEOUT,
};
use windows_sys::Win32::System::Services::{
    QueryServiceConfig2W, QueryServiceStatusEx, SC_STATUS_PROCESS_INFO, SERVICE_CONFIG_DELAYED_AUTO_START_INFO,
    SERVICE_DELAYED_AUTO_START_INFO, SERVICE_STATUS_PROCESS, SERVICE_STOPPED,
};

/// What a service that restarts does: the first, second and every later time it ends by itself.
const RESTART_AFTER: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(60)];

/// After a day without a failure the next one counts as the first.
const FORGIVEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// An error of the service manager in our words.
fn failed(what: impl std::fmt::Display, error: &ServiceError) -> Error {
    match error {
        ServiceError::Winapi(source) => Error::io(what, source),
        other => Error::step_failed(format!("cannot {what}")).because(other),
    }
}

/// The number that the service manager gave.
fn code(error: &ServiceError) -> Option<u32> {
    match error {
        ServiceError::Winapi(source) => source.raw_os_error().map(i32::cast_unsigned),
        _ => None,
    }
}

fn manager(access: ServiceManagerAccess) -> Result<ServiceManager> {
    ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT | access)
        .map_err(|e| failed("reach the service manager", &e))
}

/// A service; nothing when there is none of that name.
fn open(name: &str, access: ServiceAccess) -> Result<Option<Service>> {
    match manager(ServiceManagerAccess::empty())?.open_service(name, access) {
        Ok(service) => Ok(Some(service)),
        Err(e) if code(&e) == Some(ERROR_SERVICE_DOES_NOT_EXIST) => Ok(None),
        Err(e) => Err(failed(format!("open the service {name}"), &e)),
    }
}

/// What a service is doing.
///
/// # Errors
/// When the service manager does not answer.
pub(crate) fn status(name: &str) -> Result<Option<ServiceStatus>> {
    let Some(service) = open(name, ServiceAccess::QUERY_STATUS)? else { return Ok(None) };
    let status = service.query_status().map_err(|e| failed(format!("ask for the state of the service {name}"), &e))?;
    Ok(Some(match status.current_state {
        ServiceState::Stopped => ServiceStatus::Stopped,
        ServiceState::StartPending | ServiceState::ContinuePending => ServiceStatus::Starting,
        ServiceState::StopPending => ServiceStatus::Stopping,
        // A paused one has its files open.
        ServiceState::Running | ServiceState::PausePending | ServiceState::Paused => ServiceStatus::Running,
    }))
}

/// The process of a service, while it has one: also when it starts, or does not stop.
///
/// # Errors
/// When the service manager does not answer.
pub(crate) fn process(name: &str) -> Result<Option<u32>> {
    let Some(service) = open(name, ServiceAccess::QUERY_STATUS)? else { return Ok(None) };
    // The library tells it of services that run, and of no others.
    let mut status = SERVICE_STATUS_PROCESS::default();
    let mut needed = 0;
    // SAFETY: the service is open for this question, and the answer is as long as it is said to be.
    let told = unsafe {
        QueryServiceStatusEx(
            service.raw_handle(),
            SC_STATUS_PROCESS_INFO,
            (&raw mut status).cast(),
            size_of_val(&status) as u32,
            &raw mut needed,
        )
    };
    if told == 0 {
        return Err(Error::io(format!("ask for the process of the service {name}"), &std::io::Error::last_os_error()));
    }
    Ok(Some(status.dwProcessId).filter(|pid| *pid > 0 && status.dwCurrentState != SERVICE_STOPPED))
}

/// Asks a service to start or stop. One that does so already is no error.
///
/// # Errors
/// When there is no such service or it refuses.
pub(crate) fn control(name: &str, control: ServiceControl) -> Result<()> {
    let access = match control {
        ServiceControl::Start => ServiceAccess::START,
        ServiceControl::Stop => ServiceAccess::STOP,
    };
    let Some(service) = open(name, access)? else {
        return Err(Error::step_failed(format!("there is no service {name}")).next("see the inventory for its name"));
    };
    match control {
        ServiceControl::Start => match service.start::<&OsStr>(&[]) {
            Err(e) if code(&e) == Some(ERROR_SERVICE_ALREADY_RUNNING) => Ok(()),
            Err(e) => {
                let error = failed(format!("start the service {name}"), &e);
                Err(match code(&e) {
                    Some(ERROR_SERVICE_REQUEST_TIMEOUT) => {
                        error.next("its program did not answer: look into its log and the event log of the system")
                    }
                    _ => error,
                })
            }
            Ok(()) => Ok(()),
        },
        ServiceControl::Stop => match service.stop() {
            Err(e) if code(&e) == Some(ERROR_SERVICE_NOT_ACTIVE) => Ok(()),
            Err(e) => {
                let error = failed(format!("stop the service {name}"), &e);
                Err(match code(&e) {
                    Some(ERROR_DEPENDENT_SERVICES_RUNNING) => error.next("stop the services that need it first"),
                    Some(ERROR_SERVICE_CANNOT_ACCEPT_CTRL) => error.temporary().next("it is busy: try again in a moment"),
                    _ => error,
                })
            }
            Ok(_) => Ok(()),
        },
    }
}

/// How a service is registered.
///
/// # Errors
/// When the service manager does not answer.
pub(crate) fn definition(name: &str) -> Result<Option<ServiceDefinition>> {
    let Some(service) = open(name, ServiceAccess::QUERY_CONFIG)? else { return Ok(None) };
    let what = || format!("ask how the service {name} is registered");
    let config = service.query_config().map_err(|e| failed(what(), &e))?;
    let mut words = quoting::split(&config.executable_path.to_string_lossy());
    let program = if words.is_empty() { String::new() } else { words.remove(0) };
    let start = match config.start_type {
        ServiceStartType::AutoStart if is_delayed(&service)? => ServiceStart::Delayed,
        ServiceStartType::AutoStart | ServiceStartType::BootStart | ServiceStartType::SystemStart => ServiceStart::Automatic,
        ServiceStartType::OnDemand | ServiceStartType::Disabled => ServiceStart::Manual,
    };
    let actions = match service.get_failure_actions() {
        Ok(actions) => actions.actions,
        Err(e) if is_unknown_to_wine(code(&e)) => None,
        Err(e) => return Err(failed(what(), &e)),
    };
    let restarts = actions.iter().flatten().any(|action| action.action_type == ServiceActionType::Restart);
    Ok(Some(ServiceDefinition { name: name.to_owned(), program: PathBuf::from(program), arguments: words, start, restarts }))
}

fn is_delayed(service: &Service) -> Result<bool> {
    let mut info = SERVICE_DELAYED_AUTO_START_INFO { fDelayedAutostart: 0 };
    let mut needed = 0;
    // SAFETY: the service is open for questions, and the answer is as long as it is said to be.
    let told = unsafe {
        QueryServiceConfig2W(
            service.raw_handle(),
            SERVICE_CONFIG_DELAYED_AUTO_START_INFO,
            (&raw mut info).cast(),
            size_of_val(&info) as u32,
            &raw mut needed,
        )
    };
    let error = std::io::Error::last_os_error();
    match told {
        0 if is_unknown_to_wine(error.raw_os_error().map(i32::cast_unsigned)) => Ok(false),
        0 => Err(Error::io("ask when a service starts", &error)),
        _ => Ok(info.fDelayedAutostart != 0),
    }
}

/// Wine's service manager knows neither a delayed start nor what to do about failures.
fn is_unknown_to_wine(code: Option<u32>) -> bool {
    code == Some(ERROR_INVALID_LEVEL)
}

/// Registers a service to run as the system, or changes how one is registered; one that is there keeps its account, its
/// name for people and the services that it needs.
///
/// # Errors
/// When it is refused.
pub(crate) fn register(definition: &ServiceDefinition) -> Result<()> {
    let name = &definition.name;
    let wanted = ServiceAccess::QUERY_CONFIG | ServiceAccess::CHANGE_CONFIG | ServiceAccess::START;
    let what = || format!("register the service {name}");
    let service = match open(name, wanted)? {
        Some(service) => {
            let present = service.query_config().map_err(|e| failed(what(), &e))?;
            let mut info = info(definition, present.display_name);
            info.service_type = present.service_type;
            service.change_config(&info).map_err(|e| failed(what(), &e))?;
            service
        }
        None => {
            let manager = manager(ServiceManagerAccess::CREATE_SERVICE)?;
            manager.create_service(&info(definition, OsString::from(name)), wanted).map_err(|e| failed(what(), &e))?
        }
    };
    if definition.start != ServiceStart::Manual {
        let delayed = definition.start == ServiceStart::Delayed;
        match service.set_delayed_auto_start(delayed) {
            Err(e) if !is_unknown_to_wine(code(&e)) => return Err(failed(what(), &e)),
            _ => {}
        }
    }
    let actions = match definition.restarts {
        true => RESTART_AFTER.map(|delay| ServiceAction { action_type: ServiceActionType::Restart, delay }).to_vec(),
        false => Vec::new(),
    };
    let failures = ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGIVEN_AFTER),
        reboot_msg: None,
        command: None,
        actions: Some(actions),
    };
    match service.update_failure_actions(failures) {
        Err(e) if !is_unknown_to_wine(code(&e)) => Err(failed(what(), &e)),
        _ => Ok(()),
    }
}

fn info(definition: &ServiceDefinition, display_name: OsString) -> ServiceInfo {
    ServiceInfo {
        name: OsString::from(&definition.name),
        display_name,
        service_type: ServiceType::OWN_PROCESS,
        start_type: match definition.start {
            ServiceStart::Automatic | ServiceStart::Delayed => ServiceStartType::AutoStart,
            ServiceStart::Manual => ServiceStartType::OnDemand,
        },
        error_control: ServiceErrorControl::Normal,
        executable_path: plain(&definition.program),
        launch_arguments: definition.arguments.iter().map(|arg| OsString::from(plain_argument(arg))).collect(),
        dependencies: Vec::new(),
        account_name: None,
        account_password: None,
    }
}

/// Removes a stopped service. One that is not there is no error.
///
/// # Errors
/// When it runs, or it is refused.
pub(crate) fn remove(name: &str) -> Result<()> {
    let Some(service) = open(name, ServiceAccess::QUERY_STATUS | ServiceAccess::DELETE)? else { return Ok(()) };
    let what = || format!("remove the service {name}");
    let status = service.query_status().map_err(|e| failed(what(), &e))?;
    if status.current_state != ServiceState::Stopped {
        return Err(Error::step_failed(format!("the service {name} runs, and cannot be removed")).next("stop it first"));
    }
    service.delete().map_err(|e| failed(what(), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_registered_changed_and_removed() {
        let name = format!("ibexdeploy-test-{}", std::process::id());
        assert_eq!(status(&name).unwrap(), None);
        assert!(control(&name, ServiceControl::Start).unwrap_err().to_string().contains("there is no service"));
        let wanted = ServiceDefinition {
            name: name.clone(),
            program: "C:\\Program Files\\My SQL\\mysqld.exe".into(),
            arguments: vec!["--datadir=C:\\a b\\data".to_owned(), "say \"x\"".to_owned()],
            start: ServiceStart::Delayed,
            restarts: true,
        };
        register(&wanted).unwrap();
        let found = definition(&name).unwrap().unwrap();
        assert_eq!((&found.program, &found.arguments), (&wanted.program, &wanted.arguments));
        assert_ne!(found.start, ServiceStart::Manual);
        assert_eq!(status(&name).unwrap(), Some(ServiceStatus::Stopped));
        assert_eq!(process(&name).unwrap(), None);
        control(&name, ServiceControl::Stop).unwrap();
        let changed = ServiceDefinition { start: ServiceStart::Manual, restarts: false, arguments: vec![], ..wanted };
        register(&changed).unwrap();
        assert_eq!(definition(&name).unwrap(), Some(changed));
        remove(&name).unwrap();
        remove(&name).unwrap();
        assert_eq!(definition(&name).unwrap(), None);
    }
}
