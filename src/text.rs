//! Edits of a text that leave everything else in it byte for byte: encoding, line ends, comments, order.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// How a file's characters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Utf8,
    /// UTF-8 behind a byte order mark.
    Marked,
    /// ISO 8859-1 or one of its relatives: a byte is a character.
    Latin1,
    /// UTF-16 behind a byte order mark.
    Utf16(ByteOrder),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

impl Form {
    fn mark(self) -> &'static [u8] {
        match self {
            Self::Utf8 | Self::Latin1 => b"",
            Self::Marked => b"\xEF\xBB\xBF",
            Self::Utf16(ByteOrder::Little) => b"\xFF\xFE",
            Self::Utf16(ByteOrder::Big) => b"\xFE\xFF",
        }
    }
}

/// A text file's characters, and how they are written. Those of a Latin-1 file are all Latin-1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    form: Form,
    body: String,
}

impl Text {
    /// Takes a file's bytes apart.
    ///
    /// # Errors
    /// When it begins as UTF-16 and goes on as something else.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let marked = [Form::Marked, Form::Utf16(ByteOrder::Little), Form::Utf16(ByteOrder::Big)];
        let form = marked.into_iter().find(|form| bytes.starts_with(form.mark())).unwrap_or(Form::Utf8);
        let body = &bytes[form.mark().len()..];
        match form {
            Form::Utf16(order) => from_utf16(body, order)
                .ok_or_else(|| Error::bad_input("the file begins as UTF-16 and is none").next("save it as UTF-8"))
                .map(|body| Self { form, body }),
            _ => {
                Ok(std::str::from_utf8(body)
                    .map_or_else(|_| Self::read_latin1(bytes), |body| Self { form, body: body.to_owned() }))
            }
        }
    }

    /// Takes the bytes of a file apart that says itself that each is a character.
    pub(crate) fn read_latin1(bytes: &[u8]) -> Self {
        Self { form: Form::Latin1, body: bytes.iter().map(|byte| char::from(*byte)).collect() }
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.form.mark().to_vec();
        match self.form {
            Form::Utf8 | Form::Marked => bytes.extend_from_slice(self.body.as_bytes()),
            Form::Latin1 => bytes.extend(self.body.chars().filter_map(|c| u8::try_from(u32::from(c)).ok())),
            Form::Utf16(ByteOrder::Little) => bytes.extend(self.body.encode_utf16().flat_map(u16::to_le_bytes)),
            Form::Utf16(ByteOrder::Big) => bytes.extend(self.body.encode_utf16().flat_map(u16::to_be_bytes)),
        }
        bytes
    }

    /// The characters, line ends as they are in the file.
    pub(crate) fn as_str(&self) -> &str {
        &self.body
    }

    /// The same, when nothing else is needed of it.
    pub(crate) fn into_string(self) -> String {
        self.body
    }

    /// A file that is written as this one is, with other characters, line ends as they are.
    ///
    /// # Errors
    /// As [`Text::replace`].
    pub(crate) fn with(&self, body: String) -> Result<Self> {
        self.check(&body)?;
        Ok(Self { form: self.form, body })
    }

    /// True when the file's encoding has the character.
    pub(crate) fn can_hold(&self, c: char) -> bool {
        self.form != Form::Latin1 || u32::from(c) <= 0xFF
    }

    /// The line end that most lines have.
    pub(crate) fn line_end(&self) -> &'static str {
        let crlf = self.body.matches("\r\n").count();
        if crlf * 2 > self.body.matches('\n').count() { "\r\n" } else { "\n" }
    }

    /// Replaces everything, in the encoding and with the line ends that the file has.
    ///
    /// # Errors
    /// When the text has characters that the file's encoding does not.
    pub(crate) fn replace(&mut self, text: &str) -> Result<()> {
        self.check(text)?;
        let unix = text.replace("\r\n", "\n");
        self.body = if self.line_end() == "\r\n" { unix.replace('\n', "\r\n") } else { unix };
        Ok(())
    }

    fn check(&self, text: &str) -> Result<()> {
        if self.form != Form::Latin1 {
            return Ok(());
        }
        match text.chars().find(|c| !self.can_hold(*c)) {
            Some(c) => Err(Error::bad_input(format!("the file is Latin-1, which has no {c:?}")).next("use other characters")),
            None => Ok(()),
        }
    }

    fn lines(&self) -> impl Iterator<Item = &str> {
        self.body.split_inclusive('\n')
    }

    /// Adds a line at the end unless it is there.
    ///
    /// # Errors
    /// As [`Text::replace`].
    pub(crate) fn ensure_line(&mut self, line: &str) -> Result<()> {
        self.check(line)?;
        if !self.lines().any(|l| content(l) == line) {
            self.append(line);
        }
        Ok(())
    }

    fn append(&mut self, line: &str) {
        let end = self.line_end();
        // A last line without an end stays one: so does the new last line.
        let open = !self.body.is_empty() && !self.body.ends_with('\n');
        if open {
            self.body.push_str(end);
        }
        self.body.push_str(line);
        if !open {
            self.body.push_str(end);
        }
    }

    /// Takes out every line of this content.
    pub(crate) fn remove_line(&mut self, line: &str) {
        self.body = self.lines().filter(|l| content(l) != line).collect();
    }

    /// Gives ini keys their values. Sections and keys are found in any case; missing ones are added.
    ///
    /// # Errors
    /// As [`Text::replace`].
    pub(crate) fn set_ini(&mut self, sections: &BTreeMap<String, BTreeMap<String, String>>) -> Result<()> {
        for (section, keys) in sections {
            for (key, value) in keys {
                self.set_ini_key(section, key, value)?;
            }
        }
        Ok(())
    }

    fn set_ini_key(&mut self, section: &str, key: &str, value: &str) -> Result<()> {
        [section, key, value].into_iter().try_for_each(|text| self.check(text))?;
        let mut lines: Vec<String> = self.lines().map(str::to_owned).collect();
        // Keys before the first section belong to the section without a name.
        let mut inside = section.is_empty();
        let mut last = section.is_empty().then_some(0);
        for (at, line) in lines.iter_mut().enumerate() {
            let text = content(line).trim_ascii();
            if let Some(name) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
                inside = name.trim_ascii().eq_ignore_ascii_case(section);
                last = if inside { Some(at + 1) } else { last };
            } else if inside && !text.is_empty() {
                last = Some(at + 1);
                if let Some(start) = value_start(line, key) {
                    let end = content(line).len();
                    line.replace_range(start..end, value);
                    self.body = lines.concat();
                    return Ok(());
                }
            }
        }
        let new = format!("{key}={value}");
        match last {
            Some(at) => {
                let end = self.line_end();
                if let Some(before) = at.checked_sub(1).and_then(|b| lines.get_mut(b))
                    && !before.ends_with('\n')
                {
                    before.push_str(end);
                }
                lines.insert(at, format!("{new}{end}"));
                self.body = lines.concat();
            }
            None => {
                self.append(&format!("[{section}]"));
                self.append(&new);
            }
        }
        Ok(())
    }
}

/// A line without its end.
fn content(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// Where the value begins in a line that sets the key, spaces around the `=` left as they are.
fn value_start(line: &str, key: &str) -> Option<usize> {
    let line = content(line);
    let (name, value) = line.split_once('=')?;
    if !name.trim_ascii().eq_ignore_ascii_case(key) {
        return None;
    }
    Some(line.len() - value.trim_start_matches([' ', '\t']).len())
}

fn from_utf16(bytes: &[u8], order: ByteOrder) -> Option<String> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    let units = pairs.iter().map(|pair| match order {
        ByteOrder::Little => u16::from_le_bytes(*pair),
        ByteOrder::Big => u16::from_be_bytes(*pair),
    });
    char::decode_utf16(units).collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ini(text: &[u8], section: &str, key: &str, value: &str) -> Vec<u8> {
        let mut file = Text::read(text).unwrap();
        file.set_ini_key(section, key, value).unwrap();
        file.bytes()
    }

    #[test]
    fn lines_keep_ends_and_foreign_bytes() {
        let mut text = Text::read(b"a\r\nb\xE9\r\n").unwrap();
        text.ensure_line("b\u{e9}").unwrap();
        assert_eq!(text.bytes(), b"a\r\nb\xE9\r\n");
        text.ensure_line("c").unwrap();
        text.remove_line("a");
        assert_eq!(text.bytes(), b"b\xE9\r\nc\r\n");
        assert!(text.ensure_line("\u{20ac}").is_err());
        let mut open = Text::read(b"\xEF\xBB\xBFa\nb").unwrap();
        open.ensure_line("c").unwrap();
        assert_eq!(open.bytes(), b"\xEF\xBB\xBFa\nb\nc");
    }

    #[test]
    fn wide_text_is_edited_and_written_back() {
        for (bytes, changed) in [
            (b"\xFF\xFEa\0\r\0\n\0".as_slice(), b"\xFF\xFEa\0\r\0\n\0\xAC\x20\r\0\n\0".as_slice()),
            (b"\xFE\xFF\0a\0\n", b"\xFE\xFF\0a\0\n\x20\xAC\0\n"),
        ] {
            let mut text = Text::read(bytes).unwrap();
            assert_eq!(text.bytes(), bytes);
            text.ensure_line("\u{20ac}").unwrap();
            assert_eq!(text.bytes(), changed);
        }
        assert!(Text::read(b"\xFF\xFEa").is_err());
        assert!(Text::read(b"\xFF\xFE\0\xD8").is_err());
    }

    #[test]
    fn ini_keys_change_in_place() {
        let text = b"; head\r\n[Server]\r\nPort = 80 \r\n\r\n[Other]\r\nport=1\r\n";
        assert_eq!(ini(text, "server", "PORT", "81"), b"; head\r\n[Server]\r\nPort = 81\r\n\r\n[Other]\r\nport=1\r\n");
        assert_eq!(ini(text, "Server", "host", "x"), b"; head\r\n[Server]\r\nPort = 80 \r\nhost=x\r\n\r\n[Other]\r\nport=1\r\n");
        assert_eq!(ini(b"[a]\nk=1", "a", "l", "2"), b"[a]\nk=1\nl=2\n");
        assert_eq!(ini(b"", "a", "k", "1"), b"[a]\nk=1\n");
        assert_eq!(ini(b"k=1\n[a]\n", "", "k", "2"), b"k=2\n[a]\n");
    }

    #[test]
    fn whole_content_takes_the_file_s_line_ends() {
        let mut text = Text::read(b"old\r\n").unwrap();
        text.replace("a\nb\n").unwrap();
        assert_eq!(text.bytes(), b"a\r\nb\r\n");
    }
}
