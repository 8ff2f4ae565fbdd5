//! A folder of releases on a web server.

use super::still_wanted;
use crate::actions::Deadline;
use crate::error::{Error, ErrorKind, IoContext, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// How long a connection and the first word of an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The slowest that a file may come, in bytes a second; and what is given to any file besides.
const SLOWEST: u64 = 64 << 10;
const LEAST: Duration = Duration::from_secs(60);

/// The pause before a file is asked for again; it grows with each attempt.
const PAUSE: Duration = Duration::from_millis(500);

/// What stands for itself in the names of a path (RFC 3986, unreserved), and the slash between them.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A server that is asked for files.
pub(super) struct Web {
    agent: ureq::Agent,
    base: String,
    user: Option<String>,
    authorization: Option<SecretString>,
}

impl Web {
    /// # Errors
    /// When no certificate authority is known.
    pub(super) fn new(base: &str, account: Option<(&str, &SecretString)>, ca: Option<&str>) -> Result<Self> {
        let roots = RootCerts::Specific(Arc::new(roots(ca)?));
        let agent = ureq::Agent::config_builder()
            .https_only(true)
            .http_status_as_error(false)
            .timeout_connect(Some(ANSWER))
            .timeout_recv_response(Some(ANSWER))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build();
        let basic = |(user, password): (&str, &SecretString)| {
            SecretString::from(format!("Basic {}", BASE64.encode(format!("{user}:{}", password.expose_secret()))))
        };
        Ok(Self {
            agent: ureq::Agent::new_with_config(agent),
            base: base.to_owned(),
            user: account.map(|(user, _)| user.to_owned()),
            authorization: account.map(basic),
        })
    }

    /// The address of a file below the folder.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}/{}", self.base, utf8_percent_encode(path, PATH))
    }

    /// Brings a file of a known size. A later attempt waits a little first.
    ///
    /// # Errors
    /// When the server is not there (which may pass), does not have the file, or does not give it.
    pub(super) fn get(&self, path: &str, size: u64, to: &Path, attempt: u32, deadline: &Deadline) -> Result<()> {
        std::thread::sleep((PAUSE * attempt).min(deadline.left()));
        still_wanted(deadline)?;
        let address = self.address(path);
        let limit = LEAST.saturating_add(Duration::from_secs(size / SLOWEST)).min(deadline.left());
        let mut request = self.agent.get(&address);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.expose_secret());
        }
        let answer = request.config().timeout_recv_body(Some(limit)).build().call();
        let mut answer = answer.map_err(|e| self.unreachable(&address, &e))?;
        match answer.status().as_u16() {
            200 => {}
            status => return Err(self.refused(&address, status)),
        }
        let mut file = File::create(to).cannot(|| format!("write {}", to.display()))?;
        let mut body = answer.body_mut().with_config().limit(size.saturating_add(1)).reader();
        let mut buffer = vec![0; 256 << 10];
        loop {
            still_wanted(deadline)?;
            match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => file.write_all(&buffer[..read]).cannot(|| format!("write {}", to.display()))?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let error = Error::new(ErrorKind::Unreachable, format!("{address} broke off")).because(e);
                    return Err(error.temporary().next("see whether the server is overloaded; what came already is kept"));
                }
            }
        }
    }

    fn unreachable(&self, address: &str, e: &ureq::Error) -> Error {
        let error = Error::new(ErrorKind::Unreachable, format!("{address} cannot be read")).because(e);
        // What TLS finds comes as the connection's own error.
        let certificate = match e {
            ureq::Error::Io(e) => e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
            _ => false,
        };
        match certificate {
            true => error.next(
                "see who has signed the server's certificate: the instrument must trust that authority, or `ca` beside `from` names it",
            ),
            false => error.temporary().next("see that the server is up, and that the instrument may reach it"),
        }
    }

    fn refused(&self, address: &str, status: u16) -> Error {
        let user = self.user.as_deref().unwrap_or("anybody");
        match status {
            401 | 403 => Error::new(ErrorKind::Refused, format!("{address} is not given to {user} ({status})"))
                .next("see `user` and the secret that `password` names, beside `from` in the inventory"),
            404 | 410 => Error::new(ErrorKind::Integrity, format!("{address} is not there ({status})"))
                .next("the folder there differs from the controller's kit: copy the release again, whole, and see `from`"),
            500.. => Error::new(ErrorKind::Unreachable, format!("the server of {address} answers {status}"))
                .temporary()
                .next("see what the server's log says"),
            _ => Error::new(ErrorKind::Unreachable, format!("the server of {address} answers {status}"))
                .next("see that `from` is the folder itself, and that files in it are given out as they are"),
        }
    }
}

/// The authorities that are trusted: those that were named, or the system's.
fn roots(ca: Option<&str>) -> Result<Vec<Certificate<'static>>> {
    let Some(pem) = ca else {
        // What the system has and cannot be read is passed over, as by everybody.
        let system = rustls_native_certs::load_native_certs().certs;
        return Ok(system.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect());
    };
    let certificates: Vec<Certificate<'static>> = parse_pem(pem.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(
            Error::bad_input("the file of `ca` beside `from` holds no certificate").next("put the authority's there, as PEM")
        );
    }
    Ok(certificates)
}
