"""Writes lines of Envoy's access log for tests."""

from services.proxy.envoy.access_log import FIELDS

GOOD = {
    "type": "DownstreamEnd",
    "route": "notes/new",
    "cluster": "notes/stable",
    "track": "stable",
    "release": "notes-r1",
    "status": "200",
    "flags": "-",
    "details": "via_upstream",
    "received_ms": "0",
    "first_byte_us": "2000",
    "duration_ms": "3",
    "attempts": "1",
    "grpc_status": "-",
    "start_s": "1764457000.250",
    "method": "GET",
    "visitor": "-",
    "request_id": "5f0e3a11-0000-4000-8000-000000000001",
    "upgrade": "-",
    "content_type": "text/html",
}
CANARY = {"cluster": "notes/split", "track": "canary", "release": "notes-r2"}
NO_ANSWER = {"status": "0", "details": "-", "first_byte_us": "-", "content_type": "-"}


def line(*changes: dict[str, str], **fields: str) -> str:
    """Returns the line of a good answer of production, changed by `changes` and then by `fields`."""
    values = dict(GOOD)
    for change in (*changes, fields):
        values |= change
    return "\t".join(values[name] for name in FIELDS)


def waiting(duration_ms: int, *changes: dict[str, str], **fields: str) -> str:
    """Returns the line of a request that has been in flight for so long, and whose answer has not begun."""
    return line(NO_ANSWER, {"type": "DownstreamPeriodic", "duration_ms": str(duration_ms)}, *changes, **fields)
