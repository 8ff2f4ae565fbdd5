//! Logging on: the SSH agent's keys, key files, a password.

use super::connect::{Limit, TIMEOUT, words};
use super::route::{Hop, Logon};
use crate::error::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretString};
use ssh_key::{HashAlg, PrivateKey, PublicKey};
use ssh2::{KeyboardInteractivePrompt, Prompt, Session};
use std::path::{Path, PathBuf};

/// Keys that are offered to one server: most end the connection at the sixth.
const MOST_KEYS: usize = 5;

/// What a server may want one after the other, a key and then a password for example.
const MOST_FACTORS: usize = 4;

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
        Err(e) => return Err(broken(hop, &e, limit)),
    };
    tracing::debug!(user = hop.user, methods, "the server takes");
    let mut attempt =
        Attempt { session, hop, limit, methods, went_on: true, tried: Vec::new(), keys: 0, password_tried: false, next: None };
    for _ in 0..MOST_FACTORS {
        if !attempt.went_on {
            break;
        }
        attempt.went_on = false;
        if attempt.all_methods()? {
            tracing::debug!(user = hop.user, with = attempt.tried.last(), "logged on");
            return Ok(());
        }
    }
    Err(attempt.refused())
}

struct Attempt<'a> {
    session: &'a Session,
    hop: &'a Hop,
    limit: Limit,
    /// What the server takes now, separated by commas.
    methods: String,
    /// What was tried last was right, and the server wants something else beside it.
    went_on: bool,
    /// What was tried, for people.
    tried: Vec<String>,
    keys: usize,
    password_tried: bool,
    /// What to do, where something was wrong on this side.
    next: Option<String>,
}

impl Attempt<'_> {
    fn logon(&self) -> &Logon {
        &self.hop.logon
    }

    fn all_methods(&mut self) -> Result<bool> {
        type Method<'a> = fn(&mut Attempt<'a>) -> Result<bool>;
        let all: [(&str, Method<'_>); 3] =
            [("publickey", Self::keys), ("password", Self::password), ("keyboard-interactive", Self::keyboard_interactive)];
        for (name, method) in all {
            let takes = self.methods.split(',').any(|m| m == name);
            if takes && method(self)? {
                return Ok(true);
            }
            if self.went_on {
                break;
            }
        }
        Ok(false)
    }

    /// The named key (from the SSH agent, if it holds it). Else those of the operator's settings, the agent's, and the
    /// usual files: servers take only so many.
    fn keys(&mut self) -> Result<bool> {
        let mut agent = Agent::open(self.session, self.logon().agent.as_deref());
        if let Some(path) = self.logon().key.clone() {
            return self.named_key(&path, agent.as_mut());
        }
        let (chosen, usual) = (self.logon().chosen_keys.clone(), self.logon().usual_keys.clone());
        let mut held = agent.as_ref().map(Agent::keys).unwrap_or_default();
        for path in chosen {
            let wanted = public_half(&path);
            let at = held.iter().position(|key| wanted.as_deref() == Some(key.blob()));
            let taken = match (at, &agent) {
                (Some(at), Some(agent)) => self.agent_key(agent, &held.remove(at))?,
                _ => self.file_if_there(&path)?,
            };
            if taken || self.went_on {
                return Ok(taken);
            }
        }
        let Some(agent) = &agent else {
            let agent =
                if cfg!(windows) { "no SSH agent runs (neither the service ssh-agent nor Pageant)" } else { "no SSH agent runs" };
            self.tried.push(agent.to_owned());
            return self.first_of(&usual);
        };
        for key in held {
            let taken = self.agent_key(agent, &key)?;
            if taken || self.went_on {
                return Ok(taken);
            }
        }
        self.first_of(&usual)
    }

    fn first_of(&mut self, files: &[PathBuf]) -> Result<bool> {
        for path in files {
            let taken = self.file_if_there(path)?;
            if taken || self.went_on {
                return Ok(taken);
            }
        }
        Ok(false)
    }

    fn file_if_there(&mut self, path: &Path) -> Result<bool> {
        Ok(path.exists() && self.keys < MOST_KEYS && self.key_file(path)?)
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
            return Err(Error::new(ErrorKind::Logon, format!("the key file {} is not there", path.display()))
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
                    self.next = Some(
                        "name the secret with the key's passphrase as `passphrase` in the transport's settings, or add the key to \
                         your SSH agent (`ssh-add`)"
                            .to_owned(),
                    );
                    return Ok(false);
                }
            },
        };
        self.limit.arm(self.session, "logging on")?;
        let words = passphrase.as_ref().map(ExposeSecret::expose_secret);
        let answer = self.session.userauth_pubkey_file(&self.hop.user, None, path, words);
        if answer.as_ref().is_err_and(is_unusable_key) {
            self.unusable(path, passphrase.is_some());
            return Ok(false);
        }
        self.judge_key(format!("the key {}{}", path.display(), fingerprint(path)), answer)
    }

    /// Notes that a key was not offered at all. What libssh2 says of it depends on which form of key it tried last.
    fn unusable(&mut self, path: &Path, encrypted: bool) {
        let shown = path.display();
        let (why, next) = match std::fs::read(path) {
            Err(e) => (format!("it cannot be read: {e}"), format!("see that you may read {shown}")),
            Ok(_) if encrypted => (
                "its passphrase is another one than was given, or the file is damaged".to_owned(),
                "correct the secret that `passphrase` names; `ssh-keygen -yf KEY` tries a passphrase".to_owned(),
            ),
            Ok(_) => (
                "it is no private key that is understood".to_owned(),
                "name a private key in the form of OpenSSH or PEM (one of PuTTY is saved as such by `puttygen`)".to_owned(),
            ),
        };
        tracing::debug!(key = %shown, why, "not used");
        self.tried.push(format!("the key {shown}: {why}"));
        self.next = Some(next);
    }

    fn judge_key(&mut self, what: String, answer: Result<(), ssh2::Error>) -> Result<bool> {
        self.keys += 1;
        self.judge(what, answer)
    }

    fn password(&mut self) -> Result<bool> {
        let Some(password) = self.logon().password.clone() else { return Ok(false) };
        self.limit.arm(self.session, "logging on")?;
        self.password_tried = true;
        let answer = self.session.userauth_password(&self.hop.user, password.expose_secret());
        self.judge("the password".to_owned(), answer)
    }

    fn keyboard_interactive(&mut self) -> Result<bool> {
        let Some(password) = self.logon().password.clone() else { return Ok(false) };
        self.limit.arm(self.session, "logging on")?;
        self.password_tried = true;
        let mut answers = Answers { password };
        let answer = self.session.userauth_keyboard_interactive(&self.hop.user, &mut answers);
        self.judge("the password, as the answer to the server's question".to_owned(), answer)
    }

    /// True when it was taken. A refusal is noted; a connection that breaks is an error.
    fn judge(&mut self, what: String, answer: Result<(), ssh2::Error>) -> Result<bool> {
        match answer {
            Err(e) if is_cut(&e) => Err(broken(self.hop, &e, self.limit)),
            Ok(()) => {
                tracing::debug!(with = what, "taken");
                self.tried.push(what);
                // A server that wants a second factor says that it was taken, and waits for more.
                Ok(self.session.authenticated())
            }
            Err(e) if is_refusal(&e) && self.wants_more() => {
                tracing::debug!(with = what, wants = self.methods, "taken, and the server wants more");
                self.tried.push(format!("{what}: taken, and more is wanted"));
                Ok(false)
            }
            Err(e) if is_refusal(&e) => {
                tracing::debug!(with = what, error = %e, "not taken");
                self.tried.push(format!("{what}: {}", e.message()));
                Ok(false)
            }
            Err(e) => Err(broken(self.hop, &e, self.limit)),
        }
    }

    /// Whether the server takes something else now than before: libssh2 says "not taken" of a first factor, too.
    fn wants_more(&mut self) -> bool {
        // A connection that broke shows at the next attempt.
        let now = self.limit.arm(self.session, "logging on").ok().and_then(|()| self.session.auth_methods(&self.hop.user).ok());
        self.went_on = now.is_some_and(|now| now != self.methods);
        if let Some(now) = now.filter(|_| self.went_on) {
            self.methods = now.to_owned();
        }
        self.went_on
    }

    /// What to do about servers that have answered all there is with no.
    fn advice(&self) -> String {
        let right_key = format!(
            "see that the key's public half stands in the authorized keys of {} there (on Windows those of administrators are in \
             C:\\ProgramData\\ssh\\administrators_authorized_keys)",
            self.hop.user
        );
        let right_password =
            "see that the secret which `password` names is the account's password, and that the account is not locked";
        match (self.keys > 0, self.password_tried) {
            (true, true) => format!("{right_key}, or {right_password}"),
            (true, false) => right_key,
            (false, true) => right_password.to_owned(),
            (false, false) if self.methods.contains("publickey") => {
                let service = if cfg!(windows) { ", which is the service `ssh-agent`" } else { "" };
                format!(
                    "name a private key as `key` in the transport's settings, or add one to your SSH agent (`ssh-add`){service}"
                )
            }
            (false, false) => "name the secret with the account's password as `password` in the transport's settings".to_owned(),
        }
    }

    fn refused(&self) -> Error {
        let tried = if self.tried.is_empty() { "nothing at hand fits".to_owned() } else { self.tried.join("; ") };
        let next = self.next.clone().unwrap_or_else(|| self.advice());
        Error::new(ErrorKind::Logon, format!("{} does not let us log on", self.hop.shown()))
            .because(format!("it takes {}; tried: {tried}", self.methods))
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

/// Whether the connection went while an answer was awaited. libssh2 gives that the code of a refusal; only its words differ.
fn is_cut(e: &ssh2::Error) -> bool {
    e.message().starts_with("Waiting for ")
}

/// Whether a key file was of no use before anything was asked of the server: it cannot be read or opened.
fn is_unusable_key(e: &ssh2::Error) -> bool {
    matches!(e.code(), ssh2::ErrorCode::Session(-16 | -48))
}

fn broken(hop: &Hop, e: &ssh2::Error, limit: Limit) -> Error {
    if e.code() == ssh2::ErrorCode::Session(TIMEOUT) {
        return limit.over(&format!("logging on to {}", hop.shown()));
    }
    Error::new(ErrorKind::Unreachable, format!("the connection to {} broke while logging on", hop.shown()))
        .because(words(e))
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

/// The public half of a key: from the file beside it, from its own head, which is never encrypted, or the file itself,
/// where somebody names that because the SSH agent has the private half.
fn public_half(path: &Path) -> Option<Vec<u8>> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    let public = |file: &Path| PublicKey::read_openssh_file(file).ok().and_then(|key| key.to_bytes().ok());
    let private = || PrivateKey::read_openssh_file(path).ok().and_then(|key| key.public_key().to_bytes().ok());
    public(Path::new(&beside)).or_else(private).or_else(|| public(path))
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
