//! Moves bytes between a program in a shell and a stream.
//!
//! WinRM knows requests and answers only: what the program writes has to be asked for, and the answer waits until there is
//! something. Over one connection nothing could be sent meanwhile, so a link has two, each logged on by itself, with one
//! session's name on both: the *ear* asks for output, the *mouth* sends input.
//!
//! An answer that was lost is not asked for again: the service has given its bytes away, and would go on behind them. The
//! stream ends instead, and the link that follows it makes up for what is missing, by the numbers of the agent's events.

use super::super::lines;
use super::super::piped::{End, PipedStream, Shared};
use super::clixml;
use super::connection::Connection;
use super::endpoint::Endpoint;
use super::shells::InUse;
use super::soap::{CommandId, LARGEST_ANSWER, Request, bytes_in};
use crate::error::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::time::timeout;
use tracing::Instrument as _;

/// Bytes that wait between the connections and the stream, in each direction.
const PIPE: usize = 512 * 1024;

/// How long the service waits for output before it says that there is none.
const POLL: Duration = Duration::from_secs(20);

/// How long taking input may take: a program that does not read holds it up.
const TAKING: Duration = Duration::from_secs(60);

/// How long a program may take to end once its input has ended.
const ENDS_WITHIN: Duration = Duration::from_secs(8);

/// Bytes kept of what a program says on standard error.
const SAID: usize = 256 * 1024;

/// The sizes of message that are tried, the largest first: newer hosts take 500 KB, those before Windows 8 take 150 KB,
/// and an administrator may have set less.
const ENVELOPES: [usize; 4] = [LARGEST_ANSWER, 150 * 1024, 64 * 1024, 16 * 1024];

/// A program that was started.
pub(super) struct Running {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) shell: InUse,
    pub(super) command: CommandId,
}

/// Why nothing more is sent.
enum Silence {
    /// The stream was closed for writing, and the program knows.
    Ended,
    /// The program takes nothing more: it has ended, or its shell.
    NotHeard(String),
    /// The stream is gone.
    Dropped,
    /// The connection broke.
    Lost(String),
}

/// Serves a program's streams over two connections, until it ends, a connection breaks, or the stream is dropped.
pub(super) fn start(ear: Connection, mouth: Connection, running: Running) -> PipedStream {
    let (outer, inner) = tokio::io::duplex(PIPE);
    let shared = Arc::new(Shared::default());
    let serving = serve(ear, mouth, running, inner, Arc::clone(&shared));
    tokio::spawn(serving.instrument(tracing::Span::current()));
    PipedStream::new(outer, shared)
}

async fn serve(mut ear: Connection, mut mouth: Connection, running: Running, inner: DuplexStream, shared: Arc<Shared>) {
    let (mut input, mut output) = tokio::io::split(inner);
    let end = {
        let listening = listen(&mut ear, &running, &mut output);
        tokio::pin!(listening);
        let silence = tokio::select! {
            end = &mut listening => Err(end),
            silence = speak(&mut mouth, &running, &mut input, &shared) => Ok(silence),
        };
        match silence {
            Err(end) => end,
            Ok(Silence::Dropped) => End::Lost("the stream was dropped".into()),
            Ok(Silence::Lost(why)) => End::Lost(why),
            Ok(Silence::Ended) => timeout(ENDS_WITHIN, listening)
                .await
                .unwrap_or_else(|_| End::Lost(format!("the program did not end within {ENDS_WITHIN:?} after its input had"))),
            // How it ended, it says where its output ends.
            Ok(Silence::NotHeard(why)) => timeout(ENDS_WITHIN, listening).await.unwrap_or(End::Lost(why)),
        }
    };
    tracing::debug!(?end, "the program's streams are over");
    let goes_on = matches!(end, End::Lost(_));
    // Said before the pipe is dropped, so that whoever reads finds it.
    let _ = shared.end.set(end);
    drop((input, output));
    let program = goes_on.then_some(&running.command);
    running.shell.close(program, [&mut mouth, &mut ear]).await;
}

/// Takes what the program writes until it has ended.
async fn listen(ear: &mut Connection, running: &Running, output: &mut WriteHalf<DuplexStream>) -> End {
    let mut said = Vec::new();
    let request = Request::Receive { shell: &running.shell.shell, command: &running.command };
    loop {
        let reply = match ear.call(running.shell.session, &request, POLL).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(fault)) if fault.is_only_time() => continue,
            Ok(Err(fault)) => return End::Lost(fault.into_error(request.what()).to_string()),
            Err(e) => return End::Lost(e.to_string()),
        };
        let room = SAID.saturating_sub(said.len());
        said.extend_from_slice(&reply.stderr[..reply.stderr.len().min(room)]);
        if output.write_all(&reply.stdout).await.is_err() {
            return End::Lost("the stream was dropped".into());
        }
        if reply.done {
            let said = lines(clixml::plain(&said).as_bytes());
            return End::Closed { status: reply.exit_code.unwrap_or(0), signal: None, said };
        }
    }
}

/// Sends what is written into the stream until it ends.
async fn speak(mouth: &mut Connection, running: &Running, input: &mut ReadHalf<DuplexStream>, shared: &Shared) -> Silence {
    let mut envelopes = ENVELOPES.iter().copied();
    let mut envelope = LARGEST_ANSWER;
    let mut piece = vec![0; bytes_in(LARGEST_ANSWER)];
    loop {
        let wanted = bytes_in(envelope);
        let read = match input.read(&mut piece[..wanted]).await {
            Ok(read) => read,
            Err(e) => return Silence::Lost(e.to_string()),
        };
        if shared.dropped.load(Ordering::SeqCst) {
            return Silence::Dropped;
        }
        let mut left = &piece[..read];
        loop {
            let (now, later) = left.split_at(left.len().min(bytes_in(envelope)));
            match send(mouth, running, now, read == 0).await {
                Ok(Sent::Taken) => left = later,
                Ok(Sent::TooLarge(why)) => {
                    // Nothing of it was taken.
                    let Some(smaller) = envelopes.find(|size| *size < envelope) else { return Silence::Lost(why) };
                    tracing::debug!(bytes = smaller, "the service takes no message as large as that: smaller ones");
                    envelope = smaller;
                    match Connection::open(&running.endpoint).await {
                        Ok(fresh) => *mouth = fresh,
                        Err(e) => return Silence::Lost(e.to_string()),
                    }
                    continue;
                }
                Ok(Sent::NotHeard(why)) => return Silence::NotHeard(why),
                Err(e) => return Silence::Lost(e.to_string()),
            }
            if left.is_empty() {
                break;
            }
        }
        if read == 0 {
            return Silence::Ended;
        }
    }
}

enum Sent {
    Taken,
    TooLarge(String),
    NotHeard(String),
}

async fn send(mouth: &mut Connection, running: &Running, bytes: &[u8], end: bool) -> Result<Sent> {
    let request = Request::Send { shell: &running.shell.shell, command: &running.command, bytes, end };
    Ok(match mouth.call(running.shell.session, &request, TAKING).await? {
        Ok(_) => Sent::Taken,
        Err(fault) if fault.is_too_large() => Sent::TooLarge(fault.into_error(request.what()).to_string()),
        Err(fault) if fault.is_gone() => Sent::NotHeard(fault.into_error(request.what()).to_string()),
        Err(fault) if fault.is_only_time() => {
            return Err(Error::new(ErrorKind::Unreachable, format!("the program there took no input for {TAKING:?}")));
        }
        Err(fault) => return Err(fault.into_error(request.what())),
    })
}
