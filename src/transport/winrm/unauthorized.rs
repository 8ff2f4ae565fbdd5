//! Why a WinRM service says 401, as far as it can be known from here.

use super::endpoint::{Endpoint, Logon, Mechanisms};
use super::http::Answer;
use crate::error::{Error, ErrorKind};
use hyper::header::{HeaderMap, WWW_AUTHENTICATE};

/// Another reason of a refusal, over HTTPS with NTLM, which says what certificate was seen.
const ANOTHER_CERTIFICATE: &str =
    "or something between opens the connection and shows a certificate of its own: the service is told which one came here";

/// The same with Kerberos, which does not say it.
const STRICT: &str = "or its CbtHardeningLevel is Strict, which lets nobody in with Kerberos over HTTPS from here: `auth: ntlm`, or Kerberos \
                      over HTTP, where each message is sealed";

/// The ways to log on that an answer 401 offers, without what some of them say besides.
pub(super) fn offered(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok()?.split_whitespace().next()).map(plain).collect()
}

/// The error of an answer 401.
pub(super) fn explain(endpoint: &Endpoint, answer: &Answer) -> Error {
    let (place, user) = (endpoint.place(), endpoint.logon.user());
    let offered = offered(&answer.headers);
    let wanted = endpoint.logon.scheme();
    if !offered.is_empty() && !offered.iter().any(|scheme| scheme.eq_ignore_ascii_case(plain(wanted))) {
        return Error::new(
            ErrorKind::Logon,
            format!("the WinRM service on {place} does not let anybody log on with {}", plain(wanted)),
        )
        .because(format!("it offers {}", offered.join(", ")))
        .next(format!(
            "choose another `auth`, or switch it on there: winrm set winrm/config/service/auth @{{{}=\"true\"}}",
            plain(wanted)
        ));
    }
    let error = Error::new(ErrorKind::Logon, format!("the WinRM service on {place} does not let {user} in"));
    match &endpoint.logon {
        Logon::Certificate => error.next(
            "see that the certificate is mapped to an account there (`winrm enumerate winrm/config/service/certmapping`), that its \
             authority is among the machine's trusted ones, and that it has not expired",
        ),
        Logon::Basic { .. } => error.next(
            "see that name and password are right: Basic takes local accounts only, and no domain in front of the name",
        ),
        Logon::Negotiate { with, .. } => {
            let error = error.next(
                "see that name and password are right and the account is neither locked nor disabled; a local administrator other \
                 than `Administrator` needs LocalAccountTokenFilterPolicy=1 there (docs/windows.md)",
            );
            match with {
                _ if endpoint.tls.is_none() => error,
                Mechanisms::Ntlm => error.because(ANOTHER_CERTIFICATE),
                Mechanisms::Kerberos | Mechanisms::KerberosOrNtlm => error.because(STRICT),
            }
        }
    }
}

/// The error of an answer 401 on a connection that was logged on: another connection may be let in.
pub(super) fn forgotten(endpoint: &Endpoint) -> Error {
    let message = format!("the WinRM service on {} does not know any more who is logged on", endpoint.place());
    Error::new(ErrorKind::Unreachable, message)
        .because("it answers 401 in the middle of a session, as when a Kerberos ticket has expired")
        .next("a new connection logs on with a new ticket; see the clocks of both machines when it happens again and again")
}

fn plain(scheme: &str) -> &str {
    if scheme == super::endpoint::MUTUAL { "Certificate" } else { scheme }
}
