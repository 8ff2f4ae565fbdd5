//! Feeding an agent the blobs it asks for.

use super::RateLimit;
use crate::content::ContentHash;
use crate::content::pack::Chunk;
use crate::error::{Error, Result};
use crate::protocol::{ControllerMessage, PackHeader};
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// Bytes of a pack in one frame: small enough that a ping between two never waits long.
const PIECE: usize = 128 * 1024;

/// A pack that is ready to be sent.
pub struct ReadyPack {
    pub header: PackHeader,
    /// Gives `header.packed` bytes.
    pub bytes: Box<dyn Read + Send>,
}

impl fmt::Debug for ReadyPack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadyPack").field("packed", &self.header.packed).finish_non_exhaustive()
    }
}

/// Where blobs come from. The calls block; links make them on threads of their own.
pub trait ContentSource: Send + Sync {
    /// Cuts a list of wanted blobs into those that are packed together, in order.
    ///
    /// # Errors
    /// When a blob is not known here.
    fn chunks(&self, hashes: &[ContentHash]) -> Result<Vec<Chunk>>;

    /// The pack of one such chunk; the same chunk gives the same pack, compressed only once.
    ///
    /// # Errors
    /// When a blob cannot be read, or is no longer what its hash says.
    fn pack(&self, chunk: &Chunk) -> Result<ReadyPack>;
}

/// A source of nothing, for commands whose plans need no content.
#[derive(Debug, Clone, Copy)]
pub struct NoContent;

impl ContentSource for NoContent {
    fn chunks(&self, hashes: &[ContentHash]) -> Result<Vec<Chunk>> {
        Err(Error::internal(format!("{} blobs are wanted by a plan without content", hashes.len())))
    }

    fn pack(&self, _chunk: &Chunk) -> Result<ReadyPack> {
        Err(Error::internal("a plan without content has no packs"))
    }
}

/// The feeding side of one link.
pub(super) struct Feeder {
    pub(super) content: Arc<dyn ContentSource>,
    pub(super) rate: Option<Arc<RateLimit>>,
    pub(super) out: mpsc::Sender<ControllerMessage>,
    /// Bytes sent over this link so far.
    pub(super) sent: watch::Sender<u64>,
}

impl Feeder {
    /// Answers each list of wanted blobs, in order, until the link closes.
    ///
    /// # Errors
    /// When the link takes nothing more.
    pub(super) async fn run(self, mut needs: mpsc::UnboundedReceiver<Vec<ContentHash>>) -> Result<()> {
        while let Some(hashes) = needs.recv().await {
            let content = Arc::clone(&self.content);
            let list = hashes.clone();
            match blocking(move || content.chunks(&list)).await {
                Ok(chunks) => {
                    for chunk in chunks {
                        self.send_chunk(chunk).await?;
                    }
                }
                Err(error) => self.cannot_send(hashes, &error).await?,
            }
        }
        Ok(())
    }

    async fn send_chunk(&self, chunk: Chunk) -> Result<()> {
        let content = Arc::clone(&self.content);
        let hashes = chunk.blobs.iter().map(|(hash, _)| *hash).collect();
        let pack = match blocking(move || content.pack(&chunk)).await {
            Ok(pack) => pack,
            Err(error) => return self.cannot_send(hashes, &error).await,
        };
        let mut left = pack.header.packed;
        let mut bytes = pack.bytes;
        self.say(ControllerMessage::Pack(pack.header)).await?;
        while left > 0 {
            let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let (rest, piece) = blocking(move || {
                let mut piece = vec![0; size];
                bytes.read_exact(&mut piece).map_err(|e| Error::io("read a pack", &e))?;
                Ok((bytes, piece))
            })
            .await?;
            bytes = rest;
            left -= size as u64;
            if let Some(rate) = &self.rate {
                rate.take(size as u64).await;
            }
            self.say(ControllerMessage::PackBytes(piece)).await?;
            self.sent.send_modify(|n| *n += size as u64);
        }
        Ok(())
    }

    async fn cannot_send(&self, hashes: Vec<ContentHash>, error: &Error) -> Result<()> {
        let json = serde_json::to_string(error).map_err(|e| Error::internal("cannot write an error").because(e))?;
        self.say(ControllerMessage::CannotSend { hashes, json }).await
    }

    async fn say(&self, message: ControllerMessage) -> Result<()> {
        self.out.send(message).await.map_err(|_| super::closed())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal("a thread that reads content broke off").because(e))?
}
