//! What is wrong with a template, and where in it.

use super::Context;
use crate::error::Error;
use crate::nearest::nearest;
use minijinja::ErrorKind as Kind;
use serde_json::Value;

/// A fault in a template or expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    /// Bytes from the start of the template.
    pub offset: usize,
    pub next: String,
}

impl Fault {
    /// The fault of a template that cannot be read.
    pub(super) fn of_syntax(error: &minijinja::Error, text: &str) -> Self {
        let detail = error.detail().unwrap_or("it is not a template");
        Self {
            message: format!("the template cannot be read: {detail}"),
            offset: offset_of(error, text),
            next: "write names as {{ name }}, and expressions as in `'hybrid' in groups and inst != 'LOQ'`".to_owned(),
        }
    }

    /// The fault of a template that was read but could not be filled in; `used` are the names it uses.
    pub(super) fn of(error: &minijinja::Error, text: &str, used: impl IntoIterator<Item = String>, context: &Context) -> Self {
        match error.kind() {
            Kind::SyntaxError => Self::of_syntax(error, text),
            Kind::UndefinedError => Self::undefined(text, used, context, offset_of(error, text)),
            _ => Self {
                message: format!("the template cannot be filled in: {}", error.detail().unwrap_or("it failed")),
                offset: offset_of(error, text),
                next: "the names at hand are listed in docs/playbooks.md, under `Names`".to_owned(),
            },
        }
    }

    /// A name that is not defined: the first of `used` that the context does not have.
    pub(super) fn undefined(text: &str, used: impl IntoIterator<Item = String>, context: &Context, offset: usize) -> Self {
        let mut lacking: Vec<(usize, String, Vec<String>)> = used
            .into_iter()
            .filter_map(|name| missing(&name, context).map(|known| (find_name(text, &name).unwrap_or(offset), name, known)))
            .collect();
        lacking.sort();
        match lacking.into_iter().next() {
            Some((at, name, known)) => Self::not_defined(&name, at, &known),
            None => Self {
                message: "the template uses a value that is not defined".to_owned(),
                offset,
                next: "the names at hand are listed in docs/playbooks.md, under `Names`".to_owned(),
            },
        }
    }

    /// `name` is not defined; `known` are the names it could have meant.
    pub fn not_defined(name: &str, offset: usize, known: &[String]) -> Self {
        let last = name.rsplit('.').next().unwrap_or(name);
        let next = match nearest(last, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => {
                "give it a value under `vars:` in the playbook or the inventory, or with --set".to_owned()
            }
            None => format!(
                "give it a value under `vars:` in the playbook or the inventory, or with --set; known are: {}",
                known.join(", ")
            ),
        };
        Self { message: format!("`{name}` is not defined"), offset, next }
    }

    /// The fault as an error that shows the template.
    pub fn into_error(self, text: &str) -> Error {
        let line = text[..self.offset.min(text.len())].rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let shown = text.lines().next().unwrap_or("");
        Error::bad_input(self.message).because(format!("at character {line} of `{shown}`")).next(self.next)
    }
}

/// Where the engine saw the fault; 0 when it does not say.
fn offset_of(error: &minijinja::Error, text: &str) -> usize {
    let offset = error.range().map_or(0, |r| r.start).min(text.len());
    (0..=offset).rev().find(|o| text.is_char_boundary(*o)).unwrap_or(0)
}

/// The names that could have been meant when the context does not have `name` (dots go into mappings).
pub(super) fn missing(name: &str, context: &Context) -> Option<Vec<String>> {
    let mut parts = name.split('.');
    let Some(mut value) = parts.next().and_then(|first| context.get(first)) else {
        return Some(context.keys().cloned().collect());
    };
    for part in parts {
        let Value::Object(map) = value else { return None };
        match map.get(part) {
            Some(inner) => value = inner,
            None => return Some(map.keys().cloned().collect()),
        }
    }
    None
}

/// Where a name stands in a template, as a whole word.
pub(super) fn find_name(text: &str, name: &str) -> Option<usize> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let starts = if super::is_template(text) { text.find("{{").or_else(|| text.find("{%")).unwrap_or(0) } else { 0 };
    text[starts..].match_indices(name).map(|(at, _)| at + starts).find(|at| {
        let before = text[..*at].chars().next_back().is_some_and(|c| word(c) || c == '.');
        let after = text[at + name.len()..].chars().next().is_some_and(word);
        !before && !after
    })
}
