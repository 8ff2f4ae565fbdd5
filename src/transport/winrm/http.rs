//! One HTTP/1.1 connection to a WinRM service. It is never shared and never replaced behind anybody's back: who logged on
//! is a property of the connection, and so are the keys that seal its messages.

use super::binding;
use super::endpoint::Endpoint;
use super::{tls, unauthorized};
use crate::error::{Error, ErrorKind, Result};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The largest body that is taken: an envelope of the largest size that a service may be set to send, and its seal.
const LARGEST_BODY: usize = 4 << 20;

/// An open connection.
#[derive(Debug)]
pub(super) struct Wire {
    sender: SendRequest<Full<Bytes>>,
    place: String,
    host: String,
    path: &'static str,
    /// What says in a logon that it belongs to this connection, over TLS.
    binding: Option<Vec<u8>>,
    tls: bool,
    /// Something that speaks HTTP has answered.
    answered: bool,
    /// Serves the connection; ends with it.
    _serving: JoinSet<()>,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn content_type(&self) -> &str {
        self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// What is sent.
#[derive(Debug, Default)]
pub(super) struct Post {
    pub(super) authorization: Option<HeaderValue>,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Vec<u8>,
}

impl Wire {
    /// Connects. The caller limits how long that may take.
    ///
    /// # Errors
    /// When nobody answers, or TLS finds somebody else than was meant.
    pub(super) async fn open(endpoint: &Endpoint) -> Result<Self> {
        let stream = dial(endpoint).await?;
        match &endpoint.tls {
            None => Self::over(endpoint, stream, None).await,
            Some(tls) => {
                let stream = tls::secure(endpoint, tls, stream).await?;
                let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let binding = certificate.and_then(|certificate| binding::of(certificate));
                Self::over(endpoint, stream, binding).await
            }
        }
    }

    async fn over<S>(endpoint: &Endpoint, stream: S, binding: Option<Vec<u8>>) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let place = endpoint.place();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| broken(&place, &e, false))?;
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // What goes wrong here, the request that is under way is told as well.
            let _ = connection.await;
        });
        let tls = endpoint.tls.is_some();
        Ok(Self { sender, host: place.clone(), place, path: "/wsman", binding, tls, answered: false, _serving: serving })
    }

    /// What a logon over this connection has to say of it (SEC_CHANNEL_BINDINGS); nothing without TLS.
    pub(super) fn binding(&self) -> Option<&[u8]> {
        self.binding.as_deref()
    }

    /// Sends one message and waits for its answer, within `limit`.
    ///
    /// # Errors
    /// When the connection breaks or nothing comes. What became of the message is not known then.
    pub(super) async fn post(&mut self, post: Post, limit: Duration) -> Result<Answer> {
        let answered = timeout(limit, self.exchange(post)).await;
        answered.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Unreachable,
                format!("the WinRM service on {} did not answer within {limit:?}", self.place),
            )
            .next("see whether the machine is overloaded, or a firewall swallows what is sent"))
        })
    }

    async fn exchange(&mut self, post: Post) -> Result<Answer> {
        let mut request = Request::post(self.path).header(HOST, &self.host).header(USER_AGENT, "ibexdeploy");
        if let Some(kind) = post.content_type {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(value) = post.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(Full::new(Bytes::from(post.body)))
            .map_err(|e| Error::internal("cannot make an HTTP request").because(e))?;
        let mute = !self.tls && !self.answered;
        let lost = |e: &hyper::Error| broken(&self.place, e, mute);
        self.sender.ready().await.map_err(|e| lost(&e))?;
        let answer = self.sender.send_request(request).await.map_err(|e| lost(&e))?;
        self.answered = true;
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::UNAUTHORIZED {
            tracing::debug!(offers = unauthorized::offered(&head.headers).join(", "), "the service answers 401");
        }
        let body = Limited::new(body, LARGEST_BODY).collect().await.map_err(|e| cut(&self.place, &*e))?;
        Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
    }
}

/// The error of a body that did not come whole.
fn cut(place: &str, e: &(dyn std::error::Error + Send + Sync + 'static)) -> Error {
    if e.is::<LengthLimitError>() {
        return Error::new(ErrorKind::Unreachable, format!("the answer of {place} is longer than {} MiB", LARGEST_BODY >> 20))
            .because("no WinRM service may be set to send as much in one message")
            .next("what listens there is no WinRM service: see `port`, and whether `address` is that machine's")
            .lasting();
    }
    Error::new(ErrorKind::Unreachable, format!("the answer of {place} broke off")).because(e).next(RESTARTING)
}

const RESTARTING: &str = "the machine may be restarting; its event log (Windows Remote Management) says what its service did";

/// `mute`: nothing was ever heard there, without TLS.
fn broken(place: &str, e: &hyper::Error, mute: bool) -> Error {
    let error = Error::new(ErrorKind::Unreachable, format!("the connection to the WinRM service on {place} broke"));
    let error = error.because(e);
    let cause = std::error::Error::source(e).map(ToString::to_string);
    let error = match cause {
        Some(cause) => error.because(cause),
        None => error,
    };
    if e.is_parse() {
        return error.next("what listens there may be no WinRM service, or speak HTTPS only: see `port`, or add `https: true`");
    }
    if mute {
        return error.next(
            "what listens there may speak HTTPS only: add `https: true`, or see whether `port` is that of HTTP; else the machine may be \
             restarting",
        );
    }
    error.next(RESTARTING)
}

async fn dial(endpoint: &Endpoint) -> Result<TcpStream> {
    let place = endpoint.place();
    tracing::debug!(place, "connecting");
    match TcpStream::connect((endpoint.address.as_str(), endpoint.port)).await {
        Ok(stream) => {
            // Small messages go at once. Where the system does not know the option, they are merely slower.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Err(e) => Err(no_connection(&place, &e)),
    }
}

fn no_connection(place: &str, e: &io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => {
            Error::new(ErrorKind::Unreachable, format!("no WinRM service listens on {place}")).because(e).next(
                "see whether the machine is up and WinRM set up there (`winrm quickconfig`, docs/windows.md), and whether `port` is right",
            )
        }
        _ => Error::new(ErrorKind::Unreachable, format!("cannot connect to {place}"))
            .because(e)
            .next("check `host` and `address` in the inventory, and whether the machine is on and the network between is well"),
    }
}
