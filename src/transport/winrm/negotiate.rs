//! SPNEGO: who we are is agreed on with the service, and with it the keys that seal messages.

use super::endpoint::{Endpoint, Logon, Mechanisms};
use super::http::{Answer, Post, Wire};
use super::kdc;
use super::sealing::{self, Sealed};
use super::unauthorized;
use crate::error::{Error, ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use secrecy::ExposeSecret;
use sspi::builders::AcquireCredentialsHandleResult;
use sspi::generator::GeneratorState;
use sspi::ntlm::NtlmConfig;
use sspi::{
    AuthIdentity, BufferType, ClientRequestFlags, CredentialUse, Credentials, CredentialsBuffers, DataRepresentation,
    EncryptionFlags, KerberosConfig, Negotiate, NegotiateConfig, SecurityBuffer, SecurityBufferRef, SecurityStatus, Sspi,
    SspiImpl, Username,
};
use std::time::Duration;

/// Messages go to and fro at most this often: NTLM needs three, Kerberos two.
const MOST_LEGS: usize = 6;

/// What was agreed on: it seals what is sent and opens what comes. Messages are numbered, so each belongs to one
/// connection and keeps its order.
pub(super) struct Context {
    negotiate: Negotiate,
    /// Bytes of a token.
    token: usize,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("protocol", &self.protocol()).finish_non_exhaustive()
    }
}

/// Logs a connection on.
///
/// # Errors
/// When the service does not let the account in, or no Kerberos server helps.
pub(super) async fn log_on(endpoint: &Endpoint, wire: &mut Wire, limit: Duration) -> Result<Context> {
    let Logon::Negotiate { user, password, with, kdc } = &endpoint.logon else {
        return Err(Error::internal("another logon than SPNEGO's was asked for"));
    };
    let unfit = |e: &dyn std::fmt::Display| Error::bad_input(format!("`user: {user}` is not an account's name")).because(e);
    let username = Username::parse(user).map_err(|e| unfit(&e))?;
    let identity = AuthIdentity { username, password: password.expose_secret().to_owned().into() };
    let mut negotiate = client(*with, kdc.as_deref()).map_err(|e| failed(endpoint, &e))?;
    let mut credentials = negotiate
        .acquire_credentials_handle()
        .with_credential_use(CredentialUse::Outbound)
        .with_auth_data(&Credentials::AuthIdentity(identity))
        .execute(&mut negotiate)
        .map_err(|e| failed(endpoint, &e))?;
    let mut input = Vec::new();
    for _ in 0..MOST_LEGS {
        let binding = wire.binding().filter(|_| !negotiate.negotiated_protocol().is_kerberos());
        let (token, done) = step(endpoint, &mut negotiate, &mut credentials, heard(input, binding)).await?;
        if token.is_empty() && done {
            return finish(endpoint, negotiate);
        }
        let answer = wire.post(Post { authorization: Some(header(&token)?), ..Post::default() }, limit).await?;
        match answer.status {
            StatusCode::OK if done => return finish(endpoint, negotiate),
            StatusCode::OK | StatusCode::UNAUTHORIZED => {}
            _ => return Err(super::refused(endpoint, &answer)),
        }
        let Some(next) = offered(&answer.headers)? else {
            if answer.status == StatusCode::OK {
                return Err(stranger(endpoint));
            }
            return Err(unauthorized::explain(endpoint, &answer));
        };
        input = next;
    }
    Err(failed(endpoint, &"it does not come to an end"))
}

fn client(with: Mechanisms, kdc: Option<&str>) -> sspi::Result<Negotiate> {
    let computer = "ibexdeploy".to_owned();
    let packages = match with {
        Mechanisms::Kerberos => "kerberos,!ntlm",
        Mechanisms::Ntlm => "!kerberos,ntlm",
        Mechanisms::KerberosOrNtlm => "kerberos,ntlm",
    };
    let packages = Some(packages.to_owned());
    let config = match kdc {
        Some(kdc) if with != Mechanisms::Ntlm => {
            let config = KerberosConfig::new_with_kdc_url(kdc, computer.clone());
            NegotiateConfig::new(Box::new(config), packages, computer)
        }
        _ => NegotiateConfig::new(Box::new(NtlmConfig::new(computer.clone())), packages, computer),
    };
    Negotiate::new_client(config)
}

/// What a step is made from: the service's message, and which channel it came over.
///
/// The first step hears nothing yet. NTLM says the channel in its second message; Kerberos would in its first, but the library
/// writes the option that goes with it as two bytes in the place of four (sspi 0.23, `KERB_AP_OPTIONS_CBT`), and MIT's service
/// refuses the ticket then.
fn heard(message: Vec<u8>, binding: Option<&[u8]>) -> Vec<SecurityBuffer> {
    let binding = binding.filter(|_| !message.is_empty());
    let binding = binding.map(|binding| SecurityBuffer::new(binding.to_vec(), BufferType::ChannelBindings));
    std::iter::once(SecurityBuffer::new(message, BufferType::Token)).chain(binding).collect()
}

/// One message of ours; true when there is nothing more to hear.
async fn step(
    endpoint: &Endpoint,
    negotiate: &mut Negotiate,
    credentials: &mut AcquireCredentialsHandleResult<Option<CredentialsBuffers>>,
    mut input: Vec<SecurityBuffer>,
) -> Result<(Vec<u8>, bool)> {
    let target = format!("HTTP/{}", endpoint.host);
    let mut output = [SecurityBuffer::new(Vec::new(), BufferType::Token)];
    let status = {
        let mut builder = negotiate
            .initialize_security_context()
            .with_credentials_handle(&mut credentials.credentials_handle)
            .with_context_requirements(
                ClientRequestFlags::CONFIDENTIALITY
                    | ClientRequestFlags::INTEGRITY
                    | ClientRequestFlags::MUTUAL_AUTH
                    | ClientRequestFlags::ALLOCATE_MEMORY,
            )
            .with_target_data_representation(DataRepresentation::Native)
            .with_target_name(&target)
            .with_input(&mut input)
            .with_output(&mut output);
        let mut steps = negotiate.initialize_security_context_impl(&mut builder).map_err(|e| failed(endpoint, &e))?;
        let mut state = steps.start();
        loop {
            match state {
                GeneratorState::Suspended(request) => {
                    let answer = kdc::ask(&request).await;
                    state = steps.resume(answer);
                }
                GeneratorState::Completed(result) => break result.map_err(|e| failed(endpoint, &e))?.status,
            }
        }
    };
    let done = match status {
        SecurityStatus::Ok => true,
        SecurityStatus::CompleteNeeded | SecurityStatus::CompleteAndContinue => {
            negotiate.complete_auth_token(&mut output).map_err(|e| failed(endpoint, &e))?;
            status == SecurityStatus::CompleteNeeded
        }
        _ => false,
    };
    let [output] = output;
    Ok((output.buffer, done))
}

fn finish(endpoint: &Endpoint, mut negotiate: Negotiate) -> Result<Context> {
    let sizes = negotiate.query_context_sizes().map_err(|e| failed(endpoint, &e))?;
    let token = usize::try_from(sizes.security_trailer).unwrap_or(0);
    let context = Context { negotiate, token };
    tracing::debug!(protocol = context.protocol(), user = endpoint.logon.user(), "logged on");
    Ok(context)
}

fn header(token: &[u8]) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Negotiate {}", BASE64.encode(token)))
        .map_err(|e| Error::internal("cannot make a header").because(e))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The service's next message, where it has one.
fn offered(headers: &HeaderMap) -> Result<Option<Vec<u8>>> {
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Some(token) = value.to_str().ok().and_then(|text| text.strip_prefix("Negotiate ")) else { continue };
        return BASE64.decode(token.trim()).map(Some).map_err(|e| {
            Error::new(ErrorKind::Unreachable, "what the WinRM service says about logging on cannot be read").because(e)
        });
    }
    Ok(None)
}

/// The error of an answer 200 in the middle of a logon. Whoever lets everybody in is no WinRM service, whatever the password is.
fn stranger(endpoint: &Endpoint) -> Error {
    let message = format!("what listens on {} is no WinRM service", endpoint.place());
    Error::new(ErrorKind::Unreachable, message)
        .because("it answers 200 to a logon that has only begun, and does not prove who it is")
        .next("see whether `port` and `address` are right, and whether another web server or a proxy listens there")
        .lasting()
}

fn failed(endpoint: &Endpoint, e: &dyn std::fmt::Display) -> Error {
    let (user, place) = (endpoint.logon.user(), endpoint.place());
    let error = Error::new(ErrorKind::Logon, format!("cannot log on to {place} as {user}")).because(e);
    let Logon::Negotiate { with, kdc, .. } = &endpoint.logon else { return error };
    match (with, kdc) {
        (Mechanisms::Ntlm, _) => error.next("see that the account's name and password are right"),
        (_, Some(kdc)) => error.next(format!(
            "see that {kdc} is the Kerberos server of the account's domain, that `host` is the machine's whole name, that both \
             clocks agree, and that the password is right"
        )),
        (_, None) => error
            .next("name the domain's Kerberos server, `kdc: HOST`, and write the account as NAME@DOMAIN; or use `auth: ntlm`"),
    }
}

impl Context {
    fn protocol(&self) -> &'static str {
        if self.negotiate.negotiated_protocol().is_kerberos() { "Kerberos" } else { "NTLM" }
    }

    /// Seals a message.
    ///
    /// # Errors
    /// When there are no keys for it.
    pub(super) fn seal(&mut self, message: &[u8]) -> Result<Sealed> {
        let (mut token, mut data) = (vec![0; self.token], message.to_vec());
        let mut buffers = [SecurityBufferRef::token_buf(&mut token), SecurityBufferRef::data_buf(&mut data)];
        self.negotiate
            .encrypt_message(EncryptionFlags::empty(), &mut buffers)
            .map_err(|e| Error::new(ErrorKind::Protocol, "cannot seal a message").because(e))?;
        Ok(Sealed { token, data, length: message.len() })
    }

    /// Opens a sealed body.
    ///
    /// # Errors
    /// When it was not sealed by the service, or was changed on the way.
    pub(super) fn open(&mut self, answer: &Answer) -> Result<Vec<u8>> {
        let Sealed { mut token, mut data, length } = sealing::unwrap(answer.content_type(), &answer.body)?;
        let altered = |e: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Unreachable, "a sealed message was changed on its way from the instrument")
                .because(e)
                .next("it was not used, and the link is made anew; if it happens again, see what lies between")
        };
        let mut buffers = [SecurityBufferRef::token_buf(&mut token), SecurityBufferRef::data_buf(&mut data)];
        self.negotiate
            .decrypt_message(&mut buffers)
            .map_err(|e| altered(&format!("its seal does not fit ({:?})", e.error_type)))?;
        let [_, plain] = &buffers;
        let plain = plain.data().to_vec();
        if plain.len() != length {
            return Err(altered(&format!("{} bytes came, and {length} were announced", plain.len())));
        }
        Ok(plain)
    }
}
