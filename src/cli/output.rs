//! Where commands write: documents to standard output, errors to standard error.

use super::{GlobalOptions, OutputForm};
use crate::error::{Error, Result};
use crate::locks::locked;
use crate::report::{self, Screen};
use serde::Serialize;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// Writes the answer to a query: one JSON document under `--output json`, else what `text` makes of it.
///
/// # Errors
/// When standard output cannot be written. A reader that went away (`| head`) is no error.
pub fn document<T: Serialize>(global: &GlobalOptions, value: &T, text: impl FnOnce() -> String) -> Result<()> {
    let text = if global.output == Some(OutputForm::Json) {
        let text = serde_json::to_string_pretty(value);
        let text = text.map_err(|e| Error::internal("cannot write the answer as JSON").because(e))?;
        report::text::safe_json(text) + "\n"
    } else {
        report::text::safe(&text()).into_owned()
    };
    super::write_out(&text)
}

/// Writes an error that ends the command.
pub(super) fn error(form: Option<OutputForm>, error: &Error) {
    let text = match form {
        Some(OutputForm::Json) => report::error_json(error),
        Some(OutputForm::Plain) => report::error(error, Screen::PLAIN),
        Some(OutputForm::Pretty) | None => report::error(error, Screen::of_stderr()),
    };
    // Nothing is left to do when even standard error is closed.
    let _ = io::stderr().write_all(report::text::safe(&text).as_bytes());
}

/// Standard output, which remembers that something could not be written: a run goes on without being seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched(Arc<Mutex<Option<String>>>);

impl Watched {
    /// Why not all was written, if so. A reader that went away (`| head`) did not want more.
    pub(super) fn failure(&self) -> Option<String> {
        locked(&self.0).clone()
    }

    fn note<T>(&self, outcome: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &outcome
            && !matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted)
        {
            locked(&self.0).get_or_insert_with(|| e.to_string());
        }
        outcome
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.note(io::stdout().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.note(io::stdout().flush())
    }
}

/// Tells an operator something that stops nothing.
pub(super) fn warn(text: &str) {
    // A warning that nobody can see is no reason to stop.
    let _ = writeln!(io::stderr(), "warning: {}", report::text::safe(text));
}
