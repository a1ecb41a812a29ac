"""Certificates as the proxy stores them."""

from datetime import timedelta
from pathlib import Path

from services.proxy.envoy.files import certificate_vault
from services.proxy.routes.certificate import Certificate, CertificateSource
from tests.support.proxy.routes import NOW

HOST = "notes.example.com"
DAYS_90 = timedelta(days=90)


def certificate(
    host: str = HOST,
    *,
    source: CertificateSource = CertificateSource.ACME,
    lasts: timedelta = DAYS_90,
    chain: str = "chain",
    sealed_key: str = "sealed",
) -> Certificate:
    """Returns a certificate from `NOW` on."""
    return Certificate(
        source=source,
        names=[host],
        issuer="Test",
        fingerprint="ab" * 32,
        not_before=NOW,
        not_after=NOW + lasts,
        set_at=NOW,
        chain=chain,
        sealed_key=sealed_key,
    )


def sealed(folder: Path, key: str) -> str:
    """Returns the key, encrypted as the certificates in `folder` (`<home>/envoy`) are."""
    return certificate_vault(folder).seal(key)
