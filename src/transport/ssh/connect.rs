//! From a host's name to a session that is logged on, on a thread that may block.

use super::auth;
use super::known_hosts::{KnownHosts, Verdict, refusal};
use super::route::Hop;
use crate::error::{Error, ErrorKind, Result};
use ssh_key::{Algorithm, HashAlg, PublicKey};
use ssh2::{MethodType, Session};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// In this order: what the processors of both ends do in hardware first.
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr";

/// The kinds of host key, the best first; known ones go before these.
const HOST_KEYS: [&str; 6] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256"];

/// How often the other end is asked whether it is there, so that nothing on the way forgets the connection.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(10);

/// What libssh2 says when its time was over.
pub(super) const TIMEOUT: i32 = -9;

/// An error of libssh2 without its number, which says nothing to people.
pub(super) fn words(e: &ssh2::Error) -> &str {
    match e.message() {
        // The one word of SFTP for nearly everything.
        "failure" => SAYS_FAILURE,
        message => message,
    }
}

/// When a disk is full or read-only, for example.
pub(super) const SAYS_FAILURE: &str = "its SFTP server says no more than `failure`";

/// The end of a wait, and how long it is in all, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    end: Instant,
    total: Duration,
}

impl Limit {
    pub(super) fn of(total: Duration) -> Self {
        Self { end: Instant::now() + total, total }
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Lets the session's next call block no longer than is left. libssh2 measures each call by itself, so this goes
    /// before each.
    ///
    /// # Errors
    /// When nothing is left.
    pub(super) fn arm(&self, session: &Session, what: &str) -> Result<()> {
        let left = self.left().as_millis();
        if left == 0 {
            return Err(self.over(what));
        }
        session.set_timeout(u32::try_from(left).unwrap_or(u32::MAX));
        Ok(())
    }

    /// The error of a wait that took too long.
    pub(super) fn over(&self, what: &str) -> Error {
        Error::new(ErrorKind::Unreachable, format!("{what} took longer than {:?}", self.total))
            .next("see whether the machine is overloaded, or a firewall swallows what is sent; `timeout:` gives it longer")
    }
}

/// A session that is logged on.
pub(super) struct Connected {
    pub(super) session: Session,
    /// The same connection, for waiting on it and for breaking it off.
    pub(super) socket: TcpStream,
}

/// Opens the connection itself.
///
/// # Errors
/// When the name is not known or nobody answers.
fn dial(hop: &Hop, limit: Limit) -> Result<TcpStream> {
    tracing::debug!(host = hop.address, port = hop.port, "connecting");
    let addresses = (hop.address.as_str(), hop.port).to_socket_addrs().map_err(|e| {
        Error::new(ErrorKind::Unreachable, format!("there is no address for the host {}", hop.address))
            .because(e)
            .next("check `host` and `address` in the inventory, and whether this machine's name service works")
    })?;
    let mut problem = None;
    for address in addresses {
        let left = limit.left();
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                tracing::debug!(%address, "connected");
                // Small messages go at once. Where the system does not know the option, they are merely slower.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(e) => {
                tracing::debug!(%address, error = %e, "no connection");
                problem = Some((address, e));
            }
        }
    }
    Err(match problem {
        Some((address, e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            Error::new(ErrorKind::Unreachable, format!("no SSH server listens on {address}"))
                .because(e)
                .next("see whether the machine is up and its service sshd runs, and whether `port` is right")
        }
        Some((address, e)) => Error::new(ErrorKind::Unreachable, format!("cannot connect to {address}"))
            .because(e)
            .next("see whether the machine is on and the network between is well"),
        None => limit.over(&format!("connecting to {}", hop.address)),
    })
}

/// Agrees on keys with the server and looks at who it is; nothing was sent yet that could harm.
///
/// # Errors
/// When it is no SSH server, takes too long, or the key that it shows cannot be read.
fn greet(hop: &Hop, stream: TcpStream, known: &KnownHosts, limit: Limit) -> Result<(Connected, PublicKey)> {
    let what = |e: &dyn std::fmt::Display| Error::internal("cannot make an SSH session").because(e);
    let socket = stream.try_clone().map_err(|e| what(&e))?;
    let mut session = Session::new().map_err(|e| what(&e))?;
    for (method, wanted) in [
        (MethodType::CryptCs, CIPHERS.to_owned()),
        (MethodType::CryptSc, CIPHERS.to_owned()),
        (MethodType::HostKey, host_key_order(&known.algorithms())),
    ] {
        session.method_pref(method, &wanted).map_err(|e| what(&e))?;
    }
    session.set_tcp_stream(stream);
    limit.arm(&session, "the key exchange")?;
    session.handshake().map_err(|e| no_handshake(hop, &session, &e, limit))?;
    let chosen = |method| session.methods(method).unwrap_or("?").to_owned();
    tracing::debug!(
        server = session.banner().unwrap_or("?"),
        kex = chosen(MethodType::Kex),
        host_key = chosen(MethodType::HostKey),
        cipher = chosen(MethodType::CryptCs),
        mac = chosen(MethodType::MacCs),
        "keys are exchanged"
    );
    let shown = session
        .host_key()
        .and_then(|(bytes, _)| PublicKey::from_bytes(bytes).ok())
        .ok_or_else(|| Error::new(ErrorKind::Protocol, format!("{} shows a host key that cannot be read", hop.shown())))?;
    Ok((Connected { session, socket }, shown))
}

fn no_handshake(hop: &Hop, session: &Session, e: &ssh2::Error, limit: Limit) -> Error {
    const DISCONNECT: i32 = -13;
    const BANNER: [i32; 2] = [-2, -3];
    let code = match e.code() {
        ssh2::ErrorCode::Session(code) | ssh2::ErrorCode::SFTP(code) => code,
    };
    let place = format!("{}:{}", hop.address, hop.port);
    // What it said first, whatever that is.
    let greeting = session.banner();
    if code == TIMEOUT || limit.left().is_zero() {
        return match greeting {
            Some(_) => limit.over(&format!("the key exchange with {place}")),
            None => limit.over(&format!("the greeting of {place}")),
        };
    }
    let error = Error::new(ErrorKind::Unreachable, format!("no SSH session with {place}")).because(words(e));
    match code {
        DISCONNECT if !greeting.is_some_and(|said| said.starts_with("SSH-")) => {
            let error = match greeting {
                Some(said) => error.because(format!("it says `{}`", said.chars().take(80).collect::<String>().escape_debug())),
                None => error.because("it says nothing"),
            };
            error.next(
                "what listens there may be no SSH server: see whether `port` is right; or it takes no more connections at once \
                 (MaxStartups), and its own log says so",
            )
        }
        DISCONNECT => error.next("the server closed the connection: its own log says why, perhaps too many came at once"),
        code if BANNER.contains(&code) => {
            error.next("what listens there may be no SSH server: see whether `port` is right").lasting()
        }
        _ => error.next("`ssh -v` to the same place shows what the two ends could not agree on"),
    }
}

/// Known kinds first, so that a server with several keys shows the one that is known.
fn host_key_order(known: &[Algorithm]) -> String {
    let signatures = |kind: &Algorithm| match kind {
        Algorithm::Rsa { .. } => vec!["rsa-sha2-512".to_owned(), "rsa-sha2-256".to_owned()],
        other => vec![other.as_str().to_owned()],
    };
    let mut order: Vec<String> = known.iter().flat_map(signatures).filter(|kind| HOST_KEYS.contains(&kind.as_str())).collect();
    for kind in HOST_KEYS {
        if !order.iter().any(|k| k == kind) {
            order.push(kind.to_owned());
        }
    }
    order.join(",")
}

/// Connects and looks at who answers; nothing is decided by that yet. `stream` is a connection that is open already,
/// through another host.
///
/// # Errors
/// When it cannot be reached, is no SSH server, or the known hosts cannot be read.
pub(super) fn meet(hop: &Hop, stream: Option<TcpStream>, limit: Limit) -> Result<(Connected, PublicKey, Verdict)> {
    let known = KnownHosts::about(&hop.known_as, &hop.known_hosts)?;
    let stream = match stream {
        Some(stream) => stream,
        None => dial(hop, limit)?,
    };
    let (connected, shown) = greet(hop, stream, &known, limit)?;
    let verdict = known.judge(&shown);
    Ok((connected, shown, verdict))
}

/// Connects, checks who answers, and logs on. `stream` is a connection that is open already, through another host.
///
/// # Errors
/// When any of it fails; those that trying again does not help are lasting.
pub(super) fn connect(hop: &Hop, stream: Option<TcpStream>, instrument: &str, limit: Limit) -> Result<Connected> {
    let (connected, shown, verdict) = meet(hop, stream, limit)?;
    tracing::debug!(
        kind = shown.algorithm().as_str(),
        fingerprint = %shown.fingerprint(HashAlg::Sha256),
        %verdict,
        "the server's host key"
    );
    if let Some(error) = refusal(&hop.known_as, &shown, &verdict, instrument) {
        return Err(error);
    }
    debug_assert!(matches!(verdict, Verdict::Known(_)), "only known hosts are logged on to");
    auth::log_on(&connected.session, hop, limit)?;
    let every = u32::try_from(KEEPALIVE.as_secs()).unwrap_or(u32::MAX);
    connected.session.set_keepalive(true, every);
    Ok(connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_kinds_of_host_key_are_asked_for_first() {
        let order = host_key_order(&[Algorithm::Rsa { hash: None }, Algorithm::Ed25519]);
        assert!(order.starts_with("rsa-sha2-512,rsa-sha2-256,ssh-ed25519,ecdsa-sha2-nistp256"), "{order}");
        assert_eq!(order.split(',').count(), HOST_KEYS.len());
    }

    #[test]
    fn nothing_is_left_of_a_limit_that_is_over() {
        let session = Session::new().unwrap();
        let error = Limit::of(Duration::ZERO).arm(&session, "logging on").unwrap_err();
        assert!(error.to_string().starts_with("logging on took longer than"), "{error}");
        assert!(error.is_temporary());
    }
}
