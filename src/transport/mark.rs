//! The words with which an agent's stream begins, whatever a login shell has said before.

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::STREAM_MARK;
use tokio::io::{AsyncRead, AsyncReadExt};

/// More than this before the mark is not a greeting, but something else that talks.
const MOST_NOISE: usize = 64 * 1024;

/// What stands before the mark, or what there was instead of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// The mark came; the stream goes on right behind it.
    Marked,
    /// The stream ended without it; what was said instead.
    Ended(Vec<u8>),
}

/// Reads up to the mark and no further.
///
/// # Errors
/// When the stream breaks, or says far too much.
pub(super) async fn find_mark(stream: &mut (impl AsyncRead + Unpin)) -> Result<Beginning> {
    let mut noise = Vec::new();
    // Byte by byte: there is little of it, and nothing behind the mark may be taken.
    let mut byte = [0; 1];
    while stream.read(&mut byte).await.map_err(|e| Error::new(ErrorKind::Unreachable, e.to_string()))? == 1 {
        noise.push(byte[0]);
        if noise.ends_with(STREAM_MARK) {
            if noise.len() > STREAM_MARK.len() {
                let said = String::from_utf8_lossy(&noise[..noise.len() - STREAM_MARK.len()]).into_owned();
                tracing::debug!(said, "the login shell wrote before the agent's stream");
            }
            return Ok(Beginning::Marked);
        }
        if noise.len() > MOST_NOISE {
            let begins = String::from_utf8_lossy(&noise[..200]).into_owned();
            return Err(Error::new(ErrorKind::Protocol, "the machine sends something else than an agent's stream")
                .because(format!("it begins with `{}`", begins.escape_debug()))
                .next("see what the account's login shell and its start-up files write on standard output"));
        }
    }
    Ok(Beginning::Ended(noise))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_shell_says_before_is_passed_over_and_nothing_behind_is_lost() {
        let mut text = b"Welcome to NDXLARMOR\r\nibexdeploy-".to_vec();
        text.extend_from_slice(STREAM_MARK);
        text.extend_from_slice(b"frames");
        let mut stream = text.as_slice();
        assert_eq!(find_mark(&mut stream).await.unwrap(), Beginning::Marked);
        assert_eq!(stream, b"frames");
    }

    #[tokio::test]
    async fn a_stream_without_the_mark_ends_with_what_it_said() {
        let mut stream = b"sh: not found".as_slice();
        assert_eq!(find_mark(&mut stream).await.unwrap(), Beginning::Ended(b"sh: not found".to_vec()));
    }

    #[tokio::test]
    async fn endless_noise_is_an_error() {
        let mut stream = tokio::io::repeat(b'x');
        let error = find_mark(&mut stream).await.unwrap_err();
        assert!(error.to_string().contains("`xxx"), "{error}");
    }
}
