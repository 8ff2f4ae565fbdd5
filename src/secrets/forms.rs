//! The texts that give a secret away.

/// Shorter texts are not looked for.
const SHORTEST: usize = 4;
/// Pieces of a secret (a line of a key, base64 without its ends) are looked for from this length on.
const SHORTEST_PIECE: usize = 8;

/// The secret itself, its lines, and how JSON, addresses, base64 and UTF-16 write it; the longest first.
pub(super) fn of(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), secret.trim_end_matches(['\r', '\n']).to_owned(), in_json(secret)];
    forms.push(percent(secret, |b| format!("%{b:02X}")));
    forms.push(percent(secret, |b| format!("%{b:02x}")));
    forms.push(percent(secret, |b| if b == b' ' { "+".to_owned() } else { format!("%{b:02X}") }));
    forms.push(wide(secret));
    forms.push(base64(secret.as_bytes(), STANDARD));
    forms.push(base64(secret.as_bytes(), FOR_ADDRESSES));
    forms.retain(|form| form.len() >= SHORTEST);

    let mut pieces: Vec<String> = secret.lines().map(|line| line.trim().to_owned()).collect();
    for alphabet in [STANDARD, FOR_ADDRESSES] {
        pieces.extend((0..3).map(|shift| inside_base64(secret.as_bytes(), alphabet, shift)));
    }
    forms.extend(pieces.into_iter().filter(|piece| piece.len() >= SHORTEST_PIECE));
    forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    forms.dedup();
    forms
}

fn in_json(secret: &str) -> String {
    let quoted = serde_json::Value::from(secret).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// As Windows programs write to a file: UTF-16, each of whose zero bytes is read as a character.
fn wide(secret: &str) -> String {
    if !secret.is_ascii() {
        return String::new();
    }
    secret.chars().map(String::from).collect::<Vec<_>>().join("\0")
}

/// As in addresses: all but letters, digits and `-._~` written by `escape`.
fn percent(secret: &str, escape: impl Fn(u8) -> String) -> String {
    let write = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
        _ => escape(b),
    };
    secret.bytes().map(write).collect()
}

const STANDARD: [u8; 2] = *b"+/";
const FOR_ADDRESSES: [u8; 2] = *b"-_";

fn base64(bytes: &[u8], last_two: [u8; 2]) -> String {
    let digit = |n: u32| {
        char::from(match u8::try_from(n & 63).unwrap_or_default() {
            n @ 0..26 => b'A' + n,
            n @ 26..52 => b'a' + (n - 26),
            n @ 52..62 => b'0' + (n - 52),
            62 => last_two[0],
            _ => last_two[1],
        })
    };
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |n: usize| u32::from(chunk.get(n).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let digits = [bits >> 18, bits >> 12, bits >> 6, bits].map(digit);
        text.extend(&digits[..=chunk.len()]);
    }
    text
}

/// The digits that depend on the secret alone when base64 holds it behind `shift` other bytes (modulo 3).
fn inside_base64(secret: &[u8], last_two: [u8; 2], shift: usize) -> String {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret);
    let text = base64(&bytes, last_two);
    let start = (shift * 8).div_ceil(6);
    let end = bytes.len() * 8 / 6;
    text.get(start..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 4648, section 10, without padding.
    #[test]
    fn base64_as_the_standard_has_it() {
        for (plain, text) in [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes(), STANDARD), text);
        }
        assert_eq!(base64(&[0xfb, 0xff], STANDARD), "+/8");
        assert_eq!(base64(&[0xfb, 0xff], FOR_ADDRESSES), "-_8");
    }

    #[test]
    fn the_inner_digits_are_those_of_any_neighbours() {
        let secret = b"hunter2-hunter2";
        for shift in 0..3 {
            let inner = inside_base64(secret, STANDARD, shift);
            for (before, after) in [("xyz", "a"), ("~~~", "zz"), ("\u{1}\u{2}\u{3}", "")] {
                let text = format!("{}{}{after}", &before[..shift], "hunter2-hunter2");
                assert!(base64(text.as_bytes(), STANDARD).contains(&inner), "{inner} in {text}");
            }
        }
    }
}
