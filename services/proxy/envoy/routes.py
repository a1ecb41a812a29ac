"""Makes Envoy's routes (RDS) for the three listeners, as JSON documents. Pure.

public       splits by override header, then cookie, then chance; without a canary, production only
production   production's instances only
canary       the canary's instances only
"""

from collections.abc import Callable

from services.proxy.envoy.clusters import Json, cluster_name, split_name
from services.proxy.routes.route import Route
from shared.models import Track

# In the order of writing. The canary's listener is first: its routes alone decide who reaches an aborted canary there,
# while on the public port its endpoints are draining already.
LISTENERS = ("canary", "production", "public")
TRACK_HEADER = "x-slipway-track"
OVERRIDE_HEADER = "x-canary"
COOKIE_MAX_AGE_S = 86_400

NO_APP = "No app of this platform has this host name."
NO_PRODUCTION = "has no production instance that is ready. Deploy its release branch, or look at the deployer's log."
NO_CANARY = "runs no canary at this moment."


def rds_file(listener: str) -> str:
    """Returns the path of the file with one listener's routes, in Envoy's folder."""
    return f"rds-{listener}.json"


def route_configuration(listener: str) -> Json:
    """Returns the content of the RDS file of the listener (a RouteConfiguration) without its `virtual_hosts`."""
    track = {"header": {"key": TRACK_HEADER, "value": "%UPSTREAM_METADATA(slipway:track)%"}}
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": listener,
        "ignore_port_in_host_matching": True,
        # Of the instance that answered, which differs from the route after a failover. Overwrites a header of the app.
        "response_headers_to_add": [{**track, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
    }


def virtual_host(listener: str, route: Route) -> Json:
    """Returns the app's host names and its routes on the listener."""
    domains = sorted(route.hosts) + (["*"] if route.catch_all else [])
    return {"name": route.app, "domains": domains, "routes": ROUTES[listener](route)}


def _public(route: Route) -> list[Json]:
    if not route.serves(Track.STABLE):
        return [_page(503, f"{route.app} {NO_PRODUCTION}")]
    stable = {"cluster": cluster_name(route.app, Track.STABLE)}
    routes: list[Json] = []
    if route.serves(Track.CANARY):
        split = {"cluster": split_name(route.app)}
        routes += _forward(split, headers=[_header(OVERRIDE_HEADER, "always")])
        routes += _forward(stable, headers=[_header(OVERRIDE_HEADER, "never")])
    if weight := route.split_weight():
        routes += _split(route, weight)
    return routes + _forward(stable)


def _split(route: Route, weight: int) -> list[Json]:
    """Returns the routes that split visitors, so that each visitor stays with one track. Envoy chooses by a hash of a
    cookie; for a new visitor by a hash of the request id, which it then sets as the cookie. The canary is first in the
    list, so that a growing weight only moves visitors from stable to the canary. The name of the cookie contains the
    release, so that each rollout begins with other visitors.
    """
    assert route.rollout is not None
    cookie = f"slipway-{route.rollout.release}"
    action = {
        "hash_policy": [
            {"cookie": {"name": cookie}, "terminal": True},
            {"header": {"header_name": "x-request-id"}},
        ],
        "weighted_clusters": {
            "use_hash_policy": True,
            "clusters": [
                {"name": split_name(route.app), "weight": weight},
                {"name": cluster_name(route.app, Track.STABLE), "weight": 100 - weight},
            ],
        },
    }
    value = f"{cookie}=%REQ(X-REQUEST-ID)%; Max-Age={COOKIE_MAX_AGE_S}; Path=/; HttpOnly; SameSite=Lax"
    set_cookie = {"header": {"key": "set-cookie", "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
    known = _forward(action, cookies=[{"name": cookie, "string_match": {"safe_regex": {"regex": ".+"}}}])
    new = _forward(action)
    for entry in new:
        entry["response_headers_to_add"] = [set_cookie]
    return known + new


def _production(route: Route) -> list[Json]:
    if not route.serves(Track.STABLE):
        return [_page(503, f"{route.app} {NO_PRODUCTION}")]
    return _forward({"cluster": cluster_name(route.app, Track.STABLE)})


def _canary(route: Route) -> list[Json]:
    if not route.serves(Track.CANARY):
        return [_page(503, f"{route.app} {NO_CANARY}")]
    return _forward({"cluster": cluster_name(route.app, Track.CANARY)})


ROUTES: dict[str, Callable[[Route], list[Json]]] = {"public": _public, "production": _production, "canary": _canary}


def _forward(action: Json, **match: Json | list[Json]) -> list[Json]:
    """Returns two routes to one target. After a reset connection, Envoy may retry GET and HEAD, and other methods only
    if nothing was sent. It never retries after an answer of the app, not even after a 5xx. There is no time-out, since
    an app may take as long as it likes. The listener closes a stream on which nothing is sent for an hour.
    """
    idempotent = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
    headers = match.pop("headers", [])
    assert isinstance(headers, list)
    first = {"prefix": "/", "headers": [*headers, idempotent], **match}
    rest = {"prefix": "/", "headers": headers, **match}
    unsent = "connect-failure,refused-stream"
    return [
        {"match": first, "route": {**action, "timeout": "0s", "retry_policy": _retry(f"{unsent},reset")}},
        {"match": rest, "route": {**action, "timeout": "0s", "retry_policy": _retry(f"{unsent},reset-before-request")}},
    ]


def _retry(retry_on: str) -> Json:
    priorities = "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    hosts = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "retry_on": retry_on,
        "num_retries": 20,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
        # After one failed try at the canary, the next one goes to stable.
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {"@type": priorities, "update_frequency": 1},
        },
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": hosts}}
        ],
        "host_selection_retry_max_attempts": 40,
    }


def _header(name: str, value: str) -> Json:
    return {"name": name, "string_match": {"exact": value}}


def _page(status: int, text: str) -> Json:
    body = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{status}</title><h1>{status}</h1><p>{text}</p></html>\n"
    )
    headers = {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}
    return {
        "match": {"prefix": "/"},
        "direct_response": {"status": status, "body": {"inline_string": body}},
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in headers.items()
        ],
    }


NO_CATCH_ALL: Json = {"name": "nobody", "domains": ["*"], "routes": [_page(404, NO_APP)]}
"""Virtual host for unknown host names, used while no app gets their requests."""
