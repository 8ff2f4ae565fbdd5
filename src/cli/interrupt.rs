//! Ctrl-C, heard from the first moment of a command on.

use super::exit;
use crate::locks::locked;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};
use tokio::sync::watch;

/// What a process ends with that died of a bug of its own, as Rust has it.
const PANICKED: u8 = 101;

/// The command's own thread gets as much room as a program's first one has.
const STACK: usize = 8 << 20;

/// Who hears an interrupt: before a run is led the command just ends, since nothing has begun. Afterwards the count of
/// interrupts tells whoever leads.
#[derive(Debug)]
struct Ear {
    led: bool,
    count: watch::Sender<u32>,
}

static EAR: LazyLock<Mutex<Ear>> = LazyLock::new(|| Mutex::new(Ear { led: false, count: watch::Sender::new(0) }));

/// What ends a command.
enum End {
    Itself(ExitCode),
    Interrupted,
}

/// Runs a command until it ends or is interrupted before it leads a run; `sorry` then says so.
pub(super) fn until_interrupted(command: impl FnOnce() -> ExitCode + Send + 'static, sorry: impl FnOnce()) -> ExitCode {
    let terminal = Terminal::now();
    let (ended, end) = channel();
    listen(ended.clone());
    let run = move || {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(command)).unwrap_or(ExitCode::from(PANICKED));
        // Nobody waits any more when it was interrupted.
        let _ = ended.send(End::Itself(code));
    };
    if std::thread::Builder::new().name("command".to_owned()).stack_size(STACK).spawn(run).is_err() {
        return ExitCode::from(exit::SOME_FAILED);
    }
    match end.recv() {
        Ok(End::Itself(code)) => code,
        Ok(End::Interrupted) | Err(_) => {
            terminal.restore();
            sorry();
            ExitCode::from(exit::CANCELLED)
        }
    }
}

/// From now on interrupts are counted, and mean what the leader of a run makes of them.
pub(super) fn lead() -> watch::Receiver<u32> {
    let mut ear = locked(&EAR);
    ear.led = true;
    ear.count.subscribe()
}

/// Where the system gives no signals, an interrupt ends the process as it always does.
fn listen(ended: Sender<End>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    let signals = {
        // The handlers are in place when this is over, and not only when the thread comes to run.
        let _inside = runtime.enter();
        Signals::begin()
    };
    let Ok(mut signals) = signals else { return };
    let hear = move || {
        runtime.block_on(async {
            while signals.next().await {
                let ear = locked(&EAR);
                if ear.led {
                    ear.count.send_modify(|count| *count += 1);
                } else {
                    // When nobody waits the command has ended.
                    let _ = ended.send(End::Interrupted);
                }
            }
        });
    };
    // Without the thread an interrupt has no effect; but then there is none for the command either.
    let _ = std::thread::Builder::new().name("interrupts".to_owned()).spawn(hear);
}

/// How a terminal was: a question for a secret hides what is typed, and may be where the command is interrupted.
#[cfg(unix)]
struct Terminal(Option<rustix::termios::Termios>);

#[cfg(unix)]
impl Terminal {
    fn now() -> Self {
        Self(rustix::termios::tcgetattr(std::io::stdin()).ok())
    }

    fn restore(&self) {
        if let Some(before) = &self.0 {
            // A terminal that has gone needs nothing.
            let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
}

#[cfg(not(unix))]
struct Terminal;

#[cfg(not(unix))]
impl Terminal {
    fn now() -> Self {
        Self
    }

    /// The console of Windows is read without its own echo, and stays as it is.
    fn restore(&self) {}
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn begin() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// True at each Ctrl-C, and when whoever shuts this machine down asks the command to end.
    async fn next(&mut self) -> bool {
        tokio::select! {
            heard = self.interrupt.recv() => heard.is_some(),
            heard = self.terminate.recv() => heard.is_some(),
        }
    }
}

#[cfg(windows)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    broken: tokio::signal::windows::CtrlBreak,
}

#[cfg(windows)]
impl Signals {
    /// Not the closing of the window, which leaves no time to wait for instruments: it ends the command, and they go on by
    /// themselves.
    fn begin() -> std::io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c};
        Ok(Self { interrupt: ctrl_c()?, broken: ctrl_break()? })
    }

    /// True at each Ctrl-C and each Ctrl-Break.
    async fn next(&mut self) -> bool {
        tokio::select! {
            heard = self.interrupt.recv() => heard.is_some(),
            heard = self.broken.recv() => heard.is_some(),
        }
    }
}
