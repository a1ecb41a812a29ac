"""Defines the settings of the proxy service."""

from pathlib import Path

from pydantic import Field, model_validator

from shared.config import SharedSettings


class Settings(SharedSettings):
    """Holds the settings of the proxy: those that all services share, and those about certificates. Envoy's ports and
    the home (the folder with the platform's data) are among the former, because the launcher, which prepares Envoy's
    files, needs them too.
    """

    acme_directory: str = Field(
        "",
        pattern=r"^(https://\S+)?$",
        description="The address of a certificate authority's directory (ACME), as "
        "`https://acme-v02.api.letsencrypt.org/directory`: the platform gets certificates for the hosts of apps there, "
        "and so agrees to its terms. Without it, only certificates that people set are served.",
    )
    acme_email: str = Field("", description="The address to which the certificate authority may write.")
    acme_ca: Path | None = Field(
        None,
        description="A file with the certificates (PEM) of the authority that issued the directory's own certificate. "
        "Without it, the authorities that are usually trusted.",
    )
    acme_http_port: int = Field(
        80,
        ge=1,
        le=65535,
        description="The port at which the certificate authority asks hosts. Every public one asks at 80, which must "
        "lead to SLIPWAY_PUBLIC_PORT.",
    )

    @model_validator(mode="after")
    def _acme_needs_https(self) -> "Settings":
        if self.acme_directory and not self.https_port:
            raise ValueError("SLIPWAY_ACME_DIRECTORY needs a port for HTTPS: set SLIPWAY_HTTPS_PORT")
        return self
