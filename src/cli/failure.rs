//! How an error that ends a command is told on the terminal.

use crate::error::Error;
use std::fmt::Write;

/// The error in full: what happened and where, the lines of the file, what a program said, what to do next.
pub(super) fn tell(error: &Error) -> String {
    let details = error.details();
    let mut text = format!("error: {error}\n");
    if let Some(excerpt) = details.position.as_ref().and_then(|p| p.excerpt.as_ref()) {
        for line in excerpt.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    for line in &details.output {
        let _ = writeln!(text, "  > {line}");
    }
    if let Some(next) = &details.next {
        let _ = writeln!(text, "next: {next}");
    }
    text
}
