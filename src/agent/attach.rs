//! `attach`: relays between standard input and output and the worker's socket, and starts the worker when none runs.

use super::detach;
use super::home::Home;
use super::worker::GREETING;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::protocol::STREAM_MARK;
use interprocess::local_socket::Name;
use interprocess::local_socket::tokio::{Stream, prelude::*};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

/// How long it may take until a worker answers.
const START: Duration = Duration::from_secs(20);

/// A worker that was started and does not answer after this is started once more.
const START_AGAIN: Duration = Duration::from_secs(3);

/// How long what the worker still says is passed on after standard input has ended.
const DRAIN: Duration = Duration::from_secs(5);

/// Bytes that go from one side to the other in one piece.
const RELAYED_AT_ONCE: usize = 256 * 1024;

/// The name of a home's socket.
///
/// # Errors
/// When the system cannot have it.
#[cfg(unix)]
pub(super) fn socket_name(home: &Home) -> Result<Name<'static>> {
    use interprocess::local_socket::{GenericFilePath, ToFsName};
    home.socket().to_fs_name::<GenericFilePath>().cannot(|| format!("name the socket {}", home.socket().display()))
}

/// The name of a home's pipe.
///
/// # Errors
/// When the system cannot have it.
#[cfg(windows)]
pub(super) fn socket_name(home: &Home) -> Result<Name<'static>> {
    use interprocess::local_socket::{GenericNamespaced, ToNsName};
    let folder = home.folder().to_string_lossy().to_lowercase();
    let name: String = folder.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("ibexdeploy-{name}").to_ns_name::<GenericNamespaced>().cannot(|| "name the worker's pipe")
}

/// Connects this process's standard input and output to the worker of the home below `root`.
///
/// # Errors
/// When no worker can be started or reached.
pub fn attach(root: Option<&Path>) -> Result<()> {
    let home = Home::open(root)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .cannot(|| "start the threads of attach")?;
    let relayed = runtime.block_on(async {
        begin_stream().await?;
        relay(connect(&home).await?).await
    });
    // Not a plain return: dropping the runtime would wait for a read of standard input that may never end.
    runtime.shutdown_background();
    relayed
}

/// Says that an agent's stream begins here: a login shell may have written before.
async fn begin_stream() -> Result<()> {
    let mut out = tokio::io::stdout();
    out.write_all(STREAM_MARK).await.cannot(|| "write to standard output")?;
    out.flush().await.cannot(|| "write to standard output")
}

async fn connect(home: &Home) -> Result<Stream> {
    let end = Instant::now() + START;
    let mut started: Option<Instant> = None;
    let mut pause = Duration::from_millis(5);
    loop {
        let problem = match tokio::time::timeout(START_AGAIN, greeted(home)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(problem)) => problem,
            Err(_) => Error::new(ErrorKind::Unreachable, "the worker took the connection and did not answer"),
        };
        if Instant::now() > end {
            return Err(problem
                .context(format!("no worker answers within {} s", START.as_secs()))
                .next(format!("look into {}; `ibexdeploy unlock` ends a wedged worker", home.worker_log().display())));
        }
        if started.is_none_or(|at| at.elapsed() > START_AGAIN) {
            detach::start_worker(home)?;
            started = Some(Instant::now());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// A connection to a worker that will serve it, and not one that is about to end.
async fn greeted(home: &Home) -> Result<Stream> {
    let what = || format!("connect to {}", home.socket().display());
    let mut stream = Stream::connect(socket_name(home)?).await.cannot(what)?;
    #[cfg(windows)]
    super::pipe::check_owner(&stream)?;
    let greeting = stream.read_u8().await.cannot(what)?;
    if greeting != GREETING {
        return Err(Error::new(ErrorKind::Protocol, format!("what listens on {} is no worker", home.socket().display())));
    }
    Ok(stream)
}

async fn relay(stream: Stream) -> Result<()> {
    let (mut from_worker, mut to_worker) = tokio::io::split(stream);
    let mut down = tokio::spawn(async move {
        let mut out = tokio::io::stdout();
        let mut buffer = vec![0; RELAYED_AT_ONCE];
        loop {
            let read = from_worker.read(&mut buffer).await?;
            if read == 0 {
                return Ok::<_, std::io::Error>(());
            }
            out.write_all(&buffer[..read]).await?;
            out.flush().await?;
        }
    });
    let mut up = tokio::spawn(async move {
        // Standard input is read on another thread: what is handed over at a time had better be much.
        let mut input = BufReader::with_capacity(RELAYED_AT_ONCE, tokio::io::stdin());
        tokio::io::copy_buf(&mut input, &mut to_worker).await?;
        Ok::<_, std::io::Error>(to_worker)
    });
    let broken = |e: &dyn std::fmt::Display| Error::new(ErrorKind::Unreachable, "the connection to the worker broke").because(e);
    tokio::select! {
        ended = &mut down => ended.map_err(|e| broken(&e))?.map_err(|e| broken(&e)),
        ended = &mut up => {
            let mut to_worker = ended.map_err(|e| broken(&e))?.map_err(|e| broken(&e))?;
            // An empty frame says so: named pipes have no half-closed state. The worker may be gone already.
            let _ = to_worker.write_all(&0_u32.to_be_bytes()).await;
            let _ = to_worker.flush().await;
            let _ = tokio::time::timeout(DRAIN, down).await;
            Ok(())
        }
    }
}
