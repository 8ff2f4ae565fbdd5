//! How an instrument is reached, as data.

use crate::units::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How to reach an instrument. Later transports are further variants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportSpec {
    /// A sandbox on this machine.
    Local {
        /// Its root folder.
        root: PathBuf,
    },
    /// This machine itself: an instrument that carries out a plan of its own.
    ThisMachine,
    /// An OpenSSH server.
    Ssh(Box<SshSpec>),
    /// Windows Remote Management.
    Winrm(Box<WinrmSpec>),
}

impl TransportSpec {
    /// True for a folder that stands for an instrument, here or on another machine.
    pub fn is_sandbox(&self) -> bool {
        match self {
            Self::Local { .. } => true,
            Self::ThisMachine => false,
            Self::Ssh(spec) => spec.root.is_some(),
            Self::Winrm(spec) => spec.root.is_some(),
        }
    }

    /// The names of the secrets that logging on needs.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let (first, second) = match self {
            Self::Local { .. } | Self::ThisMachine => (None, None),
            Self::Ssh(spec) => (spec.password.as_deref(), spec.passphrase.as_deref()),
            Self::Winrm(spec) => (spec.password.as_deref(), None),
        };
        first.into_iter().chain(second)
    }

    /// The word of the inventory for it.
    pub fn name(&self) -> &str {
        match self {
            Self::Local { .. } | Self::ThisMachine => "local",
            Self::Ssh(_) => "ssh",
            Self::Winrm(_) => "winrm",
        }
    }
}

/// An SSH server as the inventory describes it. What is left open, the operator's own ssh settings say, then the
/// defaults of OpenSSH. Secrets are named here, never held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SshSpec {
    /// The machine's name, under which the operator's ssh settings are looked up.
    pub host: String,
    /// Where to connect, when it is not `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The file of the private key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name of the secret with the account's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The name of the secret with the key's passphrase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
    /// Hosts to go through in this order, each as `user@host:port`, separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_jump: Option<String>,
    /// The file of known host keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_hosts: Option<PathBuf>,
    /// A Linux machine: the folder there that its drives lie under. Without it, it is a Windows machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The agent is there already, and none may be brought.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub preinstalled: bool,
    /// How long connecting and logging on may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// A WinRM listener as the inventory describes it. Secrets are named here, never held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WinrmSpec {
    /// The machine's name: what its certificate and its Kerberos service are called.
    pub host: String,
    /// Where to connect, when it is not `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// 5985, or 5986 with `https`, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub auth: WinrmAuth,
    /// The name of the secret with the account's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Encrypt with TLS; without it, the authentication seals each message.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub https: bool,
    /// The file of certificate authorities that are trusted, instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The SHA-256 fingerprint of the one certificate that the machine may show, in lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// The file of the certificate, and of its key, that we show instead of a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The Kerberos server; found by the system's settings unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kdc: Option<String>,
    /// A Linux machine: the folder there that its drives lie under. Without it, it is a Windows machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The agent is there already, and none may be brought.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub preinstalled: bool,
    /// How long connecting and logging on may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// The authentication of a WinRM connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WinrmAuth {
    /// Kerberos where it can, else NTLM.
    #[default]
    Negotiate,
    Kerberos,
    Ntlm,
    /// Name and password as they are; with HTTPS only.
    Basic,
    /// A client certificate that is mapped to an account there; with HTTPS only.
    Certificate,
}
