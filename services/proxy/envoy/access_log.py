"""Configures Envoy's two logs with a line for each request of a visitor: the access log, from which traffic is counted,
and the log of requests, which is for people.
"""

import os
from pathlib import Path

from services.proxy.envoy.clusters import Json
from shared.config import SharedSettings

ACCESS_LOG, REQUEST_LOG = "access.log", "requests.log"
"""Names of the files in Envoy's folder."""
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

_ENDED: Json = {"log_type_filter": {"types": ["DownstreamEnd"]}}
"""Filter for the line of a request that has ended."""

_REQUEST_OPERATORS = {
    "time": "%START_TIME%",
    "route": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD):20%",
    "scheme": "%REQ(X-FORWARDED-PROTO):10%",
    "host": "%REQ(:AUTHORITY):255%",
    "status": "%RESPONSE_CODE%",
    "first_byte_ms": "%COMMON_DURATION(DS_RX_END:US_RX_BEG:ms)%",
    "duration_ms": "%DURATION%",
    "received_bytes": "%BYTES_RECEIVED%",
    "sent_bytes": "%BYTES_SENT%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "user_agent": "%REQ(USER-AGENT):200%",
    "request_id": "%REQ(X-REQUEST-ID):64%",
    "instance": "%UPSTREAM_METADATA(slipway:instance)%",  # the one that Envoy tried last; its id names the release
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
}
_LONGEST_PATH = 1000
# A query may hold what nobody but the app may know: tokens, addresses, searches.
_PATH, _WITH_QUERY = f"%PATH(NQ):{_LONGEST_PATH}%", f"%PATH(WQ):{_LONGEST_PATH}%"

_LOGGERS = "type.googleapis.com/envoy.extensions.access_loggers."


def create_access_log(folder: Path) -> None:
    """Creates the access log in Envoy's folder, unless it exists."""
    create_log(folder / ACCESS_LOG)


def create_log(path: Path) -> None:
    """Creates a log, unless it exists; only its owner may read it. Envoy appends to this file, and would otherwise
    create it readable for all users.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def access_log(settings: SharedSettings, folder: Path) -> Json:
    """Returns the part of an HTTP connection manager's configuration that writes the logs in `folder`. In the access
    log, a request has a line of the type `DownstreamEnd` when it has ended. Before, it has a line of the type
    `DownstreamPeriodic` each second, as long as no answer has begun: from its beginning if chance assigned its visitor
    to a track, else once it has lasted a minute.
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
    lines = _either(_ENDED, {"and_filter": {"filters": in_flight}})
    log_format = {"text_format_source": {"inline_string": LINE}}
    return {
        "access_log": [_file_logger(folder / ACCESS_LOG, lines, log_format), *_request_log(settings, folder)],
        "access_log_options": {"access_log_flush_interval": "1s"},
    }


def _request_log(settings: SharedSettings, folder: Path) -> list[Json]:
    """Returns the parts of an HTTP connection manager's configuration that write the log in `folder`: none if the
    settings switch it off. A field without a value is left out of its line.
    """
    if not settings.request_log_mb:
        return []
    fields = {**_REQUEST_OPERATORS, "path": _WITH_QUERY if settings.request_log_queries else _PATH}
    log_format = {"json_format": fields, "omit_empty_values": True}
    return [_file_logger(folder / REQUEST_LOG, _ENDED, log_format)]


def _file_logger(path: Path, lines: Json, log_format: Json) -> Json:
    """Returns an access logger that writes, to the file at `path`, the lines that the filter `lines` lets through."""
    file = {"@type": f"{_LOGGERS}file.v3.FileAccessLog", "path": str(path), "log_format": log_format}
    return {"name": "envoy.access_loggers.file", "filter": lines, "typed_config": file}


def _either(*filters: Json) -> Json:
    return {"or_filter": {"filters": list(filters)}}
