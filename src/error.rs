//! The one error type of the library: what happened, where, why, and what to do next.
//!
//! An error crosses the link from the agent to the controller and stands in the journal, so it is plain data.
//! The room that shows it to people is `report/`; nothing here prints.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The result of everything in this library that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is; decides the exit code and whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The command line asks for something that does not exist or does not fit together.
    Usage,
    /// A file the operator wrote (inventory, playbook, kit, hotfix) is not right.
    BadInput,
    /// Refused on purpose: locked by another run, not idle, not confirmed, not this host.
    Refused,
    /// The instrument could not be reached or did not answer.
    Unreachable,
    /// No host key of the machine is known.
    HostKey,
    /// The machine shows another host key than the one that is known, or one that was revoked.
    WrongHostKey,
    /// The machine does not let us log on.
    Logon,
    /// The machine lets us in, and no agent can be started there.
    NoAgent,
    /// A wait came to its deadline.
    TimedOut,
    /// The operator cancelled.
    Cancelled,
    /// A check did not hold or a program failed.
    StepFailed,
    /// Not enough space on a volume.
    OutOfSpace,
    /// Content is not what its hash says, or a journal is damaged.
    Integrity,
    /// The operating system refused a file operation.
    Io,
    /// The two ends do not understand each other.
    Protocol,
    /// A bug of ours.
    Internal,
}

impl ErrorKind {
    /// True when it kept us from speaking with an instrument's agent.
    pub fn is_unreachable(self) -> bool {
        matches!(self, Self::Unreachable | Self::HostKey | Self::WrongHostKey | Self::Logon | Self::NoAgent)
    }
}

/// A place in a file that the operator wrote; lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePosition {
    /// The file as the operator named it.
    pub file: String,
    pub line: u64,
    pub column: u64,
    /// The lines around the place, drawn with a marker, when the text is at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

/// An error with all a person needs to act on it. Boxed, so that `Result` stays small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Error(Box<Details>);

/// The parts of an [`Error`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    pub kind: ErrorKind,
    /// What happened, in one sentence without a full stop.
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<SourcePosition>,
    /// The instrument it happened on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The step it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Causes, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// The last lines of output of the program that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Further mistakes that were found together with this one, and have nothing to do with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Error>,
    /// True when the same call may succeed later without anybody acting (a busy file, a lost link).
    #[serde(default)]
    pub temporary: bool,
}

impl Error {
    /// An error of a kind, with what happened.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let temporary = matches!(kind, ErrorKind::Unreachable);
        Self(Box::new(Details {
            kind,
            message: message.into(),
            position: None,
            host: None,
            step: None,
            causes: Vec::new(),
            output: Vec::new(),
            next: None,
            others: Vec::new(),
            temporary,
        }))
    }

    /// A wrong use of the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Something wrong in a file that the operator wrote.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadInput, message)
    }

    /// A file operation that the system refused, with what was tried.
    pub fn io(what: impl fmt::Display, source: &std::io::Error) -> Self {
        let message = format!("cannot {what}");
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::new(ErrorKind::OutOfSpace, message)
                .because(source)
                .next("make room on the disk that holds it, then run it again"),
            _ => Self::new(ErrorKind::Io, message).because(source),
        }
    }

    /// A failed check or program.
    pub fn step_failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::StepFailed, message)
    }

    /// A broken promise of our own code.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message).next("this is a bug in ibexdeploy: please report it with the run's log folder")
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.0.next = Some(next.into());
        self
    }

    /// Adds a cause behind those already there.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.0.causes.push(cause.to_string());
        self
    }

    /// Puts a wider sentence in front: the present message becomes the nearest cause.
    #[must_use]
    pub fn context(mut self, message: impl Into<String>) -> Self {
        let inner = std::mem::replace(&mut self.0.message, message.into());
        self.0.causes.insert(0, inner);
        self
    }

    /// The first of several mistakes that were found together, with the others behind it; nothing without any.
    pub fn of_all(mistakes: Vec<Self>) -> Option<Self> {
        let mut all = mistakes.into_iter();
        let mut first = all.next()?;
        first.0.others.extend(all);
        Some(first)
    }

    /// Says in which place of which file.
    #[must_use]
    pub fn at(mut self, position: SourcePosition) -> Self {
        self.0.position = Some(position);
        self
    }

    /// Says on which instrument, unless that is known already.
    #[must_use]
    pub fn on_host(mut self, host: impl Into<String>) -> Self {
        self.0.host.get_or_insert_with(|| host.into());
        self
    }

    /// Says on which instruments, in the place of the one it said.
    #[must_use]
    pub fn on_hosts(mut self, hosts: impl Into<String>) -> Self {
        self.0.host = Some(hosts.into());
        self
    }

    /// Says in which step, unless that is known already.
    #[must_use]
    pub fn in_step(mut self, step: impl Into<String>) -> Self {
        self.0.step.get_or_insert_with(|| step.into());
        self
    }

    /// Adds the last lines that a failed program wrote.
    #[must_use]
    pub fn with_output(mut self, lines: Vec<String>) -> Self {
        self.0.output = lines;
        self
    }

    /// Says of what sort it is for whoever hears of it now.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Marks the error as one that may pass by itself.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.0.temporary = true;
        self
    }

    /// Marks the error as one that trying again does not help.
    #[must_use]
    pub fn lasting(mut self) -> Self {
        self.0.temporary = false;
        self
    }

    /// Message and advice in one line, for the readers of file formats, which take nothing but text.
    /// `yaml` takes them apart again.
    pub fn with_advice(&self) -> String {
        match &self.0.next {
            Some(next) => format!("{self}; {next}"),
            None => self.to_string(),
        }
    }

    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    pub fn details(&self) -> &Details {
        &self.0
    }

    /// True when trying again may help.
    pub fn is_temporary(&self) -> bool {
        self.0.temporary
    }
}

impl fmt::Display for Error {
    /// One line: position, host, step, message and causes. `report/` draws the full form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = &self.0;
        if let Some(p) = &d.position {
            write!(f, "{}:{}:{}: ", p.file, p.line, p.column)?;
        }
        if let Some(host) = &d.host {
            write!(f, "{host}: ")?;
        }
        if let Some(step) = &d.step {
            write!(f, "{step}: ")?;
        }
        f.write_str(&d.message)?;
        for cause in &d.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Gives an I/O result the words of what was tried.
pub trait IoContext<T> {
    /// `what` continues "cannot ...", for example `read C:\data`.
    fn cannot<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn cannot<D: fmt::Display>(self, what: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|e| Error::io(what(), &e))
    }
}

/// The first ten of many, as lines of an error's output; a last line says how many more there are.
pub(crate) fn first_named<T: fmt::Display>(all: &[T]) -> Vec<String> {
    const NAMED: usize = 10;
    let mut named: Vec<String> = all.iter().take(NAMED).map(|one| format!("  {one}")).collect();
    if all.len() > NAMED {
        named.push(format!("  and {} more", all.len() - NAMED));
    }
    named
}
