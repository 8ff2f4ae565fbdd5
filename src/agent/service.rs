//! The worker as a service of Windows. A service is nobody's child, so that it does not end with the session that asked for
//! it; it has the system's rights; and the service manager starts it again, after a crash and after a restart of the
//! machine, as long as a run is not over.

use crate::error::Result;
use crate::platform::windows::{service_process, services};
use crate::platform::{ServiceControl, ServiceDefinition, ServiceStart, ServiceStatus};
use std::path::Path;
use std::time::{Duration, Instant};

/// The name of the service.
const NAME: &str = "ibexdeploy";

/// How long the process of a worker that has ended may still be there, and how often that is looked at.
const TAKE_OVER: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);

/// Starts the worker from `executable`.
///
/// # Errors
/// When this account may not register or start services.
pub(super) fn start(executable: &Path) -> Result<()> {
    // One that is to start with the machine has a run to finish, and stays so.
    let starts = services::definition(NAME)?.map_or(ServiceStart::Manual, |present| present.start);
    register(executable, starts)?;
    let begun = Instant::now();
    loop {
        services::control(NAME, ServiceControl::Start)?;
        // The worker before may have said that it has stopped, and its process be there still: then nothing has begun.
        let runs = matches!(services::status(NAME)?, Some(ServiceStatus::Running | ServiceStatus::Starting));
        if runs || begun.elapsed() > TAKE_OVER {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Says whether the worker starts with the machine.
///
/// # Errors
/// When this account may not register services.
pub(super) fn start_with_the_machine(executable: &Path, on: bool) -> Result<()> {
    let starts = if on { ServiceStart::Automatic } else { ServiceStart::Manual };
    register(executable, starts)
}

fn register(executable: &Path, start: ServiceStart) -> Result<()> {
    let definition = ServiceDefinition {
        name: NAME.to_owned(),
        program: executable.to_path_buf(),
        arguments: ["agent", "service"].map(str::to_owned).to_vec(),
        start,
        restarts: true,
    };
    if services::definition(NAME)?.as_ref() == Some(&definition) {
        return Ok(());
    }
    services::register(&definition)
}

/// Is the service, until no run needs it any more.
///
/// # Errors
/// When it was not the service manager who started this process.
pub fn serve() -> Result<()> {
    service_process::run(NAME, || super::worker(None))
}
