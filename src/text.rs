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
    /// UTF-16 behind a byte order mark; the body is kept as UTF-8.
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

/// A text file's bytes, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    form: Form,
    end: &'static [u8],
    body: Vec<u8>,
}

impl Text {
    /// Takes a file's bytes apart.
    ///
    /// # Errors
    /// When it begins as UTF-16 and goes on as something else.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let marked = [Form::Marked, Form::Utf16(ByteOrder::Little), Form::Utf16(ByteOrder::Big)];
        match marked.into_iter().find(|form| bytes.starts_with(form.mark())) {
            Some(form @ Form::Utf16(order)) => {
                let text = from_utf16(&bytes[form.mark().len()..], order)
                    .ok_or_else(|| Error::bad_input("the file begins as UTF-16 and is none").next("save it as UTF-8"))?;
                Ok(Self::of(form, text.into_bytes()))
            }
            Some(form) if std::str::from_utf8(bytes).is_ok() => Ok(Self::of(form, bytes[form.mark().len()..].to_vec())),
            None if std::str::from_utf8(bytes).is_ok() => Ok(Self::of(Form::Utf8, bytes.to_vec())),
            _ => Ok(Self::read_latin1(bytes)),
        }
    }

    /// Takes the bytes of a file apart that says itself that each is a character.
    pub(crate) fn read_latin1(bytes: &[u8]) -> Self {
        Self::of(Form::Latin1, bytes.to_vec())
    }

    fn of(form: Form, body: Vec<u8>) -> Self {
        let crlf = body.windows(2).filter(|w| w == b"\r\n").count();
        let lf = body.iter().filter(|b| **b == b'\n').count();
        Self { form, end: if crlf * 2 > lf { b"\r\n" } else { b"\n" }, body }
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.form.mark().to_vec();
        match self.form {
            Form::Utf16(order) => bytes.extend(self.decoded().encode_utf16().flat_map(|unit| match order {
                ByteOrder::Little => unit.to_le_bytes(),
                ByteOrder::Big => unit.to_be_bytes(),
            })),
            _ => bytes.extend_from_slice(&self.body),
        }
        bytes
    }

    /// The characters, line ends as they are in the file.
    pub(crate) fn decoded(&self) -> String {
        match self.form {
            Form::Latin1 => self.body.iter().map(|byte| char::from(*byte)).collect(),
            _ => String::from_utf8_lossy(&self.body).into_owned(),
        }
    }

    /// Takes other characters in the place of all that are there, line ends as they are.
    ///
    /// # Errors
    /// As [`Text::replace`].
    pub(crate) fn set_decoded(&mut self, text: &str) -> Result<()> {
        self.body = self.encode(text)?;
        Ok(())
    }

    /// True when the file's encoding has the character.
    pub(crate) fn can_hold(&self, c: char) -> bool {
        self.form != Form::Latin1 || u32::from(c) <= 0xFF
    }

    /// The line end that most lines have.
    pub(crate) fn line_end(&self) -> &'static str {
        if self.end == b"\r\n" { "\r\n" } else { "\n" }
    }

    /// Replaces everything, in the encoding and with the line ends that the file has.
    ///
    /// # Errors
    /// When the text has characters that the file's encoding does not.
    pub(crate) fn replace(&mut self, text: &str) -> Result<()> {
        let unix = text.replace("\r\n", "\n");
        let encoded = self.encode(&unix)?;
        self.body = if self.end == b"\r\n" { with_crlf(&encoded) } else { encoded };
        Ok(())
    }

    fn encode(&self, text: &str) -> Result<Vec<u8>> {
        if self.form != Form::Latin1 {
            return Ok(text.as_bytes().to_vec());
        }
        text.chars()
            .map(|c| {
                u8::try_from(u32::from(c)).map_err(|_| {
                    Error::bad_input(format!("the file is Latin-1, which has no {c:?}")).next("use other characters")
                })
            })
            .collect()
    }

    fn lines(&self) -> Vec<&[u8]> {
        self.body.split_inclusive(|b| *b == b'\n').collect()
    }

    /// Adds a line at the end unless it is there.
    ///
    /// # Errors
    /// As [`Text::replace`].
    pub(crate) fn ensure_line(&mut self, line: &str) -> Result<()> {
        let wanted = self.encode(line)?;
        if !self.lines().iter().any(|l| content(l) == wanted) {
            self.append(&wanted);
        }
        Ok(())
    }

    fn append(&mut self, line: &[u8]) {
        // A last line without an end stays one: so does the new last line.
        let open = !self.body.is_empty() && !self.body.ends_with(b"\n");
        if open {
            self.body.extend_from_slice(self.end);
        }
        self.body.extend_from_slice(line);
        if !open {
            self.body.extend_from_slice(self.end);
        }
    }

    /// Takes out every line of this content.
    ///
    /// # Errors
    /// As [`Text::replace`].
    pub(crate) fn remove_line(&mut self, line: &str) -> Result<()> {
        let unwanted = self.encode(line)?;
        self.body = self.lines().into_iter().filter(|l| content(l) != unwanted).collect::<Vec<_>>().concat();
        Ok(())
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
        let (section, key, value) = (self.encode(section)?, self.encode(key)?, self.encode(value)?);
        let mut lines: Vec<Vec<u8>> = self.lines().into_iter().map(<[u8]>::to_vec).collect();
        // Keys before the first section belong to the section without a name.
        let mut inside = section.is_empty();
        let mut last = section.is_empty().then_some(0);
        for (at, line) in lines.iter_mut().enumerate() {
            let text = content(line).trim_ascii();
            if let Some(name) = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]")) {
                inside = name.trim_ascii().eq_ignore_ascii_case(&section);
                last = if inside { Some(at + 1) } else { last };
            } else if inside && !text.is_empty() {
                last = Some(at + 1);
                if let Some(start) = value_start(line, &key) {
                    let end = content(line).len();
                    line.splice(start..end, value);
                    self.body = lines.concat();
                    return Ok(());
                }
            }
        }
        let new = [key.as_slice(), b"=", value.as_slice()].concat();
        match last {
            Some(at) => {
                if let Some(before) = at.checked_sub(1).and_then(|b| lines.get_mut(b))
                    && !before.ends_with(b"\n")
                {
                    before.extend_from_slice(self.end);
                }
                lines.insert(at, [new.as_slice(), self.end].concat());
                self.body = lines.concat();
            }
            None => {
                self.append(&[b"[".as_slice(), &section, b"]"].concat());
                self.append(&new);
            }
        }
        Ok(())
    }
}

/// A line without its end.
fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Where the value begins in a line that sets the key, spaces around the `=` left as they are.
fn value_start(line: &[u8], key: &[u8]) -> Option<usize> {
    let line = content(line);
    let equals = line.iter().position(|b| *b == b'=')?;
    if !line[..equals].trim_ascii().eq_ignore_ascii_case(key) {
        return None;
    }
    let spaces = line[equals + 1..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    Some(equals + 1 + spaces)
}

fn from_utf16(bytes: &[u8], order: ByteOrder) -> Option<String> {
    let (pairs, []) = bytes.as_chunks::<2>() else { return None };
    let units = pairs.iter().map(|pair| match order {
        ByteOrder::Little => u16::from_le_bytes(*pair),
        ByteOrder::Big => u16::from_be_bytes(*pair),
    });
    char::decode_utf16(units).collect::<Result<_, _>>().ok()
}

fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    for byte in text {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
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
        text.remove_line("a").unwrap();
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
