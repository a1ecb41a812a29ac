"""A certificate authority for tests, and visitors that trust it."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)


class Issued(NamedTuple):
    """A certificate with its chain and key, in PEM."""

    chain: str
    key: str

    @property
    def body(self) -> dict[str, str]:
        """Returns the body of the request that sets it."""
        return {"chain": self.chain, "key": self.key}


class Authority:
    """An authority with an intermediate one, which issues the certificates."""

    def __init__(self, name: str = "Test") -> None:
        self._root_key, self._key = new_key(), new_key()
        root = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} Root")])
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} Intermediate")])
        self._root = _certificate(root, self._root_key, root, self._root_key, is_authority=True)
        self._intermediate = _certificate(self._name, self._key, root, self._root_key, is_authority=True)

    @property
    def root(self) -> str:
        return _pem(self._root)

    def issue(self, *hosts: str, key: Key | None = None, begins: datetime | None = None) -> Issued:
        """Returns a certificate for the hosts, with the intermediate authority's."""
        key = key or new_key()
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
        issued = _certificate(name, key, self._name, self._key, hosts=hosts, begins=begins)
        return Issued(_pem(issued) + _pem(self._intermediate), key_pem(key))

    def context(self, *alpn: str) -> ssl.SSLContext:
        """Returns the settings of a visitor that trusts this authority alone."""
        context = ssl.create_default_context(cadata=self.root)
        if alpn:
            context.set_alpn_protocols(alpn)
        return context


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key, password: bytes | None = None) -> str:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden).decode()


async def served(port: int, host: str | None, context: ssl.SSLContext) -> tuple[str, str | None]:
    """Returns the serial number of the certificate that a visitor gets who names `host`, and the protocol (ALPN).
    Raises OSError if the handshake fails.
    """
    if host is None:
        context.check_hostname = False
    async with asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host or "")
    try:
        tls = writer.get_extra_info("ssl_object")
        return tls.getpeercert()["serialNumber"], tls.selected_alpn_protocol()
    finally:
        writer.transport.abort()


def serial(chain: str) -> str:
    """Returns the serial number of the chain's first certificate, as `served` returns it."""
    number = f"{x509.load_pem_x509_certificates(chain.encode())[0].serial_number:X}"
    return number if len(number) % 2 == 0 else f"0{number}"


def write_pair(folder: Path, issued: Issued) -> tuple[Path, Path]:
    """Writes chain and key to files, as a server needs them."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    chain.write_text(issued.chain)
    key.write_text(issued.key)
    return chain, key


def _certificate(
    subject: x509.Name,
    key: Key,
    issuer: x509.Name,
    issuer_key: Key,
    *,
    is_authority: bool = False,
    hosts: tuple[str, ...] = (),
    begins: datetime | None = None,
) -> x509.Certificate:
    begins = begins or datetime.now(UTC) - timedelta(minutes=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if is_authority:
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        ) | {"encipher_only": False, "decipher_only": False}
        builder = builder.add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True
        )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in hosts]), False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
