//! What a migration changes, as a unified diff.

use super::tree::FileChange;
use crate::paths::RelPath;
use crate::text::Text;
use similar::TextDiff;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// The change of a file as a unified diff. Characters are shown as the file's encoding has them; line ends of Windows are
/// left out of the lines.
pub fn unified(path: &RelPath, change: &FileChange) -> String {
    let text = |bytes: Option<&Vec<u8>>| {
        let bytes = bytes.map_or(&[][..], Vec::as_slice);
        let text = Text::read(bytes).map_or_else(|_| String::from_utf8_lossy(bytes).into_owned(), |text| text.into_string());
        text.replace("\r\n", "\n")
    };
    let (old, new) = (text(change.before.as_ref()), text(change.after.as_ref()));
    let name = |bytes: Option<&Vec<u8>>, side: &str| bytes.map_or_else(|| "/dev/null".to_owned(), |_| format!("{side}/{path}"));
    TextDiff::from_lines(&old, &new)
        .unified_diff()
        .context_radius(CONTEXT)
        .header(&name(change.before.as_ref(), "a"), &name(change.after.as_ref(), "b"))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_a_new_and_a_deleted_file() {
        let path = RelPath::parse("a/b.xml").unwrap();
        let change = FileChange { before: Some(b"1\r\n\xE9\r\n3\r\n".to_vec()), after: Some(b"1\r\n\xE8\r\n3\r\n".to_vec()) };
        assert_eq!(unified(&path, &change), "--- a/a/b.xml\n+++ b/a/b.xml\n@@ -1,3 +1,3 @@\n 1\n-\u{e9}\n+\u{e8}\n 3\n");
        let new = FileChange { before: None, after: Some(b"x\n".to_vec()) };
        assert_eq!(unified(&path, &new), "--- /dev/null\n+++ b/a/b.xml\n@@ -0,0 +1 @@\n+x\n");
        let gone = FileChange { before: Some(b"x".to_vec()), after: None };
        assert!(unified(&path, &gone).starts_with("--- a/a/b.xml\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"));
    }
}
