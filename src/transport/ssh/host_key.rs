//! Looking at a server's host key, and recording it: `ibexdeploy trust`.

use super::connect::Limit;
use super::jump;
use super::known_hosts::{KnownHosts, ServerName, Verdict, forget, record};
use super::route::{Hop, Route};
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
    /// It is a host that is gone through to the instrument.
    pub on_the_way: bool,
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
        // Another instrument behind the same server may have brought it there meanwhile.
        let now = KnownHosts::about(&self.name, std::slice::from_ref(&self.file))?;
        if matches!(now.judge(&self.key), Verdict::Known(_)) {
            return Ok(());
        }
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
    /// Asks a server for its host key, without logging on to it. Where a host that is gone through is not known, nothing
    /// can be seen behind it: then it is that one's key.
    ///
    /// # Errors
    /// When it cannot be reached, or is no SSH server.
    pub async fn host_key(&self, instrument: &str, spec: &SshSpec) -> Result<HostKey> {
        let limit = limit(spec);
        let Route { jumps, last } = self.route(instrument, spec)?;
        match self.look_behind(&jumps, &last, instrument, limit).await {
            Err(e) if matches!(e.kind(), ErrorKind::HostKey | ErrorKind::WrongHostKey) => {}
            other => return other,
        }
        for (at, hop) in jumps.iter().enumerate() {
            let key = self.look_behind(&jumps[..at], hop, instrument, limit).await?;
            if !matches!(key.state, KeyState::Known(_)) {
                return Ok(HostKey { on_the_way: true, ..key });
            }
        }
        // Somebody else has recorded what was missing meanwhile.
        self.look_behind(&jumps, &last, instrument, limit).await
    }

    /// The key of a server, through others that are known.
    async fn look_behind(&self, jumps: &[Hop], hop: &Hop, instrument: &str, limit: Limit) -> Result<HostKey> {
        let stream = match jumps {
            [] => None,
            [first @ .., before] => {
                let route = Route { jumps: first.to_vec(), last: before.clone() };
                Some(jump::forward(route, hop, &self.doors, instrument, limit).await?)
            }
        };
        let (key, verdict) = jump::look(hop, &self.doors, stream, limit).await?;
        let state = match verdict {
            Verdict::Known(place) => KeyState::Known(place.to_string()),
            Verdict::Unknown => KeyState::New,
            Verdict::Revoked(place) => KeyState::Revoked(place.to_string()),
            Verdict::Changed { place, known } | Verdict::OtherKinds { place, known } => {
                KeyState::Other { known, place: place.to_string() }
            }
        };
        let file = hop.known_hosts.first().cloned().ok_or_else(|| Error::internal("no file of known hosts is named"))?;
        Ok(HostKey {
            server: hop.known_as.written(),
            kind: key.algorithm().to_string(),
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            state,
            on_the_way: false,
            file,
            name: hop.known_as.clone(),
            key,
        })
    }
}
