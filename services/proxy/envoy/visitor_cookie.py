"""Keeps a visitor with one track during a rollout, by the cookie `slipway-<app>=<release>.<id>`. Pure. Envoy does not
choose a track for each visitor and remember it: it computes the track, by a hash of the cookie's value and the weights.
"""

import re

from services.proxy.envoy.clusters import Json

MAX_AGE_S = 86_400
ATTRIBUTES = "Path=/; HttpOnly; SameSite=Lax"

_NAMESPACE = "slipway"
_FILTER = "slipway.metadata"
_TYPE = "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config"

_CONTROL = "response.headers['cache-control']"
_COOKIE = f"metadata.filter_metadata['{_NAMESPACE}']['cookie']"
# True for an answer that the app lets shared caches keep (RFC 9111, section 3). It gets no cookie, because they would
# give the cookie to others. `no-cache` does not count as permission: most apps that write it mean `no-store`.
_KEPT = (
    f"('cache-control' in response.headers && !{_CONTROL}.matches('(?i)private|no-store')"
    f" && ({_CONTROL}.matches('(?i)public|s-maxage')"
    f" || !{_CONTROL}.matches('(?i)no-cache') && {_CONTROL}.matches('(?i)max-age=\"?0*[1-9]')))"
    " || (!('cache-control' in response.headers)"
    " && 'expires' in response.headers && response.headers['expires'].matches(' 20'))"
)
# Envoy adds no header without a value.
SET_COOKIE = (
    f"%CEL('{_NAMESPACE}' in metadata.filter_metadata && 'cookie' in metadata.filter_metadata['{_NAMESPACE}'] &&"
    f" !({_KEPT}) ? {_COOKIE} : '')%"
)
"""Value of the answer's header `set-cookie`, on the listener that splits visitors."""


def cookie_name(app: str) -> str:
    return f"slipway-{app}"


def http_filter() -> Json:
    """Returns the Envoy filter that notes a visitor's cookie for the access log, and the cookie to set for the answer.
    It does nothing except on routes that configure it.
    """
    return {"name": _FILTER, "typed_config": {"@type": _TYPE}, "disabled": True}


def known_visitor(app: str, release: str) -> tuple[Json, Json, Json]:
    """Returns three parts for a route to production and canary during the release's rollout: how it matches visitors
    who have a cookie of this rollout; how it computes, from the cookie, which of the two they get; and a filter's
    configuration by which the access log gets the cookie.
    """
    match = _has_cookie(app, {"safe_regex": {"regex": f"{re.escape(release)}\\.[0-9a-f-]+"}})  # safe to be logged
    return match, {"cookie": {"name": cookie_name(app)}}, metadata("visitor", cookie=cookie_name(app))


def new_visitor(app: str, release: str) -> tuple[Json, Json]:
    """Returns two parts for a route to production and canary during the release's rollout: how it computes, from the
    request's id, which of the two a visitor without a cookie of this rollout gets; and a filter's configuration by
    which the visitor gets the cookie. With the cookie, the visitor later gets the same of the two.
    """
    value = f"{release}.\\1"
    cookie = _rewrite(f"{cookie_name(app)}={value}; Max-Age={MAX_AGE_S}; {ATTRIBUTES}")
    by_chance = {"header": {"header_name": "x-request-id", "regex_rewrite": _rewrite(value)}}
    return by_chance, metadata("cookie", {"regex_value_rewrite": cookie}, header="x-request-id")


def former_visitor(app: str) -> tuple[Json, Json]:
    """Returns two parts for a route: how it matches visitors who have a cookie of any rollout of the app; and a
    filter's configuration by which their cookie is removed.
    """
    name = cookie_name(app)
    removed = {"value": f"{name}=; Max-Age=0; {ATTRIBUTES}"}
    return _has_cookie(app, {"prefix": f"{app}-r"}), metadata("cookie", removed, cookie=name)


def _has_cookie(app: str, value: Json) -> Json:
    return {"cookies": [{"name": cookie_name(app), "string_match": value}]}


def metadata(key: str, value: Json | None = None, **source: str) -> Json:
    """Returns the part of a route by which Envoy stores a value as `key`, for the access log and the answer, when a
    request has the header or cookie that `source` names: `value` or, if that is None, the content of the header or
    cookie.
    """
    present = {"metadata_namespace": _NAMESPACE, "key": key, **(value or {})}
    rules = [{**source, "on_header_present": present}]
    return {"typed_per_filter_config": {_FILTER: {"@type": _TYPE, "request_rules": rules}}}


def _rewrite(substitution: str) -> Json:
    return {"pattern": {"regex": "^(.*)$"}, "substitution": substitution}
