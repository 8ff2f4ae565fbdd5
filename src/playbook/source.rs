//! The files that a playbook was read from, and places in them.

use crate::content::ContentHash;
use crate::error::{IoContext, Result, SourcePosition};
use crate::yaml::{self, position_at};
use std::path::{Path, PathBuf};

/// A file of a playbook: the playbook itself, or a list of steps that it includes.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// As the operator named it; the name in errors.
    pub path: PathBuf,
    pub digest: ContentHash,
    tree: yaml::Tree,
}

impl SourceFile {
    /// Reads a file and finds the places of its values.
    ///
    /// # Errors
    /// When it cannot be read or is not YAML.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).cannot(|| format!("read {}", path.display()))?;
        let tree = yaml::Tree::parse(&path.display().to_string(), &text)?;
        Ok(Self { path: path.to_path_buf(), digest: ContentHash::of(text.as_bytes()), tree })
    }

    pub(crate) fn text(&self) -> &str {
        self.tree.text()
    }

    /// The name of the file in errors.
    pub(super) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// The place of the value at a JSON pointer, or of the nearest value around it.
    pub fn position(&self, pointer: &str) -> SourcePosition {
        let top = || SourcePosition { file: self.shown(), line: 1, column: 1, excerpt: None };
        self.tree.position(pointer).unwrap_or_else(top)
    }

    /// The place `offset` bytes into the text value at a pointer. Quotes and line folding are seen through as long
    /// as the value's line stands in the file as it is; else it is the place of the value.
    pub fn position_in(&self, pointer: &str, value: &str, offset: usize) -> SourcePosition {
        let start = self.position(pointer);
        let line_start = value[..offset].rfind('\n').map_or(0, |at| at + 1);
        let line_end = value[offset..].find('\n').map_or(value.len(), |at| offset + at);
        let line = &value[line_start..line_end];
        let from = self.byte_of(&start);
        match self.text()[from..].find(line) {
            Some(found) if !line.is_empty() => position_at(&self.shown(), self.text(), from + found + (offset - line_start)),
            _ => start,
        }
    }

    fn byte_of(&self, position: &SourcePosition) -> usize {
        let line = usize::try_from(position.line).unwrap_or(1).saturating_sub(1);
        let column = usize::try_from(position.column).unwrap_or(1).saturating_sub(1);
        let start: usize = self.text().split_inclusive('\n').take(line).map(str::len).sum();
        let rest = &self.text()[start..];
        start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
    }
}
