//! The one door to the YAML library.

use crate::error::{Error, IoContext, Result, SourcePosition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_saphyr::granit_parser::{Event, Parser, Span};
use std::collections::BTreeMap;
use std::path::Path;

/// Reads a document; `file_name` is what errors call it.
///
/// # Errors
/// When the text is not YAML or not of the wanted form.
pub fn parse<T: DeserializeOwned>(file_name: &str, text: &str) -> Result<T> {
    serde_saphyr::from_str(text).map_err(|e| {
        let error = Error::bad_input(e.without_snippet().to_string());
        match e.location() {
            Some(at) => error.at(SourcePosition {
                file: file_name.to_owned(),
                line: at.line(),
                column: at.column(),
                excerpt: Some(excerpt(text, at.line(), at.column())),
            }),
            None => error,
        }
    })
}

/// Reads a file; gives its text as well.
///
/// # Errors
/// When it cannot be read, and as [`parse`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<(T, String)> {
    let text = std::fs::read_to_string(path).cannot(|| format!("read {}", path.display()))?;
    let value = parse(&path.display().to_string(), &text)?;
    Ok((value, text))
}

/// Writes a value.
///
/// # Errors
/// Never in practice; the writer of the format has an error type.
pub fn to_string<T: Serialize>(value: &T) -> Result<String> {
    serde_saphyr::to_string(value).map_err(|e| Error::internal("cannot write YAML").because(e))
}

/// The places of a document's values.
#[derive(Debug, Clone)]
pub struct Tree {
    file: String,
    text: String,
    places: BTreeMap<String, (u64, u64)>,
}

impl Tree {
    /// Finds the places of all values.
    ///
    /// # Errors
    /// When the text is not YAML.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let mut places = BTreeMap::new();
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|e| Error::bad_input(format!("{file} is not YAML")).because(e))?;
            match event {
                Event::SequenceStart(..) => enter(&mut open, &mut places, &span, Open::list),
                Event::MappingStart(..) => enter(&mut open, &mut places, &span, Open::map),
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                }
                Event::Scalar(value, ..) => scalar(&mut open, &mut places, &span, &value),
                Event::Alias(..) => scalar(&mut open, &mut places, &span, ""),
                _ => {}
            }
        }
        Ok(Self { file: file.to_owned(), text: text.to_owned(), places })
    }

    /// The place of the value that a JSON pointer leads to.
    pub fn position(&self, pointer: &str) -> Option<SourcePosition> {
        let (line, column) = *self.places.get(pointer)?;
        let excerpt = Some(excerpt(&self.text, line, column));
        Some(SourcePosition { file: self.file.clone(), line, column, excerpt })
    }
}

struct Open {
    pointer: String,
    is_map: bool,
    key: Option<String>,
    count: usize,
}

impl Open {
    fn list(pointer: String) -> Self {
        Self { pointer, is_map: false, key: None, count: 0 }
    }
    fn map(pointer: String) -> Self {
        Self { pointer, is_map: true, key: None, count: 0 }
    }
    /// The pointer of the value that comes now.
    fn next(&mut self) -> String {
        let name = if self.is_map {
            self.key.take().unwrap_or_default().replace('~', "~0").replace('/', "~1")
        } else {
            self.count += 1;
            (self.count - 1).to_string()
        };
        format!("{}/{name}", self.pointer)
    }
}

fn place(span: &Span) -> (u64, u64) {
    (span.start.line() as u64, span.start.col() as u64 + 1)
}

fn enter(open: &mut Vec<Open>, places: &mut BTreeMap<String, (u64, u64)>, span: &Span, make: fn(String) -> Open) {
    let pointer = open.last_mut().map(Open::next).unwrap_or_default();
    places.insert(pointer.clone(), place(span));
    open.push(make(pointer));
}

fn scalar(open: &mut [Open], places: &mut BTreeMap<String, (u64, u64)>, span: &Span, value: &str) {
    match open.last_mut() {
        Some(map) if map.is_map && map.key.is_none() => map.key = Some(value.to_owned()),
        Some(parent) => {
            let pointer = parent.next();
            places.insert(pointer, place(span));
        }
        None => {
            places.insert(String::new(), place(span));
        }
    }
}

/// The line of a place and the one before, with a marker under the place.
pub fn excerpt(text: &str, line: u64, column: u64) -> String {
    let last = usize::try_from(line).unwrap_or(1).max(1);
    let first = last.saturating_sub(1).max(1);
    let width = last.to_string().len();
    let mut out = String::new();
    for (n, source) in text.lines().enumerate().map(|(i, l)| (i + 1, l)).skip(first - 1).take(last - first + 1) {
        out.push_str(&format!("{n:>width$} | {source}\n"));
    }
    out.push_str(&format!("{:>width$} | {}^", "", " ".repeat(usize::try_from(column).unwrap_or(1).saturating_sub(1))));
    out
}
