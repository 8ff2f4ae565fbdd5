//! A TCP proxy that makes links fail on purpose.

use super::PATIENCE;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// How a connection ends for both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// FIN: as if the other side had closed it.
    Close,
    /// RST: what is on its way is lost.
    Reset,
}

/// What has gone through so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connections that were taken.
    pub(crate) accepted: u64,
    /// Connections that are open now.
    pub(crate) open: usize,
    /// Connections that the proxy ended.
    pub(crate) cut: u64,
    pub(crate) to_server: u64,
    pub(crate) to_client: u64,
}

/// What becomes of a connection that has carried its bytes.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Ends(Cut),
    /// As by [`FaultProxy::abandon`].
    Abandoned,
}

/// A fault that waits for bytes.
#[derive(Debug, Clone, Copy)]
struct Planned {
    way: Way,
    after: u64,
    fate: Fate,
    /// For every connection, counted from its begin; else for the one that brings the number full.
    each: bool,
}

#[derive(Debug, Clone, Default)]
struct Rules {
    delay: Duration,
    /// Bytes a second, of each connection and direction.
    rate: Option<u64>,
    frozen: bool,
    /// Connections up to this number are never served again.
    abandoned: u64,
    /// Connections up to this number are cut.
    cut_now: Option<(u64, Cut)>,
    planned: Option<Planned>,
}

/// Whether new connections are taken, and who waits for it to be so.
type Door = (bool, mpsc::Sender<()>);

/// Forwards a port of 127.0.0.1 to another one. All is forwarded as it comes until a test says otherwise; a wish counts
/// from when its function returns, but for a piece of data that is being written just then.
pub(crate) struct FaultProxy {
    port: u16,
    rules: Arc<watch::Sender<Rules>>,
    tally: Arc<Tally>,
    door: tokio::sync::mpsc::UnboundedSender<Door>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultProxy {
    /// A proxy to a port of this machine, on a free one.
    pub(crate) fn to(port: u16) -> Self {
        let rules = Arc::new(watch::Sender::new(Rules::default()));
        let tally = Arc::new(Tally::default());
        let (stop, stopped) = oneshot::channel();
        let (door, doors) = tokio::sync::mpsc::unbounded_channel();
        let (tell, told) = mpsc::channel();
        let (shared, counted) = (rules.clone(), tally.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                // Bound and never listening: it keeps the port ours while new connections are refused.
                let keeper = bound(0).expect("a free port");
                let own = keeper.local_addr().expect("its address").port();
                let listener = listen(own).expect("the port can be listened on");
                tell.send(own).expect("the test waits");
                let server = SocketAddr::from(([127, 0, 0, 1], port));
                tokio::select! {
                    _ = stopped => {}
                    () = serve(own, Some(listener), server, doors, &shared, &counted) => {}
                }
            });
        });
        let own = told.recv_timeout(PATIENCE).expect("the proxy listens");
        Self { port: own, rules, tally, door, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Every piece of data (16 KiB at most) is held back this long, either way.
    pub(crate) fn delay(&self, each_chunk: Duration) {
        self.rules.send_modify(|r| r.delay = each_chunk);
    }

    /// Bytes a second for each connection and direction.
    pub(crate) fn limit_rate(&self, bytes_a_second: Option<u64>) {
        self.rules.send_modify(|r| r.rate = bytes_a_second);
    }

    /// Cuts one connection, once: the one that brings the bytes from now on, over all connections, to this number.
    pub(crate) fn cut_after(&self, way: Way, bytes: u64, how: Cut) {
        self.plan(Planned { way, after: bytes, fate: Fate::Ends(how), each: false });
    }

    /// Half open for good, once: the connection that brings the bytes from now on, over all connections, to this number,
    /// and those before it. Later ones are served.
    pub(crate) fn abandon_after(&self, way: Way, bytes: u64) {
        self.plan(Planned { way, after: bytes, fate: Fate::Abandoned, each: false });
    }

    /// Cuts every connection after its first bytes, until [`FaultProxy::cut_no_more`].
    pub(crate) fn cut_each_after(&self, way: Way, bytes: u64, how: Cut) {
        self.plan(Planned { way, after: bytes, fate: Fate::Ends(how), each: true });
    }

    fn plan(&self, planned: Planned) {
        self.rules.send_modify(|r| r.planned = Some(planned));
    }

    /// True while a fault waits for bytes.
    pub(crate) fn is_waiting_for_bytes(&self) -> bool {
        self.rules.borrow().planned.is_some()
    }

    /// No connection is cut any more for the bytes it brings.
    pub(crate) fn cut_no_more(&self) {
        self.rules.send_modify(|r| r.planned = None);
    }

    /// Cuts all connections that are open.
    pub(crate) fn cut_now(&self, how: Cut) {
        let all = self.counts().accepted;
        self.rules.send_modify(|r| r.cut_now = Some((all, how)));
        self.tally.wait("the end of all connections", |_, open| open.first().is_none_or(|oldest| *oldest > all));
    }

    /// Half open: connections stay, and new ones are taken, but nothing goes through, not even an end.
    pub(crate) fn freeze(&self) {
        self.rules.send_modify(|r| r.frozen = true);
    }

    pub(crate) fn thaw(&self) {
        self.rules.send_modify(|r| r.frozen = false);
    }

    /// Half open for good: nothing goes through the connections that are open now. New ones are served.
    pub(crate) fn abandon(&self) {
        let all = self.counts().accepted;
        self.rules.send_modify(|r| r.abandoned = all);
    }

    /// New connections are refused, as by a machine whose server does not run. Open ones stay.
    pub(crate) fn refuse(&self) {
        self.set_door(false);
    }

    /// New connections are taken again.
    pub(crate) fn accept(&self) {
        self.set_door(true);
    }

    fn set_door(&self, open: bool) {
        let (done, is_done) = mpsc::channel();
        self.door.send((open, done)).expect("the proxy runs");
        is_done.recv_timeout(PATIENCE).expect("the proxy does it");
    }

    pub(crate) fn counts(&self) -> Counts {
        self.tally.lock().0
    }

    /// Waits until the counts are as wanted.
    pub(crate) fn wait_until(&self, what: &str, fits: impl Fn(&Counts) -> bool) -> Counts {
        self.tally.wait(what, |counts, _| fits(counts))
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // It may have ended by itself, of a mistake that the test has told of.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The counts, and the numbers of the connections that are open.
#[derive(Default)]
struct Tally {
    state: Mutex<(Counts, BTreeSet<u64>)>,
    changed: Condvar,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, (Counts, BTreeSet<u64>)> {
        self.state.lock().expect("no panic while counting")
    }

    fn change<T>(&self, change: impl FnOnce(&mut Counts, &mut BTreeSet<u64>) -> T) -> T {
        let mut state = self.lock();
        let (counts, open) = &mut *state;
        let result = change(counts, open);
        counts.open = open.len();
        self.changed.notify_all();
        result
    }

    fn wait(&self, what: &str, fits: impl Fn(&Counts, &BTreeSet<u64>) -> bool) -> Counts {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lock();
        while !fits(&state.0, &state.1) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {PATIENCE:?}, with {:?}", state.0);
            state = self.changed.wait_timeout(state, left).expect("no panic while counting").0;
        }
        state.0
    }
}

fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    Ok(socket)
}

fn listen(port: u16) -> io::Result<TcpListener> {
    bound(port)?.listen(128)
}

async fn serve(
    port: u16,
    mut listener: Option<TcpListener>,
    server: SocketAddr,
    mut doors: tokio::sync::mpsc::UnboundedReceiver<Door>,
    rules: &Arc<watch::Sender<Rules>>,
    tally: &Arc<Tally>,
) {
    loop {
        tokio::select! {
            door = doors.recv() => {
                let Some((open, done)) = door else { return };
                listener = if open { Some(listener.unwrap_or_else(|| listen(port).expect("its own port"))) } else { None };
                // The test waits, or has given up.
                let _ = done.send(());
            }
            // A client that has given up already is none.
            taken = accept(listener.as_ref()) => if let Ok((client, _)) = taken {
                let number = tally.change(|counts, open| {
                    counts.accepted += 1;
                    open.insert(counts.accepted);
                    counts.accepted
                });
                let connection = Connection { number, rules: rules.clone(), tally: tally.clone() };
                tokio::spawn(connection.carry(client, server));
            },
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

struct Connection {
    /// From 1.
    number: u64,
    rules: Arc<watch::Sender<Rules>>,
    tally: Arc<Tally>,
}

impl Connection {
    async fn carry(self, client: TcpStream, server: SocketAddr) {
        let cut = self.serve(client, server).await.is_ok_and(|cut| cut.is_some());
        self.tally.change(|counts, open| {
            open.remove(&self.number);
            counts.cut += u64::from(cut);
        });
    }

    /// To the end of the connection: the sockets are closed when this returns.
    async fn serve(&self, mut client: TcpStream, server: SocketAddr) -> io::Result<Option<Cut>> {
        match TcpStream::connect(server).await {
            Ok(mut server) => self.between(&mut client, &mut server).await,
            // As the server would have done.
            Err(_) => client.set_zero_linger().map(|()| None),
        }
    }

    /// Until both sides have ended, or it is cut.
    async fn between(&self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<Option<Cut>> {
        for stream in [&*client, &*server] {
            stream.set_nodelay(true)?;
        }
        let cut = {
            let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
            let both = async {
                tokio::try_join!(
                    self.pump(from_client, to_server, Way::ToServer),
                    self.pump(from_server, to_client, Way::ToClient)
                )
            };
            tokio::select! {
                done = both => done.err(),
                how = self.cut_asked() => Some(how),
            }
        };
        if let Some(how) = cut {
            end(how, client)?;
            end(how, server)?;
        }
        Ok(cut)
    }

    /// Forwards one direction to its end, or until it is to be cut. A side that was reset resets the other one.
    async fn pump(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, way: Way) -> Result<(), Cut> {
        let mut rules = self.rules.subscribe();
        let mut buffer = vec![0; 16 * 1024];
        let mut carried = 0;
        loop {
            self.until_served(&mut rules).await;
            // Small pieces make an even stream of a low rate.
            let size = rules.borrow().rate.map_or(buffer.len(), |r| usize::try_from(r / 50).unwrap_or(1).clamp(1, buffer.len()));
            let read = tokio::select! {
                read = from.read(&mut buffer[..size]) => read.map_err(|_| Cut::Reset)?,
                // Perhaps nothing is to be read any more.
                _ = rules.changed() => continue,
            };
            let (delay, rate) = {
                let now = rules.borrow();
                (now.delay, now.rate)
            };
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            self.until_served(&mut rules).await;
            if read == 0 {
                return to.shutdown().await.map_err(|_| Cut::Reset);
            }
            let (pass, cut) = self.allow(way, carried, read);
            to.write_all(&buffer[..pass]).await.map_err(|_| Cut::Reset)?;
            carried += pass as u64;
            self.tally.change(|counts, _| match way {
                Way::ToServer => counts.to_server += pass as u64,
                Way::ToClient => counts.to_client += pass as u64,
            });
            if let Some(how) = cut {
                return Err(how);
            }
            if let Some(rate) = rate {
                tokio::time::sleep(Duration::from_secs_f64(pass as f64 / rate.max(1) as f64)).await;
            }
        }
    }

    /// While it is half open: without end.
    async fn until_served(&self, rules: &mut watch::Receiver<Rules>) {
        // The proxy keeps the other end as long as there are connections.
        let _ = rules.wait_for(|r| !r.frozen && r.abandoned < self.number).await;
    }

    async fn cut_asked(&self) -> Cut {
        let mut rules = self.rules.subscribe();
        let asked = |r: &Rules| r.cut_now.filter(|(up_to, _)| self.number <= *up_to).map(|(_, how)| how);
        match rules.wait_for(|r| asked(r).is_some()).await.ok().and_then(|r| asked(&r)) {
            Some(how) => how,
            None => std::future::pending().await,
        }
    }

    /// How many of `count` bytes may pass, and whether the connection ends after them.
    fn allow(&self, way: Way, carried: u64, count: usize) -> (usize, Option<Cut>) {
        let mut verdict = (count, None);
        self.rules.send_if_modified(|rules| {
            let Some(planned) = rules.planned.as_mut().filter(|p| p.way == way) else { return false };
            let left = planned.after.saturating_sub(if planned.each { carried } else { 0 });
            let is_full = count as u64 >= left;
            let (fate, each) = (planned.fate, planned.each);
            if is_full {
                verdict.0 = usize::try_from(left).unwrap_or(count);
            }
            if !each {
                planned.after -= verdict.0 as u64;
            }
            if !is_full {
                return false;
            }
            match fate {
                Fate::Ends(how) => verdict.1 = Some(how),
                // What has come beyond those bytes is never forwarded, so that it may be dropped.
                Fate::Abandoned => rules.abandoned = self.number,
            }
            if !each {
                rules.planned = None;
            }
            true
        });
        verdict
    }
}

/// How a socket shall end when it is closed.
fn end(how: Cut, stream: &TcpStream) -> io::Result<()> {
    match how {
        Cut::Reset => stream.set_zero_linger(),
        Cut::Close => drain(stream),
    }
}

/// Reads what has come: a socket that is closed with unread data is reset instead.
fn drain(stream: &TcpStream) -> io::Result<()> {
    let mut unread = [0; 16 * 1024];
    loop {
        match stream.try_read(&mut unread) {
            Ok(1..) => {}
            Ok(0) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}
