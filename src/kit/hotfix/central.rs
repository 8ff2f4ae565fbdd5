//! The names in a zip's central directory, with those that stand there twice: the reader of archives keeps one of them.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom};

/// The signature of an entry of the central directory, and the length of its fixed part (APPNOTE 4.3.12).
const SIGNATURE: [u8; 4] = *b"PK\x01\x02";
const FIXED: usize = 46;

/// Names that stand more than once in the directory that begins at `start`, as far as it can be read.
pub(super) fn names_given_twice<R: Read + Seek>(reader: &mut R, start: u64) -> BTreeSet<String> {
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    if reader.seek(SeekFrom::Start(start)).is_err() {
        return twice;
    }
    let mut fixed = [0; FIXED];
    while reader.read_exact(&mut fixed).is_ok() && fixed[..4] == SIGNATURE {
        let length = |at: usize| usize::from(u16::from_le_bytes([fixed[at], fixed[at + 1]]));
        let (name, rest) = (length(28), length(30) + length(32));
        let mut text = vec![0; name];
        if reader.read_exact(&mut text).is_err() || reader.seek(SeekFrom::Current(rest as i64)).is_err() {
            break;
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        if !seen.insert(text.clone()) {
            twice.insert(text);
        }
    }
    twice
}
