//! When the servers of rehearsed sandboxes run: while a command of the rehearsal is at work, and no longer.

use super::await_answer;
use crate::agent::{home::Home, lock};
use crate::error::{Error, IoContext, Result};
use crate::platform::{self, Platform, ServiceControl, ServiceStatus};
use crate::rehearsal::sandbox::HOME;
use crate::rehearsal::{Sandbox, in_parallel};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Services that a rehearsed server may have, the newer one first.
const SERVICES: [&str; 2] = ["MYSQL84", "MYSQL80"];

/// How long a server may take to write everything down and stop.
const STOP: Duration = Duration::from_secs(30);

/// How long a worker that has told of the end of its run may take to leave the instrument to others.
const LEAVING: Duration = Duration::from_secs(3);

/// In a sandbox whose server is the rehearsal's. Whoever needs the server has the file locked.
pub(super) fn mark_of(root: &Path) -> PathBuf {
    root.join(HOME).join("rehearsed-mysql")
}

/// The servers that a command needs; they stop when this is dropped.
#[derive(Debug)]
pub struct Servers {
    held: Vec<Held>,
}

/// A sandbox whose server is needed.
#[derive(Debug)]
struct Held {
    root: PathBuf,
    /// Locked, together with all others that need it.
    mark: File,
}

impl Servers {
    /// Starts the servers that sandboxes were given, and waits until they answer. Those that do not come with what is
    /// wrong: the rest is rehearsed all the same.
    ///
    /// # Errors
    /// When a mark cannot be opened or locked.
    pub fn start<'a>(roots: impl Iterator<Item = &'a Path>) -> Result<(Self, Vec<Error>)> {
        let mut held = Vec::new();
        for root in roots {
            let path = mark_of(root);
            let mark = match File::open(&path) {
                Ok(mark) => mark,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io(format!("open {}", path.display()), &e)),
            };
            // Another command may be stopping this one, which ends within STOP.
            mark.lock_shared().cannot(|| format!("lock {}", path.display()))?;
            held.push(Held { root: root.to_path_buf(), mark });
        }
        let servers = Self { held };
        let failed = Mutex::new(Vec::new());
        for part in [begin, await_begun] {
            in_parallel(&servers.held, |held| {
                if let Err(error) = part(&held.root) {
                    crate::locks::locked(&failed).push(error);
                }
                Ok(())
            })?;
        }
        let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok((servers, failed))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Nothing fails here: each is stopped, or told of.
        let _ = in_parallel(&self.held, |held| {
            if let Err(error) = held.let_go() {
                tracing::warn!(%error, root = %held.root.display(), "a rehearsed database server did not stop");
            }
            Ok(())
        });
    }
}

impl Held {
    /// Stops the server, unless another command needs it, or an agent goes on without its controller: then the next
    /// command stops it.
    fn let_go(&self) -> Result<()> {
        let begun = Instant::now();
        while is_at_work(&self.root)? {
            if begun.elapsed() > LEAVING {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.mark.try_lock().is_err() {
            return Ok(());
        }
        stop(&self.root)
    }
}

fn is_at_work(root: &Path) -> Result<bool> {
    lock::is_at_work(&Home::open(Some(root))?)
}

/// The services of a sandbox that have a program.
pub(super) fn services_of(machine: &dyn Platform) -> Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for name in SERVICES {
        if machine.service_definition(name)?.is_some() {
            found.push(name);
        }
    }
    Ok(found)
}

/// Starts the server of a sandbox, as the machine does when it starts. Who is at work there does so by himself.
fn begin(root: &Path) -> Result<()> {
    let machine = platform::open(Some(root))?;
    if is_at_work(root)? {
        return Ok(());
    }
    for service in services_of(machine.as_ref())? {
        if machine.service(service)? == Some(ServiceStatus::Stopping) {
            wait_until_stopped(machine.as_ref(), service)?;
        }
        if machine.service(service)? == Some(ServiceStatus::Stopped) {
            machine.control_service(service, ServiceControl::Start)?;
        }
    }
    Ok(())
}

fn await_begun(root: &Path) -> Result<()> {
    let machine = platform::open(Some(root))?;
    for service in services_of(machine.as_ref())? {
        if let Some(definition) = machine.service_definition(service)?
            && machine.service(service)? == Some(ServiceStatus::Running)
            && let Some(bin) = definition.program.parent()
        {
            await_answer(bin, root)?;
        }
    }
    Ok(())
}

/// Stops the server of a sandbox, and waits until it has.
pub(super) fn stop(root: &Path) -> Result<()> {
    let machine = platform::open(Some(root))?;
    for service in services_of(machine.as_ref())? {
        if machine.service(service)? != Some(ServiceStatus::Stopped) {
            machine.control_service(service, ServiceControl::Stop)?;
            wait_until_stopped(machine.as_ref(), service)?;
        }
    }
    Ok(())
}

/// Ends its program when it takes too long.
fn wait_until_stopped(machine: &dyn Platform, service: &str) -> Result<()> {
    let begun = Instant::now();
    while machine.service(service)? != Some(ServiceStatus::Stopped) {
        if begun.elapsed() > STOP {
            return machine.service_process(service)?.map_or(Ok(()), |pid| machine.kill(pid));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Ends all servers that stand in a sandbox, also those that its state does not know.
///
/// # Errors
/// When the system does not tell, or one cannot be ended.
pub(in crate::rehearsal) fn end_all(root: &Path) -> Result<()> {
    if !root.join(HOME).is_dir() {
        return Ok(());
    }
    let machine = platform::open(Some(root))?;
    let servers = machine.processes()?.into_iter().filter(|p| p.name == "mariadbd" || p.name == "mysqld");
    servers.map(|p| p.pid).try_for_each(|pid| machine.kill(pid))
}

impl Sandbox {
    /// Whether it has a server that commands of the rehearsal start and stop.
    pub fn has_server(&self) -> bool {
        mark_of(&self.root).is_file()
    }
}
