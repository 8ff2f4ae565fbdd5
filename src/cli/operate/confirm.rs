//! The one question before instruments are changed.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::report::text;
use std::io::{BufRead, IsTerminal, Write};

/// What to do first where nobody can be asked.
pub(in crate::cli) const LOOK_FIRST: &str = "look at it with --dry-run, then add --yes";

/// Shows what will happen and asks whether to go on; `yes` skips the question. `look` says what to do where nobody can be
/// asked.
///
/// # Errors
/// [`ErrorKind::Refused`] when the answer is no, and without a terminal to ask on.
pub(in crate::cli) fn confirm(what: &str, yes: bool, look: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Error::new(ErrorKind::Refused, "not confirmed: nothing was touched")
            .because("there is no terminal to ask on")
            .next(look));
    }
    let mut terminal = std::io::stderr();
    terminal.write_all(text::safe(what).as_bytes()).cannot(|| "ask for confirmation")?;
    if confirmed("Go on?")? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Refused, "not confirmed: nothing was touched"))
}

/// Asks a question on the terminal; only `y` and `yes` are a yes.
///
/// # Errors
/// When the terminal cannot be used.
pub(in crate::cli) fn confirmed(question: &str) -> Result<bool> {
    let mut terminal = std::io::stderr();
    write!(terminal, "{} [y/N] ", text::safe(question)).and_then(|()| terminal.flush()).cannot(|| "ask a question")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).cannot(|| "read the answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
