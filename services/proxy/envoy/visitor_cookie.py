"""Keeps a visitor with one track during a rollout, by the cookie `slipway-<app>=<release>.<id>`. Pure. Envoy does not
choose a track for each visitor and remember it: it computes the track, by a hash of the cookie's value and the weights.
"""

import re

from services.proxy.envoy.clusters import Json

MAX_AGE_S = 86_400
ATTRIBUTES = "Path=/; HttpOnly; SameSite=Lax"

_NAMESPACE, _COOKIE = "slipway", "cookie"
_FILTER = "slipway.metadata"
_TYPE = "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config"

_CONTROL = "response.headers['cache-control']"
_EXPIRES = "response.headers['expires']"
# True for an answer that the app lets shared caches keep (RFC 9111, section 3). It gets no cookie, because they would
# give the cookie to others. `no-cache` does not count as permission: most apps that write it mean `no-store`.
_KEPT = (
    f"('cache-control' in response.headers && !{_CONTROL}.matches('(?i)private|no-store')"
    f" && ({_CONTROL}.matches('(?i)public|s-maxage')"
    f" || !{_CONTROL}.matches('(?i)no-cache') && {_CONTROL}.matches('(?i)max-age=\"?0*[1-9]')))"
    f" || (!('cache-control' in response.headers) && 'expires' in response.headers && {_EXPIRES}.matches(' 20'))"
)


def cookie_name(app: str) -> str:
    return f"slipway-{app}"


def http_filter() -> Json:
    """Returns the filter that the functions below switch on for single routes."""
    return {"name": _FILTER, "typed_config": {"@type": _TYPE}, "disabled": True}


def known_visitor(app: str, release: str) -> tuple[Json, Json, Json]:
    """Returns, for a route to the tracks of the release's rollout: how it matches visitors who have a cookie of this
    rollout; how it computes their track; and what else it has, by which the access log gets their cookie.
    """
    name = cookie_name(app)
    match = _has_cookie(app, {"safe_regex": {"regex": f"{re.escape(release)}\\.[0-9a-f-]+"}})  # safe to be logged
    rule = {"cookie": name, "on_header_present": {"metadata_namespace": _NAMESPACE, "key": "visitor"}}
    return match, {"cookie": {"name": name}}, _metadata(rule)


def new_visitor(app: str, release: str) -> tuple[Json, Json]:
    """Returns, for a route to the tracks of the release's rollout: how it computes the track of a visitor without a
    cookie of this rollout, from the request's id; and what else it has, by which the visitor gets the cookie. The
    cookie gives the same track.
    """

    def rewrite(substitution: str) -> Json:
        return {"pattern": {"regex": "^(.*)$"}, "substitution": substitution}

    value = f"{release}.\\1"
    cookie = rewrite(f"{cookie_name(app)}={value}; Max-Age={MAX_AGE_S}; {ATTRIBUTES}")
    present = {"metadata_namespace": _NAMESPACE, "key": _COOKIE, "regex_value_rewrite": cookie}
    rule = {"header": "x-request-id", "on_header_present": present}
    by_chance = {"header": {"header_name": "x-request-id", "regex_rewrite": rewrite(value)}}
    return by_chance, {**_metadata(rule), **_set_cookie(f"metadata.filter_metadata['{_NAMESPACE}']['{_COOKIE}']")}


def former_visitor(app: str) -> tuple[Json, Json]:
    """Returns, for a route: how it matches visitors who have a cookie of any rollout; and what else it has, by which
    that cookie is removed.
    """
    return _has_cookie(app, {"prefix": f"{app}-r"}), _set_cookie(f"'{cookie_name(app)}=; Max-Age=0; {ATTRIBUTES}'")


def _has_cookie(app: str, value: Json) -> Json:
    return {"cookies": [{"name": cookie_name(app), "string_match": value}]}


def _metadata(rule: Json) -> Json:
    return {"typed_per_filter_config": {_FILTER: {"@type": _TYPE, "request_rules": [rule]}}}


def _set_cookie(expression: str) -> Json:
    """Returns the part of a route that sets the cookie in answers, unless shared caches may keep them: Envoy adds no
    header without a value. `expression` (CEL) gives the header's value.
    """
    header = {"key": "set-cookie", "value": f"%CEL({_KEPT} ? '' : {expression})%"}
    return {"response_headers_to_add": [{"header": header, "append_action": "APPEND_IF_EXISTS_OR_ADD"}]}
