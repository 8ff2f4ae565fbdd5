//! The data of an inventory, as its file has it.

use crate::plan::WinrmAuth;
use crate::units::Span;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The instruments, and how to reach and treat each of them.
///
/// A setting may stand in `defaults`, in a group or at an instrument. From weak to strong: defaults, the groups in the
/// order in which the instrument lists them (a group's own `groups` come before it), the instrument. Maps are merged
/// key by key; lists and single values are replaced.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InventoryFile {
    /// Settings of every instrument.
    #[serde(default)]
    pub(super) defaults: Settings,
    /// Settings of the instruments that list the group.
    #[serde(default)]
    pub(super) groups: BTreeMap<String, Settings>,
    /// The instruments by name, for example `NDXLARMOR`.
    pub(super) instruments: BTreeMap<String, Settings>,
}

/// What can be set for an instrument.
///
/// The texts in `host`, `places`, `accounts`, `vars`, `kits` and `transport` may be templates: `{{ name }}` is the
/// instrument's name, `{{ inst }}` the name without `NDX`, `{{ groups }}` the list of its groups, and every variable goes
/// by its name; all but variables may also use `{{ host }}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The groups it belongs to; the later one wins. In a group: groups that its members belong to as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<String>,
    /// The machine's host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<String>,
    /// How to reach it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) transport: Option<Transport>,
    /// The accounts on it: `admin` is the agent's own, `instrument` the one that runs IBEX.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) accounts: BTreeMap<String, AccountSettings>,
    /// How a release's files get there: `push` (over the link), or `pull` (the instrument reads them itself).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kits: Option<Kits>,
    /// How the programs lie on the disk: `plain` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layout: Option<Layout>,
    /// Names for folders, as absolute Windows paths; playbooks use the names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) places: BTreeMap<String, String>,
    /// Variables for templates here and in playbooks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) vars: BTreeMap<String, Value>,
    /// Where secrets come from. Their values never stand in this file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) secrets: BTreeMap<String, SecretSource>,
    /// The older control system, which must be able to run beside IBEX until it retires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seci: Option<Seci>,
}

/// How to open a stream to the instrument. One of them is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Transport {
    /// A sandbox on this machine.
    Local(Local),
    /// OpenSSH.
    Ssh(Ssh),
    /// Windows Remote Management.
    Winrm(Winrm),
}

/// A sandbox on this machine: an instrument whose drives lie under a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Local {
    /// The folder; relative to the inventory's own.
    pub(super) root: String,
}

/// Settings of an SSH connection. What is not given comes from the operator's own `~/.ssh/config`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ssh {
    /// The account to log on with: an administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// Where to connect, when it is not the host's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    /// The port, 22 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<Port>,
    /// The private key file; `~` is the operator's home. Without it, the keys of the operator's SSH agent, then those
    /// in `~/.ssh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// The secret that holds the key's passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) passphrase: Option<String>,
    /// The secret that holds the account's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<String>,
    /// A host to go through, as `user@host:port`; several are separated by commas. `none` for no one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proxy_jump: Option<String>,
    /// The file of known host keys, the operator's own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) known_hosts: Option<String>,
    /// Makes it a Linux machine that stands for an instrument: the folder there that the drives lie under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<String>,
    /// Whether the agent's executable is brought there; it is unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<AgentSupply>,
    /// How long connecting and logging on may take, 20s unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<Span>,
}

/// A port to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64")]
#[schemars(with = "std::num::NonZeroU16")]
pub(super) struct Port(pub(super) u16);

impl TryFrom<i64> for Port {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(Self(port)),
            _ => Err(format!("{number} is not a port; write a number from 1 to 65535")),
        }
    }
}

/// Where the agent's executable comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AgentSupply {
    /// It is brought over the connection, once for each build.
    Brought,
    /// Somebody puts it into the agent's home, as `bin/ibexdeploy`; nothing is brought.
    Preinstalled,
}

/// Settings of a WinRM connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Winrm {
    /// The account to log on with, an administrator: NAME, DOMAIN\\NAME or NAME@DOMAIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// How to prove who one is; `negotiate` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) auth: Option<WinrmAuth>,
    /// The secret that holds the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<String>,
    /// Where to connect, when it is not the host's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    /// The port: 5985, or 5986 with HTTPS, unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<Port>,
    /// Encrypt with TLS. Without it, messages are sealed by the authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) https: Option<bool>,
    /// The file of certificate authorities to trust with HTTPS, the system's own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<String>,
    /// The SHA-256 fingerprint of the certificate that the machine shows, the only one that is taken, whoever signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pin: Option<String>,
    /// The file of the certificate to show instead of a password, with `auth: certificate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    /// The file of that certificate's private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// The Kerberos server, as HOST or HOST:PORT; found by the system's settings unless given. Where it is named, `auth: negotiate` is
    /// Kerberos and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kdc: Option<String>,
    /// Makes it a Linux machine that stands for an instrument: the folder there that the drives lie under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<String>,
    /// Whether the agent's executable is brought there; it is unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<AgentSupply>,
    /// How long connecting and logging on may take, 20s unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<Span>,
}

/// An account on an instrument.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountSettings {
    /// Its name, with the domain where there is one. One of the layers must give it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// Whether its steps need somebody logged on under it; `any` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<Session>,
}

/// The session that an account's steps run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Session {
    /// Its logged-on, unelevated session.
    LoggedOn,
    /// Any; nobody needs to be logged on.
    Any,
}

/// How a release's files reach the instrument.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kits {
    /// Over the link.
    Push,
    /// The instrument reads them itself, checked against the controller's manifest.
    Pull(Pull),
}

/// A folder of releases, as instruments see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pull {
    /// A share's path, or the address of a folder on a web server: `https://host/folder`.
    pub(super) from: String,
    /// Who reads there, where the agent's own account may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// The name of the secret with that user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<String>,
    /// With an address: the file of certificate authorities that are trusted, instead of the instrument's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<String>,
}

/// How the programs lie on the disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Layout {
    /// A component's place is its folder, and a release changes the files in it.
    Plain,
    /// Each version has a folder of its own, and a component's place is a link to one of them.
    Linked(Linked),
}

/// Versions beside each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Linked {
    /// The folder that they lie in, for example `E:\Versions`.
    pub(super) versions: String,
}

/// Where a secret's value comes from when a run needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// An environment variable of the controller.
    Env(String),
    /// A file that holds nothing else; relative to the inventory, `~` is the operator's home.
    File(String),
    /// The operator types it; this is what is asked.
    Prompt(String),
    /// A program and its arguments that write it to standard output: any vault's own.
    Command(Vec<String>),
}

impl SecretSource {
    /// The key that names the kind of source.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Env(_) => "env",
            Self::File(_) => "file",
            Self::Prompt(_) => "prompt",
            Self::Command(_) => "command",
        }
    }
}

/// The older control system beside IBEX.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Seci {
    /// The day from which it need not run any more, for example 2027-03-31; not given while none is agreed.
    #[serde(default, deserialize_with = "date", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub retire: Option<jiff::civil::Date>,
}

impl Seci {
    /// Its retirement date, when that has come by `today`.
    pub fn retired_by(&self, today: jiff::civil::Date) -> Option<jiff::civil::Date> {
        self.retire.filter(|date| *date <= today)
    }
}

/// A day, with what to write when it is not one.
fn date<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<jiff::civil::Date>, D::Error> {
    let Some(text) = Option::<String>::deserialize(reader)? else { return Ok(None) };
    let day = text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not a day; write it as 2027-03-31")))?;
    Ok(Some(day))
}
