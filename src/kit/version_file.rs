//! `VERSION.txt`, the file in a component's tree whose first word is the component's version.

use crate::error::{Error, Result};
use crate::files;
use std::path::Path;

/// The file's name.
pub const VERSION_FILE: &str = "VERSION.txt";

/// The version that a tree says it has.
///
/// # Errors
/// When the file is missing, cannot be read, is empty, or holds no text; it is named, with what is expected.
pub fn version_of_tree(tree: &Path) -> Result<String> {
    let file = tree.join(VERSION_FILE);
    let bad = |what: &str| {
        Error::bad_input(format!("{} {what}", file.display()))
            .next("write the component's version into it, as the first word of a plain text, for example 26.9.0")
    };
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(bad("is missing")),
        Err(e) => return Err(bad("cannot be read").because(e)),
    };
    match files::first_word_of(&bytes) {
        None => Err(bad("is empty")),
        Some(word) if word.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER) => {
            Err(bad(&format!("begins with {}, which is no version", shown(&word))))
        }
        Some(word) => Ok(word),
    }
}

/// Characters that cannot be seen are named.
fn shown(word: &str) -> String {
    const LONGEST: usize = 40;
    let short: String = word.chars().take(LONGEST).collect();
    format!("{short:?}{}", if short.len() < word.len() { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_version_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(VERSION_FILE);
        let error = || version_of_tree(folder.path()).unwrap_err().to_string();
        assert!(error().ends_with("VERSION.txt is missing"), "{}", error());
        for (content, words) in [
            (b" \r\n".as_slice(), "is empty"),
            (b"\x1b[31m26.9.0".as_slice(), r#"begins with "\u{1b}[31m26.9.0", which is no version"#),
            (b"\xff\xfe2\x006\x00".as_slice(), "which is no version"),
        ] {
            std::fs::write(&file, content).unwrap();
            assert!(error().contains(words), "{}", error());
        }
        std::fs::write(&file, "\u{feff}26.9.0 of Tuesday\r\n").unwrap();
        assert_eq!(version_of_tree(folder.path()).unwrap(), "26.9.0");
    }
}
