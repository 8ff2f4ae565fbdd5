//! What people get wrong in YAML, found while its structure is read and said in words that help.

use super::tree::{Mark, Tree, mark};
use crate::error::{Error, Result};
use serde_saphyr::granit_parser::{ErrorKind, Event, ScalarStyle, ScanError, Span};

const QUOTE_TEMPLATES: &str =
    "put the whole value into quotes: 'NDX{{ inst }}'. Without them YAML reads `{` as the start of a map";
const BACKSLASHES: &str = "inside double quotes a backslash begins an escape (`\\n` is a new line, `\\I` is nothing at all): \
                           use single quotes, 'C:\\Instrument', or none";

/// Finds what is YAML, but cannot be what was meant.
pub(super) fn check(tree: &Tree, event: &Event<'_>, span: &Span) -> Result<()> {
    match event {
        Event::MappingStart(..) if from(tree, span).starts_with("{{") => Err(unquoted(tree, mark(span))),
        Event::Scalar(_, ScalarStyle::DoubleQuoted, ..) => {
            let written = span.slice(tree.text()).unwrap_or_default().as_bytes();
            // `"C:\new"` is valid and holds a new line; `"C:\\new"` is well written.
            let drive = written.len() > 4 && written[1].is_ascii_alphabetic() && &written[2..4] == b":\\" && written[4] != b'\\';
            if drive && written[4] != b'"' { Err(backslash(tree, mark(span))) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// The text from where a node begins.
fn from<'t>(tree: &'t Tree, span: &Span) -> &'t str {
    span.start.byte_offset().and_then(|at| tree.text().get(at..)).unwrap_or_default()
}

fn unquoted(tree: &Tree, at: Mark) -> Error {
    Error::bad_input("`{{` must be in quotes").at(tree.at(at)).next(QUOTE_TEMPLATES)
}

fn backslash(tree: &Tree, at: Mark) -> Error {
    Error::bad_input("a Windows path in double quotes").at(tree.at(at)).next(BACKSLASHES)
}

/// The error of the parser, said again for people.
pub(super) fn broken(tree: &Tree, error: &ScanError) -> Error {
    let at = Mark { line: error.marker().line(), column: error.marker().col() + 1 };
    let line = tree.text().lines().nth(at.line.saturating_sub(1)).unwrap_or_default();
    if let Some(column) = open_braces(line) {
        return unquoted(tree, Mark { line: at.line, column });
    }
    if let Some(column) = tab(line) {
        return Error::bad_input("a tab in the indentation")
            .at(tree.at(Mark { line: at.line, column }))
            .next("indent with spaces: YAML does not allow tabs there (`→` in the excerpt)");
    }
    let (message, next) = match error.kind() {
        ErrorKind::UnknownQuotedScalarEscape => ("an unknown escape in double quotes".to_owned(), BACKSLASHES),
        ErrorKind::UnclosedQuotedScalar => {
            ("a quote that is not closed".to_owned(), "close it, or double it inside single quotes: 'it''s'")
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => (
            "text behind the closing quote".to_owned(),
            "quote the whole value; inside single quotes a quote is doubled: 'it''s'",
        ),
        ErrorKind::MappingValueNotAllowed => {
            ("a `:` where no value can begin".to_owned(), "check the indentation; quote text that holds `: `")
        }
        ErrorKind::ExpectedBlockMappingKey => (
            "a `key: value` was expected here".to_owned(),
            "check that the line stands exactly below its neighbours, and quote values with special characters",
        ),
        ErrorKind::UnexpectedCharacter { character } => {
            (format!("a value cannot begin with `{}`", character.escape_debug()), "put it into single quotes")
        }
        ErrorKind::UnknownAnchor => (
            "an alias that names no anchor".to_owned(),
            "a value that begins with `*` is a reference in YAML: put it into quotes when it is a pattern",
        ),
        _ => (error.info().to_owned(), "check the brackets, quotes and indentation of this line and the one before"),
    };
    Error::bad_input(message).at(tree.at(at)).next(next)
}

/// The column of a tab in front of a line's text, when it has one.
fn tab(line: &str) -> Option<usize> {
    line.chars().take_while(|c| c.is_whitespace()).position(|c| c == '\t').map(|index| index + 1)
}

/// The column of a `{{` outside quotes, when the line has one.
fn open_braces(line: &str) -> Option<usize> {
    let mut quote = None;
    let mut before = ' ';
    for (index, c) in line.chars().enumerate() {
        match (quote, c) {
            (None, '{') if before == '{' => return Some(index),
            (None, '#') if before.is_whitespace() => return None,
            // An apostrophe inside a word does not open a quote.
            (None, '\'' | '"') if !before.is_alphanumeric() => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        before = c;
    }
    None
}
