//! The services of a sandbox: simulated ones, and those with a program, which really run.

use super::state::SimulatedService;
use super::system::Begun;
use super::{Sandbox, system};
use crate::error::{Error, IoContext, Result};
use crate::platform::{Platform, ServiceControl, ServiceDefinition, ServiceStart, ServiceStatus};
use std::collections::BTreeMap;

impl Sandbox {
    /// Starts or stops a service.
    pub(super) fn control(&self, name: &str, control: ServiceControl) -> Result<()> {
        let mut begun = None;
        self.state.change(|state| {
            let Some(key) = find(&state.services, name).map(|(key, _)| key.clone()) else {
                let near = crate::nearest::nearest(name, state.services.keys().map(String::as_str));
                let hint = near.map_or_else(|| "see the inventory for its name".to_owned(), |n| format!("did you mean `{n}`?"));
                return Err(Error::step_failed(format!("there is no service {name}")).next(hint));
            };
            let Some(service) = state.services.get_mut(&key) else { return Ok(()) };
            match control {
                ServiceControl::Start => begun = self.start(&key, service)?,
                ServiceControl::Stop => stop(service)?,
            }
            Ok(())
        })?;
        begun.map_or(Ok(()), Begun::go_on)
    }

    fn start(&self, name: &str, service: &mut SimulatedService) -> Result<Option<Begun>> {
        if let Some(why) = &service.broken {
            return Err(Error::step_failed(format!("the service {name} did not start")).because(why));
        }
        match status(service) {
            ServiceStatus::Running => return Ok(None),
            ServiceStatus::Stopping if service.program.is_some() => {
                return Err(Error::step_failed(format!("the service {name} is still stopping")).temporary());
            }
            _ => {}
        }
        let begun = self.run_service(name, service)?;
        (service.running, service.stopping, service.pid) = (true, false, begun.as_ref().map(|begun| begun.pid));
        Ok(begun)
    }

    /// Starts a service's program, where it has one, with nothing that it shares with this process; its output goes to a
    /// file in the agent's home. It goes on once the state file knows it: a worker that is killed in between leaves none
    /// that nobody knows.
    pub(super) fn run_service(&self, name: &str, service: &SimulatedService) -> Result<Option<Begun>> {
        let Some(program) = &service.program else { return Ok(None) };
        let folder = self.root.join(".ibexdeploy").join("services");
        std::fs::create_dir_all(&folder).cannot(|| format!("make the folder {}", folder.display()))?;
        let log = folder.join(format!("{name}.log"));
        Begun::start(program, &service.arguments, self.environment(), &self.root, &log).map(Some)
    }

    /// Registers a service, or changes it.
    pub(super) fn register(&self, definition: &ServiceDefinition) -> Result<()> {
        self.state.change(|state| {
            let known = find(&state.services, &definition.name).map(|(key, _)| key.clone());
            let key = known.unwrap_or_else(|| definition.name.clone());
            let new = || SimulatedService { running: false, ..SimulatedService::default() };
            let service = state.services.entry(key).or_insert_with(new);
            service.program = Some(definition.program.clone());
            service.arguments.clone_from(&definition.arguments);
            service.automatic = definition.start != ServiceStart::Manual;
            service.delayed = definition.start == ServiceStart::Delayed;
            service.restarts = definition.restarts;
            Ok(())
        })
    }

    /// Takes a service that does not run out of the list.
    pub(super) fn unregister(&self, name: &str) -> Result<()> {
        self.state.change(|state| {
            let Some((key, service)) = find(&state.services, name).map(|(key, service)| (key.clone(), service)) else {
                return Ok(());
            };
            if status(service) != ServiceStatus::Stopped {
                return Err(Error::step_failed(format!("the service {name} runs, and cannot be removed")).next("stop it first"));
            }
            state.services.remove(&key);
            Ok(())
        })
    }
}

/// Ends a simulated service at once; the program of another one is asked to end.
fn stop(service: &mut SimulatedService) -> Result<()> {
    if service.stubborn && service.running {
        service.stopping = true;
        return Ok(());
    }
    match service.pid {
        Some(pid) if service.program.is_some() => {
            if status(service) != ServiceStatus::Stopped {
                service.stopping = true;
                system::ask_to_end(pid)?;
            }
        }
        Some(pid) => {
            service.pid = None;
            system::kill(pid)?;
            service.running = false;
        }
        None => service.running = false,
    }
    Ok(())
}

/// A service by its name; Windows ignores case.
pub(super) fn find<'a>(
    services: &'a BTreeMap<String, SimulatedService>,
    name: &str,
) -> Option<(&'a String, &'a SimulatedService)> {
    services.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))
}

pub(super) fn status(service: &SimulatedService) -> ServiceStatus {
    // One with a program runs as long as that does.
    let alive = service.pid.map_or(service.program.is_none(), system::is_running);
    match (service.running && alive, service.stopping) {
        (true, true) => ServiceStatus::Stopping,
        (true, false) => ServiceStatus::Running,
        (false, _) => ServiceStatus::Stopped,
    }
}

/// How a service is registered; nothing for one that is only simulated.
pub(super) fn definition(name: &str, service: &SimulatedService) -> Option<ServiceDefinition> {
    let start = match (service.automatic, service.delayed) {
        (true, false) => ServiceStart::Automatic,
        (true, true) => ServiceStart::Delayed,
        (false, _) => ServiceStart::Manual,
    };
    Some(ServiceDefinition {
        name: name.to_owned(),
        program: service.program.clone()?,
        arguments: service.arguments.clone(),
        start,
        restarts: service.restarts,
    })
}
