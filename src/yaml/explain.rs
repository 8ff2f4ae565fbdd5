//! Errors of the typed reader, said for people.

use super::tree::{Kind, Mark, Tree};
use crate::error::Error;
use crate::nearest::nearest;
use serde_saphyr::Error as Yaml;

const SCHEMA: &str = "`ibexdeploy schema` and the pages in docs/ show the form of every key";

/// The library's error with its position, an excerpt, and what to do next.
pub(super) fn explain(tree: &Tree, error: &Yaml) -> Error {
    let Some(place) = error.location().map(|l| Mark { line: l.line() as usize, column: l.column() as usize }) else {
        return say(error.without_snippet(), None);
    };
    if let Yaml::SerdeMissingField { field, .. } = error.without_snippet() {
        return missing(tree, place, field);
    }
    say(error.without_snippet(), tree.node_at(place)).at(tree.at(place))
}

/// A missing key is an error of the map that should have it, whose first key is what the reader names.
fn missing(tree: &Tree, place: Mark, field: &str) -> Error {
    let map = tree.map_at(place).unwrap_or_default();
    let within = subject(map).map_or_else(String::new, |s| format!(" in `{s}`"));
    Error::bad_input(format!("the key `{field}` is missing{within}"))
        .at(tree.position(map).unwrap_or_else(|| tree.at(place)))
        .next(format!("add `{field}:`"))
}

fn say(error: &Yaml, found: Option<(&str, &Kind)>) -> Error {
    match error {
        Yaml::AliasError { error, .. } => say(error, found),
        Yaml::SerdeUnknownField { field, expected, .. } => {
            Error::bad_input(format!("unknown key `{field}`")).next(choose(field, expected, "keys"))
        }
        Yaml::SerdeUnknownVariant { variant, expected, .. } => {
            Error::bad_input(format!("`{variant}` is not known here")).next(choose(variant, expected, "choices"))
        }
        Yaml::Unexpected { expected, .. } => wrong_type(plain(expected), found),
        Yaml::SerdeInvalidType { expected, .. } | Yaml::SerdeInvalidValue { expected, .. } => wrong_type(plain(expected), found),
        Yaml::InvalidScalar { ty, .. } => wrong_type(plain(ty), found),
        Yaml::InvalidBooleanStrict { .. } => wrong_type("`true` or `false`", found),
        Yaml::NullIntoString { .. } => wrong_type("text", found),
        Yaml::ExternallyTaggedEnumExpectedScalarOrMapping { .. } => wrong_type("one word, or a map with one key", found),
        Yaml::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            Error::bad_input("only one of these keys can be given here").next("keep one of them and remove the others")
        }
        Yaml::RecursiveReferencesRequireWeakTypes { .. } => {
            Error::bad_input("an alias stands inside of what it stands for").next("write the value out, without `&` and `*`")
        }
        // `Error::with_advice` has put the two together.
        Yaml::Message { msg, .. } => {
            let (message, advice) = msg.split_once("; ").unwrap_or((msg, SCHEMA));
            Error::bad_input(message).next(advice)
        }
        other => Error::bad_input(words(other)).next(SCHEMA),
    }
}

/// The library's own words, without the position that is told apart from them.
fn words(error: &Yaml) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(head, _)| head.to_owned())
}

/// What a person would call what serde expects.
fn plain(expected: &str) -> &str {
    match expected {
        "mapping start" => "a map (`key: value`)",
        "sequence start" => "a list (`[a, b]`)",
        "string scalar" | "a string" => "text",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number in range",
        "i8" | "i16" | "i32" | "i64" | "isize" | "f32" | "f64" => "a number",
        other => other,
    }
}

fn wrong_type(expected: &str, found: Option<(&str, &Kind)>) -> Error {
    let subject = found.and_then(|(pointer, _)| subject(pointer)).map_or_else(|| "this".to_owned(), |s| format!("`{s}`"));
    let is = match found.map(|(_, kind)| kind) {
        Some(Kind::Text(text)) if text.chars().count() <= 40 => format!(", not `{text}`"),
        Some(Kind::Text(_)) => ", not text".to_owned(),
        Some(Kind::Nothing) => ", and nothing is given".to_owned(),
        Some(Kind::Map) => ", not a map".to_owned(),
        Some(Kind::List) => ", not a list".to_owned(),
        Some(Kind::Alias) | None => String::new(),
    };
    let next = match (expected, found.map(|(_, kind)| kind)) {
        ("a list (`[a, b]`)", Some(Kind::Text(text))) => format!("write [{text}]"),
        ("a map (`key: value`)", Some(Kind::Nothing)) => "write {} for an empty one".to_owned(),
        ("`true` or `false`", _) => "write true or false, without quotes".to_owned(),
        _ => SCHEMA.to_owned(),
    };
    Error::bad_input(format!("{subject} must be {expected}{is}")).next(next)
}

/// The key or the item that a pointer ends with.
fn subject(pointer: &str) -> Option<String> {
    let (head, last) = pointer.rsplit_once('/')?;
    if last.bytes().all(|b| b.is_ascii_digit()) {
        let list = head.rsplit('/').next().filter(|l| !l.is_empty()).unwrap_or("the list");
        return Some(format!("{list}[{last}]"));
    }
    Some(last.replace("~1", "/").replace("~0", "~"))
}

/// The nearest of the names, or all of them.
fn choose(wrong: &str, expected: &[&str], what: &str) -> String {
    match nearest(wrong, expected.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the {what} here are: {}", expected.join(", ")),
    }
}
