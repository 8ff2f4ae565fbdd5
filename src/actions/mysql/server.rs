//! The server itself: its program, its data folder, its settings, its service.
//!
//! What only MySQL has stands here and in the programs' names: `--initialize-insecure`, and a first start that reads
//! `init-file`. The rest of the action speaks plain SQL.

use super::Mysql;
use super::client::{self, program_in};
use super::version::ServerVersion;
use crate::actions::external::{self, External};
use crate::actions::moves::shown;
use crate::actions::{StepContext, service};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::paths::WinPath;
use crate::platform::{ServiceControl, ServiceDefinition, ServiceStart, ServiceStatus};
use crate::text::Text;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The programs of `bin` that the action calls.
pub(super) const NEEDED: [&str; 4] = ["mysqld", "mysql", "mysqldump", "mysqladmin"];

/// How long the program may take to tell its version.
const VERSION: Duration = Duration::from_secs(60);
/// How long a server may take to write everything down and stop.
const STOP: Duration = Duration::from_secs(600);
/// How long a service whose program was ended may take to be stopped.
const AFTER_KILL: Duration = Duration::from_secs(15);
/// How long a server may take to start; one that upgrades its data takes longest.
const START: Duration = Duration::from_secs(1800);

/// Lines of a server's log that a failure shows.
const LOG_LINES: usize = 20;

/// A server that is installed.
#[derive(Debug, Clone)]
pub(super) struct Installed {
    pub(super) service: ServiceDefinition,
    /// The folder with its programs.
    pub(super) bin: PathBuf,
    pub(super) version: ServerVersion,
}

impl Installed {
    /// The server behind the first of the service names that there is.
    ///
    /// # Errors
    /// When its program is not there, or does not tell its version.
    pub(super) fn find(cx: &StepContext<'_>, names: &[String]) -> Result<Option<Self>> {
        let mut found = Vec::new();
        for name in names {
            if let Some(status) = cx.platform.service(name)? {
                found.push((name, status));
            }
        }
        let mut used = found.iter().filter(|(_, status)| *status != ServiceStatus::Stopped);
        let name = match (found.as_slice(), used.next(), used.next()) {
            ([], ..) => return Ok(None),
            ([(only, _)], ..) | (_, Some((only, _)), None) => *only,
            _ => {
                let all: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
                return Err(Error::step_failed(format!("there are several services of MySQL: {}", all.join(", ")))
                    .next("remove the one that is not used, or name the used one in `services`"));
            }
        };
        let Some(service) = cx.platform.service_definition(name)? else {
            return Err(Error::step_failed(format!("the service {name} does not tell its program"))
                .next("see `sc qc` at the instrument; in a sandbox the service is only simulated, and there is no server"));
        };
        let bin = service.program.parent().unwrap_or(&service.program).to_path_buf();
        let version = version_of(cx, &bin)?;
        Ok(Some(Self { service, bin, version }))
    }
}

/// What the server's program in `bin` says that it is.
///
/// # Errors
/// When it cannot be started, or says something else.
pub(super) fn version_of(cx: &StepContext<'_>, bin: &Path) -> Result<ServerVersion> {
    let deadline = cx.deadline.within(VERSION);
    let bounded = StepContext { deadline: &deadline, ..*cx };
    let program = program_in(bin, "mysqld");
    let args = vec!["--no-defaults".to_owned(), "--version".to_owned()];
    let asking = External { program: program.display().to_string(), args, ..External::default() };
    let seen = external::answer(&bounded, "mysql-version", asking)?;
    ServerVersion::in_output(&seen.output).ok_or_else(|| {
        Error::step_failed(format!("{} does not say which version it is", shown(cx, &program)))
            .with_output(seen.tail)
            .next("run it with --version at the instrument: it may lack the VC++ runtime")
    })
}

/// Makes an empty data folder; root has no password in it until the server's first start.
///
/// # Errors
/// When the program fails.
pub(super) fn initialise(cx: &StepContext<'_>, programs: &Path, data: &Path) -> Result<()> {
    let args = vec![
        "--no-defaults".to_owned(),
        "--initialize-insecure".to_owned(),
        format!("--basedir={}", programs.display()),
        format!("--datadir={}", data.display()),
    ];
    let program = program_in(&programs.join("bin"), "mysqld").display().to_string();
    let seen = external::look(cx, "mysql-initialise", External { program, args, ..External::default() })?;
    if seen.exit_code == 0 && data.is_dir() {
        return Ok(());
    }
    let mut output = seen.tail;
    output.extend(last_log_lines(data));
    Err(Error::step_failed(format!("a data folder could not be made: mysqld ended with exit code {}", seen.exit_code))
        .with_output(external::redacted(cx, &output))
        .next("read what it says; the running server was not touched"))
}

/// `my.ini` for the new server: the old one's, with what the step says and what must be so.
///
/// # Errors
/// When the old file cannot be read or edited.
pub(super) fn settings(mysql: &Mysql, cx: &StepContext<'_>, old: &Path, init_file: Option<&Path>) -> Result<Vec<u8>> {
    let bytes = match std::fs::read(old) {
        Ok(bytes) if mysql.keep_ini => bytes,
        Ok(_) => Vec::new(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::io(format!("read {}", shown(cx, old)), &e)),
    };
    let forward = |path: &WinPath| path.as_str().replace('\\', "/");
    let mut ini = mysql.ini.clone();
    let server: &mut BTreeMap<String, String> = ini.entry("mysqld".to_owned()).or_default();
    server.insert("basedir".to_owned(), forward(&cx.path(&mysql.to)?));
    server.insert("datadir".to_owned(), forward(&cx.path(&mysql.data)?));
    server.insert("port".to_owned(), mysql.port.to_string());
    if let Some(file) = init_file {
        let shown = cx.platform.windows_path(file).map_or_else(|| file.display().to_string(), |p| forward(&p));
        server.insert("init-file".to_owned(), shown);
    }
    let edited = Text::read(&bytes).and_then(|mut text| {
        text.set_ini(&ini)?;
        Ok(text.bytes())
    });
    edited.map_err(|e| e.context(format!("cannot edit {}", shown(cx, old))))
}

/// How the new server's service is registered: started after everything else, and again when it ends by itself.
pub(super) fn definition(name: &str, programs: &Path) -> ServiceDefinition {
    ServiceDefinition {
        name: name.to_owned(),
        program: program_in(&programs.join("bin"), "mysqld"),
        arguments: vec![format!("--defaults-file={}", programs.join("my.ini").display()), name.to_owned()],
        start: ServiceStart::Delayed,
        restarts: true,
    }
}

/// Stops a service, with an end to its program when it takes too long; one that is not there is stopped.
///
/// # Errors
/// When it does not stop.
pub(super) fn stop(cx: &StepContext<'_>, name: &str) -> Result<()> {
    if matches!(cx.platform.service(name)?, None | Some(ServiceStatus::Stopped)) {
        return Ok(());
    }
    cx.platform.control_service(name, ServiceControl::Stop)?;
    let waited = service::wait_until(cx, name, ServiceStatus::Stopped, &cx.deadline.within(STOP));
    match waited {
        Err(e) if e.kind() == ErrorKind::TimedOut => {
            let Some(pid) = cx.platform.service_process(name)? else { return Err(e) };
            // The server makes good at its next start what it had not written down.
            cx.platform.kill(pid)?;
            cx.progress.note(&format!("ended the program of {name} (pid {pid}), which did not stop"));
            service::wait_until(cx, name, ServiceStatus::Stopped, &cx.deadline.within(AFTER_KILL))
        }
        other => other,
    }
}

/// Starts a service, and waits until its server answers.
///
/// # Errors
/// When it ends again, or does not answer in time; with the last lines of the server's log in `data`.
pub(super) fn start(cx: &StepContext<'_>, name: &str, bin: &Path, port: u16, data: &Path) -> Result<()> {
    if cx.platform.service(name)? != Some(ServiceStatus::Running) {
        cx.platform.control_service(name, ServiceControl::Start)?;
    }
    let ended = || {
        Error::step_failed(format!("the server of {name} ended again after its start"))
            .next("its log says why; a setting of `my.ini` that this version does not know is the usual reason")
    };
    let what = format!("the server of {name} to answer");
    let waited = cx.deadline.within(START).wait_for(&what, cx.progress, || {
        if matches!(cx.platform.service(name)?, None | Some(ServiceStatus::Stopped)) {
            return Err(ended());
        }
        Ok(client::is_answering(cx, bin, port)?.then_some(()))
    });
    waited.map_err(|e| e.with_output(external::redacted(cx, &last_log_lines(data))))
}

/// The end of the server's newest log in its data folder.
fn last_log_lines(data: &Path) -> Vec<String> {
    let logs = std::fs::read_dir(data).into_iter().flatten().flatten().map(|e| e.path());
    let newest =
        logs.filter(|p| p.extension().is_some_and(|e| e == "err")).max_by_key(|p| p.metadata().and_then(|m| m.modified()).ok());
    let text = newest.and_then(|log| std::fs::read(log).ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|l| (*l).to_owned()).collect()
}

/// Bytes of all files below a folder; none when there is no such folder.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    let files = walkdir::WalkDir::new(folder).into_iter().flatten().filter_map(|e| e.metadata().ok());
    files.filter(std::fs::Metadata::is_file).map(|m| m.len()).sum()
}

/// True for a folder that is not there, or has nothing in it.
///
/// # Errors
/// When it cannot be read.
pub(super) fn is_empty(folder: &Path) -> Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(e).cannot(|| format!("list {}", folder.display())),
    }
}
