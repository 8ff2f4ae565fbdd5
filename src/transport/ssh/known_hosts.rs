//! The files of known host keys, as OpenSSH writes and reads them.

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::files;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use ssh_key::known_hosts::{HostPatterns, Marker};
use ssh_key::{Algorithm, HashAlg, PublicKey};
use std::io::Write;
use std::path::{Path, PathBuf};
use wildmatch::WildMatch;

/// The port that known hosts are written without.
const DEFAULT_PORT: u16 = 22;

/// A server, as files of known hosts name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerName {
    pub(super) host: String,
    pub(super) port: u16,
}

impl ServerName {
    /// What stands in the file: `host`, or `[host]:port` for another port than 22.
    pub(super) fn written(&self) -> String {
        let host = self.host.to_lowercase();
        if self.port == DEFAULT_PORT { host } else { format!("[{host}]:{}", self.port) }
    }
}

/// What the files say about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the server's; where that stands.
    Known(Place),
    /// It must not be accepted from anybody.
    Revoked(Place),
    /// Another key of the same kind stands for the server.
    Changed { place: Place, known: String },
    /// The server stands there with keys of other kinds only.
    OtherKinds { place: Place, known: String },
    /// The server does not stand there.
    Unknown,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(place) => write!(f, "known ({place})"),
            Self::Revoked(place) => write!(f, "revoked ({place})"),
            Self::Changed { place, known } | Self::OtherKinds { place, known } => write!(f, "known is {known} ({place})"),
            Self::Unknown => f.write_str("not known"),
        }
    }
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    /// From 1.
    pub(super) line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// The lines about one server.
#[derive(Debug, Default)]
pub(super) struct KnownHosts {
    known: Vec<(Place, PublicKey)>,
    revoked: Vec<(Place, PublicKey)>,
}

impl KnownHosts {
    /// Reads what the files say about a server. Files that are not there say nothing; lines that are not understood are
    /// left out.
    ///
    /// # Errors
    /// When a file is there and cannot be read: it might hold the revocation of the very key.
    pub(super) fn about(server: &ServerName, files: &[PathBuf]) -> Result<Self> {
        let mut about = Self::default();
        let mut without_port = Self::default();
        for file in files {
            let text = match std::fs::read(file) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io(format!("read the known hosts {}", file.display()), &e)),
            };
            for (index, line) in text.lines().enumerate() {
                let Some(line) = Line::parse(line) else { continue };
                let place = Place { file: file.clone(), line: index + 1 };
                if line.names(&server.written()) {
                    about.take(&line, place);
                } else if line.names(&server.host.to_lowercase()) {
                    without_port.take(&line, place);
                }
            }
        }
        // As OpenSSH has it: what stands there for the host counts where nothing does for this port of it.
        if about.known.is_empty() {
            about.known = without_port.known;
        }
        about.revoked.append(&mut without_port.revoked);
        Ok(about)
    }

    fn take(&mut self, line: &Line, place: Place) {
        let Ok(key) = PublicKey::from_openssh(&line.key) else {
            tracing::debug!(%place, "a line of known hosts has no key that is understood");
            return;
        };
        match line.marker {
            None => self.known.push((place, key)),
            Some(Marker::Revoked) => self.revoked.push((place, key)),
            // libssh2 takes no host certificates.
            Some(Marker::CertAuthority) => {}
        }
    }

    /// The kinds of key that are known, in the order of the files: to be asked for first.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let mut kinds: Vec<Algorithm> = Vec::new();
        for (_, key) in &self.known {
            if !kinds.contains(&key.algorithm()) {
                kinds.push(key.algorithm());
            }
        }
        kinds
    }

    /// Judges the key that a server has shown.
    pub(super) fn judge(&self, shown: &PublicKey) -> Verdict {
        let same = |(_, key): &&(Place, PublicKey)| key.key_data() == shown.key_data();
        if let Some((place, _)) = self.revoked.iter().find(same) {
            return Verdict::Revoked(place.clone());
        }
        if let Some((place, _)) = self.known.iter().find(same) {
            return Verdict::Known(place.clone());
        }
        let fingerprint = |key: &PublicKey| key.fingerprint(HashAlg::Sha256).to_string();
        if let Some((place, key)) = self.known.iter().find(|(_, key)| key.algorithm() == shown.algorithm()) {
            return Verdict::Changed { place: place.clone(), known: fingerprint(key) };
        }
        match self.known.first() {
            Some((place, key)) => {
                Verdict::OtherKinds { place: place.clone(), known: format!("{} {}", key.algorithm(), fingerprint(key)) }
            }
            None => Verdict::Unknown,
        }
    }
}

/// A line, with its key still as text.
struct Line {
    marker: Option<Marker>,
    hosts: HostPatterns,
    key: String,
}

impl Line {
    /// Nothing for empty lines, comments and what is not understood.
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let mut words = line.split_ascii_whitespace().peekable();
        let marker = match words.next_if(|word| word.starts_with('@')) {
            // A marker that is not known may forbid anything: the line is not taken as a plain one.
            Some(word) => Some(word.parse().ok()?),
            None => None,
        };
        let hosts = words.next()?.parse().ok()?;
        let key = format!("{} {}", words.next()?, words.next()?);
        Some(Self { marker, hosts, key })
    }

    /// Whether it is about the server of this name, which is in lower case.
    fn names(&self, name: &str) -> bool {
        match &self.hosts {
            HostPatterns::HashedName { salt, hash } => hashed(salt, name).is_some_and(|made| made == *hash),
            HostPatterns::Patterns(patterns) => {
                let fits = |pattern: &str| WildMatch::new(&pattern.to_lowercase()).matches(name);
                let refused = patterns.iter().filter_map(|p| p.strip_prefix('!')).any(fits);
                !refused && patterns.iter().filter(|p| !p.starts_with('!')).any(|p| fits(p))
            }
        }
    }
}

/// The hash under which a host's name is written.
fn hashed(salt: &[u8], name: &str) -> Option<[u8; 20]> {
    let mut mac = Hmac::<Sha1>::new_from_slice(salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.finalize().into_bytes().into())
}

/// Writes a server's key down.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn record(file: &Path, server: &ServerName, key: &PublicKey) -> Result<()> {
    let shown = || format!("write the known hosts {}", file.display());
    if let Some(folder) = file.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).cannot(shown)?;
    }
    let mut bare = key.clone();
    bare.set_comment("");
    let written = bare.to_openssh().map_err(|e| Error::internal("cannot write a host key").because(e))?;
    let before = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(Error::io(shown(), &e)),
    };
    // The last line may have been left without its end.
    let gap = if before.last().is_some_and(|b| *b != b'\n') { "\n" } else { "" };
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file).cannot(shown)?;
    file.write_all(format!("{gap}{} {}\n", server.written(), written.trim_end()).as_bytes()).cannot(shown)?;
    file.sync_data().cannot(shown)
}

/// Takes a server's own lines out of a file, keeping the file as it was beside it, with `.old` at its end.
///
/// Lines that hold for more than this server (patterns, and those with a marker) stay: they are not about it alone.
///
/// # Errors
/// When the file cannot be read or written.
pub(super) fn forget(file: &Path, server: &ServerName) -> Result<()> {
    let shown = || format!("write the known hosts {}", file.display());
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(shown(), &e)),
    };
    let kept: Vec<String> = text.lines().filter_map(|line| without(line, server)).map(|line| line + "\n").collect();
    let mut old = file.as_os_str().to_owned();
    old.push(".old");
    std::fs::copy(file, PathBuf::from(old)).cannot(shown)?;
    files::write(file, kept.concat().as_bytes())
}

/// A line without a server's name; nothing when it named no other.
fn without(line: &str, server: &ServerName) -> Option<String> {
    let as_it_is = || Some(line.to_owned());
    let Some(parsed) = Line::parse(line).filter(|l| l.marker.is_none()) else { return as_it_is() };
    match &parsed.hosts {
        HostPatterns::HashedName { .. } => (!parsed.names(&server.written())).then(|| line.to_owned()),
        HostPatterns::Patterns(patterns) => {
            let written = server.written();
            let others: Vec<&str> = patterns.iter().map(String::as_str).filter(|p| p.to_lowercase() != written).collect();
            if others.len() == patterns.len() {
                as_it_is()
            } else if others.is_empty() {
                None
            } else {
                let rest = line.trim_start().split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
                Some(format!("{} {rest}", others.join(",")))
            }
        }
    }
}

/// The error of a server whose key is not the one that is known, or none.
pub(super) fn refusal(server: &ServerName, shown: &PublicKey, verdict: &Verdict, instrument: &str) -> Option<Error> {
    let fingerprint = shown.fingerprint(HashAlg::Sha256);
    let kind = shown.algorithm();
    let name = server.written();
    let wrong = |message: String| Error::new(ErrorKind::WrongHostKey, message);
    match verdict {
        Verdict::Known(_) => None,
        Verdict::Unknown => Some(
            Error::new(ErrorKind::HostKey, format!("the host key of {name} is not known: it shows {kind} {fingerprint}"))
                .next(format!("compare the fingerprint on the machine, then `ibexdeploy trust {instrument}` records it")),
        ),
        Verdict::OtherKinds { place, known } => Some(
            wrong(format!("{name} shows a host key of another kind than is known: {kind} {fingerprint}, known is {known} ({place})"))
                .next(format!("if the machine was set up anew, `ibexdeploy trust --replace {instrument}` records the new key")),
        ),
        Verdict::Changed { place, known } => Some(
            wrong(format!(
                "THE HOST KEY OF {name} HAS CHANGED: it shows {kind} {fingerprint}, known is {known} ({place}); somebody may \
                 be between this machine and it, or it was set up anew. Nothing was sent to it"
            ))
            .next(format!(
                "ask who set it up and compare the fingerprint on its own screen; only then `ibexdeploy trust --replace {instrument}`"
            )),
        ),
        Verdict::Revoked(place) => Some(
            wrong(format!("the host key of {name}, {kind} {fingerprint}, is revoked ({place}). Nothing was sent to it"))
                .next("make a new host key on the machine, and find out why this one was revoked"),
        ),
    }
}
