//! Where text goes: how wide it is there, and whether colours are understood.

use crate::events::Outcome;
use console::Term;

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
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let width = term.size_checked().map(|(_, columns)| usize::from(columns)).filter(|w| *w > 0);
        Self { width, colour: !set("NO_COLOR") && !dumb }
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
