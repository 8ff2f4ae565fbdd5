//! EPICS records as text with the places of their strings.

use crate::error::{Error, Result};
use crate::yaml::position_at;
use std::collections::BTreeMap;
use std::ops::Range;

/// A database of records.
#[derive(Debug)]
pub(super) struct Dashboard<'a> {
    text: &'a str,
    records: Vec<Record>,
    /// All quoted texts, without the quotes, in their order.
    strings: Vec<Range<usize>>,
}

#[derive(Debug)]
struct Record {
    name: String,
    /// Behind the opening brace.
    body: usize,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    name: String,
    /// Without the quotes.
    value: Range<usize>,
    /// Behind the closing bracket.
    end: usize,
}

/// A piece of the text that means something.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A name or a number.
    Word(Range<usize>),
    /// Without its quotes.
    Quoted(Range<usize>),
    /// Brackets, braces and commas.
    Sign(u8, usize),
}

impl<'a> Dashboard<'a> {
    /// Reads records; `file` is what errors call it.
    ///
    /// # Errors
    /// When a quote or brace is not closed: with its line.
    pub(super) fn read(file: &str, text: &'a str) -> Result<Self> {
        let wrong = |at: usize, why: &str| {
            Error::bad_input(format!("this is no database of records: {why}"))
                .at(position_at(file, text, at))
                .next("mend the file by hand, commit it, and migrate again; nothing was changed")
        };
        let tokens = tokens(text).map_err(|at| wrong(at, "a quote that is not closed"))?;
        let strings =
            tokens.iter().filter_map(|t| if let Token::Quoted(range) = t { Some(range.clone()) } else { None }).collect();
        let mut records: Vec<Record> = Vec::new();
        let mut open: Option<usize> = None;
        for (n, token) in tokens.iter().enumerate() {
            match (token, open) {
                (Token::Sign(b'{', at), None) => {
                    open = Some(*at);
                    let head = n.checked_sub(5).map_or(&tokens[..0], |from| &tokens[from..n]);
                    if let Some(name) = record_name(text, head) {
                        records.push(Record { name, body: at + 1, fields: Vec::new() });
                    }
                }
                (Token::Sign(b'{', at), Some(_)) => return Err(wrong(*at, "a brace inside a record")),
                (Token::Sign(b'}', at), None) => return Err(wrong(*at, "a brace that closes nothing")),
                (Token::Sign(b'}', _), Some(_)) => open = None,
                (Token::Word(word), Some(_)) if &text[word.clone()] == "field" => {
                    if let (Some(field), Some(record)) = (field(text, &tokens[n + 1..]), records.last_mut()) {
                        record.fields.push(field);
                    }
                }
                _ => {}
            }
        }
        match open {
            Some(at) => Err(wrong(at, "a brace that is not closed")),
            None => Ok(Self { text, records, strings }),
        }
    }

    /// The quoted texts: names of records, and values of fields.
    pub(super) fn strings(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.strings.iter().map(|range| &self.text[range.clone()])
    }

    /// The text with some of its quoted texts replaced.
    pub(super) fn map_strings(&self, other: impl Fn(&str) -> Option<String>) -> String {
        let mut new = self.text.to_owned();
        for range in self.strings.iter().rev() {
            if let Some(value) = other(&self.text[range.clone()]) {
                new.replace_range(range.clone(), &value);
            }
        }
        new
    }

    fn record(&self, name: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.name == name)
    }

    fn line_end(&self) -> &'static str {
        if self.text.contains("\r\n") { "\r\n" } else { "\n" }
    }

    /// The text with fields of a record added where they are missing, and set. Nothing when there is no such record.
    pub(super) fn with_fields(
        &self,
        record: &str,
        add: &BTreeMap<String, String>,
        set: &BTreeMap<String, String>,
    ) -> Option<String> {
        let record = self.record(record)?;
        let field = |name: &String| record.fields.iter().find(|field| field.name == *name);
        let mut edits: Vec<(Range<usize>, String)> =
            set.iter().filter_map(|(name, value)| Some((field(name)?.value.clone(), quoted(value)))).collect();
        let missing = add.iter().chain(set).filter(|(name, _)| field(name).is_none());
        let (at, lead) = match record.fields.last() {
            Some(last) => (last.end, self.indent(last.end)),
            None => (record.body, "    ".to_owned()),
        };
        let lines: String =
            missing.map(|(name, value)| format!("{}{lead}field({name}, \"{}\")", self.line_end(), quoted(value))).collect();
        if !lines.is_empty() {
            edits.push((self.end_of_line(at)..self.end_of_line(at), lines));
        }
        edits.sort_by_key(|(range, _)| range.start);
        let mut new = self.text.to_owned();
        edits.into_iter().rev().for_each(|(range, text)| new.replace_range(range, &text));
        Some(new)
    }

    /// The white space that the line of a place begins with.
    fn indent(&self, at: usize) -> String {
        let start = self.text[..at].rfind('\n').map_or(0, |n| n + 1);
        self.text[start..at].chars().take_while(|c| matches!(c, ' ' | '\t')).collect()
    }

    /// The end of the line of a place when nothing but white space or a comment follows, else the place itself.
    fn end_of_line(&self, at: usize) -> usize {
        let rest = &self.text[at..];
        let line = rest.split(['\r', '\n']).next().unwrap_or_default();
        let rest = line.trim_start();
        if rest.is_empty() || rest.starts_with('#') { at + line.len() } else { at }
    }

    /// The text with a record at its end, unless it has it.
    pub(super) fn with_record(&self, name: &str, kind: &str, fields: &BTreeMap<String, String>) -> String {
        if self.record(name).is_some() {
            return self.text.to_owned();
        }
        let end = self.line_end();
        let gap = if self.text.is_empty() || self.text.ends_with('\n') { "" } else { end };
        let fields: String = fields.iter().map(|(f, value)| format!("    field({f}, \"{}\"){end}", quoted(value))).collect();
        format!("{}{gap}{end}record({kind}, \"{}\") {{{end}{fields}}}{end}", self.text, quoted(name))
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// `record ( type , "name" )`: the name may stand without quotes.
fn record_name(text: &str, head: &[Token]) -> Option<String> {
    let [_, Token::Word(_), Token::Sign(b',', _), name, Token::Sign(b')', _)] = head else { return None };
    match name {
        Token::Word(range) | Token::Quoted(range) => Some(text[range.clone()].to_owned()),
        Token::Sign(..) => None,
    }
}

/// `( NAME , "value" )`
fn field(text: &str, rest: &[Token]) -> Option<Field> {
    let [Token::Sign(b'(', _), Token::Word(name), Token::Sign(b',', _), Token::Quoted(value), Token::Sign(b')', end), ..] = rest
    else {
        return None;
    };
    Some(Field { name: text[name.clone()].to_owned(), value: value.clone(), end: end + 1 })
}

/// The tokens of a text, or the place of a quote that is not closed.
fn tokens(text: &str) -> Result<Vec<Token>, usize> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'#' => at += bytes[at..].iter().position(|b| *b == b'\n').unwrap_or(bytes.len() - at),
            b'"' => {
                let end = closing(bytes, at).ok_or(at)?;
                found.push(Token::Quoted(at + 1..end));
                at = end + 1;
            }
            b'{' | b'}' | b'(' | b')' | b',' => {
                found.push(Token::Sign(*byte, at));
                at += 1;
            }
            b if b.is_ascii_whitespace() => at += 1,
            _ => {
                let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'#' | b'"' | b'{' | b'}' | b'(' | b')' | b',');
                let end = bytes[at..].iter().position(ends).map_or(bytes.len(), |n| at + n);
                found.push(Token::Word(at..end));
                at = end;
            }
        }
    }
    Ok(found)
}

/// The place of the quote that closes the one at `open`, on the same line.
fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            b'\n' => return None,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# \"record(\r\nrecord(calc, \"$(P)A\") {\r\n\t# field(X, \"no\")\r\n\tfield(INPA, \"$(P)B CP\") # b\r\n\tfield(CALC, \"A\\\"}\")\r\n\tinfo(autosaveFields, \"VAL\")\r\n}\r\n\r\nrecord(ai, \"$(P)B\") {}";

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn fields_are_set_and_added() {
        let read = Dashboard::read("d.db", TEXT).unwrap();
        let new = read.with_fields("$(P)A", &map(&[("INPA", "x"), ("INDD", "$(P)C")]), &map(&[("CALC", "B")])).unwrap();
        let wanted = TEXT.replace("\"A\\\"}\")\r\n", "\"B\")\r\n\tfield(INDD, \"$(P)C\")\r\n");
        assert_eq!(new, wanted);
        assert_eq!(read.with_fields("$(P)C", &map(&[]), &map(&[])), None);
        let new = read.with_fields("$(P)B", &map(&[("VAL", "1")]), &map(&[])).unwrap();
        assert!(new.ends_with("record(ai, \"$(P)B\") {\r\n    field(VAL, \"1\")}"), "{new}");
    }

    #[test]
    fn strings_are_renamed_and_comments_are_not() {
        let read = Dashboard::read("d.db", TEXT).unwrap();
        let new = read.map_strings(|s| s.contains("(P)B").then(|| s.replace("(P)B", "(P)Z")));
        assert_eq!(new, TEXT.replace("\"$(P)B", "\"$(P)Z"));
        let comment = Dashboard::read("d.db", TEXT).unwrap().map_strings(|s| (s == "no").then(String::new));
        assert_eq!(comment, TEXT);
    }

    #[test]
    fn a_record_is_added_once() {
        let new = Dashboard::read("d.db", "record(ai, \"A\") {\n}\n").unwrap().with_record("B", "bo", &map(&[("VAL", "1")]));
        assert_eq!(new, "record(ai, \"A\") {\n}\n\nrecord(bo, \"B\") {\n    field(VAL, \"1\")\n}\n");
        assert_eq!(Dashboard::read("d.db", &new).unwrap().with_record("B", "ai", &map(&[])), new);
    }

    #[test]
    fn what_is_broken_is_named_with_its_line() {
        for (text, line) in
            [("record(ai, \"A) {\n}", 1), ("record(ai, \"A\") {\nrecord(ai, \"B\") {}", 2), ("\n}", 2), ("a {", 1)]
        {
            let error = Dashboard::read("d.db", text).unwrap_err();
            assert_eq!(error.details().position.as_ref().map(|p| p.line), Some(line), "{error}");
        }
    }
}
