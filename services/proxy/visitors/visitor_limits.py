"""Configures Envoy's limits for visitors: how many connections all of them and one client may have, and how long a
connection may be idle. Pure. Envoy counts connections by filter chain, not by client. Therefore each listener has 16
filter chains, one for each group of clients whose addresses end with the same character. A client always belongs to the
same group. Connections of trusted proxies, which carry many clients, have a filter chain without such a limit.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.config import Network

Json = dict[str, Any]

PRESSURE_FILE = "pressure"
"""Name of the file in Envoy's folder with the share of visitors' connections that are taken, 0 to 1."""
GROUPS = "0123456789abcdef"
GROUPS_AT_FULL = 4  # a group may take a fourth of all connections
BUSY, FULL = 0.5, 0.9
PROXIES = "proxies"
"""Name of the filter chain for connections of trusted proxies."""
PROXY_HEADER_S = 5

_TYPE = "type.googleapis.com/"
_MONITORS = f"{_TYPE}envoy.extensions.resource_monitors."
_ALL = "envoy.resource_monitors.global_downstream_max_connections"
_PRESSURE = "envoy.resource_monitors.injected_resource"


def overload_manager(folder: Path, visitors: int) -> Json:
    """Returns the configuration of Envoy's overload manager. It allows at most `visitors` connections on all listeners
    together, and shortens time-outs while many of them are taken. Envoy cannot shorten time-outs by its own number of
    connections, so the proxy service writes the share that is taken to the file `pressure` in `folder`.
    """
    return {
        "resource_monitors": [
            {
                "name": _ALL,
                "typed_config": {
                    "@type": f"{_MONITORS}downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": visitors,  # a flood ends before the file descriptors
                },
            },
            {
                "name": _PRESSURE,
                "typed_config": {
                    "@type": f"{_MONITORS}injected_resource.v3.InjectedResourceConfig",
                    "filename": str(folder / PRESSURE_FILE),
                },
            },
        ],
        "actions": [
            {
                "name": "envoy.overload_actions.reduce_timeouts",
                "triggers": [{"name": _PRESSURE, "scaled": {"scaling_threshold": BUSY, "saturation_threshold": FULL}}],
                "typed_config": {
                    "@type": f"{_TYPE}envoy.config.overload.v3.ScaleTimersOverloadActionConfig",
                    "timer_scale_factors": [
                        {"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": "1s"},
                        {"timer": "HTTP_DOWNSTREAM_STREAM_IDLE", "min_timeout": "60s"},
                    ],
                },
            }
        ],
    }


def filter_chains(
    listener: str,
    visitors: int,
    manager: Json,
    proxies: Sequence[Network] = (),
    of_proxies: Json | None = None,
    prefix: str = "",
) -> Json:
    """Returns the part of a listener with its filter chains, one for each group of clients, and with the matcher that
    chooses among them. `manager` is the configuration of the HTTP connection manager. A connection beyond a group's
    limit is closed at once. If there are trusted `proxies`, their connections have a filter chain with the HTTP
    connection manager `of_proxies`. The chains' names begin with `prefix`.
    """
    limit = {
        "name": "envoy.filters.network.connection_limit",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
            "stat_prefix": listener,
            "max_connections": max(1, visitors // GROUPS_AT_FULL),
        },
    }
    chains = [{"name": f"{prefix}{group}", "filters": [limit, _http(manager)]} for group in GROUPS]
    matchers = [_if("source_ip", {"value_match": {"suffix": each}}, _chain(f"{prefix}{each}")) for each in GROUPS]
    if proxies and of_proxies is not None:
        chains.append({"name": f"{prefix}{PROXIES}", "filters": [_http(of_proxies)]})
        matchers.insert(0, _if("source_ip", _is_in(proxies), _chain(f"{prefix}{PROXIES}")))
    return {"filter_chains": chains, "filter_chain_matcher": {"matcher_list": {"matchers": matchers}}}


def either(plain: Json, tls: Json) -> Json:
    """Returns a listener's part with the filter chains of both, of which a connection that begins with TLS gets one of
    `tls`. The names of their chains differ.
    """
    inspector = {
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": {"@type": f"{_TYPE}envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
    }
    begins_so = _if("transport_protocol", {"value_match": {"exact": "tls"}}, {"matcher": tls["filter_chain_matcher"]})
    return {
        "filter_chains": [*plain["filter_chains"], *tls["filter_chains"]],
        "listener_filters": [inspector],
        "filter_chain_matcher": {
            "matcher_list": {"matchers": [begins_so]},
            "on_no_match": {"matcher": plain["filter_chain_matcher"]},
        },
    }


def only_by_proxies(chains: Json, proxies: Sequence[Network]) -> Json:
    """Returns a listener's part with its filter chains, changed so that only the `proxies` may connect, and that they
    name the client's address at the beginning of each connection (PROXY protocol, versions 1 and 2). Others are
    disconnected.
    """
    protocol = {
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": {"@type": f"{_TYPE}envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"},
    }
    # The protocol changes the source, but not the direct source.
    matcher = _if("direct_source_ip", _is_in(proxies), {"matcher": chains["filter_chain_matcher"]})
    return {
        **chains,
        "listener_filters": [protocol, *chains.get("listener_filters", [])],
        "listener_filters_timeout": f"{PROXY_HEADER_S}s",
        "filter_chain_matcher": {"matcher_list": {"matchers": [matcher]}},
    }


def ranges(networks: Sequence[Network]) -> list[Json]:
    """Returns the networks in Envoy's form."""
    return [{"address_prefix": str(each.network_address), "prefix_len": each.prefixlen} for each in networks]


def _http(manager: Json) -> Json:
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


_INPUTS = {
    "source_ip": "SourceIPInput",
    "direct_source_ip": "DirectSourceIPInput",
    "transport_protocol": "TransportProtocolInput",
}


def _if(known: str, matches: Json, action: Json) -> Json:
    """Returns a matcher that takes the action if what is known of the connection, one of `_INPUTS`, matches."""
    config = {"@type": f"{_TYPE}envoy.extensions.matching.common_inputs.network.v3.{_INPUTS[known]}"}
    read = {"name": f"envoy.matching.inputs.{known}", "typed_config": config}
    return {"predicate": {"single_predicate": {"input": read, **matches}}, "on_match": action}


def _is_in(networks: Sequence[Network]) -> Json:
    config = {
        "@type": f"{_TYPE}envoy.extensions.matching.input_matchers.ip.v3.Ip",
        "cidr_ranges": ranges(networks),
        "stat_prefix": "proxies",
    }
    return {"custom_match": {"name": "envoy.matching.matchers.ip", "typed_config": config}}


def _chain(name: str) -> Json:
    """Returns a matcher's action: the filter chain of that name is taken."""
    return {"action": {"name": name, "typed_config": {"@type": f"{_TYPE}google.protobuf.StringValue", "value": name}}}
