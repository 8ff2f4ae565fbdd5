//! The transport to a machine with WinRM (Windows Remote Management): the agent is a program in one of its shells, and the
//! shell's streams are the agent's own stream.

mod binding;
mod bring;
mod clixml;
mod connection;
mod endpoint;
mod fault;
mod http;
mod kdc;
mod negotiate;
mod pump;
mod reply;
mod sealing;
mod shells;
mod soap;
mod tls;
mod unauthorized;

use super::Opened;
use super::begun::AllBegun;
use super::builds::Builds;
use super::expected::Expected;
use super::logons::Logons;
use super::piped::PipedStream;
use super::remote::RemoteHome;
use crate::content::ContentHash;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Target, WinrmSpec};
use bring::Load;
use connection::Connection;
use endpoint::Endpoint;
use fault::Fault;
use http::Answer;
use hyper::StatusCode;
use pump::Running;
use reply::Reply;
use shells::{InUse, Shells};
use soap::{CommandId, CommandLine, Request, SessionId};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument as _;

/// How long the service may take to open a shell, and to start a program in it.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// The longest command line that Windows' shells take, in characters.
const LONGEST_LINE: usize = 8191;

/// Opens streams to agents behind WinRM services.
#[derive(Default)]
pub struct Winrm {
    logons: Logons,
    builds: Builds,
    shells: Arc<Shells>,
    begun: AllBegun,
}

impl std::fmt::Debug for Winrm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Winrm").field("logons", &self.logons).field("builds", &self.builds).finish_non_exhaustive()
    }
}

/// What starting a program comes to.
enum Started {
    Running(PipedStream),
    /// There is no such program.
    NotThere(String),
}

impl Winrm {
    /// `agents`: where builds for other platforms lie, besides beside this executable.
    pub fn new(logons: Logons, agents: Option<PathBuf>) -> Self {
        Self { logons, builds: Builds::new(agents), shells: Arc::default(), begun: AllBegun::default() }
    }

    pub(super) async fn open(&self, target: &Target, spec: &WinrmSpec) -> Result<Opened> {
        let span = tracing::debug_span!("winrm", instrument = target.plan.instrument);
        self.open_stream(target, spec).instrument(span).await
    }

    async fn open_stream(&self, target: &Target, spec: &WinrmSpec) -> Result<Opened> {
        let endpoint = self.endpoint(target, spec)?;
        let home = &endpoint.home;
        let build = self.build(spec, home)?;
        let line = command_line(home, &home.executable(build.as_ref()), "attach");
        let slow = "see whether the machine is overloaded, and what antivirus makes of ibexdeploy.exe";
        let expected = Expected { home, preinstalled: spec.preinstalled, slow };
        match self.start(target, &endpoint, &line).await? {
            Started::Running(stream) => expected.begin(stream).await,
            Started::NotThere(said) => expected.missing(vec![said]),
        }
    }

    pub(super) async fn bring(&self, target: &Target, spec: &WinrmSpec) -> Result<()> {
        let span = tracing::debug_span!("winrm", instrument = target.plan.instrument);
        self.bring_agent(target, spec).instrument(span).await
    }

    async fn bring_agent(&self, target: &Target, spec: &WinrmSpec) -> Result<()> {
        let endpoint = self.endpoint(target, spec)?;
        if spec.preinstalled {
            return Err(Error::internal("an agent is to be brought where none may be"));
        }
        let build = self.builds.of(endpoint.home.platform())?;
        let begun = self.begun.of(&target.plan.instrument);
        let load = Load::of(&build, &endpoint.home, &begun)?;
        match self.start(target, &endpoint, &load.receiver(&endpoint.home)).await? {
            Started::Running(stream) => load.send(stream, &begun).await,
            Started::NotThere(said) => {
                Err(Error::new(ErrorKind::NoAgent, "the machine has no program that could take the agent").because(said).next(
                    match endpoint.home {
                        RemoteHome::Windows => {
                            "PowerShell is needed there for it; or put the agent there yourself and write `agent: preinstalled`"
                        }
                        RemoteHome::Unix { .. } => "take `root:` out of its transport's settings, if it is a Windows machine",
                    },
                ))
            }
        }
    }

    /// Opens a shell over one of two connections, and starts a program in it.
    async fn start(&self, target: &Target, endpoint: &Arc<Endpoint>, line: &CommandLine) -> Result<Started> {
        let instrument = &target.plan.instrument;
        let length = line.program.len() + line.arguments.as_ref().map_or(0, |text| text.len() + 1);
        if length > LONGEST_LINE {
            return Err(Error::bad_input(format!("a command line of {length} characters is longer than Windows takes"))
                .next("give it a shorter `root:`"));
        }
        // One after the other: a wrong password is not to be tried twice, since accounts are locked after a few.
        let mut mouth = Connection::open(endpoint).await?;
        self.shells.close_abandoned(instrument, &mut mouth).await;
        if !mouth.is_sound() {
            mouth = Connection::open(endpoint).await?;
        }
        let mut shell = self.shells.note(instrument, endpoint, SessionId::fresh());
        let (ear, command) = tokio::join!(Connection::open(endpoint), begin(&mut mouth, &mut shell, line));
        let error = match (ear, command) {
            (Ok(ear), Ok(Ok(command))) => {
                let running = Running { endpoint: Arc::clone(endpoint), shell, command };
                return Ok(Started::Running(pump::start(ear, mouth, running)));
            }
            (_, Ok(Err(fault))) if fault.is_not_found() => Ok(Started::NotThere(fault.into_error(STARTING).to_string())),
            (_, Ok(Err(fault))) => Err(fault.into_error(STARTING)),
            (_, Err(e)) | (Err(e), _) => Err(e),
        };
        shell.close(None, [&mut mouth]).await;
        error
    }

    fn endpoint(&self, target: &Target, spec: &WinrmSpec) -> Result<Arc<Endpoint>> {
        Endpoint::of(spec, &self.logons.of(&target.plan.instrument)?).map(Arc::new)
    }

    /// The build that belongs there; nothing where it is somebody else's to bring.
    fn build(&self, spec: &WinrmSpec, home: &RemoteHome) -> Result<Option<ContentHash>> {
        if spec.preinstalled { Ok(None) } else { self.builds.of(home.platform()).map(|build| Some(build.hash)) }
    }
}

impl Drop for Winrm {
    /// Closes the shells that are left, on a thread of its own: the runtime that served them may be gone.
    fn drop(&mut self) {
        if self.shells.is_empty() {
            return;
        }
        let shells = Arc::clone(&self.shells);
        let closing =
            std::thread::Builder::new().name("winrm".to_owned()).spawn(
                move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime.block_on(shells.close_all()),
                    Err(e) => tracing::debug!(error = %e, "shells are left; their services end them by themselves"),
                },
            );
        if let Ok(closing) = closing {
            // It panics at nothing that matters any more.
            let _ = closing.join();
        }
    }
}

/// What `begin` does, for errors.
const STARTING: &str = "start a program";

/// Opens a shell and starts a program in it.
async fn begin(mouth: &mut Connection, shell: &mut InUse, line: &CommandLine) -> Result<std::result::Result<CommandId, Fault>> {
    let request = Request::Create { shell: &shell.shell };
    let created = mouth.call(shell.session, &request, STARTS_WITHIN).await.inspect_err(|e| {
        // Whoever was not let in has opened nothing, and closing it would present a wrong password again.
        if e.kind() == ErrorKind::Logon {
            shell.was_not_opened();
        }
    });
    match created? {
        Ok(Reply { shell: Some(name), .. }) => shell.is_named(name),
        Ok(_) => {}
        Err(fault) => return Err(fault.into_error(request.what())),
    }
    let command = CommandId::fresh();
    tracing::debug!(program = line.program, "starting");
    let request = Request::Command { shell: &shell.shell, command: &command, line };
    let started = mouth.call(shell.session, &request, STARTS_WITHIN).await?;
    Ok(started.map(|reply| reply.command.unwrap_or(command)))
}

fn command_line(home: &RemoteHome, executable: &str, arguments: &str) -> CommandLine {
    let line = home.command(executable, arguments);
    match home {
        // The path has no spaces.
        RemoteHome::Windows => match line.split_once(' ') {
            Some((program, rest)) => CommandLine { program: program.to_owned(), arguments: Some(rest.to_owned()) },
            None => CommandLine { program: line, arguments: None },
        },
        RemoteHome::Unix { .. } => CommandLine { program: line, arguments: None },
    }
}

/// The error of an answer that is none of WinRM's own.
fn refused(endpoint: &Endpoint, answer: &Answer) -> Error {
    let place = endpoint.place();
    let error = |text: String| Error::new(ErrorKind::Unreachable, text).because(format!("it answers {}", answer.status));
    match answer.status {
        StatusCode::INTERNAL_SERVER_ERROR => error(format!("the WinRM service on {place} gives up without a word")).next(
            "so it does with what is not encrypted (AllowUnencrypted=false), and when it has no memory or handles left: its event log \
             says which; restarting the service WinRM helps with the second",
        ),
        StatusCode::BAD_REQUEST => error(format!("the WinRM service on {place} cannot read what we have sent"))
            .next("a sealed message was changed on its way there, or what listens is no WinRM service"),
        StatusCode::NOT_FOUND => error(format!("what listens on {place} has no WinRM service"))
            .next("see whether `port` is right, and `winrm enumerate winrm/config/listener` there: the listener's URLPrefix must be wsman")
            .lasting(),
        StatusCode::SERVICE_UNAVAILABLE => {
            error(format!("the WinRM service on {place} is not up yet")).next("the machine may be starting; else see its service WinRM")
        }
        _ => error(format!("the WinRM service on {place} refuses the message"))
            .next("a proxy may stand between; `winrm get winrm/config` on that machine shows its settings"),
    }
}
