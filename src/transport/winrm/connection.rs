//! A connection that is logged on: one request after the other, each with its answer.

use super::endpoint::{Endpoint, Logon, MUTUAL};
use super::fault::Fault;
use super::http::{Answer, Post, Wire};
use super::negotiate::{self, Context};
use super::reply::Reply;
use super::sealing;
use super::soap::{Envelope, Request, SessionId};
use super::{refused, unauthorized};
use crate::error::{Error, ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How much longer than the service itself may take we wait for its answer: it says when its time is over, and that
/// answer has to come here.
const ON_THE_WAY: Duration = Duration::from_secs(10);

const SOAP: &str = "application/soap+xml;charset=UTF-8";

/// What a service makes of a request.
pub(super) type Outcome = std::result::Result<Reply, Fault>;

/// One connection, on which nobody else speaks.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    endpoint: Arc<Endpoint>,
    protection: Protection,
    /// No request is under way, and none was lost.
    sound: bool,
}

#[derive(Debug)]
enum Protection {
    /// TLS protects what is said; each request says who says it, or the connection has been told.
    Tls { authorization: Option<HeaderValue> },
    /// Each message is sealed.
    Sealed(Box<Context>),
}

impl Connection {
    /// Connects and logs on, within the time that the inventory gives.
    ///
    /// # Errors
    /// When nobody answers, or the service does not let us in.
    pub(super) async fn open(endpoint: &Arc<Endpoint>) -> Result<Self> {
        let limit = endpoint.limit;
        timeout(limit, Self::log_on(endpoint)).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Unreachable,
                format!("connecting to {} and logging on took longer than {limit:?}", endpoint.place()),
            )
            .next("see whether the machine is overloaded, or a firewall swallows what is sent; `timeout:` gives it longer"))
        })
    }

    async fn log_on(endpoint: &Arc<Endpoint>) -> Result<Self> {
        let mut wire = Wire::open(endpoint).await?;
        let protection = match &endpoint.logon {
            Logon::Basic { user, password } => {
                let pair = BASE64.encode(format!("{user}:{}", password.expose_secret()));
                Protection::Tls { authorization: Some(header(&format!("Basic {pair}"))?) }
            }
            Logon::Certificate => Protection::Tls { authorization: Some(header(MUTUAL)?) },
            Logon::Negotiate { .. } => {
                let context = negotiate::log_on(endpoint, &mut wire, endpoint.limit).await?;
                match endpoint.tls {
                    Some(_) => Protection::Tls { authorization: None },
                    None => Protection::Sealed(Box::new(context)),
                }
            }
        };
        Ok(Self { wire, endpoint: Arc::clone(endpoint), protection, sound: true })
    }

    /// True where the service let us in before the first request, and not by each of them.
    fn is_logged_on(&self) -> bool {
        !matches!(&self.protection, Protection::Tls { authorization: Some(_) })
    }

    /// True while the connection can take another request.
    pub(super) fn is_sound(&self) -> bool {
        self.sound
    }

    /// Asks, and gives what the service makes of it. `limit`: how long the service may take.
    ///
    /// # Errors
    /// When the connection broke: what became of the request is not known then, and it is not asked again here.
    pub(super) async fn call(&mut self, session: SessionId, request: &Request<'_>, limit: Duration) -> Result<Outcome> {
        // Until the answer is there: a caller that gives up leaves a connection with an answer under way.
        let sound = std::mem::replace(&mut self.sound, false);
        if !sound {
            return Err(Error::new(ErrorKind::Unreachable, "the connection was broken off"));
        }
        let envelope = Envelope::new(request, &self.endpoint.url(), session, limit);
        let post = self.sealed(envelope.text.into_bytes())?;
        let answer = self.wire.post(post, limit + ON_THE_WAY).await?;
        let outcome = self.read(request, &answer)?;
        if let Ok(reply) = &outcome {
            reply.answers(envelope.id)?;
        }
        // What was too large may not have been opened there: seals are numbered, and the numbers may differ now.
        self.sound = !matches!(&outcome, Err(fault) if fault.is_too_large());
        Ok(outcome)
    }

    fn sealed(&mut self, message: Vec<u8>) -> Result<Post> {
        Ok(match &mut self.protection {
            Protection::Tls { authorization } => {
                Post { authorization: authorization.clone(), content_type: Some(SOAP), body: message }
            }
            Protection::Sealed(context) => {
                let body = sealing::wrap(&context.seal(&message)?);
                Post { authorization: None, content_type: Some(sealing::CONTENT_TYPE), body }
            }
        })
    }

    fn read(&mut self, request: &Request<'_>, answer: &Answer) -> Result<Outcome> {
        match answer.status {
            StatusCode::PAYLOAD_TOO_LARGE => return Ok(Err(Fault::too_large())),
            StatusCode::UNAUTHORIZED if self.is_logged_on() => return Err(unauthorized::forgotten(&self.endpoint)),
            StatusCode::UNAUTHORIZED => return Err(unauthorized::explain(&self.endpoint, answer)),
            StatusCode::OK => {}
            // Faults have a body.
            StatusCode::INTERNAL_SERVER_ERROR if !answer.body.is_empty() => {}
            _ => return Err(refused(&self.endpoint, answer)),
        }
        let text = match &mut self.protection {
            Protection::Tls { .. } => answer.body.to_vec(),
            Protection::Sealed(context) => context.open(answer)?,
        };
        tracing::trace!(request = request.what(), bytes = text.len(), "answered");
        let mut reply = Reply::read(&text)?;
        match reply.fault.take() {
            Some(fault) => Ok(Err(fault)),
            None if answer.status == StatusCode::OK => Ok(Ok(reply)),
            None => Err(refused(&self.endpoint, answer)),
        }
    }
}

fn header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(text).map_err(|e| Error::internal("cannot make a header").because(e))?;
    // No log shows it.
    value.set_sensitive(true);
    Ok(value)
}
