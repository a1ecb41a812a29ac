"""Configures Envoy's access log, from which traffic is counted: it has a line for each request of a visitor."""

import os
from pathlib import Path

from services.proxy.envoy.clusters import Json

ACCESS_LOG = "access.log"
"""Name of the file in Envoy's folder."""
FLUSH_ARGUMENTS = ("--file-flush-interval-msec", "250")
"""Arguments of Envoy's command line: how often it writes what it has buffered. The default is 10 s."""
LONG_MS = 60_000

_OPERATORS = {
    "type": "%ACCESS_LOG_TYPE%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER%",  # of the route, so the one to which the visitor was assigned
    "track": "%UPSTREAM_METADATA(slipway:track)%",  # of the instance that Envoy tried last
    "release": "%UPSTREAM_METADATA(slipway:release)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "received_ms": "%REQUEST_DURATION%",
    "first_byte_us": "%COMMON_DURATION(DS_RX_END:US_RX_BEG:us)%",
    "duration_ms": "%DURATION%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "grpc_status": "%GRPC_STATUS_NUMBER%",
    "start_s": "%START_TIME(%s.%3f)%",
    "method": "%REQ(:METHOD):20%",
    "visitor": "%DYNAMIC_METADATA(slipway:visitor):120%",
    "request_id": "%REQ(X-REQUEST-ID):64%",
    "upgrade": "%REQ(UPGRADE):20%",
    "content_type": "%RESP(CONTENT-TYPE):40%",
}
FIELDS = tuple(_OPERATORS)
"""Names of a line's fields, in their order; tabs separate them. Those that visitors and apps determine come last, since
such a text may contain tabs. A field without a value is `-`.
"""
LINE = "\t".join(_OPERATORS.values()) + "\n"

_LOGGERS = "type.googleapis.com/envoy.extensions.access_loggers."


def create_access_log(folder: Path) -> None:
    """Creates the access log in Envoy's folder, unless it exists; only its owner may read it. Envoy appends to this
    file, and would otherwise create it readable for all users.
    """
    os.close(os.open(folder / ACCESS_LOG, os.O_WRONLY | os.O_CREAT, 0o600))


def access_log(folder: Path) -> Json:
    """Returns the part of an HTTP connection manager's configuration that writes the log in `folder`. A request has a
    line of the type `DownstreamEnd` when it has ended. Before, it has a line of the type `DownstreamPeriodic` each
    second, as long as no answer has begun: from its beginning if chance assigned its visitor to a track, else once it
    has lasted a minute.
    """
    unanswered = {"op": "EQ", "value": {"default_value": 0, "runtime_key": "slipway.access_log.unanswered"}}
    long = {"op": "GE", "value": {"default_value": LONG_MS, "runtime_key": "slipway.access_log.long_ms"}}
    by_chance = "xds.route_name.endsWith('/known') || xds.route_name.endsWith('/new')"
    in_flight = [
        {"log_type_filter": {"types": ["DownstreamPeriodic"]}},
        {"status_code_filter": {"comparison": unanswered}},
        _either(
            {"duration_filter": {"comparison": long}},
            {
                "extension_filter": {
                    "name": "envoy.access_loggers.extension_filters.cel",
                    "typed_config": {
                        "@type": f"{_LOGGERS}filters.cel.v3.ExpressionFilter",
                        "expression": by_chance,
                    },
                }
            },
        ),
    ]
    ended = {"log_type_filter": {"types": ["DownstreamEnd"]}}
    file = {
        "@type": f"{_LOGGERS}file.v3.FileAccessLog",
        "path": str(folder / ACCESS_LOG),
        "log_format": {"text_format_source": {"inline_string": LINE}},
    }
    return {
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "filter": _either(ended, {"and_filter": {"filters": in_flight}}),
                "typed_config": file,
            }
        ],
        "access_log_options": {"access_log_flush_interval": "1s"},
    }


def _either(*filters: Json) -> Json:
    return {"or_filter": {"filters": list(filters)}}
