//! Where text goes: how wide it is there, and whether colours are understood.

use crate::events::Outcome;
use console::Term;
use std::ffi::OsString;

/// What the place that text goes to can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Screen {
    /// Columns; nothing when there is no limit (a file, a pipe).
    pub width: Option<usize>,
    pub colour: bool,
}

impl Screen {
    /// No limit and no colours.
    pub const PLAIN: Self = Self { width: None, colour: false };

    /// Standard output as it is.
    pub fn of_stdout() -> Self {
        Self::of(&Term::stdout())
    }

    /// Standard error as it is.
    pub fn of_stderr() -> Self {
        Self::of(&Term::stderr())
    }

    fn of(term: &Term) -> Self {
        if !term.is_term() {
            return Self::PLAIN;
        }
        let width = term.size_checked().map(|(_, columns)| usize::from(columns)).filter(|w| *w > 0);
        Self { width, colour: wants_colour(|name| std::env::var_os(name)) && understands_colour(term) }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// The outcome's word in the colour of its weight.
    pub(super) fn outcome(self, outcome: Outcome) -> String {
        let code = match outcome {
            Outcome::Ok | Outcome::Changed => "32",
            Outcome::Skipped | Outcome::Cancelled => "33",
            Outcome::RolledBack | Outcome::Failed | Outcome::Unreachable => "31",
            Outcome::RollbackFailed => "1;31",
        };
        self.paint(code, outcome.word())
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Consoles of Windows take colours for text until they are told otherwise, which the asking does; older ones never learn it.
fn understands_colour(term: &Term) -> bool {
    !cfg!(windows) || term.features().colors_supported()
}

/// What the environment says of colours; `NO_COLOR` counts when it is not empty.
fn wants_colour(var: impl Fn(&str) -> Option<OsString>) -> bool {
    var("NO_COLOR").is_none_or(|v| v.is_empty()) && var("TERM").is_none_or(|t| t != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_can_refuse_colours() {
        let with = |set: &'static [(&'static str, &'static str)]| {
            wants_colour(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
        };
        assert!(with(&[]) && with(&[("NO_COLOR", ""), ("TERM", "xterm")]));
        assert!(!with(&[("NO_COLOR", "1")]) && !with(&[("TERM", "dumb")]));
    }
}
