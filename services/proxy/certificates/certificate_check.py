"""Reads a certificate with its chain and key, and checks that Envoy can serve a host with them. Pure."""

from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.errors import Invalid

MOST_CERTIFICATES = 10
LEAST_RSA_BITS = 2048
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

CHAIN, KEY = "chain", "key"


class CheckedCertificate(NamedTuple):
    """Holds a certificate that passed the check: chain and key in PEM, as they were read."""

    chain: str
    key: str
    names: list[str]
    issuer: str
    fingerprint: str
    not_before: datetime
    not_after: datetime


def check_certificate(chain: str, key: str, host: str, now: datetime) -> CheckedCertificate:
    """Returns the certificate if it is valid for `host` at this time, its key fits, and each certificate of the chain
    was issued by the next one. Whether browsers trust the last one is not checked. Raises Invalid, whose text never
    contains a part of the key.
    """
    certificates, private = _read_chain(chain), _read_key(key)
    first = certificates[0]
    if _public(first) != _public_of(private):
        raise Invalid(KEY, "it does not belong to the first certificate of `chain`; give the key of that one")
    names = _names(first)
    if not any(covers(name, host) for name in names):
        raise Invalid(CHAIN, f"the certificate is not for {host}, but for {', '.join(names) or 'no host'}")
    if first.not_valid_after_utc <= now:
        raise Invalid(CHAIN, f"the certificate expired at {first.not_valid_after_utc.isoformat()}; give a new one")
    if first.not_valid_before_utc > now:
        raise Invalid(CHAIN, f"the certificate is valid only from {first.not_valid_before_utc.isoformat()}")
    return CheckedCertificate(
        chain="".join(_pem(each) for each in certificates),
        key=private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        names=names,
        issuer=_common_name(first.issuer),
        fingerprint=first.fingerprint(hashes.SHA256()).hex(),
        not_before=first.not_valid_before_utc,
        not_after=first.not_valid_after_utc,
    )


def covers(name: str, host: str) -> bool:
    """Returns True if a certificate for `name` is valid for `host`; `*.example.com` is for hosts with one label more,
    and for the wildcard host of the same name.
    """
    if name == host:
        return True
    wildcard, _, domain = name.partition(".")
    label, _, rest = host.partition(".")
    return wildcard == "*" and bool(domain) and domain == rest and label != "*"


def _read_chain(text: str) -> list[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise Invalid(CHAIN, "it holds no certificates in PEM; they begin with -----BEGIN CERTIFICATE-----") from None
    if len(certificates) > MOST_CERTIFICATES:
        raise Invalid(CHAIN, f"it holds {len(certificates)} certificates; give at most {MOST_CERTIFICATES}")
    for number, (each, issuer) in enumerate(pairwise(certificates), start=1):
        try:
            each.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            raise Invalid(
                CHAIN, f"certificate {number} was not issued by the next one; the host's comes first, then its issuer's"
            ) from None
    return certificates


def _read_key(text: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except TypeError:
        raise Invalid(KEY, "it has a passphrase; remove it (openssl pkey -in key.pem -out plain.pem)") from None
    except ValueError:
        raise Invalid(KEY, "it holds no private key in PEM; it begins with -----BEGIN PRIVATE KEY-----") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= LEAST_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, CURVES):
        return key
    raise Invalid(KEY, f"Envoy serves RSA keys of at least {LEAST_RSA_BITS} bits and EC keys (P-256, P-384, P-521)")


def _names(certificate: x509.Certificate) -> list[str]:
    """Returns the host names of the certificate; as browsers do, it leaves out the common name."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name.lower() for name in found.get_values_for_type(x509.DNSName)]


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _public_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
