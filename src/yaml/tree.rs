//! Where everything in a YAML file stands.

use super::{excerpt, lint};
use crate::error::{Error, Result, SourcePosition};
use serde_saphyr::granit_parser::{Event, Parser, Span};
use std::collections::BTreeMap;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What stands at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Text(String),
    Nothing,
    Map,
    List,
    Alias,
}

#[derive(Debug, Clone)]
struct Node {
    /// Where its key stands, when it is a value of a map.
    key: Option<Mark>,
    start: Mark,
    kind: Kind,
}

/// The places of all nodes of a file, by JSON pointer (`/instruments/NDXLARMOR/groups/0`).
#[derive(Debug, Clone)]
pub struct Tree {
    file: String,
    text: String,
    nodes: BTreeMap<String, Node>,
}

/// A collection that is being read.
struct Open {
    pointer: String,
    map: bool,
    /// How many items a list has so far.
    items: usize,
    /// The key that waits for its value.
    key: Option<(String, Mark)>,
}

impl Tree {
    /// Reads the structure of a file. The same errors of form that [`super::parse`] finds are found here: broken YAML,
    /// duplicate keys, an unquoted `{{`, `"C:\..."`, more than one document, nothing at all.
    ///
    /// # Errors
    /// When the text is not one YAML document.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        // Windows editors put a byte order mark in front, which no column counts.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut tree = Self { file: file.to_owned(), text: text.to_owned(), nodes: BTreeMap::new() };
        let mut open: Vec<Open> = Vec::new();
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|e| lint::broken(&tree, &e))?;
            if matches!(event, Event::DocumentStart(..)) {
                documents += 1;
                if documents > 1 {
                    return Err(Error::bad_input("the file holds more than one YAML document")
                        .at(tree.at(mark(&span)))
                        .next("keep one document in a file: remove the line `---` and what does not belong here"));
                }
            }
            lint::check(&tree, &event, &span)?;
            tree.take(event, mark(&span), &mut open)?;
        }
        match tree.nodes.get("") {
            None | Some(Node { kind: Kind::Nothing, .. }) => Err(Error::bad_input(format!("{file} is empty"))
                .next("write its content, or name the file that has it; `ibexdeploy schema` shows the form")),
            Some(_) => Ok(tree),
        }
    }

    fn take(&mut self, event: Event<'_>, mark: Mark, open: &mut Vec<Open>) -> Result<()> {
        match event {
            Event::Scalar(text, ..) => {
                if let Some(Open { map: true, key: key @ None, .. }) = open.last_mut() {
                    *key = Some((text.into_owned(), mark));
                    return Ok(());
                }
                let nothing = text.is_empty() || text == "~";
                self.add(open, mark, if nothing { Kind::Nothing } else { Kind::Text(text.into_owned()) })?;
            }
            Event::Alias(_) => {
                self.add(open, mark, Kind::Alias)?;
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                let map = matches!(event, Event::MappingStart(..));
                let pointer = self.add(open, mark, if map { Kind::Map } else { Kind::List })?;
                open.push(Open { pointer, map, items: 0, key: None });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
            }
            _ => {}
        }
        Ok(())
    }

    /// Notes a value and gives its pointer.
    fn add(&mut self, open: &mut [Open], start: Mark, kind: Kind) -> Result<String> {
        let (pointer, key) = match open.last_mut() {
            None => (String::new(), None),
            Some(list) if !list.map => {
                list.items += 1;
                (format!("{}/{}", list.pointer, list.items - 1), None)
            }
            Some(map) => match map.key.take() {
                Some((name, at)) => (format!("{}/{}", map.pointer, pointer_part(&name)), Some((name, at))),
                None => {
                    return Err(Error::bad_input("a key must be plain text, not a list, a map or an alias")
                        .at(self.at(start))
                        .next("write `key: value`; a key with special characters goes into single quotes"));
                }
            },
        };
        if let (Some(first), Some((name, at))) = (self.nodes.get(&pointer), &key) {
            let line = first.key.map_or(first.start.line, |k| k.line);
            return Err(Error::bad_input(format!("the key `{name}` is given twice"))
                .at(self.at(*at))
                .next(format!("it stands on line {line} already: keep one of the two")));
        }
        self.nodes.insert(pointer.clone(), Node { key: key.map(|(_, at)| at), start, kind });
        Ok(pointer)
    }

    /// The name of the file, as given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The text of the file, without a byte order mark.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place of what the JSON pointer names: a text or number itself, for a list or map its key. When the file
    /// does not have it (it comes from a default), the place of the nearest thing above it.
    pub fn position(&self, pointer: &str) -> Option<SourcePosition> {
        let node = self.deepest(pointer)?;
        let own = matches!(node.kind, Kind::Text(_) | Kind::Alias);
        Some(self.at(if own { node.start } else { node.key.unwrap_or(node.start) }))
    }

    /// The place of the key whose value the JSON pointer names, otherwise as [`Tree::position`].
    pub fn key_position(&self, pointer: &str) -> Option<SourcePosition> {
        let node = self.deepest(pointer)?;
        Some(self.at(node.key.unwrap_or(node.start)))
    }

    /// True when the file has something at the JSON pointer.
    pub fn contains(&self, pointer: &str) -> bool {
        self.nodes.contains_key(pointer)
    }

    fn deepest(&self, pointer: &str) -> Option<&Node> {
        let mut rest = pointer;
        loop {
            if let Some(node) = self.nodes.get(rest) {
                return Some(node);
            }
            rest = &rest[..rest.rfind('/')?];
        }
    }

    /// The name and the kind of the node that begins at a place: for errors of the typed reader.
    pub(super) fn node_at(&self, mark: Mark) -> Option<(&str, &Kind)> {
        let (pointer, node) = self
            .nodes
            .iter()
            .find(|(_, n)| n.start == mark && n.kind != Kind::Nothing)
            .or_else(|| self.nodes.iter().find(|(_, n)| n.start == mark || n.key == Some(mark)))?;
        Some((pointer, &node.kind))
    }

    /// The pointer of the map that begins at a place, or whose key stands there.
    pub(super) fn map_at(&self, mark: Mark) -> Option<&str> {
        let begins = self.nodes.iter().find(|(_, n)| n.start == mark && n.kind == Kind::Map);
        begins.map(|(pointer, _)| pointer.as_str()).or_else(|| {
            let (pointer, _) = self.nodes.iter().find(|(_, n)| n.key == Some(mark))?;
            pointer.rsplit_once('/').map(|(map, _)| map)
        })
    }

    /// The lines, from 0, in which entries of maps and lists begin, down to a depth, in the order of the file; with
    /// the depth of each.
    pub(super) fn lines_to_depth(&self, deepest: usize) -> Vec<(usize, usize)> {
        let entries =
            self.nodes.iter().map(|(pointer, node)| (node.key.unwrap_or(node.start).line - 1, pointer.matches('/').count()));
        let mut lines: Vec<(usize, usize)> = entries.filter(|(_, depth)| (1..=deepest).contains(depth)).collect();
        lines.sort_unstable();
        lines
    }

    /// A position with its excerpt.
    pub(super) fn at(&self, mark: Mark) -> SourcePosition {
        SourcePosition {
            file: self.file.clone(),
            line: mark.line as u64,
            column: mark.column as u64,
            excerpt: excerpt::excerpt(&self.text, mark.line, mark.column),
        }
    }
}

pub(super) fn mark(span: &Span) -> Mark {
    Mark { line: span.start.line(), column: span.start.col() + 1 }
}

/// A key as a part of a JSON pointer (RFC 6901).
pub fn pointer_part(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: 1\nb:\n  c: [x, {d: y}]\n  e/f: z\n";

    fn at(tree: &Tree, pointer: &str) -> (u64, u64) {
        let p = tree.position(pointer).unwrap();
        (p.line, p.column)
    }

    #[test]
    fn pointers_lead_to_places() -> Result<()> {
        let tree = Tree::parse("t.yaml", TEXT)?;
        for (pointer, place) in
            [("/a", (1, 4)), ("/b", (2, 1)), ("/b/c", (3, 3)), ("/b/c/0", (3, 7)), ("/b/c/1/d", (3, 14)), ("/b/e~1f", (4, 8))]
        {
            assert_eq!(at(&tree, pointer), place, "{pointer}");
        }
        assert_eq!(tree.key_position("/b/e~1f").map(|p| p.column), Some(3));
        assert_eq!(at(&tree, "/b/c/7/nowhere"), (3, 3), "the nearest thing above");
        assert_eq!(tree.position("/b").unwrap().excerpt.as_deref(), Some("1 | a: 1\n2 | b:\n  | ^"));
        Ok(())
    }

    #[test]
    fn anchors_and_merges_have_the_place_of_their_use() -> Result<()> {
        let tree = Tree::parse("t.yaml", "x: &x {a: 1}\ny: *x\nz:\n  <<: *x\n  b: 2\n")?;
        assert_eq!(at(&tree, "/y/a"), (2, 4));
        assert_eq!(at(&tree, "/z/a"), (3, 1));
        Ok(())
    }
}
