//! Messages over a byte stream: a length of four bytes (big end first), then the message as MessagePack with names.

use super::MAX_FRAME;
use crate::error::{Error, ErrorKind, Result};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// How long the other end may take no byte of a message before the link counts as broken. Longer than a disk that is
/// busy with the content that came; a process that was stopped never reads again.
const STALLED_AFTER: Duration = Duration::from_secs(60);

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
    /// When the stream breaks, the other end reads nothing for a minute, or the message is too large.
    pub async fn send(&mut self, message: &M) -> Result<()> {
        let bytes = encode(message)?;
        self.write(bytes, "writing").await
    }

    /// Says that nothing more comes: an empty frame, because named pipes have no half-closed state.
    ///
    /// # Errors
    /// When the stream breaks, or the other end reads nothing for a minute.
    pub async fn leave(&mut self) -> Result<()> {
        self.write(Bytes::new(), "leaving").await
    }

    async fn write(&mut self, frame: Bytes, doing: &str) -> Result<()> {
        let fault = || Error::new(ErrorKind::Unreachable, format!("the link broke while {doing}"));
        match timeout(STALLED_AFTER, self.frames.send(frame)).await {
            Ok(written) => written.map_err(|e| fault().because(e)),
            Err(_) => Err(fault().because(format!("the other end took nothing for {STALLED_AFTER:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        AgentHello, AgentMessage, ControllerHello, ControllerMessage, FrozenReply, FrozenRequest, PackHeader, RollbackOptions,
    };

    #[tokio::test(start_paused = true)]
    async fn who_never_reads_does_not_hold_up_the_writer_for_ever() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let (_, mut writer) = split::<_, AgentMessage, ControllerMessage>(ours);
        let error = writer.send(&ControllerMessage::PackBytes(vec![0; 1000])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Messages between any two builds: when one of these texts changes, old agents can no longer be followed.
    #[test]
    fn the_frozen_messages_keep_their_bytes() -> Result<()> {
        let requests = [
            FrozenRequest::Hello(ControllerHello { protocol: 1, build: "b".into(), operator: "o@h".into() }),
            FrozenRequest::EventsSince { run: "r".into(), from: 7 },
            FrozenRequest::Cancel { run: "r".into(), now: true },
            FrozenRequest::Rollback {
                run: "r".into(),
                options: RollbackOptions {
                    discard_newer: true,
                    as_run: "u".into(),
                    operator: "o".into(),
                    ..RollbackOptions::default()
                },
            },
        ];
        let requests: Vec<String> =
            requests.into_iter().map(|r| encode(&ControllerMessage::Frozen(r)).map(|b| hex(&b))).collect::<Result<_>>()?;
        assert_eq!(requests, FROZEN_REQUESTS);
        let replies = [
            FrozenReply::Hello(AgentHello {
                protocol: 1,
                build: "b".into(),
                platform: "sandbox".into(),
                host: "h".into(),
                root: Some("/r".into()),
                now: Some(jiff::Timestamp::UNIX_EPOCH),
            }),
            FrozenReply::Event { json: "{}".into() },
            FrozenReply::UpToDate { active: true },
            FrozenReply::Done,
            FrozenReply::Refused { json: "{}".into() },
        ];
        let replies: Vec<String> =
            replies.into_iter().map(|r| encode(&AgentMessage::Frozen(r)).map(|b| hex(&b))).collect::<Result<_>>()?;
        assert_eq!(replies, FROZEN_REPLIES);
        Ok(())
    }

    const FROZEN_REQUESTS: [&str; 4] = [
        "81a646726f7a656e81a548656c6c6f83a870726f746f636f6c01a56275696c64a162a86f70657261746f72a36f4068",
        "81a646726f7a656e81ab4576656e747353696e636582a372756ea172a466726f6d07",
        "81a646726f7a656e81a643616e63656c82a372756ea172a36e6f77c3",
        "81a646726f7a656e81a8526f6c6c6261636b82a372756ea172a76f7074696f6e7384ad646973636172645f6e65776572c3a770726576696577c2a661735f72756ea175a86f70657261746f72a16f",
    ];
    const FROZEN_REPLIES: [&str; 5] = [
        "81a646726f7a656e81a548656c6c6f86a870726f746f636f6c01a56275696c64a162a8706c6174666f726da773616e64626f78a4686f7374a168a4726f6f74a22f72a36e6f77b4313937302d30312d30315430303a30303a30305a",
        "81a646726f7a656e81a54576656e7481a46a736f6ea27b7d",
        "81a646726f7a656e81a85570546f4461746581a6616374697665c3",
        "81a646726f7a656ea4446f6e65",
        "81a646726f7a656e81a75265667573656481a46a736f6ea27b7d",
    ];

    #[tokio::test]
    async fn messages_arrive_in_order_and_an_empty_frame_is_the_end() -> Result<()> {
        let (a, b) = tokio::io::duplex(64);
        let (_, mut out) = split::<_, AgentMessage, ControllerMessage>(a);
        let (mut input, _answers) = split::<_, ControllerMessage, AgentMessage>(b);
        let sent = vec![
            ControllerMessage::Pack(PackHeader { blobs: vec![(crate::content::ContentHash::of(b"x"), 1)], packed: 3 }),
            ControllerMessage::PackBytes(vec![0, 255, 7]),
            ControllerMessage::Ping,
        ];
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            for message in &sent {
                out.send(message).await?;
            }
            out.leave().await
        });
        for message in expected {
            assert_eq!(input.next().await?, Some(message));
        }
        assert_eq!(input.next().await?, None);
        writer.await.map_err(|e| Error::internal("join").because(e))?
    }

    #[test]
    fn bytes_travel_as_bytes() -> Result<()> {
        let bytes = encode(&ControllerMessage::PackBytes(vec![9; 1000]))?;
        assert!(bytes.len() < 1020, "{}", bytes.len());
        Ok(())
    }

    #[test]
    fn strange_bytes_are_an_error() {
        let error = decode::<ControllerMessage>(&[0xc1, 0xff]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }
}
