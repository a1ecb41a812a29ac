"""Defines what is set on an app for its visitors' way to it, apart from any commit."""

from pydantic import Field, model_validator

from shared.models import Model

LONGEST_HSTS_S = 63_072_000  # two years, as lists of browsers want at most


class TlsSettings(Model):
    """Holds what an app's hosts do about HTTPS. Both fields apply to hosts that have a certificate, and only while the
    platform has a port for HTTPS.
    """

    redirect: bool = Field(False, description="Requests by HTTP are redirected to HTTPS (308).")
    hsts: int = Field(
        0,
        ge=0,
        le=LONGEST_HSTS_S,
        description="For how many seconds browsers shall use HTTPS only (Strict-Transport-Security); 0: not told.",
    )

    @model_validator(mode="after")
    def _hsts_needs_redirect(self) -> "TlsSettings":
        if self.hsts and not self.redirect:
            raise ValueError("`hsts` needs `redirect: true`; set that first, and `hsts` once HTTPS works")
        return self


class EdgeSettings(Model):
    """Request and response body of `PUT` and `GET /apps/{app}/edge`. What a request leaves out gets its default."""

    tls: TlsSettings = TlsSettings()
