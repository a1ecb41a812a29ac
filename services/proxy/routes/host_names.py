"""Decides which host names an app may have. Pure."""

import re

from services.proxy.routes.route import Route
from services.proxy.routes.route_table import RouteTable
from shared.errors import Conflict, Invalid

WILDCARD = "*."
LONGEST = 253
_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*")


def default_host(app: str, domain: str) -> str:
    """Returns the host name that an app always has, and no other app may have."""
    return f"{app}.{domain}"


def normalised(host: str) -> str:
    """Returns the host name as Envoy compares it: in lower case and without a dot at its end."""
    return host.lower().removesuffix(".")


def checked(field: str, asked: str, app: str, domain: str, routes: RouteTable) -> str:
    """Returns the host name or wildcard, normalised, if the app may have it. Raises Invalid, which names `field`, if it
    is malformed or includes the host names of all apps. Raises Conflict, which names the app, if another app has it.
    """
    host = normalised(asked)
    name = host.removeprefix(WILDCARD)
    if not _HOST_NAME.fullmatch(name) or len(host) > LONGEST:
        raise Invalid(
            field,
            f"`{asked}` is not a host name; write it like www.example.com or *.example.com, without scheme, port and "
            "path; an international name begins with xn--",
        )
    if host != name and f".{domain}".endswith(f".{name}"):
        raise Invalid(field, f"{host} includes <app>.{domain}, the host names of other apps; list single names instead")
    namesake, _, rest = host.partition(".")
    if rest == domain and namesake != app:
        raise _taken(host, namesake, f"every <app>.{domain} is that app's alone; choose another name")
    owner = routes.owner_of(host)
    if owner not in (None, app):
        raise _taken(host, owner, "take it out of one of the two")
    return host


def without_host(route: Route, host: str) -> Route:
    """Returns the route without the host name."""
    edge = route.edge
    changes = {
        "hosts": [each for each in edge.hosts if each != host],
        "canonical_host": "" if edge.canonical_host == host else edge.canonical_host,
    }
    hosts = [each for each in route.hosts if each != host]
    return route.model_copy(update={"hosts": hosts, "edge": edge.model_copy(update=changes)})


def _taken(host: str, app: str, remedy: str) -> Conflict:
    return Conflict(f"host {host} belongs to app {app}; {remedy}", host=host, app=app)
