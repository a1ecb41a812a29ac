"""Makes Envoy's routes (RDS) for the three listeners, as JSON documents. Pure.

public       splits by override header, then cookie, then chance; without a canary, production only
production   production's instances only
canary       the canary's instances only

A route's name, which is in the access log, is `<app>/<kind>`. The kinds are `known` and `new` (visitors with and
without a cookie, whom chance assigns to production or the canary), `stable` (production, no split), `always` and
`never` (override header), `production` and `canary` (the listeners of these names), and `page` (Envoy's own pages).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.proxy.envoy.clusters import Json, cluster_name, mirror_name, split_name
from services.proxy.envoy.retries import once_more, retry_policy
from services.proxy.envoy.visitor_cookie import SET_COOKIE, former_visitor, known_visitor, new_visitor
from services.proxy.routes.route import Route
from shared.models import Track

# In the order of writing. The canary's listener is first: its routes alone decide who reaches an aborted canary there,
# while on the public port its endpoints are draining already.
LISTENERS = ("canary", "production", "public")
TRACK_HEADER = "x-slipway-track"
OVERRIDE_HEADER = "x-canary"
MIRROR_HEADER = "x-slipway-mirror"

NO_PRODUCTION = "has no production instance that is ready. Deploy its release branch, or look at the deployer's log."
NO_CANARY = "runs no canary at this moment."


@dataclass(frozen=True)
class Target:
    """Names a cluster that gets `weight` percent of a route's requests, and the track (production or canary) whose
    instances get them.
    """

    track: Track
    cluster: str
    weight: int = 100


def rds_file(listener: str) -> str:
    """Returns the path of the file with one listener's routes, in Envoy's folder."""
    return f"rds-{listener}.json"


def route_configuration(listener: str) -> Json:
    """Returns the content of the RDS file of the listener (a RouteConfiguration) without its `virtual_hosts`."""
    # Of the instance that answered, which differs from the route after a failover. Overwrites a header of the app.
    headers = [set_header(TRACK_HEADER, "%UPSTREAM_METADATA(slipway:track)%")]
    if listener == "public":
        header = {"key": "set-cookie", "value": SET_COOKIE}
        headers.append({"header": header, "append_action": "APPEND_IF_EXISTS_OR_ADD"})
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": listener,
        "ignore_port_in_host_matching": True,
        "response_headers_to_add": headers,
    }


def _public(route: Route) -> list[Json]:
    if not route.serves(Track.STABLE):
        return [page(503, f"{route.app} {NO_PRODUCTION}", route.app)]
    stable, split = _stable(route), Target(Track.CANARY, split_name(route.app))
    routes: list[Json] = []
    if (rollout := route.active_rollout) and route.serves(Track.CANARY):
        key = rollout.override_key or "always"
        routes += _forward(route, "always", split, headers=[_header(OVERRIDE_HEADER, key)])
        routes += _forward(route, "never", stable, headers=[_header(OVERRIDE_HEADER, "never")])
    if weight := route.split_weight():
        return routes + _split(route, weight)
    if route.rollout and not rollout:
        match, removing = former_visitor(route.app)
        routes += _with(removing, _forward(route, "stable", stable, **match))
    return routes + _forward(route, "stable", stable, mirror=route.mirror_percent())


def _split(route: Route, weight: int) -> list[Json]:
    """Returns the routes that split visitors, so that each visitor stays with production or the canary. The canary is
    first in the list, so that a growing weight only moves visitors from production to the canary. The hash by which
    Envoy chooses includes the release, so that each rollout begins with other visitors.
    """
    assert route.rollout is not None
    release, mirror = route.rollout.release, route.mirror_percent()
    tracks = (
        Target(Track.CANARY, split_name(route.app), weight),
        Target(Track.STABLE, cluster_name(route.app, Track.STABLE), 100 - weight),
    )
    match, by_cookie, reading = known_visitor(route.app, release)
    known = _forward(route, "known", *tracks, mirror=mirror, hash_policy=by_cookie, **match)
    by_chance, setting = new_visitor(route.app, release)
    new = _forward(route, "new", *tracks, mirror=mirror, hash_policy=by_chance)
    return _with(reading, known) + _with(setting, new)


def _production(route: Route) -> list[Json]:
    if not route.serves(Track.STABLE):
        return [page(503, f"{route.app} {NO_PRODUCTION}", route.app)]
    return _forward(route, "production", _stable(route))


def _canary(route: Route) -> list[Json]:
    if not route.serves(Track.CANARY):
        return [page(503, f"{route.app} {NO_CANARY}", route.app)]
    return _forward(route, "canary", Target(Track.CANARY, cluster_name(route.app, Track.CANARY)))


ROUTES: dict[str, Callable[[Route], list[Json]]] = {"public": _public, "production": _production, "canary": _canary}


def _stable(route: Route) -> Target:
    return Target(Track.STABLE, cluster_name(route.app, Track.STABLE))


def _forward(
    route: Route,
    kind: str,
    *targets: Target,
    mirror: int = 0,
    hash_policy: Json | None = None,
    headers: Sequence[Json] = (),
    **match: list[Json],
) -> list[Json]:
    """Returns the routes of one kind (the last part of their name) to the targets. There is one for all requests, and
    before it one for GET and HEAD if these may be sent once more after a failed try, or if `mirror` percent of them are
    copied to the canary. There is no time-out, since an app may take as long as it likes. The listener closes a stream
    on which nothing is sent for an hour.
    """
    action: Json = {"timeout": "0s", "retry_policy": retry_policy(route)}
    if hash_policy is not None:
        action["hash_policy"] = [hash_policy]
    rest = {
        "name": f"{route.app}/{kind}",
        "match": {"prefix": "/", "headers": list(headers), **match},
        "route": {**action, **_clusters(targets)},
    }
    if not mirror and not any(once_more(route, target.track) for target in targets):
        return [rest]
    safe: list[Json] = [{"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}]
    if mirror:
        safe.append({"name": "upgrade", "present_match": False})
        action["request_mirror_policies"] = [_mirror_policy(mirror)]
    changes = {target.track: _request_headers(route, target.track, mirror=bool(mirror)) for target in targets}
    first = {
        "name": f"{route.app}/{kind}",
        "match": {"prefix": "/", "headers": [*headers, *safe], **match},
        "route": {**action, **_clusters(targets, changes)},
    }
    if len(targets) == 1:
        first |= changes[targets[0].track]
    return [first, rest]


def _clusters(targets: Sequence[Target], changes: dict[Track, Json] | None = None) -> Json:
    """Returns the part of a route's action that names its clusters. If there are several, `changes` holds, by track,
    how the headers of requests to it are changed.
    """
    if len(targets) == 1:
        return {"cluster": targets[0].cluster}
    weighted = [
        {"name": target.cluster, "weight": target.weight, **(changes or {}).get(target.track, {})} for target in targets
    ]
    return {"weighted_clusters": {"use_hash_policy": True, "clusters": weighted}}


def _request_headers(route: Route, track: Track, *, mirror: bool) -> Json:
    """Returns how Envoy changes the headers of GET and HEAD requests to the track (production or canary). With
    `mirror`, a request to production gets the header that names the cluster for its copy; the same header from a
    visitor is replaced or removed.
    """
    added = once_more(route, track)
    if mirror and track is Track.STABLE:
        added.append((MIRROR_HEADER, mirror_name(route.app)))
    found: Json = {"request_headers_to_add": [set_header(*each) for each in added]} if added else {}
    if mirror and track is not Track.STABLE:
        found["request_headers_to_remove"] = [MIRROR_HEADER]
    return found


def _mirror_policy(percent: int) -> Json:
    return {
        "cluster_header": MIRROR_HEADER,
        "runtime_fraction": {"default_value": {"numerator": percent, "denominator": "HUNDRED"}},
        "disable_shadow_host_suffix_append": True,  # apps know the host that visitors say
    }


def _with(fields: Json, routes: list[Json]) -> list[Json]:
    return [{**route, **fields} for route in routes]


def _header(name: str, value: str) -> Json:
    return {"name": name, "string_match": {"exact": value}}


def set_header(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def page(status: int, text: str, app: str = "") -> Json:
    """Returns a route on which Envoy answers every request itself, with a page."""
    body = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{status}</title><h1>{status}</h1><p>{text}</p></html>\n"
    )
    headers = {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}
    return {
        "name": f"{app}/page",
        "match": {"prefix": "/"},
        "direct_response": {"status": status, "body": {"inline_string": body}},
        "response_headers_to_add": [set_header(key, value) for key, value in headers.items()],
    }
