"""Keeps a visitor with one track during a rollout, by the cookie `slipway-<app>=<release>.<id>`. Pure. Envoy does not
choose a track for each visitor and remember it: it computes the track, by a hash of the cookie's value and the weights.
"""

import re

from services.proxy.envoy.clusters import Json

MAX_AGE_S = 86_400

_HTTP = "type.googleapis.com/envoy.extensions.filters.http."
_SET, _READ = "slipway.set_cookie", "slipway.read_cookie"

# An answer that shared caches may keep for other visitors (RFC 9111, section 3) gets no cookie, for they would get it,
# too. `no-cache` alone does not count as permission to keep it: most apps that write it mean `no-store`.
_LUA = (
    """
local MONTHS = {Jan=1, Feb=2, Mar=3, Apr=4, May=5, Jun=6, Jul=7, Aug=8, Sep=9, Oct=10, Nov=11, Dec=12}

local function seconds(date)  -- grows with the date; 0 if it is none
  local d, m, y, h, min, s = (date or ""):match("(%d+) (%a+) (%d%d%d%d) (%d+):(%d+):(%d+)")
  if not MONTHS[m or ""] then return 0 end
  return ((((y * 12 + MONTHS[m]) * 31 + d) * 24 + h) * 60 + min) * 60 + s
end

local function is_for_shared_caches(headers)
  local control = (headers:get("cache-control") or ""):lower()
  local function has(directive) return control:find(directive, 1, true) end
  if has("private") or has("no-store") then return false end
  if has("public") or has("s-maxage") then return true end
  if has("no-cache") then return false end
  local max_age = control:match('max%-age%s*=%s*"?(%d+)')
  if max_age then return tonumber(max_age) > 0 end
  return seconds(headers:get("expires")) > seconds(headers:get("date"))
end

function envoy_on_request(handle)
  handle:streamInfo():dynamicMetadata():set("slipway", "request", handle:headers():get("x-request-id"))
end

function envoy_on_response(handle)
  local headers, context = handle:headers(), handle:filterContext()
  if is_for_shared_caches(headers) then return end
  local value, max_age = "", 0
  if context:get("release") then
    value = context:get("release") .. "." .. handle:streamInfo():dynamicMetadata():get("slipway")["request"]
    max_age = """
    + str(MAX_AGE_S)
    + """
  end
  local attributes = "; Max-Age=" .. max_age .. "; Path=/; HttpOnly; SameSite=Lax"
  headers:add("set-cookie", context:get("cookie") .. "=" .. value .. attributes)
end
"""
)


def cookie_name(app: str) -> str:
    return f"slipway-{app}"


def http_filters() -> list[Json]:
    """Returns the filters that the functions below switch on for single routes."""
    lua = {
        "@type": f"{_HTTP}lua.v3.Lua",
        "default_source_code": {"inline_string": "function envoy_on_request(handle) end"},
        "source_codes": {_SET: {"inline_string": _LUA}},
    }
    read = {"@type": f"{_HTTP}header_to_metadata.v3.Config"}
    return [
        {"name": _READ, "typed_config": read, "disabled": True},
        {"name": _SET, "typed_config": lua, "disabled": True},
    ]


def known_visitor(app: str, release: str) -> tuple[Json, Json, Json]:
    """Returns, for a route to the tracks of `release`'s rollout, how it matches visitors who have a cookie of this
    rollout; how it computes their track; and the filters that tell the access log their cookie.
    """
    name = cookie_name(app)
    rule = {"cookie": name, "on_header_present": {"metadata_namespace": "slipway", "key": "visitor"}}
    read = {"@type": f"{_HTTP}header_to_metadata.v3.Config", "request_rules": [rule]}
    value = {"safe_regex": {"regex": f"{re.escape(release)}\\.[0-9a-f-]+"}}  # nothing that could upset the access log
    return _has_cookie(app, value), {"cookie": {"name": name}}, {_READ: read}


def new_visitor(app: str, release: str) -> tuple[Json, Json]:
    """Returns how a route computes the track of a visitor without a cookie of this rollout, from the request's id; and
    the filters that set the cookie. They give the same track as the cookie does afterwards.
    """
    as_in_cookie = {"pattern": {"regex": "^(.*)$"}, "substitution": f"{release}.\\1"}
    chance = {"header": {"header_name": "x-request-id", "regex_rewrite": as_in_cookie}}
    return chance, _cookie_filter(app, {"release": release})


def former_visitor(app: str) -> tuple[Json, Json]:
    """Returns how a route matches visitors who have a cookie of any rollout, and the filters that remove the cookie."""
    return _has_cookie(app, {"prefix": f"{app}-r"}), _cookie_filter(app, {})


def _has_cookie(app: str, value: Json) -> Json:
    return {"cookies": [{"name": cookie_name(app), "string_match": value}]}


def _cookie_filter(app: str, context: Json) -> Json:
    context = {"cookie": cookie_name(app), **context}
    return {_SET: {"@type": f"{_HTTP}lua.v3.LuaPerRoute", "name": _SET, "filter_context": context}}
