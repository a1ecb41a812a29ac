"""Shows, sets and removes the certificates of an app's hosts, on request."""

from collections.abc import Callable
from datetime import datetime, timedelta

from services.proxy.certificates.certificate_check import CheckedCertificate, check_certificate
from services.proxy.certificates.renewal import is_overdue
from services.proxy.control.control_plane import ControlPlane
from services.proxy.routes.certificate import Certificate, CertificateSource, HostCertificate
from services.proxy.routes.route import Route
from shared.errors import Conflict, NotFound
from shared.security.vault import Vault

WARNED = timedelta(days=14)


class CertificateService:
    """Changes the certificates in the routes. A change reaches Envoy within a second, and ends no connection."""

    def __init__(self, control: ControlPlane, vault: Callable[[], Vault]) -> None:
        """`vault` returns what encrypts the keys."""
        self._control = control
        self._vault = vault

    def all(self, app: str) -> list[HostCertificate]:
        """Returns the app's hosts with their certificates; also hosts that are the app's no more but have one. Raises
        NotFound.
        """
        route = self._control.route(app)
        return [_view(route, host) for host in sorted({*route.names, *route.certificates})]

    def one(self, app: str, host: str) -> HostCertificate:
        """Returns the host's certificate. Raises NotFound."""
        route = self._control.route(app)
        if host not in {*route.names, *route.certificates}:
            raise NotFound(f"{host} is no host of {app}, and has no certificate of it")
        return _view(route, host)

    def set(self, app: str, host: str, chain: str, key: str) -> HostCertificate:
        """Checks the certificate and stores it. Raises NotFound, Invalid, and Conflict if the host is not the app's."""
        route = self._control.route(app)
        if host not in route.names:
            owner = self._control.routes.owner_of(host)
            whose = f"it belongs to app {owner}" if owner else f"add it to the hosts of {app} first"
            raise Conflict(f"{host} is no host of {app}: {whose}", host=host)
        checked = check_certificate(chain, key, host, self._control.now())
        self.store(route, host, checked, CertificateSource.OWN)
        return self.one(app, host)

    def store(self, route: Route, host: str, checked: CheckedCertificate, source: CertificateSource) -> None:
        """Stores a certificate that was checked. `route` must be the app's present route."""
        fields = {**checked._asdict(), "key": None}
        certificate = Certificate.model_validate(
            {**fields, "source": source, "sealed_key": self._vault().seal(checked.key), "set_at": self._control.now()}
        )
        attempts = {name: each for name, each in route.attempts.items() if name != host}
        update = {"certificates": {**route.certificates, host: certificate}, "attempts": attempts}
        self._control.put(route.model_copy(update=update))

    def remove(self, app: str, host: str) -> None:
        """Removes the host's certificate, if it has one. Raises NotFound if there is no such app."""
        route = self._control.route(app)
        if host in route.certificates:
            kept = {name: each for name, each in route.certificates.items() if name != host}
            self._control.put(route.model_copy(update={"certificates": kept}))

    async def warning(self) -> str | None:
        """Returns, for `/ready`, which certificates that people set expire within 14 days, and which ones the platform
        should have renewed long ago, with the remedy; None if there are none.
        """
        now = self._control.now()
        texts = [
            _warning(route, host, now) for route in self._control.routes.values() for host in sorted(route.secured())
        ]
        return "; ".join(filter(None, texts)) or None


def _warning(route: Route, host: str, now: datetime) -> str | None:
    certificate = route.certificates[host]
    ends = f"{'expired' if certificate.not_after <= now else 'expires'} at {certificate.not_after.isoformat()}"
    what = f"the certificate of {host} (app {route.app}) {ends}"
    own = f'set a new one (PUT /apps/{route.app}/certificates/{host} {{"chain": "…", "key": "…"}})'
    if certificate.source is CertificateSource.OWN:
        return f"{what}: {own}" if certificate.not_after - now < WARNED else None
    if not is_overdue(certificate, now):
        return None
    attempt = route.attempts.get(host)
    why = attempt.reason if attempt else "no attempt has failed so far; is SLIPWAY_ACME_DIRECTORY set?"
    return f"{what} and could not be renewed: {why}; mend that, or {own}"


def _view(route: Route, host: str) -> HostCertificate:
    certificate = route.certificates.get(host)
    return HostCertificate(
        host=host, certificate=certificate.view if certificate else None, attempt=route.attempts.get(host)
    )
