"""Configures Envoy's limits for visitors: how many connections all of them and one client may have, and how long a
connection may be idle. Pure. Envoy counts connections by filter chain, not by client. Therefore each listener has 16
filter chains, one for each group of clients whose addresses end with the same character. A client always belongs to the
same group.
"""

from pathlib import Path

from services.proxy.envoy.clusters import Json

PRESSURE_FILE = "pressure"
"""Name of the file in Envoy's folder with the share of visitors' connections that are taken, 0 to 1."""
GROUPS = "0123456789abcdef"
GROUPS_AT_FULL = 4  # a group may take a fourth of all connections
BUSY, FULL = 0.5, 0.9

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


def filter_chains(listener: str, visitors: int, manager: Json) -> Json:
    """Returns the part of a listener with its filter chains, one for each group of clients, and with the matcher that
    chooses among them. `manager` is the configuration of the HTTP connection manager. A connection beyond a group's
    limit is closed at once.
    """
    http = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    limit = {
        "name": "envoy.filters.network.connection_limit",
        "typed_config": {
            "@type": f"{_TYPE}envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
            "stat_prefix": listener,
            "max_connections": max(1, visitors // GROUPS_AT_FULL),
        },
    }
    return {
        "filter_chains": [{"name": group, "filters": [limit, http]} for group in GROUPS],
        "filter_chain_matcher": {"matcher_list": {"matchers": [_ends_with(group) for group in GROUPS]}},
    }


def _ends_with(group: str) -> Json:
    address = {
        "name": "envoy.matching.inputs.source_ip",
        "typed_config": {"@type": f"{_TYPE}envoy.extensions.matching.common_inputs.network.v3.SourceIPInput"},
    }
    chain = {"name": group, "typed_config": {"@type": f"{_TYPE}google.protobuf.StringValue", "value": group}}
    predicate = {"single_predicate": {"input": address, "value_match": {"suffix": group}}}
    return {"predicate": predicate, "on_match": {"action": chain}}
