//! TLS to a WinRM service: who it is by its certificate, who we are by ours.

use super::endpoint::Endpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::WinrmSpec;
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// How certificates are judged and shown.
#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    pinned: bool,
}

impl Tls {
    /// # Errors
    /// When a file cannot be read, or holds no certificates.
    pub(super) fn of(spec: &WinrmSpec) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let wrong = |e: &dyn std::fmt::Display| Error::internal("cannot set TLS up").because(e);
        let verifier: Arc<dyn ServerCertVerifier> = match &spec.pin {
            Some(pin) => Arc::new(Pinned { pin: pin.clone(), provider: Arc::clone(&provider) }),
            None => WebPkiServerVerifier::builder_with_provider(Arc::new(roots(spec.ca.as_deref())?), Arc::clone(&provider))
                .build()
                .map_err(|e| wrong(&e))?,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(&e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (&spec.certificate, &spec.key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("certificate", certificate)?;
                let unfit = |e: &dyn std::fmt::Display| {
                    Error::bad_input(format!(
                        "the certificate {} and the key {} cannot be used",
                        certificate.display(),
                        key.display()
                    ))
                    .because(e)
                    .next("name a certificate of version 3 and its private key, both as PEM and the key without a passphrase")
                };
                let key = PrivateKeyDer::from_pem_file(key).map_err(|e| match e {
                    pem::Error::Io(e) => unreadable("key", key, &e),
                    e => unfit(&e),
                })?;
                config.with_client_auth_cert(chain, key).map_err(|e| unfit(&e))?
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), pinned: spec.pin.is_some() })
    }
}

/// The authorities that are trusted: those of the file, or the system's.
fn roots(ca: Option<&Path>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let Some(file) = ca else {
        // What the system has and cannot be read is passed over, as by everybody.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            return Err(Error::bad_input("this system has no certificate authorities that it trusts")
                .next("name those of the site: `ca: FILE`, or the machine's own certificate: `pin: FINGERPRINT`"));
        }
        return Ok(store);
    };
    for certificate in certificates("ca", file)? {
        store.add(certificate).map_err(|e| {
            Error::bad_input(format!("`ca`: a certificate in {} cannot be used", file.display()))
                .because(e)
                .next("put the authority's certificate there, as PEM")
        })?;
    }
    Ok(store)
}

/// The certificates in the file that a setting names.
fn certificates(setting: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unfit = |e: &dyn std::fmt::Display| {
        Error::bad_input(format!("{} cannot be read as certificates", file.display()))
            .because(e)
            .next("it must be PEM, which begins with -----BEGIN CERTIFICATE-----")
    };
    let wrong = |e: pem::Error| match e {
        pem::Error::Io(e) => unreadable(setting, file, &e),
        e => unfit(&e),
    };
    let all = CertificateDer::pem_file_iter(file).map_err(wrong)?;
    let all = all.collect::<std::result::Result<Vec<_>, _>>().map_err(wrong)?;
    if all.is_empty() { Err(unfit(&"there is none in it")) } else { Ok(all) }
}

/// The error of a file that is not there, or that this account may not read.
fn unreadable(setting: &str, file: &Path, e: &io::Error) -> Error {
    Error::bad_input(format!("`{setting}`: cannot read {}", file.display()))
        .because(e)
        .next("put it there, or write where it lies: the inventory's own folder is where relative paths begin")
}

/// Takes one certificate and no other, whoever signed it and whatever it is called.
#[derive(Debug)]
struct Pinned {
    pin: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let shown = fingerprint(end_entity);
        if shown == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        tracing::debug!(shown, pinned = self.pin, "the certificate is another one than the one that is pinned");
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn fingerprint(certificate: &[u8]) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a connection a secure one.
///
/// # Errors
/// When it is not who was meant, or does not speak TLS.
pub(super) async fn secure(endpoint: &Endpoint, tls: &Tls, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|e| Error::bad_input(format!("`{}` cannot be the name in a certificate", endpoint.host)).because(e))?;
    let secured = TlsConnector::from(Arc::clone(&tls.config)).connect(name, stream).await;
    let secured = secured.map_err(|e| {
        let cause = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        refused(endpoint, tls.pinned, cause, &e)
    })?;
    let session = secured.get_ref().1;
    let certificate = session.peer_certificates().and_then(<[_]>::first).map(|certificate| fingerprint(certificate));
    tracing::debug!(
        version = session.protocol_version().and_then(|version| version.as_str()),
        certificate = certificate.map(|sha256| format!("SHA256:{sha256}")),
        "TLS protects the connection"
    );
    Ok(secured)
}

fn refused(endpoint: &Endpoint, pinned: bool, cause: Option<&rustls::Error>, e: &io::Error) -> Error {
    let place = endpoint.place();
    let Some(cause) = cause else {
        return Error::new(ErrorKind::Unreachable, format!("no TLS with {place}")).because(e);
    };
    let rustls::Error::InvalidCertificate(problem) = cause else {
        let error = Error::new(ErrorKind::Unreachable, format!("no TLS with {place}")).because(cause);
        return match cause {
            rustls::Error::AlertReceived(_) => {
                error.next("the service refuses what we offer, perhaps the client certificate: its event log says why").lasting()
            }
            rustls::Error::InvalidMessage(_) => {
                error.next("what listens there may not speak TLS: see whether `port` is that of HTTPS").lasting()
            }
            _ => error,
        };
    };
    let host = &endpoint.host;
    let (kind, message, next) = match problem {
        CertificateError::ApplicationVerificationFailure if pinned => (
            ErrorKind::WrongHostKey,
            format!("{host} shows another certificate than the one that is pinned"),
            "if it was given a new one, ask whoever did it for the fingerprint and put that under `pin:`; else somebody stands between",
        ),
        // Another authority of the same name has signed it, in the second case.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            ErrorKind::HostKey,
            format!("nobody that is trusted has signed the certificate of {host}"),
            "name the site's certificate authority, `ca: FILE`, or the machine's own certificate, `pin: FINGERPRINT` (docs/windows.md)",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            ErrorKind::WrongHostKey,
            format!("the certificate on {place} is not one of {host}"),
            "see whether `host` is the machine's whole name, and whether `address` is this machine's; or use `pin:`",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            ErrorKind::WrongHostKey,
            format!("the certificate of {host} has expired"),
            "give it a new one (docs/windows.md), or see whether this machine's clock is right",
        ),
        _ => (ErrorKind::WrongHostKey, format!("the certificate of {host} is not good"), "give it a new one (docs/windows.md)"),
    };
    Error::new(kind, message).because(cause).next(next)
}
