"""Makes Envoy's virtual hosts, as JSON documents: which host names an app has, and where their requests go. Pure.

On the public port, the app's other host names are redirected to its canonical one, but not those that a wildcard or the
catch-all includes. If the app maps paths to other apps, the routes of these come before its own. Requests whose path
Envoy and apps might read differently are then refused, so that none of them reaches an app past the mapping.
"""

import re
from collections.abc import Mapping

from services.proxy.envoy.clusters import Json
from services.proxy.envoy.routes import ROUTES, page, set_header
from services.proxy.envoy.visitor_cookie import metadata
from services.proxy.routes.edge import CATCH_ALL, MappedPath
from services.proxy.routes.host_names import WILDCARD
from services.proxy.routes.route import Route
from shared.models import Track

PREFIX_HEADER = "x-forwarded-prefix"

NO_APP = "No app of this platform has this host name. An app gets it by its manifest or its edge settings."
NO_SUCH_APP = "is not deployed on this platform. Deploy its release branch, or change the paths of this host."
AMBIGUOUS = "This path has an escaped slash, a backslash, or a part that is only dots. Ask for the path without it."
# An escaped slash or backslash anywhere; `.` or `..`, escaped or not, as a part of the path.
_AMBIGUOUS = r"(?i).*(%2f|%5c|\\).*|.*/(\.|%2e){1,2}(/.*)?"
_SLASHES = "/{2,}"
_PERMANENT = "PERMANENT_REDIRECT"


def virtual_hosts(listener: str, route: Route, routes: Mapping[str, Route]) -> list[Json]:
    """Returns the app's part of the listener's routes. `routes` holds the routes of all apps, by app."""
    claims, redirected = route.claims, frozenset[str]()
    if listener == "public" and route.edge.canonical_host:
        redirected = frozenset(host for host in claims - {route.edge.canonical_host} if not _is_pattern(host))
    own = [*_mapped(listener, route, routes), *ROUTES[listener](route)]
    hosts = [_virtual_host(route.app, claims - redirected, own)]
    if redirected:
        hosts.append(_virtual_host(f"{route.app}/redirected", redirected, [_to_canonical(route)]))
    return hosts


def _virtual_host(name: str, domains: frozenset[str], routes: list[Json]) -> Json:
    return {"name": name, "domains": sorted(domains), "routes": routes}


def _is_pattern(host: str) -> bool:
    return host == CATCH_ALL or host.startswith(WILDCARD)


def _to_canonical(route: Route) -> Json:
    """Returns the route that redirects to the canonical host. The address in the answer has the scheme, port, path and
    query of the request; Envoy's own redirects to a host leave out the port.
    """
    canonical = route.edge.canonical_host
    host = {"regex_value_rewrite": {"pattern": {"regex": "^[^:]*"}, "substitution": canonical}}
    location = "%REQ(X-FORWARDED-PROTO)%://%DYNAMIC_METADATA(slipway:host)%%REQ(:PATH)%"
    return {
        "name": f"{route.app}/page",
        "match": {"prefix": "/"},
        "redirect": {"host_redirect": canonical, "response_code": _PERMANENT},
        "response_headers_to_add": [set_header("location", location)],
        **metadata("host", host, header=":authority"),
    }


def _mapped(listener: str, route: Route, routes: Mapping[str, Route]) -> list[Json]:
    """Returns the routes for the app's mapped paths, the longest prefix first."""
    paths = sorted(route.edge.paths, key=lambda path: len(path.prefix), reverse=True)
    found = [each for path in paths for each in _to_app(listener, path, routes.get(path.app))]
    return [*_only_clear_paths(route.app), *found] if found else []


def _only_clear_paths(app: str) -> list[Json]:
    """Returns the routes that refuse ambiguous paths, and redirect a path with slashes in a row to one without."""
    merged = {"regex_rewrite": {"pattern": {"regex": _SLASHES}, "substitution": "/"}, "response_code": _PERMANENT}
    return [
        {**page(400, AMBIGUOUS, app), "match": _path_matches(_AMBIGUOUS)},
        {"name": f"{app}/page", "match": _path_matches(f".*{_SLASHES}.*"), "redirect": merged},
    ]


def _to_app(listener: str, path: MappedPath, target: Route | None) -> list[Json]:
    """Returns the target's routes on the listener, for the mapped path only. On the canary's port a target without a
    canary answers by its production, so that the canary of the host's app can be tried there.
    """
    if target is None or not target.clusters:
        found = [page(503, f"{path.app} {NO_SUCH_APP}", path.app)]
    elif listener == "canary" and not target.serves(Track.CANARY):
        found = ROUTES["production"](target)
    else:
        found = ROUTES[listener](target)
    return [_under(path, each) for each in found]


def _under(path: MappedPath, route: Json) -> Json:
    match = {key: value for key, value in route["match"].items() if key != "prefix"}
    changed = {**route, "match": {**match, "path_separated_prefix": path.prefix}}
    if path.strip and "route" in route:
        rewrite = {"pattern": {"regex": f"^{re.escape(path.prefix)}/?"}, "substitution": "/"}
        changed["route"] = {**route["route"], "regex_rewrite": rewrite}
        header = set_header(PREFIX_HEADER, path.prefix)
        changed["request_headers_to_add"] = [*route.get("request_headers_to_add", []), header]
    return changed


def _path_matches(regex: str) -> Json:
    return {"safe_regex": {"regex": regex}}


NO_CATCH_ALL: Json = _virtual_host("nobody", frozenset({CATCH_ALL}), [page(404, NO_APP)])
"""Virtual host for unknown host names, used while no app gets their requests."""
