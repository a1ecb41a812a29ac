"""Decides which requests Envoy sends again after a failed try, so that a request that ends an instance cannot end many.
Pure.

| the request | is sent again |
|---|---|
| was not sent: no connection was made | up to 20 times; after a try at the canary, at production |
| GET or HEAD, was sent, and no byte came back | once, at the same track, if three instances of a release are ready |
| any other one that was sent | never: the visitor gets 503 |
"""

from services.proxy.envoy.clusters import Json
from services.proxy.routes.route import Route
from shared.models import Track

READY = 3
TRIES = 20

_AGAIN = (("x-envoy-retry-on", "reset"), ("x-envoy-max-retries", "1"))


def retry_policy(route: Route) -> Json:
    """Returns Envoy's retry policy for all routes of the app: a request that was not sent to an instance is tried up to
    20 times more; one that was sent is not sent again.
    """
    priorities = "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    hosts = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "retry_on": "connect-failure,refused-stream,reset-before-request",
        "num_retries": TRIES,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
        # The number of tries at the canary before one goes to production. One of two may be that of a request that was
        # sent, which must not reach production.
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {"@type": priorities, "update_frequency": 2 if has_spares(route, Track.CANARY) else 1},
        },
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": hosts}}
        ],
        "host_selection_retry_max_attempts": 40,
    }


def has_spares(route: Route, track: Track) -> bool:
    """Returns True if the track (production or canary) has three ready instances of one release: a request that ends
    two of them leaves one. Instances of several releases are not added up, so that the answer stays the same during a
    deployment.
    """
    return route.most_ready(track) >= READY


def once_more(route: Route, track: Track) -> list[tuple[str, str]]:
    """Returns the request headers that make Envoy send a GET or HEAD once more after its connection to the instance was
    reset; empty if the track (production or canary) has fewer than three ready instances of one release. Envoy has a
    single limit of tries: with these headers, a request that could not be sent is also tried only once more, not 20
    times. Envoy removes such headers from visitors' requests.
    """
    return list(_AGAIN) if has_spares(route, track) else []
