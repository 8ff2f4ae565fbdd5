//! A WinRM service as the inventory describes it, with what logging on needs.

use super::super::remote::RemoteHome;
use super::tls::Tls;
use crate::error::{Error, Result};
use crate::plan::{WinrmAuth, WinrmSpec};
use crate::secrets::Secrets;
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;

/// How long connecting and logging on may take, when the inventory does not say.
const CONNECT: Duration = Duration::from_secs(20);

/// Where, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// What its certificate and its Kerberos service are called.
    pub(super) host: String,
    /// Where to connect.
    pub(super) address: String,
    pub(super) port: u16,
    /// Without: messages are sealed by the authentication.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) logon: Logon,
    /// How long connecting and logging on may take.
    pub(super) limit: Duration,
    pub(super) home: RemoteHome,
}

/// How one proves who one is.
#[derive(Debug, Clone)]
pub(super) enum Logon {
    /// Name and password as they are.
    Basic { user: String, password: SecretString },
    /// The certificate that TLS shows.
    Certificate,
    /// SPNEGO, with one or both of its mechanisms.
    Negotiate { user: String, password: SecretString, with: Mechanisms, kdc: Option<String> },
}

/// What SPNEGO may choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mechanisms {
    Kerberos,
    Ntlm,
    KerberosOrNtlm,
}

impl Endpoint {
    /// # Errors
    /// When something that is needed is not set, or a certificate's file cannot be read.
    pub(super) fn of(spec: &WinrmSpec, secrets: &Secrets) -> Result<Self> {
        Ok(Self {
            host: spec.host.clone(),
            address: spec.address.clone().unwrap_or_else(|| spec.host.clone()),
            port: spec.port.unwrap_or(if spec.https { 5986 } else { 5985 }),
            tls: if spec.https { Some(Arc::new(Tls::of(spec)?)) } else { None },
            logon: Logon::of(spec, secrets)?,
            limit: spec.timeout.map_or(CONNECT, |span| span.0),
            home: RemoteHome::of(spec.root.as_deref())?,
        })
    }

    /// `address:port`, for people and for HTTP.
    pub(super) fn place(&self) -> String {
        if self.address.contains(':') {
            return format!("[{}]:{}", self.address, self.port);
        }
        format!("{}:{}", self.address, self.port)
    }

    /// The service's address, as each message names it.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/wsman", self.place())
    }
}

impl Logon {
    fn of(spec: &WinrmSpec, secrets: &Secrets) -> Result<Self> {
        let with = match spec.auth {
            WinrmAuth::Certificate => return Ok(Self::Certificate),
            WinrmAuth::Basic => None,
            // NTLM does not prove who the machine is; whoever names a Kerberos server means that it is proven.
            WinrmAuth::Negotiate if spec.kdc.is_some() => Some(Mechanisms::Kerberos),
            WinrmAuth::Negotiate => Some(Mechanisms::KerberosOrNtlm),
            WinrmAuth::Kerberos => Some(Mechanisms::Kerberos),
            WinrmAuth::Ntlm => Some(Mechanisms::Ntlm),
        };
        let missing = |key: &str, next: &str| {
            // The inventory refuses this; a plan may come from elsewhere.
            Error::bad_input(format!("nothing says the {key} to log on with by WinRM")).next(next)
        };
        let user = spec.user.clone().ok_or_else(|| missing("account", "add `user:` to its transport's settings"))?;
        let Some(name) = &spec.password else {
            return Err(missing("password", "name a secret: `password: NAME`, and say under `secrets:` where NAME comes from"));
        };
        let password = secrets.get(name)?.clone();
        Ok(match with {
            None if spec.https => Self::Basic { user, password },
            // The inventory refuses this; a plan may come from elsewhere.
            None => return Err(Error::bad_input("`auth: basic` sends the password as it is").next("add `https: true`")),
            Some(with) => Self::Negotiate { user, password, with, kdc: spec.kdc.clone() },
        })
    }

    /// The account, for messages.
    pub(super) fn user(&self) -> &str {
        match self {
            Self::Basic { user, .. } | Self::Negotiate { user, .. } => user,
            Self::Certificate => "the certificate's account",
        }
    }

    /// The word with which the service offers it.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Self::Basic { .. } => "Basic",
            Self::Certificate => MUTUAL,
            Self::Negotiate { .. } => "Negotiate",
        }
    }
}

/// What stands for a client certificate in the place of a scheme's name.
pub(super) const MUTUAL: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual";
