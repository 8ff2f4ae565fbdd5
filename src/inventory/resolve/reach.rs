//! The settings of SSH and WinRM connections, checked as far as no connection is needed for it.

use super::super::file::{AgentSupply, Ssh, Winrm};
use super::super::{Layer, names, secrets};
use super::Here;
use crate::error::{Error, Result};
use crate::plan::{SshSpec, WinrmAuth, WinrmSpec};
use crate::units::Span;
use std::path::{Path, PathBuf};

impl Here<'_> {
    pub(super) fn ssh(&self, ssh: Ssh, host: &str, folder: &Path) -> Result<SshSpec> {
        let at = |key: &str| format!("/transport/ssh/{key}");
        self.check_reach(&at, ssh.root.as_deref(), ssh.address.as_deref(), ssh.timeout)?;
        Ok(SshSpec {
            host: host.to_owned(),
            address: ssh.address,
            port: ssh.port.map(|port| port.0),
            user: ssh.user,
            key: self.file(&at("key"), folder, ssh.key)?,
            password: ssh.password,
            passphrase: ssh.passphrase,
            proxy_jump: ssh.proxy_jump,
            known_hosts: self.file(&at("known_hosts"), folder, ssh.known_hosts)?,
            root: ssh.root,
            preinstalled: ssh.agent == Some(AgentSupply::Preinstalled),
            timeout: ssh.timeout,
        })
    }

    pub(super) fn winrm(&self, winrm: Winrm, host: &str, folder: &Path) -> Result<WinrmSpec> {
        let at = |key: &str| format!("/transport/winrm/{key}");
        self.check_reach(&at, winrm.root.as_deref(), winrm.address.as_deref(), winrm.timeout)?;
        self.check_tls(&at, &winrm)?;
        self.check_logon(&at, &winrm)?;
        let pin = winrm.pin.as_deref().map(|pin| self.fingerprint(&at("pin"), pin)).transpose()?;
        // A password that is not used is not to be fetched either.
        let named = winrm.auth != Some(WinrmAuth::Certificate);
        Ok(WinrmSpec {
            host: host.to_owned(),
            address: winrm.address,
            port: winrm.port.map(|port| port.0),
            user: winrm.user.filter(|_| named),
            auth: winrm.auth.unwrap_or_default(),
            password: winrm.password.filter(|_| named),
            https: winrm.https == Some(true),
            ca: self.file(&at("ca"), folder, winrm.ca)?,
            pin,
            certificate: self.file(&at("certificate"), folder, winrm.certificate)?,
            key: self.file(&at("key"), folder, winrm.key)?,
            kdc: winrm.kdc,
            root: winrm.root,
            preinstalled: winrm.agent == Some(AgentSupply::Preinstalled),
            timeout: winrm.timeout,
        })
    }

    /// What all connections have.
    fn check_reach(
        &self,
        at: &dyn Fn(&str) -> String,
        root: Option<&str>,
        address: Option<&str>,
        timeout: Option<Span>,
    ) -> Result<()> {
        if let Some(root) = root.filter(|root| !root.starts_with('/')) {
            let error = Error::bad_input(format!("`root: {root}` is not an absolute path of a Linux machine"))
                .next("write it as /folder/sandbox; for a Windows instrument leave `root` out");
            return Err(self.wrong(&at("root"), error));
        }
        if let Some((address, problem)) = address.and_then(|a| Some((a, names::host_problem(a)?))) {
            let error = Error::bad_input(format!("`address: {address}` is not a machine's name or address: {problem}"))
                .next("write a name or an address alone; the port goes into `port:`");
            return Err(self.wrong(&at("address"), error));
        }
        if timeout.is_some_and(|limit| limit.0.is_zero()) {
            let error = Error::bad_input("within `timeout: 0s` nothing can be reached")
                .next("give it a time, for example 20s, or leave it out");
            return Err(self.wrong(&at("timeout"), error));
        }
        Ok(())
    }

    /// What goes through TLS only, and what belongs together.
    fn check_tls(&self, at: &dyn Fn(&str) -> String, winrm: &Winrm) -> Result<()> {
        let wrong = |key: &str, what: String, next: &str| Err(self.wrong(&at(key), Error::bad_input(what).next(next)));
        if winrm.https != Some(true) {
            let open = match winrm.auth {
                Some(WinrmAuth::Basic) => {
                    Some("`auth: basic` sends the password as it is, and without `https` anybody could read it")
                }
                Some(WinrmAuth::Certificate) => Some("`auth: certificate` is a part of TLS, and `https` is not set"),
                _ => None,
            };
            if let Some(open) = open {
                return wrong(
                    "auth",
                    open.to_owned(),
                    "add `https: true`, or choose another `auth`: negotiate, kerberos or ntlm",
                );
            }
            if let Some(key) =
                [("ca", &winrm.ca), ("pin", &winrm.pin)].into_iter().find_map(|(key, set)| set.as_ref().map(|_| key))
            {
                return wrong(
                    key,
                    format!("`{key}` is about certificates, and `https` is not set"),
                    "add `https: true`, or leave it out",
                );
            }
        }
        if winrm.ca.is_some() && winrm.pin.is_some() && !self.is_overruled(&at("ca"), &at("pin")) {
            let what = "`pin` and `ca` are both given, and with `pin` no authority counts";
            return wrong(
                "pin",
                what.to_owned(),
                "keep `pin` for this one certificate, or `ca` for all that the authority signs",
            );
        }
        let by_certificate = winrm.auth == Some(WinrmAuth::Certificate);
        for (key, file) in [("certificate", &winrm.certificate), ("key", &winrm.key)] {
            if by_certificate && file.is_none() {
                let what = format!("`auth: certificate` needs `{key}`");
                return wrong("auth", what, "name the files of the certificate and of its key, both as PEM");
            }
            if !by_certificate && file.is_some() {
                let what = format!("`{key}` is used with `auth: certificate` only");
                return wrong(key, what, "write `auth: certificate`, or leave it out");
            }
        }
        Ok(())
    }

    /// What logging on needs, and what it would not use: whoever wrote that expects something else than would happen.
    fn check_logon(&self, at: &dyn Fn(&str) -> String, winrm: &Winrm) -> Result<()> {
        let wrong = |key: &str, what: String, next: &str| Err(self.wrong(&at(key), Error::bad_input(what).next(next)));
        for (key, set) in [
            ("user", &winrm.user),
            ("kdc", &winrm.kdc),
            ("ca", &winrm.ca),
            ("certificate", &winrm.certificate),
            ("key", &winrm.key),
        ] {
            if set.as_ref().is_some_and(|text| text.trim().is_empty()) {
                return wrong(key, format!("`{key}` is empty"), "write what belongs there, or leave it out");
            }
        }
        let auth = winrm.auth.unwrap_or_default();
        let overruled = |key: &str| self.is_overruled(&at(key), &at("auth"));
        if let (Some(_), Some(name), false) = (&winrm.kdc, without_kerberos(auth), overruled("kdc")) {
            let what = format!("`kdc` names a Kerberos server, and `auth: {name}` asks none");
            return wrong("kdc", what, "choose `auth: kerberos` or `negotiate`, or leave `kdc` out");
        }
        for (key, set) in [("user", &winrm.user), ("password", &winrm.password)] {
            if auth == WinrmAuth::Certificate && set.is_some() && !overruled(key) {
                let what = format!("`{key}` is not used with `auth: certificate`: the machine knows whose the certificate is");
                return wrong(key, what, "leave it out, or choose another `auth`");
            }
        }
        if auth == WinrmAuth::Certificate {
            return Ok(());
        }
        if winrm.user.is_none() {
            let error = Error::bad_input("nothing says the account to log on with by WinRM")
                .next("add `user:` to its settings: NAME, DOMAIN\\NAME or NAME@DOMAIN");
            return Err(self.wrong(&self.any_of("/transport/winrm"), error));
        }
        if winrm.password.is_none() {
            let error = Error::bad_input("nothing says the password to log on with by WinRM").next(
                "name a secret, `password: NAME`, and say under `secrets:` where NAME comes from; a certificate needs none",
            );
            return Err(self.wrong(&at("user"), error));
        }
        Ok(())
    }

    /// True when a stronger layer makes another choice, so that an instrument can be an exception: a setting of the
    /// defaults cannot be taken out, and does not count then.
    fn is_overruled(&self, setting: &str, by: &str) -> bool {
        let rank = |pointer: &str| {
            self.origins.get(pointer).map(|origin| match origin.layer {
                Layer::Defaults => 0,
                Layer::Group(_) => 1,
                Layer::Instrument => 2,
            })
        };
        rank(setting) < rank(by)
    }

    /// A setting of a section, for errors about one that is missing.
    fn any_of(&self, section: &str) -> String {
        let below = format!("{section}/");
        self.origins.keys().find(|key| key.starts_with(&below)).map_or_else(|| section.to_owned(), Clone::clone)
    }

    /// As lower-case hex without signs between.
    fn fingerprint(&self, pointer: &str, text: &str) -> Result<String> {
        let hex: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).map(|c| c.to_ascii_lowercase()).collect();
        if hex.len() == 64 && hex.chars().all(|c| c.is_ascii_hexdigit()) {
            return Ok(hex);
        }
        let next = match hex.len() {
            40 => "this may be the SHA-1 thumbprint that Windows shows: docs/windows.md has the command for the other one",
            _ => "write its 64 hex digits, with or without colons; docs/windows.md has the command that shows them",
        };
        Err(self.wrong(pointer, Error::bad_input(format!("`pin: {text}` is not a SHA-256 fingerprint")).next(next)))
    }

    /// A file of the controller's: relative to the inventory, `~` is the operator's home.
    pub(super) fn file(&self, pointer: &str, folder: &Path, path: Option<String>) -> Result<Option<PathBuf>> {
        let Some(path) = path else { return Ok(None) };
        let path = secrets::at_home(&path).map_err(|e| self.wrong(pointer, e))?;
        Ok(Some(folder.join(path)))
    }
}

/// The name of a way to log on that has nothing to do with Kerberos.
fn without_kerberos(auth: WinrmAuth) -> Option<&'static str> {
    match auth {
        WinrmAuth::Negotiate | WinrmAuth::Kerberos => None,
        WinrmAuth::Ntlm => Some("ntlm"),
        WinrmAuth::Basic => Some("basic"),
        WinrmAuth::Certificate => Some("certificate"),
    }
}
