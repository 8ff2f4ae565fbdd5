//! The one door to the YAML library: reading with errors that a person can act on, positions, and writing.

mod excerpt;
mod explain;
mod lint;
mod mistakes;
mod tree;

pub(crate) use excerpt::{excerpt, position_at};
pub use mistakes::parse_all;
pub use tree::{Tree, pointer_part};

use crate::error::{Error, Result};
use crate::units::Size;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;

/// No file that a person wrote is longer, in bytes.
const LONGEST: u64 = 4 << 20;

/// Reads a value out of YAML text; `file_name` is what errors call it.
///
/// # Errors
/// When the text is not YAML or not of the form that `T` has: with line, column, an excerpt and what to do next.
pub fn parse<T: DeserializeOwned>(file_name: &str, text: &str) -> Result<T> {
    let tree = Tree::parse(file_name, text)?;
    let text = tree.text();
    // `no` and `off` stay text, as in YAML 1.2: only `true` and `false` are truth values.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|e| explain::explain(&tree, &e))
}

/// Reads a file: the value and the text it was read from.
///
/// # Errors
/// When the file cannot be read or is not UTF-8, and as [`parse`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<(T, String)> {
    let text = read(path)?;
    Ok((parse(&path.display().to_string(), &text)?, text))
}

/// Reads the text of a file that a person wrote.
///
/// # Errors
/// When the file cannot be read or is not UTF-8.
pub fn read(path: &Path) -> Result<String> {
    // A file that cannot be read is the operator's to mend, as one that is not right: nothing was touched.
    let refused = |e: std::io::Error| {
        Error::bad_input(format!("cannot read {}", path.display())).because(e).next("check its name, and that you may read it")
    };
    // Looked at before it is opened: a pipe would wait for a writer, and a device may have no end.
    let data = std::fs::metadata(path).map_err(refused)?;
    if !data.is_file() {
        return Err(Error::bad_input(format!("{} is not a file", path.display())).next("name a file of text"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes)).map_err(refused)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Error::bad_input(format!("{} is longer than {}", path.display(), Size(LONGEST)))
            .next("name a file that a person wrote: this one cannot be it"));
    }
    String::from_utf8(bytes).map_err(|e| not_utf8(path, e.as_bytes(), e.utf8_error().valid_up_to()))
}

/// Names the line of the first byte that is not UTF-8.
fn not_utf8(path: &Path, bytes: &[u8], good: usize) -> Error {
    let before = String::from_utf8_lossy(&bytes[..good]);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let wide = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let next =
        if wide { "it is UTF-16, as PowerShell's `>` and old Notepad write it: save it as UTF-8" } else { "save it as UTF-8" };
    Error::bad_input("the file is not UTF-8 text")
        .at(crate::error::SourcePosition {
            file: path.display().to_string(),
            line: line as u64,
            column: column as u64,
            excerpt: None,
        })
        .next(next)
}

/// Writes a value as YAML.
///
/// # Errors
/// When the value has a form that YAML cannot hold.
pub fn to_string<T: Serialize>(value: &T) -> Result<String> {
    serde_saphyr::to_string(value).map_err(|e| Error::internal("cannot write YAML").because(e))
}

#[cfg(test)]
mod tests;
