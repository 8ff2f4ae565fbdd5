//! Moves bytes between a channel and a stream, on a thread of its own for each session.
//!
//! libssh2 is not made for asynchronous use, and a session must only ever be in one call at a time. So one thread owns it,
//! without blocking calls, and waits for the socket or for the stream. The two meet in a pipe of tokio's, whose end here
//! is polled by hand with a waker that wakes the thread; the pipe's size is the back-pressure.
//!
//! Rules that libssh2 sets, each of which was met as a fault:
//! - A write that could not be finished has its packet encrypted already: the same bytes are offered again before anything
//!   else of ours is sent (`up` keeps them).
//! - A read may be half through sending a window adjustment, so it must be repeatable: it is begun only while `down` has
//!   room for what it may give.
//! - Standard error shares the window with standard output; unread, it stops both.
//! - What lies in libssh2's own queue does not make the socket readable: everything is read before waiting.
//! - Waiting for the socket to be writable is right only when libssh2 says that it wants to send.

use super::super::lines;
use super::super::piped::{End, PipedStream, Shared};
use super::connect::{Connected, KEEPALIVE, words};
use crate::error::{Error, IoContext, Result};
use polling::{Event, Events, Poller};
use ssh2::{BlockDirections, Channel, Session};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Bytes that wait between the thread and the stream, in each direction.
const PIPE: usize = 512 * 1024;
/// Bytes handed to or taken from libssh2 at a time: several packets, so that the pipe is not woken for each.
const CHUNK: usize = 128 * 1024;
/// Bytes that the far side may send before it waits for us.
const WINDOW: u32 = 2 << 20;
const PACKET: u32 = 32 * 1024;
/// Bytes kept of what the far side says on standard error.
const SAID: usize = 8 * 1024;
/// A connection on which nothing comes for this long, although it was asked, is dead.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// How long the far side may take to close a channel that is over.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);
/// While closing, how often it is looked.
const CLOSING_TICK: Duration = Duration::from_millis(100);

/// libssh2's "try again".
const EAGAIN: i32 = -37;

/// What a channel is opened for.
pub(super) enum Purpose<'a> {
    /// A program that the far side's shell starts.
    Command(&'a str),
    /// A connection from there to another host.
    Forward { host: &'a str, port: u16 },
}

/// Opens a channel and starts the thread that serves it. The session may block until then, within its own limit.
///
/// # Errors
/// When the server opens no channel.
pub(super) fn start(connected: Connected, purpose: &Purpose<'_>) -> Result<PipedStream> {
    let channel = open(&connected.session, purpose)?;
    let (outer, inner) = tokio::io::duplex(PIPE);
    let shared = Arc::new(Shared::default());
    let pump = Pump::new(connected, channel, inner, Arc::clone(&shared)).cannot(|| "wait on an SSH connection")?;
    let span = tracing::Span::current();
    let serve = move || span.in_scope(|| pump.serve());
    std::thread::Builder::new().name("ssh".to_owned()).spawn(serve).cannot(|| "start a thread for SSH")?;
    Ok(PipedStream::new(outer, shared))
}

fn open(session: &Session, purpose: &Purpose<'_>) -> Result<Channel> {
    let opened = match purpose {
        Purpose::Command(command) => session.channel_open("session", WINDOW, PACKET, None).and_then(|mut channel| {
            tracing::debug!(command, "starting");
            channel.exec(command).map(|()| channel)
        }),
        Purpose::Forward { host, port } => {
            tracing::debug!(host, port, "going through");
            session.channel_direct_tcpip(host, *port, None)
        }
    };
    opened.map_err(|e| {
        let what = match purpose {
            Purpose::Command(_) => "the server starts no program".to_owned(),
            Purpose::Forward { host, port } => format!("the host that is gone through does not reach {host}:{port}"),
        };
        let next = match purpose {
            Purpose::Command(_) => "the account there may only be let in for other things (ForceCommand, no shell)",
            Purpose::Forward { .. } => "see whether it may forward connections (AllowTcpForwarding), and knows that host",
        };
        Error::new(crate::error::ErrorKind::Unreachable, what).because(words(&e)).next(next)
    })
}

/// Wakes the thread when the stream has or takes something.
struct Ring(Arc<Poller>);

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Where it fails, the thread finds out at its next tick.
        let _ = self.0.notify();
    }
}

/// Bytes on their way: `buffer[from..to]`.
struct Chunk {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Chunk {
    fn new() -> Self {
        Self { buffer: vec![0; CHUNK], from: 0, to: 0 }
    }

    fn is_empty(&self) -> bool {
        self.from == self.to
    }

    fn clear(&mut self) {
        (self.from, self.to) = (0, 0);
    }

    fn waiting(&self) -> &[u8] {
        &self.buffer[self.from..self.to]
    }
}

struct Pump {
    session: Session,
    channel: Channel,
    socket: TcpStream,
    poller: Arc<Poller>,
    pipe: DuplexStream,
    shared: Arc<Shared>,
    /// From the stream to the channel.
    up: Chunk,
    /// The stream says no more.
    up_ended: bool,
    /// The far side was told so.
    eof_sent: bool,
    /// From the channel to the stream.
    down: Chunk,
    /// The far side says no more.
    down_ended: bool,
    /// The stream was dropped.
    gone: bool,
    said: Vec<u8>,
}

impl Pump {
    fn new(connected: Connected, channel: Channel, pipe: DuplexStream, shared: Arc<Shared>) -> io::Result<Self> {
        let Connected { session, socket } = connected;
        session.set_blocking(false);
        socket.set_nonblocking(true)?;
        let poller = Arc::new(Poller::new()?);
        // SAFETY: the socket outlives its registration: `serve` deletes it before the pump, which owns both, is dropped.
        unsafe { poller.add(&socket, Event::none(0))? };
        Ok(Self {
            session,
            channel,
            socket,
            poller,
            pipe,
            shared,
            up: Chunk::new(),
            up_ended: false,
            eof_sent: false,
            down: Chunk::new(),
            down_ended: false,
            gone: false,
            said: Vec::new(),
        })
    }

    /// Serves the channel to its end.
    fn serve(mut self) {
        let end = self.run().unwrap_or_else(|e| End::Lost(format!("the SSH connection broke: {e}")));
        tracing::debug!(?end, "an SSH channel ended");
        // Set before the pipe goes, so that whoever reads its end finds out why.
        let _ = self.shared.end.set(end);
        // Nothing is left to be waited for, and the session must not wait for the far side when it is dropped.
        let _ = self.poller.delete(&self.socket);
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn run(&mut self) -> io::Result<End> {
        let waker = Waker::from(Arc::new(Ring(Arc::clone(&self.poller))));
        let mut cx = Context::from_waker(&waker);
        let mut events = Events::new();
        let mut heard = Instant::now();
        let mut closing: Option<Instant> = None;
        loop {
            while self.move_up(&mut cx)? | self.move_down(&mut cx)? {}
            self.gone |= self.shared.dropped.load(Ordering::SeqCst);
            if self.gone || self.is_over() {
                let end = *closing.get_or_insert_with(|| Instant::now() + CLOSES_WITHIN);
                if self.is_over() && self.close()? {
                    return Ok(self.ended());
                }
                if Instant::now() > end {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the far side does not close the channel"));
                }
            }
            // Its answer makes the socket readable, which is all one sees of it.
            let _ = self.session.keepalive_send();
            if heard.elapsed() > DEAD_AFTER {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing was heard for {DEAD_AFTER:?}")));
            }
            // When nothing can be taken, waiting for the socket would not wait: then only the stream can wake.
            let readable = self.down.is_empty() || !self.up.is_empty() || self.gone;
            let writable = matches!(self.session.block_directions(), BlockDirections::Outbound | BlockDirections::Both);
            self.poller.modify(&self.socket, Event::new(0, readable, writable))?;
            events.clear();
            self.poller.wait(&mut events, Some(if closing.is_some() { CLOSING_TICK } else { KEEPALIVE / 2 }))?;
            if !readable || events.iter().any(|event| event.readable) {
                heard = Instant::now();
            }
        }
    }

    /// The far side said all it had to say, or nobody listens any more; and ours was said.
    fn is_over(&self) -> bool {
        (self.gone && self.eof_sent) || (self.down_ended && self.down.is_empty())
    }

    /// From the stream to the channel; true when something moved.
    fn move_up(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.up.is_empty() && !self.up_ended {
            let mut buffer = ReadBuf::new(&mut self.up.buffer);
            match Pin::new(&mut self.pipe).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => read?,
                Poll::Pending => return Ok(false),
            }
            (self.up.from, self.up.to) = (0, buffer.filled().len());
            self.up_ended = self.up.is_empty();
        }
        if !self.up.is_empty() {
            return match self.channel.write(self.up.waiting()) {
                Ok(written) => {
                    self.up.from += written;
                    Ok(written > 0)
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
                // The program there has ended: what is still said to it goes nowhere.
                Err(_) if self.channel.eof() => {
                    self.up.clear();
                    (self.up_ended, self.eof_sent) = (true, true);
                    Ok(true)
                }
                Err(e) => Err(e),
            };
        }
        if self.up_ended && !self.eof_sent {
            match self.channel.send_eof() {
                Err(e) if is_again(&e) => return Ok(false),
                Err(e) if !self.channel.eof() => return Err(e.into()),
                _ => self.eof_sent = true,
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// From the channel to the stream; true when something moved.
    fn move_down(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = self.take_said()?;
        if self.down.is_empty() && !self.down_ended {
            self.fill_down()?;
            moved |= self.down_ended;
        }
        while !self.down.is_empty() {
            if self.gone {
                self.down.clear();
                return Ok(true);
            }
            match Pin::new(&mut self.pipe).poll_write(cx, &self.down.buffer[self.down.from..self.down.to]) {
                Poll::Ready(Ok(written)) => {
                    self.down.from += written;
                    moved = true;
                }
                // Nobody listens any more; what still comes is taken, so that the channel can end.
                Poll::Ready(Err(_)) => self.gone = true,
                Poll::Pending => return Ok(moved),
            }
        }
        Ok(moved)
    }

    fn fill_down(&mut self) -> io::Result<()> {
        self.down.clear();
        while self.down.to < CHUNK {
            match self.channel.read(&mut self.down.buffer[self.down.to..]) {
                Ok(0) => {
                    self.down_ended = self.channel.eof();
                    break;
                }
                Ok(read) => self.down.to += read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn take_said(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        let mut moved = false;
        loop {
            match self.channel.stderr().read(&mut buffer) {
                Ok(0) => return Ok(moved),
                Ok(read) => {
                    self.said.extend_from_slice(&buffer[..read]);
                    let surplus = self.said.len().saturating_sub(SAID);
                    self.said.drain(..surplus);
                    moved = true;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                Err(e) => return Err(e),
            }
        }
    }

    /// True when the channel is closed on both sides.
    fn close(&mut self) -> io::Result<bool> {
        for step in [Channel::close, Channel::wait_close] {
            match step(&mut self.channel) {
                Ok(()) => {}
                Err(e) if is_again(&e) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }

    fn ended(&self) -> End {
        End::Closed {
            status: self.channel.exit_status().unwrap_or(-1),
            signal: self.channel.exit_signal().ok().and_then(|signal| signal.exit_signal),
            said: lines(&self.said),
        }
    }
}

fn is_again(e: &ssh2::Error) -> bool {
    e.code() == ssh2::ErrorCode::Session(EAGAIN)
}
