//! Edits of a text that leave everything else in it byte for byte: encoding, line ends, comments, order.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A text file's bytes, and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    mark: bool,
    latin1: bool,
    end: &'static [u8],
    body: Vec<u8>,
}

impl Text {
    /// Takes a file's bytes apart.
    ///
    /// # Errors
    /// When it is UTF-16, whose lines cannot be edited as bytes.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
            return Err(Error::bad_input("the file is UTF-16").next("save it as UTF-8, or edit it with a program of your own"));
        }
        let body = bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes);
        let crlf = body.windows(2).filter(|w| w == b"\r\n").count();
        let lf = body.iter().filter(|b| **b == b'\n').count();
        Ok(Self {
            mark: body.len() != bytes.len(),
            latin1: std::str::from_utf8(body).is_err(),
            end: if crlf * 2 > lf { b"\r\n" } else { b"\n" },
            body: body.to_vec(),
        })
    }

    /// The file's bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = if self.mark { UTF8_MARK.to_vec() } else { Vec::new() };
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Replaces everything, in the encoding and with the line ends that the file has.
    ///
    /// # Errors
    /// When the text has characters that the file's encoding does not.
    pub(super) fn replace(&mut self, text: &str) -> Result<()> {
        let unix = text.replace("\r\n", "\n");
        let encoded = self.encode(&unix)?;
        self.body = if self.end == b"\r\n" { with_crlf(&encoded) } else { encoded };
        Ok(())
    }

    fn encode(&self, text: &str) -> Result<Vec<u8>> {
        if !self.latin1 {
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
    pub(super) fn ensure_line(&mut self, line: &str) -> Result<()> {
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
    pub(super) fn remove_line(&mut self, line: &str) -> Result<()> {
        let unwanted = self.encode(line)?;
        self.body = self.lines().into_iter().filter(|l| content(l) != unwanted).collect::<Vec<_>>().concat();
        Ok(())
    }

    /// Gives ini keys their values. Sections and keys are found in any case; missing ones are added.
    ///
    /// # Errors
    /// As [`Text::replace`].
    pub(super) fn set_ini(&mut self, sections: &BTreeMap<String, BTreeMap<String, String>>) -> Result<()> {
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
        assert!(Text::read(b"\xFF\xFEa\0").is_err());
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
