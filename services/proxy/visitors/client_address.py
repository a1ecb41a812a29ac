"""Determines what an app gets to know about the client: its address, and the scheme, host and port by which it came
(headers `X-Forwarded-*`). Pure.

A client may write what it likes into these headers, so they are set anew (`X-Forwarded-Host` is removed, since it would
repeat `Host`). If the connection comes from a proxy that
`SLIPWAY_TRUSTED_PROXIES` names, they are kept. Then `X-Forwarded-For` becomes the last address in it that is not a
trusted proxy's, so an app finds the client's address there, however many proxies there are.
"""

from collections.abc import Sequence

from services.proxy.visitors.visitor_limits import Json, ranges
from shared.config import Network

NEVER_KEPT = (
    *("forwarded", "x-forwarded-prefix", "x-forwarded-scheme", "x-forwarded-server", "x-forwarded-ssl"),
    *("front-end-https", "x-original-url", "x-rewrite-url", "x-real-ip", "x-client-ip", "true-client-ip"),
)
"""Headers of the same kind that many proxies pass on as a client has sent them. No request keeps them. Each costs every
request 0.1 % of Envoy's time.
"""

_HTTP = "type.googleapis.com/envoy.extensions.http."
_CLIENT = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"


def of_clients() -> Json:
    """Returns the part of an HTTP connection manager for connections that clients make themselves."""
    return {
        "use_remote_address": True,
        "skip_xff_append": True,  # what it appends is wrong for clients of this machine: its own address
        "append_x_forwarded_port": True,
        **_early(*map(_remove, (*NEVER_KEPT, "x-forwarded-host")), _set("x-forwarded-for", _CLIENT)),
    }


def of_proxies(proxies: Sequence[Network]) -> Json:
    """Returns the part of an HTTP connection manager for connections that come from one of the `proxies`. Envoy leaves
    more headers as they are than with `of_clients`: those that a client must not set are removed here.
    """
    xff = {
        "@type": f"{_HTTP}original_ip_detection.xff.v3.XffConfig",
        "xff_trusted_cidrs": {"cidrs": ranges(proxies)},
    }
    of_envoy = {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}}
    return {
        "original_ip_detection_extensions": [{"name": "envoy.http.original_ip_detection.xff", "typed_config": xff}],
        # The id of a request decides which track a new visitor gets, and becomes the visitor's cookie.
        **_early(*map(_remove, (*NEVER_KEPT, "x-request-id")), of_envoy),
    }


def client_filter() -> Json:
    """Returns the HTTP filter that makes `X-Forwarded-For` the client's address, with `of_proxies`."""
    return {
        "name": "envoy.filters.http.header_mutation",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
            "mutations": {"request_mutations": [_set("x-forwarded-for", _CLIENT)]},
        },
    }


def _early(*mutations: Json) -> Json:
    """Returns the part of an HTTP connection manager that changes a request's headers before anything reads them."""
    config = {"@type": f"{_HTTP}early_header_mutation.header_mutation.v3.HeaderMutation", "mutations": list(mutations)}
    name = "envoy.http.early_header_mutation.header_mutation"
    return {"early_header_mutation_extensions": [{"name": name, "typed_config": config}]}


def _remove(header: str) -> Json:
    return {"remove": header}


def _set(header: str, value: str) -> Json:
    return {"append": {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}
