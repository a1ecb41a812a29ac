"""Defines the certificate that a host of an app has for HTTPS."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from shared.models import View


class CertificateSource(StrEnum):
    OWN = "own"
    """A person has set it."""
    ACME = "acme"
    """The platform has got it from the certificate authority, and renews it."""


class CertificateView(View):
    """Describes a host's certificate, without its key."""

    source: CertificateSource
    names: list[str] = Field(description="The host names for which it is valid.")
    issuer: str
    fingerprint: str = Field(description="SHA-256 of the certificate, in hex digits.")
    not_before: datetime
    not_after: datetime = Field(description="Time at which it expires.")
    set_at: datetime


class Certificate(CertificateView):
    """Holds a host's certificate with those of the authorities that lead to it, in PEM, and its key, encrypted: only
    the file for Envoy has the key itself.
    """

    chain: str = Field(repr=False)
    sealed_key: str = Field(repr=False)

    @property
    def view(self) -> CertificateView:
        """Returns the certificate without its key."""
        return CertificateView.model_validate(self.model_dump(exclude={"chain", "sealed_key"}))


class CertificateAttempt(View):
    """Records that the platform could not get a certificate for a host, and when it tries again."""

    at: datetime
    reason: str
    failures: int = Field(description="Number of attempts in a row that failed.")
    next_at: datetime


class HostCertificate(View):
    """Describes a host of an app and its certificate; null: it has none."""

    host: str
    certificate: CertificateView | None
    attempt: CertificateAttempt | None = Field(None, description="Why the platform could not get one or renew it.")
