//! Going through other hosts: each hop's connection is a channel of the session before it.

use super::super::piped::PipedStream;
use super::connect::{Connected, Limit, connect, meet};
use super::known_hosts::Verdict;
use super::pump::{self, Purpose};
use super::route::{Hop, Route};
use crate::error::{Error, ErrorKind, IoContext, Result};
use ssh_key::PublicKey;
use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// Connections to one server that may be logging on at once. OpenSSH begins to drop them at ten (`MaxStartups`), which
/// matters for a host that all instruments are reached through.
const DOORS: usize = 8;

/// Who may knock at which server.
#[derive(Debug, Default)]
pub(super) struct Doors(Mutex<HashMap<(String, u16), Arc<Semaphore>>>);

impl Doors {
    fn of(&self, hop: &Hop) -> Arc<Semaphore> {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(doors.entry((hop.address.clone(), hop.port)).or_insert_with(|| Arc::new(Semaphore::new(DOORS))))
    }
}

/// Logs on to the last server of a route, through all before it.
///
/// # Errors
/// When one of them cannot be reached or does not let us in; says which.
pub(super) async fn log_on(route: Route, doors: &Doors, instrument: &str, limit: Limit) -> Result<Connected> {
    let Route { mut jumps, last } = route;
    let stream = match jumps.pop() {
        None => None,
        Some(before) => Some(Box::pin(forward(Route { jumps, last: before }, &last, doors, instrument, limit)).await?),
    };
    enter(last, doors, stream, instrument, limit).await
}

/// A connection to `next` from the last server of a route.
///
/// # Errors
/// As [`log_on`], or when that server does not reach `next`.
pub(super) async fn forward(route: Route, next: &Hop, doors: &Doors, instrument: &str, limit: Limit) -> Result<TcpStream> {
    let through = route.last.shown();
    let named = |e: Error| e.context(format!("cannot go through {through}"));
    let connected = log_on(route, doors, instrument, limit).await.map_err(named)?;
    let (host, port) = (next.address.clone(), next.port);
    let forwarded = on_thread("ssh jump", move || {
        limit.arm(&connected.session, "going through a host")?;
        pump::start(connected, &Purpose::Forward { host: &host, port })
    });
    socket_of(forwarded.await.map_err(named)?)
}

async fn enter(hop: Hop, doors: &Doors, stream: Option<TcpStream>, instrument: &str, limit: Limit) -> Result<Connected> {
    let door = doors.of(&hop);
    let instrument = instrument.to_owned();
    let _place = door.acquire().await.map_err(|e| Error::internal("a door was closed").because(e))?;
    on_thread("ssh connect", move || connect(&hop, stream, &instrument, limit)).await
}

/// Looks at the key of a server without logging on to it.
///
/// # Errors
/// When it cannot be reached, or is no SSH server.
pub(super) async fn look(hop: &Hop, doors: &Doors, stream: Option<TcpStream>, limit: Limit) -> Result<(PublicKey, Verdict)> {
    let door = doors.of(hop);
    let hop = hop.clone();
    let _place = door.acquire().await.map_err(|e| Error::internal("a door was closed").because(e))?;
    on_thread("ssh host key", move || meet(&hop, stream, limit).map(|(_, key, verdict)| (key, verdict))).await
}

/// libssh2 needs a socket of the system: a pair of them on this machine, with a task that moves what comes.
fn socket_of(mut stream: PipedStream) -> Result<TcpStream> {
    let what = || "make a connection inside this machine";
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).cannot(what)?;
    let ours = TcpStream::connect(listener.local_addr().cannot(what)?).cannot(what)?;
    let (theirs, from) = listener.accept().cannot(what)?;
    if from != ours.local_addr().cannot(what)? {
        return Err(Error::new(ErrorKind::Refused, "another program of this machine came in between"));
    }
    theirs.set_nonblocking(true).cannot(what)?;
    theirs.set_nodelay(true).cannot(what)?;
    ours.set_nodelay(true).cannot(what)?;
    let mut theirs = tokio::net::TcpStream::from_std(theirs).cannot(what)?;
    tokio::spawn(async move {
        // Either side may break; the session that runs through it notices and says so.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut theirs).await;
    });
    Ok(ours)
}

/// Runs what blocks on a thread of its own: one that is given up must not hold up the end of the program.
pub(super) async fn on_thread<T: Send + 'static>(name: &str, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (done, result) = oneshot::channel();
    let span = tracing::Span::current();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody waits any more when it was given up.
            let _ = done.send(span.in_scope(work));
        })
        .cannot(|| "start a thread for SSH")?;
    result.await.map_err(|_| Error::internal("a thread for SSH broke off"))?
}
