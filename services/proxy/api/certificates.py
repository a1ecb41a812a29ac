"""Serves the certificates of an app's hosts."""

from typing import Annotated

from fastapi import APIRouter, Body, Path
from pydantic import AfterValidator, Field

from services.proxy.api.rest import App
from services.proxy.certificates.certificate_service import CertificateService
from services.proxy.routes.certificate import HostCertificate
from services.proxy.routes.host_names import normalised
from shared.models import Model, Page
from shared.web.openapi import CONFLICT
from shared.web.paging import NEXT, Limit, page_of

LONGEST_PEM = 65_536
HOST = r"^(\*\.)?[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*\.?$"


Host = Annotated[
    str,
    Path(pattern=HOST, max_length=254, description="A host of the app.", examples=["notes.example.com"]),
    AfterValidator(normalised),
]
Cursor = Annotated[str | None, Field(pattern=HOST, max_length=254, description=NEXT)]
PEM = "-----BEGIN {0}-----\nMIIB…\n-----END {0}-----\n"
EXAMPLE = Body(examples=[{"chain": PEM.format("CERTIFICATE"), "key": PEM.format("PRIVATE KEY")}])


class NewCertificate(Model):
    """Request body of `PUT /apps/{app}/certificates/{host}`."""

    chain: str = Field(
        max_length=LONGEST_PEM,
        description="The host's certificate in PEM, then that of its issuer, and so on; the root may be left out.",
    )
    key: str = Field(max_length=LONGEST_PEM, repr=False, description="Its key in PEM, without a passphrase.")


def certificates_router(certificates: CertificateService) -> APIRouter:
    routes = APIRouter(prefix="/apps/{app}/certificates", tags=["certificates"])

    @routes.get("", summary="The certificates of the app's hosts")
    async def get_certificates(app: App, limit: Limit = 20, cursor: Cursor = None) -> Page[HostCertificate]:
        """Returns the app's hosts, by name, each with its certificate. No answer ever has a key."""
        return page_of(certificates.all(app), lambda each: each.host, limit, cursor, newest_first=False)

    @routes.get("/{host}", summary="The certificate of a host")
    async def get_certificate(app: App, host: Host) -> HostCertificate:
        """Returns the host's certificate, without its key."""
        return certificates.one(app, host)

    @routes.put("/{host}", summary="Set the certificate of a host", responses=CONFLICT)
    async def put_certificate(app: App, host: Host, body: Annotated[NewCertificate, EXAMPLE]) -> HostCertificate:
        """Checks the certificate against host, key and chain, and serves the host with it from then on; open
        connections go on. The key is stored encrypted, and is plain only in a file for Envoy that the platform's user
        alone may read. The answer is 409 if the host is not the app's, and 422 if the check fails.
        """
        return certificates.set(app, host, body.chain, body.key)

    @routes.delete("/{host}", summary="Remove the certificate of a host", status_code=204)
    async def delete_certificate(app: App, host: Host) -> None:
        """Removes the host's certificate with its key. From then on, the host is not served by HTTPS, unless the
        platform gets it another one. The request may be repeated.
        """
        certificates.remove(app, host)

    return routes
