"""Parses a line of Envoy's access log, and says how its request failed, if it did. Pure."""

from typing import NamedTuple

from services.proxy.envoy.access_log import FIELDS
from shared.models import Track
from shared.proxy_models import RequestError

BY_CHANCE = frozenset({"known", "new"})
"""Routes on which Envoy splits visitors: those who have a cookie, and new ones."""
FORCED = frozenset({"always", "never", "production", "canary"})
"""Routes that a visitor chooses, by the header `x-canary` or the port."""
PAGE = "page"
"""The route of Envoy's own pages."""
KNOWN = "known"

NOTHING = "-"
END, PERIODIC = "DownstreamEnd", "DownstreamPeriodic"
VIA_UPSTREAM = "via_upstream"
CUT = "upstream_reset_after_response_started"
LEFT = frozenset({"DC", "DR"})
"""Response flags: the visitor ended the connection, or the stream."""
UPGRADED = 101
LAST_S = 1e11
GRPC_SERVER_FAULTS = frozenset({"2", "4", "12", "13", "14", "15"})
STREAMS = ("text/event-stream", "multipart/x-mixed-replace", "application/grpc")

_LAST = len(FIELDS) - 1
_TYPE, _ROUTE, _STATUS = FIELDS.index("type"), FIELDS.index("route"), FIELDS.index("status")
_VISITOR, _REQUEST_ID = FIELDS.index("visitor"), FIELDS.index("request_id")
_DIGITS = {digit: int(digit, 16) for digit in "0123456789abcdefABCDEF"}
_TRACKS: dict[str, Track] = {str(track): track for track in Track}


class LogLine(NamedTuple):
    """Holds what one line of Envoy's access log says about a request."""

    app: str
    kind: str
    """The route's name without that of the app: `known`, `new`, `stable`, `always` and so on."""
    assigned: Track
    """The track (production or canary) to which the visitor was assigned."""
    answered: Track | None
    """The track of the instance that Envoy tried last; None if there was none."""
    release: str
    """The release of that instance, or `-`."""
    ended: bool
    """False if the request is still in flight."""
    status: int
    """The answer's status code; 0 if no answer began."""
    flags: str
    """Envoy's response flags, separated by commas."""
    details: str
    """Envoy's response code details, which say where the answer came from."""
    is_received: bool
    """True if the whole request had arrived."""
    first_byte_us: int | None
    """Microseconds from the arrival of the whole request to the beginning of the answer; None if they are unknown."""
    waited_ms: int
    """Milliseconds since the arrival of the whole request; for an incomplete request, since its beginning."""
    grpc_status: str
    at_s: float
    """Time at which Envoy wrote the line, in seconds since 1970."""
    visitor: str
    """The id in the visitor's cookie; for a new visitor, the request's id, which becomes the id in the cookie."""
    key: str
    """Identifies the request."""
    is_stream: bool
    """True if the answer is an event stream, gRPC, or a connection that was upgraded."""

    def error(self, *, rollout_is_open: bool) -> RequestError | None:
        """Returns how the ended request failed; None if it did not fail. A request that was assigned to the canary but
        answered by production is a failure only while the rollout is open: afterwards, production takes over from the
        leaving canary.
        """
        if rollout_is_open and self.assigned is Track.CANARY and self.answered is Track.STABLE:
            return RequestError.FAILED_OVER
        if self.status >= 500:
            return RequestError.STATUS if self.details.startswith((VIA_UPSTREAM, CUT)) else RequestError.RESET
        if self.status == 0:
            gave_up = self.is_received and not LEFT.isdisjoint(self.flags.split(","))
            return RequestError.GAVE_UP if gave_up else None
        if self.details.startswith(CUT) and self.status != UPGRADED:
            return RequestError.CUT
        return RequestError.GRPC if self.grpc_status in GRPC_SERVER_FAULTS else None

    @property
    def is_refused(self) -> bool:
        """Returns True if Envoy refused the request without trying an instance."""
        return 400 <= self.status < 500 and self.release == NOTHING

    @property
    def is_client_error(self) -> bool:
        """Returns True if the app answered with a status from 400 to 499."""
        return 400 <= self.status < 500 and self.details == VIA_UPSTREAM


def split(line: str) -> list[str] | None:
    """Returns the fields of a line of Envoy's access log; None if they are too few or the line is of an unknown type.
    The last field, which the app determines, may contain tabs.
    """
    fields = line.split("\t", _LAST)
    return fields if len(fields) == len(FIELDS) and fields[_TYPE] in (END, PERIODIC) else None


def app_of(fields: list[str]) -> str:
    """Returns the name of the app to which the request went, from the fields of its access-log line."""
    return fields[_ROUTE].partition("/")[0]


def is_answering(fields: list[str]) -> bool:
    """Returns True if the request of this access-log line is still in flight and its answer has begun."""
    return fields[_TYPE] == PERIODIC and fields[_STATUS] != "0"


def is_sampled(fields: list[str], one_in: int) -> bool:
    """Returns True if the visitor of this access-log line is in the sample of one visitor in `one_in` (1, 2, 4, 8 or
    16). All requests of a visitor are in the sample, or none.
    """
    return one_in == 1 or _DIGITS.get(_visitor(fields)[-1:], 0) % one_in == 0


def parse(fields: list[str]) -> LogLine:
    """Returns the parsed line from the fields of an access-log line. Raises ValueError if a number among them is
    malformed.
    """
    (
        kind_of_line,
        route,
        cluster,
        track,
        release,
        status,
        flags,
        details,
        received_ms,
        first_byte_us,
        duration_ms,
        _,
        grpc_status,
        start_s,
        _,
        _,
        request_id,
        upgrade,
        content_type,
    ) = fields
    app, _, kind = route.partition("/")
    code, duration = int(status), int(duration_ms)
    is_received = received_ms != NOTHING
    at_s = float(start_s) + duration / 1000
    if not 0 <= at_s < LAST_S:  # also for what is not a number
        raise ValueError(start_s)
    return LogLine(
        app=app,
        kind=kind,
        assigned=Track.CANARY if cluster.endswith(("/split", "/canary")) else Track.STABLE,
        answered=_TRACKS.get(track),
        release=release,
        ended=kind_of_line == END,
        status=code,
        flags=flags,
        details=details,
        is_received=is_received,
        first_byte_us=None if first_byte_us == NOTHING else int(first_byte_us),
        waited_ms=duration - int(received_ms) if is_received else duration,
        grpc_status=grpc_status,
        at_s=at_s,
        visitor=_visitor(fields),
        key=f"{request_id} {start_s}",
        is_stream=code == UPGRADED or upgrade != NOTHING or content_type.lower().startswith(STREAMS),
    )


def _visitor(fields: list[str]) -> str:
    known = fields[_VISITOR]
    return fields[_REQUEST_ID] if known == NOTHING else known.partition(".")[2]
