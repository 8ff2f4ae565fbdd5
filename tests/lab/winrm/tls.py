"""Certificates of the bench."""
import os
import re
import ssl

import state


def self_signed(directory, host):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    import datetime
    import ipaddress
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.timezone.utc)
    san = [x509.DNSName(host), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectAlternativeName(san), False).sign(key, hashes.SHA256()))
    c, k = os.path.join(directory, "server.pem"), os.path.join(directory, "server.key")
    open(c, "wb").write(cert.public_bytes(serialization.Encoding.PEM))
    open(k, "wb").write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption()))
    return c, k


def tls_context():
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    cert, key = state.OPT.cert, state.OPT.key
    if not cert:
        cert, key = self_signed(state.OPT.state, state.OPT.spn_host)
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.minimum_version = ssl.TLSVersion.TLSv1_2
    ctx.load_cert_chain(cert, key)
    if state.OPT.client_ca:
        ctx.load_verify_locations(state.OPT.client_ca)
        ctx.verify_mode = ssl.CERT_OPTIONAL
    der = ssl.PEM_cert_to_DER_cert(re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----",
                                             open(cert).read(), re.S).group(0))
    alg = x509.load_der_x509_certificate(der).signature_hash_algorithm
    h = hashes.Hash(hashes.SHA256() if alg is None or alg.name in ("md5", "sha1") else alg)
    h.update(der)
    return ctx, h.finalize(), cert
