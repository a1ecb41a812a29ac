"""Determines which requests Envoy refuses itself, because they are malformed, harmful or too large. Pure."""

from services.proxy.visitors.visitor_limits import Json

MOST_HEADERS = 200
STREAMS = 100
"""Number of requests that an HTTP/2 connection may have under way."""
UPGRADE = "websocket"

_TYPE = "type.googleapis.com/"


def protocol_options(default_host: str) -> Json:
    """Returns the part of an HTTP connection manager with the options of HTTP/1 and HTTP/2. `default_host` is the host
    of requests by HTTP/1.0 that name none.
    """
    return {
        "common_http_protocol_options": {
            "idle_timeout": "300s",  # of a connection without requests
            "max_headers_count": MOST_HEADERS,
            "headers_with_underscores_action": "REJECT_REQUEST",  # many apps take them for dashes
        },
        "http_protocol_options": {
            "accept_http_10": True,
            "default_host_for_http_10": default_host,
            # Without this, they are answered with 403. A client that only offers another protocol expects an answer.
            "ignore_http_11_upgrade": [{"safe_regex": {"regex": _anything_but(UPGRADE)}}],
        },
        "http2_protocol_options": {
            "max_concurrent_streams": STREAMS,
            "initial_stream_window_size": 65_536,
            "initial_connection_window_size": 1_048_576,
        },
        "upgrade_configs": [{"upgrade_type": UPGRADE}],
    }


def refusal_filter() -> Json:
    """Returns the HTTP filter that refuses what is valid HTTP, but no visitor needs."""
    refused = {"trace": _is(":method", {"exact": "TRACE"}), "two-hosts": _is(":authority", {"contains": ","})}
    policies = {
        name: {"permissions": [{"header": header}], "principals": [{"any": True}]} for name, header in refused.items()
    }
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "DENY", "policies": policies},
        },
    }


def refusal_answers() -> Json:
    """Returns the part of an HTTP connection manager with the answers to what the filter refuses."""
    answers = [
        (405, "This server does not answer TRACE.\n", _is(":method", {"exact": "TRACE"})),
        (400, "A request must name one host.\n", _is(":authority", {"contains": ","})),
    ]
    mappers = [
        {"filter": {"header_filter": {"header": header}}, "status_code": status, "body": {"inline_string": text}}
        for status, text, header in answers
    ]
    return {"local_reply_config": {"mappers": mappers}}


def _is(name: str, value: Json) -> Json:
    return {"name": name, "string_match": value}


def _anything_but(word: str) -> str:
    """Returns the regular expression of all texts except `word` in small or capital letters. Envoy's expressions have
    no negative lookahead.
    """
    others = [f"{word[:length]}([^{letter}].*)?" for length, letter in enumerate(word)]
    return f"(?i)({'|'.join(others)}|{word}.+)"
