//! Messages over a byte stream: a length of four bytes (big end first), then the message as MessagePack with names.

use super::MAX_FRAME;
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// The bytes of one message, without its length.
///
/// # Errors
/// When the message is larger than a frame may be.
pub fn encode<M: Serialize>(message: &M) -> Result<Bytes> {
    let bytes = rmp_serde::to_vec_named(message).map_err(|e| Error::internal("cannot write a message").because(e))?;
    if bytes.len() > MAX_FRAME {
        return Err(Error::new(ErrorKind::Protocol, format!("a message of {} bytes is larger than a frame may be", bytes.len())));
    }
    Ok(bytes.into())
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// When the bytes are not such a message.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M> {
    rmp_serde::from_slice(bytes).map_err(|e| {
        Error::new(ErrorKind::Protocol, "the other end sent a message that this build does not understand")
            .because(e)
            .next("controller and agent must be builds of the same protocol version; update the older one")
    })
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME).new_codec()
}

/// The two directions of a stream: what comes are messages `In`, what goes are messages `Out`.
pub fn split<S, In, Out>(stream: S) -> (Reader<ReadHalf<S>, In>, Writer<WriteHalf<S>, Out>)
where
    S: AsyncRead + AsyncWrite,
    In: DeserializeOwned,
    Out: Serialize,
{
    let (read, write) = tokio::io::split(stream);
    (Reader::new(read), Writer::new(write))
}

/// Reads messages.
pub struct Reader<R, M> {
    frames: FramedRead<R, LengthDelimitedCodec>,
    kind: PhantomData<fn() -> M>,
}

impl<R, M> fmt::Debug for Reader<R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl<R: AsyncRead + Unpin, M: DeserializeOwned> Reader<R, M> {
    pub fn new(stream: R) -> Self {
        Self { frames: FramedRead::new(stream, codec()), kind: PhantomData }
    }

    /// The next message; nothing when the other end has said that it leaves, by an empty frame or the stream's end.
    ///
    /// May be dropped and called again without losing anything.
    ///
    /// # Errors
    /// When the stream breaks or a message cannot be understood.
    pub async fn next(&mut self) -> Result<Option<M>> {
        match self.frames.next().await {
            None => Ok(None),
            Some(Ok(frame)) if frame.is_empty() => Ok(None),
            Some(Ok(frame)) => decode(&frame).map(Some),
            Some(Err(e)) => Err(Error::new(ErrorKind::Unreachable, "the link broke while reading").because(e)),
        }
    }
}

/// Writes messages.
pub struct Writer<W, M> {
    frames: FramedWrite<W, LengthDelimitedCodec>,
    kind: PhantomData<fn(M)>,
}

impl<W, M> fmt::Debug for Writer<W, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl<W: AsyncWrite + Unpin, M: Serialize> Writer<W, M> {
    pub fn new(stream: W) -> Self {
        Self { frames: FramedWrite::new(stream, codec()), kind: PhantomData }
    }

    /// Sends one message and waits until the stream has taken it.
    ///
    /// # Errors
    /// When the stream breaks or the message is too large.
    pub async fn send(&mut self, message: &M) -> Result<()> {
        let bytes = encode(message)?;
        self.frames.send(bytes).await.map_err(|e| Error::new(ErrorKind::Unreachable, "the link broke while writing").because(e))
    }

    /// Says that nothing more comes: an empty frame, because named pipes have no half-closed state.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn leave(&mut self) -> Result<()> {
        self.frames
            .send(Bytes::new())
            .await
            .map_err(|e| Error::new(ErrorKind::Unreachable, "the link broke while leaving").because(e))
    }
}
