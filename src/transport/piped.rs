//! A stream whose other end something else serves (a thread, a task), and how it ended.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// How a stream ended. Whoever serves it sets this before dropping its end of the pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The program on the far side has ended; what it said on standard error last.
    Closed { status: i32, signal: Option<String>, said: Vec<String> },
    /// The connection broke.
    Lost(String),
}

impl End {
    /// What to say about it, or nothing when it ended well.
    pub(super) fn verdict(&self) -> Option<String> {
        match self {
            Self::Closed { status: 0, signal: None, .. } => None,
            Self::Closed { status, signal, said } => {
                let ended = match signal {
                    Some(signal) => format!("the program there was ended by the signal {signal}"),
                    None => format!("the program there ended with the exit code {status}"),
                };
                Some(if said.is_empty() { ended } else { format!("{ended}: {}", said.join(" | ")) })
            }
            Self::Lost(why) => Some(why.clone()),
        }
    }
}

/// What the stream and whoever serves it share beside the pipe.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) end: OnceLock<End>,
    /// The stream was dropped: a pipe that is half closed and one that is dropped look alike from the other end.
    pub(super) dropped: AtomicBool,
}

/// Says that the stream was dropped.
struct DropFlag(Arc<Shared>);

impl Drop for DropFlag {
    fn drop(&mut self) {
        self.0.dropped.store(true, Ordering::SeqCst);
    }
}

/// Both directions of a stream to a program on another machine.
pub(super) struct PipedStream {
    /// Stands before the pipe, so that it is dropped first: dropping the pipe wakes the other end.
    _flag: DropFlag,
    pipe: DuplexStream,
    shared: Arc<Shared>,
    /// The verdict about the end was given.
    told: bool,
}

impl PipedStream {
    pub(super) fn new(pipe: DuplexStream, shared: Arc<Shared>) -> Self {
        Self { _flag: DropFlag(Arc::clone(&shared)), pipe, shared, told: false }
    }

    /// How it ended, once it has.
    pub(super) fn end(&self) -> Option<&End> {
        self.shared.end.get()
    }

    fn broken(&self) -> Option<io::Error> {
        let verdict = self.shared.end.get()?.verdict()?;
        Some(io::Error::new(io::ErrorKind::BrokenPipe, verdict))
    }
}

impl AsyncRead for PipedStream {
    /// The end of the stream is an error once, when it did not end well.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buffer))?;
        if buffer.filled().len() > before || buffer.remaining() == 0 || self.told {
            return Poll::Ready(Ok(()));
        }
        self.told = true;
        Poll::Ready(self.broken().map_or(Ok(()), Err))
    }
}

impl AsyncWrite for PipedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write(cx, bytes));
        Poll::Ready(written.map_err(|e| self.broken().unwrap_or(e)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
