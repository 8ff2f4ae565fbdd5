//! How sealed messages look in HTTP: `multipart/encrypted` as MS-WSMV (2.2.9.1) has it. What seals is elsewhere.

use crate::error::{Error, ErrorKind, Result};

const BOUNDARY: &str = "Encrypted Boundary";
const PROTOCOL: &str = "application/HTTP-SPNEGO-session-encrypted";

/// The content type of a sealed message.
pub(super) const CONTENT_TYPE: &str =
    r#"multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary""#;

/// A sealed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    /// Signature, or the first part of a Kerberos token.
    pub(super) token: Vec<u8>,
    pub(super) data: Vec<u8>,
    /// Bytes of the message before it was sealed.
    pub(super) length: usize,
}

/// A body of HTTP.
pub(super) fn wrap(sealed: &Sealed) -> Vec<u8> {
    let mut body = format!(
        "--{BOUNDARY}\r\n\tContent-Type: {PROTOCOL}\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={}\r\n\
         --{BOUNDARY}\r\n\tContent-Type: application/octet-stream\r\n",
        sealed.length
    )
    .into_bytes();
    // Tokens are a few dozen bytes.
    body.extend_from_slice(&u32::try_from(sealed.token.len()).unwrap_or(u32::MAX).to_le_bytes());
    body.extend_from_slice(&sealed.token);
    body.extend_from_slice(&sealed.data);
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// What such a body holds. Its own length counts, not what looks like an end: sealed bytes may look like anything.
///
/// # Errors
/// When it is not exactly such a body.
pub(super) fn unwrap(content_type: &str, body: &[u8]) -> Result<Sealed> {
    let boundary = boundary_of(content_type).ok_or_else(|| unfit("no boundary is named"))?;
    let separator = format!("--{boundary}\r\n");
    let end = format!("--{boundary}--");
    let rest = body.strip_prefix(separator.as_bytes()).ok_or_else(|| unfit("it does not begin with its boundary"))?;
    let middle = find(rest, separator.as_bytes()).ok_or_else(|| unfit("its second part is missing"))?;
    let (head, rest) = (&rest[..middle], &rest[middle + separator.len()..]);
    let length = length_of(head).ok_or_else(|| unfit("the length of the message is not named"))?;
    // The second part has one line of its own before the bytes.
    let line = find(rest, b"\r\n").ok_or_else(|| unfit("its second part has no head"))?;
    if !String::from_utf8_lossy(&rest[..line]).trim().eq_ignore_ascii_case("content-type: application/octet-stream") {
        return Err(unfit("its second part is no bytes"));
    }
    let rest = &rest[line + 2..];
    let rest = rest.strip_suffix(b"\r\n").unwrap_or(rest);
    let sealed = rest.strip_suffix(end.as_bytes()).ok_or_else(|| unfit("it does not end with its boundary"))?;
    let (size, sealed) = sealed.split_first_chunk::<4>().ok_or_else(|| unfit("it is cut off"))?;
    let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
    if size > sealed.len() || size > 512 {
        return Err(unfit(&format!("a token of {size} bytes does not fit")));
    }
    let (token, data) = sealed.split_at(size);
    Ok(Sealed { token: token.to_vec(), data: data.to_vec(), length })
}

fn boundary_of(content_type: &str) -> Option<&str> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/encrypted") {
        return None;
    }
    let value = parameters.split(';').find_map(|p| p.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches('"'))
}

fn length_of(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    let line = head.lines().map(str::trim).find(|line| line.to_ascii_lowercase().starts_with("originalcontent:"))?;
    let value = line.split(';').find_map(|p| p.trim().strip_prefix("Length="))?;
    value.parse().ok()
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn unfit(why: &str) -> Error {
    Error::new(ErrorKind::Unreachable, "the answer of the WinRM service is not sealed as it should be")
        .because(why)
        .next("see what lies between this machine and the instrument: a proxy must not change what goes through")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Sealed {
        Sealed { token: (0..16).collect(), data: b"--Encrypted Boundary--\r\n\x00\xff".to_vec(), length: 26 }
    }

    /// The example of MS-WSMV, byte for byte but for what is sealed.
    #[test]
    fn a_sealed_message_is_framed_as_windows_frames_it() {
        let body = wrap(&example());
        let mut expected = b"--Encrypted Boundary\r\n\
            \tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n\
            \tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=26\r\n\
            --Encrypted Boundary\r\n\
            \tContent-Type: application/octet-stream\r\n\
            \x10\x00\x00\x00\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f"
            .to_vec();
        expected.extend_from_slice(b"--Encrypted Boundary--\r\n\x00\xff--Encrypted Boundary--\r\n");
        assert_eq!(body, expected);
    }

    #[test]
    fn what_is_wrapped_is_unwrapped_whatever_it_looks_like() {
        let body = wrap(&example());
        assert_eq!(unwrap(CONTENT_TYPE, &body).unwrap(), example());
        let without_last_line_end = &body[..body.len() - 2];
        let other_boundary = CONTENT_TYPE.replace(r#""Encrypted Boundary""#, "Encrypted Boundary");
        assert_eq!(unwrap(&other_boundary, without_last_line_end).unwrap(), example());
    }

    #[test]
    fn what_is_cut_or_changed_is_refused() {
        let body = wrap(&example());
        for cut in [0, 10, 60, 150, 200, body.len() - 10] {
            assert!(unwrap(CONTENT_TYPE, &body[..cut]).is_err(), "{cut}");
        }
        let mut long = body.clone();
        let at = find(&long, b"\x10\x00\x00\x00").unwrap();
        long[at] = 0xff;
        assert!(unwrap(CONTENT_TYPE, &long).is_err(), "a token longer than the message");
        assert!(unwrap("text/html", &body).is_err());
        let nameless = String::from_utf8_lossy(&body).replace("Length=26", "Length=x");
        assert!(unwrap(CONTENT_TYPE, nameless.as_bytes()).is_err());
    }
}
