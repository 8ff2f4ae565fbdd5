//! Logging on: the SSH agent's keys, key files, a password.

use super::connect::Limit;
use super::route::{Hop, Logon};
use crate::error::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};
use ssh_key::{HashAlg, PrivateKey, PublicKey};
use ssh2::{KeyboardInteractivePrompt, Prompt, Session};
use std::path::Path;

/// Keys that are offered to one server: most end the connection at the sixth.
const MOST_KEYS: usize = 5;

/// Logs on to a server whose host key was checked.
///
/// # Errors
/// When nothing that is at hand is taken; says what was tried and what the server takes.
pub(super) fn log_on(session: &Session, hop: &Hop, limit: Limit) -> Result<()> {
    limit.arm(session, "logging on")?;
    let methods = match session.auth_methods(&hop.user) {
        Ok(methods) => methods.to_owned(),
        // A server that takes anybody.
        Err(_) if session.authenticated() => return Ok(()),
        Err(e) => return Err(broken(hop, &e)),
    };
    tracing::debug!(user = hop.user, methods, "the server takes");
    let mut attempt = Attempt { session, hop, limit, tried: Vec::new(), keys: 0 };
    let takes = |method: &str| methods.split(',').any(|m| m == method);
    let done = (takes("publickey") && attempt.keys()?)
        || (takes("password") && attempt.password()?)
        || (takes("keyboard-interactive") && attempt.keyboard_interactive()?);
    if done {
        tracing::debug!(user = hop.user, with = attempt.tried.last(), "logged on");
        return Ok(());
    }
    Err(attempt.refused(&methods))
}

struct Attempt<'a> {
    session: &'a Session,
    hop: &'a Hop,
    limit: Limit,
    /// What was tried, for people.
    tried: Vec<String>,
    keys: usize,
}

impl Attempt<'_> {
    fn logon(&self) -> &Logon {
        &self.hop.logon
    }

    /// The named key (from the SSH agent, if it holds it), then the agent's other keys, then the usual files.
    fn keys(&mut self) -> Result<bool> {
        let mut agent = Agent::open(self.session, self.logon().agent.as_deref());
        if let Some(path) = self.logon().key.clone() {
            return self.named_key(&path, agent.as_mut());
        }
        if let Some(agent) = &mut agent {
            for key in agent.keys() {
                if self.agent_key(agent, &key)? {
                    return Ok(true);
                }
            }
        } else {
            self.tried.push("no SSH agent runs".to_owned());
        }
        for path in self.logon().usual_keys.clone() {
            if path.exists() && self.keys < MOST_KEYS && self.key_file(&path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A key that was named is the one that is used: others might lock the account, or log on as somebody else.
    fn named_key(&mut self, path: &Path, agent: Option<&mut Agent>) -> Result<bool> {
        if let Some(agent) = agent
            && let Some(wanted) = public_half(path)
            && let Some(held) = agent.keys().into_iter().find(|k| k.blob() == wanted)
        {
            return self.agent_key(agent, &held);
        }
        if !path.exists() {
            return Err(Error::new(ErrorKind::Unreachable, format!("the key file {} is not there", path.display()))
                .lasting()
                .next("correct `key` in the inventory, or put the key there"));
        }
        self.key_file(path)
    }

    fn agent_key(&mut self, agent: &Agent, key: &ssh2::PublicKey) -> Result<bool> {
        if self.keys >= MOST_KEYS {
            return Ok(false);
        }
        self.limit.arm(self.session, "logging on")?;
        let answer = agent.agent.userauth(&self.hop.user, key);
        self.judge_key(format!("the agent's key {}", key.comment()), answer)
    }

    fn key_file(&mut self, path: &Path) -> Result<bool> {
        let passphrase = match encrypted(path) {
            false => None,
            true => match self.logon().passphrase.clone() {
                Some(passphrase) => Some(passphrase),
                None => {
                    self.tried.push(format!("the key {} has a passphrase, and none is known", path.display()));
                    return Ok(false);
                }
            },
        };
        self.limit.arm(self.session, "logging on")?;
        let passphrase = passphrase.as_ref().map(ExposeSecret::expose_secret);
        let answer = self.session.userauth_pubkey_file(&self.hop.user, None, path, passphrase);
        self.judge_key(format!("the key {}{}", path.display(), fingerprint(path)), answer)
    }

    fn judge_key(&mut self, what: String, answer: Result<(), ssh2::Error>) -> Result<bool> {
        self.keys += 1;
        self.judge(what, answer)
    }

    fn password(&mut self) -> Result<bool> {
        let Some(password) = self.logon().password.clone() else { return Ok(false) };
        self.limit.arm(self.session, "logging on")?;
        let answer = self.session.userauth_password(&self.hop.user, password.expose_secret());
        self.judge("the password".to_owned(), answer)
    }

    fn keyboard_interactive(&mut self) -> Result<bool> {
        let Some(password) = self.logon().password.clone() else { return Ok(false) };
        self.limit.arm(self.session, "logging on")?;
        let mut answers = Answers { password };
        let answer = self.session.userauth_keyboard_interactive(&self.hop.user, &mut answers);
        self.judge("the password, as the answer to the server's question".to_owned(), answer)
    }

    /// True when it was taken. A refusal is noted; a connection that breaks is an error.
    fn judge(&mut self, what: String, answer: Result<(), ssh2::Error>) -> Result<bool> {
        match answer {
            Ok(()) => {
                tracing::debug!(with = what, "taken");
                self.tried.push(what);
                // A server that wants a second factor says that it was taken, and waits for more.
                Ok(self.session.authenticated())
            }
            Err(e) if is_refusal(&e) => {
                tracing::debug!(with = what, error = %e, "not taken");
                self.tried.push(format!("{what}: {}", e.message()));
                Ok(false)
            }
            Err(e) => Err(broken(self.hop, &e)),
        }
    }

    fn refused(&self, methods: &str) -> Error {
        let tried = if self.tried.is_empty() { "nothing at hand fits".to_owned() } else { self.tried.join("; ") };
        let next = if self.logon().password.is_none() && !methods.contains("publickey") {
            "name the secret with the account's password as `password` in the transport's settings".to_owned()
        } else {
            format!(
                "see that the key's public half stands in the authorized keys of {} there (on Windows those of administrators are \
                 in C:\\ProgramData\\ssh\\administrators_authorized_keys), or that the password is right",
                self.hop.user
            )
        };
        Error::new(ErrorKind::Unreachable, format!("{} does not let us log on", self.hop.shown()))
            .because(format!("it takes {methods}; tried: {tried}"))
            .lasting()
            .next(next)
    }
}

/// Whether the server, or the key itself, said no; anything else is a connection that broke.
fn is_refusal(e: &ssh2::Error) -> bool {
    // The key file cannot be used (-16), no method (-17), not taken (-18), the key was not verified (-19), the password has
    // expired (-20), the method is not supported (-33), the agent does not sign (-42), a wrong passphrase (-48).
    const REFUSALS: [i32; 8] = [-16, -17, -18, -19, -20, -33, -42, -48];
    matches!(e.code(), ssh2::ErrorCode::Session(code) if REFUSALS.contains(&code))
}

fn broken(hop: &Hop, e: &ssh2::Error) -> Error {
    Error::new(ErrorKind::Unreachable, format!("the connection to {} broke while logging on", hop.shown()))
        .because(e)
        .next("the server's own log says why; too many failed attempts may have made it close")
}

/// The operator's SSH agent, where one runs.
struct Agent {
    agent: ssh2::Agent,
}

impl Agent {
    fn open(session: &Session, socket: Option<&Path>) -> Option<Self> {
        let mut agent = session.agent().ok()?;
        if let Some(socket) = socket {
            agent.set_identity_path(socket).ok()?;
        }
        match agent.connect().and_then(|()| agent.list_identities()) {
            Ok(()) => Some(Self { agent }),
            Err(e) => {
                tracing::debug!(error = %e, "no SSH agent answers");
                None
            }
        }
    }

    fn keys(&self) -> Vec<ssh2::PublicKey> {
        self.agent.identities().unwrap_or_default()
    }
}

/// The public half of a key, from the file beside it or from its own head, which is never encrypted.
fn public_half(path: &Path) -> Option<Vec<u8>> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let beside = PublicKey::read_openssh_file(Path::new(&beside)).ok().and_then(|key| key.to_bytes().ok());
    beside.or_else(|| PrivateKey::read_openssh_file(path).ok().and_then(|key| key.public_key().to_bytes().ok()))
}

fn fingerprint(path: &Path) -> String {
    let key = public_half(path).and_then(|bytes| PublicKey::from_bytes(&bytes).ok());
    key.map(|key| format!(" ({})", key.fingerprint(HashAlg::Sha256))).unwrap_or_default()
}

/// Whether a key needs a passphrase, in OpenSSH's own form or the older one.
fn encrypted(path: &Path) -> bool {
    match PrivateKey::read_openssh_file(path) {
        Ok(key) => key.is_encrypted(),
        Err(_) => std::fs::read_to_string(path).is_ok_and(|text| text.contains("ENCRYPTED")),
    }
}

/// Answers what a server asks with the password, where what is typed would be hidden.
struct Answers {
    password: SecretString,
}

impl KeyboardInteractivePrompt for Answers {
    fn prompt(&mut self, _user: &str, _instructions: &str, prompts: &[Prompt<'_>]) -> Vec<String> {
        let answer = |prompt: &Prompt<'_>| if prompt.echo { String::new() } else { self.password.expose_secret().to_owned() };
        prompts.iter().map(answer).collect()
    }
}
