//! Looking at a server's host key, and recording it: `ibexdeploy trust`.

use super::connect::{dial, greet};
use super::jump::{self, on_thread};
use super::known_hosts::{KnownHosts, ServerName, Verdict, forget, record};
use super::route::Route;
use super::{Ssh, limit};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::SshSpec;
use ssh_key::{HashAlg, PublicKey};
use std::path::PathBuf;

/// How a host key stands to what is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyState {
    /// It is recorded already; where.
    Known(String),
    /// Nothing is recorded for the server.
    New,
    /// Another key is recorded; which, and where.
    Other { known: String, place: String },
    /// It must not be accepted; where that stands.
    Revoked(String),
}

/// The host key that a server has shown.
#[derive(Debug, Clone)]
pub struct HostKey {
    /// The server, as files of known hosts name it.
    pub server: String,
    /// For example `ssh-ed25519`.
    pub kind: String,
    /// `SHA256:...`, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    pub state: KeyState,
    /// Where it would be recorded.
    pub file: PathBuf,
    name: ServerName,
    key: PublicKey,
}

impl HostKey {
    /// Records the key. With `replace`, what was recorded for the server before is taken out.
    ///
    /// # Errors
    /// When another key is recorded and is not to be replaced, the key is revoked, or the file cannot be written.
    pub fn record(&self, replace: bool) -> Result<()> {
        match &self.state {
            KeyState::Known(_) => return Ok(()),
            KeyState::New => {}
            KeyState::Other { .. } if replace => forget(&self.file, &self.name)?,
            KeyState::Other { known, place } => {
                return Err(Error::new(
                    ErrorKind::Refused,
                    format!("another key of {} is recorded: {known} ({place})", self.server),
                )
                .next("compare the fingerprint on the machine's own screen, then give --replace"));
            }
            KeyState::Revoked(place) => {
                return Err(Error::new(ErrorKind::Refused, format!("the key of {} is revoked ({place})", self.server))
                    .next("make a new host key on the machine"));
            }
        }
        record(&self.file, &self.name, &self.key)
    }
}

impl Ssh {
    /// Asks a server for its host key, without logging on to it. Hosts that are gone through must be known already.
    ///
    /// # Errors
    /// When it cannot be reached, or is no SSH server.
    pub async fn host_key(&self, instrument: &str, spec: &SshSpec) -> Result<HostKey> {
        let limit = limit(spec);
        let Route { mut jumps, last } = self.route(instrument, spec)?;
        let stream = match jumps.pop() {
            None => None,
            Some(before) => Some(jump::forward(Route { jumps, last: before }, &last, &self.doors, instrument, limit).await?),
        };
        on_thread("ssh host key", move || {
            let known = KnownHosts::about(&last.known_as, &last.known_hosts)?;
            let stream = match stream {
                Some(stream) => stream,
                None => dial(&last, limit)?,
            };
            let (_, key) = greet(&last, stream, &known, limit)?;
            let state = match known.judge(&key) {
                Verdict::Known(place) => KeyState::Known(place.to_string()),
                Verdict::Unknown => KeyState::New,
                Verdict::Revoked(place) => KeyState::Revoked(place.to_string()),
                Verdict::Changed { place, known } | Verdict::OtherKinds { place, known } => {
                    KeyState::Other { known, place: place.to_string() }
                }
            };
            let file = last.known_hosts.first().cloned().ok_or_else(|| Error::internal("no file of known hosts is named"))?;
            Ok(HostKey {
                server: last.known_as.written(),
                kind: key.algorithm().to_string(),
                fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
                state,
                file,
                name: last.known_as,
                key,
            })
        })
        .await
    }
}
