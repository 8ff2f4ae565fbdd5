//! Which TLS channel a logon belongs to (RFC 5929, `tls-server-end-point`): a hash of the service's certificate, said inside
//! of the logon. Somebody who stands between with another certificate cannot hand the logon on, which is what a service with
//! `CbtHardeningLevel` `Strict` asks to be shown.

use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::AlgorithmIdentifierRef;
use spki::der::asn1::{AnyRef, ContextSpecific, ObjectIdentifier};
use spki::der::{self, Decode, SliceReader, TagNumber};

/// Bytes before the application's own in Windows' SEC_CHANNEL_BINDINGS: eight numbers of four bytes.
const HEAD: usize = 32;

const RSASSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");

/// A certificate's own hash, where RFC 5929 says by which function, as the buffer that SSPI takes (SEC_CHANNEL_BINDINGS).
/// None for a signature without a hash function of its own (Ed25519), or a certificate that cannot be read: a logon without
/// is let in by a service that does not insist.
pub(super) fn of(certificate: &[u8]) -> Option<Vec<u8>> {
    let hash = match function(signature_algorithm(certificate).ok()?)? {
        Function::Sha256 => Sha256::digest(certificate).to_vec(),
        Function::Sha384 => Sha384::digest(certificate).to_vec(),
        Function::Sha512 => Sha512::digest(certificate).to_vec(),
    };
    let data = [b"tls-server-end-point:".as_slice(), &hash].concat();
    let length = u32::try_from(data.len()).ok()?;
    let mut buffer = vec![0; HEAD];
    // The last two numbers of the head: how long the application's data are, and where they begin. There are no addresses.
    buffer[24..28].copy_from_slice(&length.to_le_bytes());
    buffer[28..32].copy_from_slice(&(HEAD as u32).to_le_bytes());
    buffer.extend(data);
    Some(buffer)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Sha256,
    Sha384,
    Sha512,
}

/// Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }
fn signature_algorithm(certificate: &[u8]) -> der::Result<AlgorithmIdentifierRef<'_>> {
    AnyRef::from_der(certificate)?.sequence(|reader| {
        AnyRef::decode(reader)?;
        let algorithm = AlgorithmIdentifierRef::decode(reader)?;
        AnyRef::decode(reader)?;
        Ok(algorithm)
    })
}

/// The function of a signature; what is older than SHA-256 counts as that.
fn function(algorithm: AlgorithmIdentifierRef<'_>) -> Option<Function> {
    if algorithm.oid == RSASSA_PSS {
        return function_of_pss(algorithm.parameters?).ok().flatten();
    }
    Some(match algorithm.oid.to_string().as_str() {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Function::Sha256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Function::Sha384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Function::Sha512,
        _ => return None,
    })
}

/// RSASSA-PSS-params ::= SEQUENCE { hashAlgorithm [0] DEFAULT sha1, ... } (RFC 4055)
fn function_of_pss(parameters: AnyRef<'_>) -> der::Result<Option<Function>> {
    let mut reader = SliceReader::new(parameters.value())?;
    let hash = ContextSpecific::<AlgorithmIdentifierRef<'_>>::decode_explicit(&mut reader, TagNumber(0))?;
    let Some(hash) = hash else { return Ok(Some(Function::Sha256)) };
    Ok(match hash.value.oid.to_string().as_str() {
        "1.3.14.3.2.26" | "2.16.840.1.101.3.4.2.1" => Some(Function::Sha256),
        "2.16.840.1.101.3.4.2.2" => Some(Function::Sha384),
        "2.16.840.1.101.3.4.2.3" => Some(Function::Sha512),
        _ => None,
    })
}
