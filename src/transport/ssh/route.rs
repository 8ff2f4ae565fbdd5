//! Where a connection goes: the inventory's settings, then the operator's own, then the defaults.

use super::config::{HostSettings, OperatorConfig};
use super::known_hosts::ServerName;
use crate::error::{Error, Result};
use crate::plan::SshSpec;
use crate::secrets::Secrets;
use secrecy::SecretString;
use std::path::PathBuf;

/// Hosts that are gone through at most: more are a circle.
const MOST_JUMPS: usize = 8;

/// The names that OpenSSH gives to keys by itself, in its order.
const USUAL_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// The servers on the way; the last one is the instrument.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) jumps: Vec<Hop>,
    pub(super) last: Hop,
}

/// One server: where it is, who logs on there and with what.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) user: String,
    /// The name under which its key is known.
    pub(super) known_as: ServerName,
    /// Where host keys are known from; the first is where new ones are recorded.
    pub(super) known_hosts: Vec<PathBuf>,
    pub(super) logon: Logon,
}

/// What somebody logs on with.
#[derive(Debug, Clone, Default)]
pub(super) struct Logon {
    /// A key that was named: it must be there, and goes first.
    pub(super) key: Option<PathBuf>,
    /// Keys that the operator's own settings name, tried where they exist.
    pub(super) chosen_keys: Vec<PathBuf>,
    /// Where there are no such, those that OpenSSH tries by itself.
    pub(super) usual_keys: Vec<PathBuf>,
    pub(super) passphrase: Option<SecretString>,
    pub(super) password: Option<SecretString>,
    /// Another socket of the SSH agent than the environment's.
    pub(super) agent: Option<PathBuf>,
}

impl Hop {
    /// `user@address:port`, for people.
    pub(super) fn shown(&self) -> String {
        format!("{}@{}:{}", self.user, self.address, self.port)
    }
}

impl Route {
    /// The way to an instrument.
    ///
    /// # Errors
    /// When a secret is not at hand, or `proxy_jump` cannot be read or goes in a circle.
    pub(super) fn of(spec: &SshSpec, config: &OperatorConfig, secrets: &Secrets) -> Result<Self> {
        let settings = config.about(&spec.host);
        let jumps = spec.proxy_jump.clone().or_else(|| settings.proxy_jump.clone());
        let secret = |name: &Option<String>| name.as_deref().map(|n| secrets.get(n).cloned()).transpose();
        let address = spec.address.clone().or_else(|| settings.host_name.clone()).unwrap_or_else(|| spec.host.clone());
        let port = spec.port.or(settings.port).unwrap_or(22);
        let last = Hop {
            known_as: known_as(&settings, &address, port),
            port,
            user: spec.user.clone().or_else(|| settings.user.clone()).or_else(whoever_runs_this).unwrap_or_default(),
            known_hosts: known_hosts(spec, &settings, config),
            logon: Logon {
                key: spec.key.clone(),
                usual_keys: usual_keys(&settings, config),
                chosen_keys: settings.identity_files.clone(),
                passphrase: secret(&spec.passphrase)?,
                password: secret(&spec.password)?,
                agent: settings.agent.clone(),
            },
            address,
        };
        let jumps = match jumps.as_deref().map(str::trim) {
            None | Some("" | "none") => Vec::new(),
            Some(list) => through(list, spec, config, &secret(&spec.passphrase)?, 0)?,
        };
        Ok(Self { jumps, last })
    }
}

/// The hops of a `proxy_jump`. A first host that is itself behind others, by the operator's settings, brings those along.
fn through(
    list: &str,
    spec: &SshSpec,
    config: &OperatorConfig,
    passphrase: &Option<SecretString>,
    depth: usize,
) -> Result<Vec<Hop>> {
    if depth > MOST_JUMPS {
        return Err(Error::bad_input(format!("`{list}` is reached through more than {MOST_JUMPS} hosts"))
            .next("look for a circle of `ProxyJump` in your ssh settings"));
    }
    let mut hops = Vec::new();
    for text in list.split(',').map(str::trim) {
        let (user, host, port) = split(text)?;
        let settings = config.about(host);
        if hops.is_empty()
            && let Some(before) = settings.proxy_jump.as_deref().filter(|jump| *jump != "none")
        {
            hops = through(before, spec, config, passphrase, depth + 1)?;
        }
        let address = settings.host_name.clone().unwrap_or_else(|| host.to_owned());
        let port = port.or(settings.port).unwrap_or(22);
        hops.push(Hop {
            known_as: known_as(&settings, &address, port),
            port,
            user: user
                .map(str::to_owned)
                .or_else(|| settings.user.clone())
                .or_else(|| spec.user.clone())
                .or_else(whoever_runs_this)
                .unwrap_or_default(),
            known_hosts: known_hosts(spec, &settings, config),
            // The instrument's password is for the instrument alone; its key is offered, which gives nothing away.
            logon: Logon {
                key: spec.key.clone().filter(|_| settings.identity_files.is_empty()),
                usual_keys: usual_keys(&settings, config),
                chosen_keys: settings.identity_files.clone(),
                passphrase: passphrase.clone(),
                password: None,
                agent: settings.agent.clone(),
            },
            address,
        });
    }
    Ok(hops)
}

/// Takes `user@host:port` apart; an address of version 6 with a port stands in brackets.
fn split(text: &str) -> Result<(Option<&str>, &str, Option<u16>)> {
    let bad = || {
        Error::bad_input(format!("`{text}` in `proxy_jump` is not a host to go through"))
            .next("write HOST, USER@HOST or USER@HOST:PORT; several are separated by commas")
    };
    let text = text.strip_prefix("ssh://").unwrap_or(text);
    let (user, place) = text.rsplit_once('@').map_or((None, text), |(user, place)| (Some(user), place));
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(bad)?)),
        None => match place.split_once(':') {
            Some((_, rest)) if rest.contains(':') => (place, None),
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map(|p| p.parse().map_err(|_| bad())).transpose()?;
    if host.is_empty() || user == Some("") || host.contains(char::is_whitespace) {
        return Err(bad());
    }
    Ok((user, host, port))
}

fn known_as(settings: &HostSettings, address: &str, port: u16) -> ServerName {
    match &settings.host_key_alias {
        Some(alias) => ServerName { host: alias.clone(), port: 22 },
        None => ServerName { host: address.to_owned(), port },
    }
}

/// The inventory's file or the operator's, and always the machine's.
fn known_hosts(spec: &SshSpec, settings: &HostSettings, config: &OperatorConfig) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = match &spec.known_hosts {
        Some(file) => vec![file.clone()],
        None if !settings.known_hosts.is_empty() => settings.known_hosts.clone(),
        None => config.ssh_folder().map(|folder| folder.join("known_hosts")).into_iter().collect(),
    };
    let machines = match std::env::var_os("ProgramData") {
        Some(data) if cfg!(windows) => PathBuf::from(data).join("ssh").join("ssh_known_hosts"),
        _ => PathBuf::from("/etc/ssh/ssh_known_hosts"),
    };
    files.push(machines);
    files
}

fn usual_keys(settings: &HostSettings, config: &OperatorConfig) -> Vec<PathBuf> {
    if !settings.identity_files.is_empty() {
        return Vec::new();
    }
    let folder = config.ssh_folder();
    folder.iter().flat_map(|folder| USUAL_KEYS.map(|name| folder.join(name))).collect()
}

fn whoever_runs_this() -> Option<String> {
    ["USER", "USERNAME", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_to_go_through_are_taken_apart() {
        assert_eq!(split("gate").unwrap(), (None, "gate", None));
        assert_eq!(split("ann@gate:2200").unwrap(), (Some("ann"), "gate", Some(2200)));
        assert_eq!(split("ann@[fe80::1]:22").unwrap(), (Some("ann"), "fe80::1", Some(22)));
        assert_eq!(split("fe80::1").unwrap(), (None, "fe80::1", None));
        for bad in ["", "@gate", "gate:x", "ann@", "[gate]x"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_inventory_comes_before_the_defaults_and_the_password_stays_with_the_instrument() {
        let mut secrets = Secrets::default();
        secrets.insert("word", "s3cret".to_owned().into());
        let spec = SshSpec {
            host: "ndxzoom".into(),
            user: Some("gamekeeper".into()),
            password: Some("word".into()),
            proxy_jump: Some("gate,ann@inner:2200".into()),
            known_hosts: Some("/known".into()),
            ..SshSpec::default()
        };
        let route = Route::of(&spec, &OperatorConfig::default(), &secrets).unwrap();
        assert_eq!(route.last.shown(), "gamekeeper@ndxzoom:22");
        assert!(route.last.logon.password.is_some());
        let shown: Vec<String> = route.jumps.iter().map(Hop::shown).collect();
        assert_eq!(shown, ["gamekeeper@gate:22", "ann@inner:2200"]);
        assert!(route.jumps.iter().all(|hop| hop.logon.password.is_none()));
        assert_eq!(route.jumps[1].known_as.written(), "[inner]:2200");
        assert_eq!(route.last.known_hosts[0], PathBuf::from("/known"));
    }

    #[test]
    fn a_secret_that_is_not_at_hand_is_named() {
        let spec = SshSpec { host: "ndxzoom".into(), password: Some("word".into()), ..SshSpec::default() };
        let error = Route::of(&spec, &OperatorConfig::default(), &Secrets::default()).unwrap_err();
        assert!(error.to_string().contains("`word`"), "{error}");
    }
}
