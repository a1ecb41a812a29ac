"""Measures what counting costs the proxy service: lines of Envoy's access log in a second of CPU, and memory.

A file of 200 000 lines is read by the service's own classes: requests of 40 apps, half of them to one app with an open
rollout, from 20 000 visitors who have a cookie and as many who have none.
"""

import asyncio
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from services.proxy.counting.log_reader import AccessLogReader
from services.proxy.counting.request_counts import RequestCounts
from services.proxy.envoy.access_log import ACCESS_LOG, FIELDS, create_access_log
from services.proxy.routes.rollout import Rollout
from services.proxy.routes.route import Endpoint, EndpointState, Route
from shared.models import Track

LINES = 200_000
APPS = 40
VISITORS = 20_000
SAMPLINGS = (1, 2, 4, 8, 16)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class CountingCosts(NamedTuple):
    one_in: int
    """The share of visitors that are counted."""
    lines_per_cpu_s: float
    longest_ms: float
    """The longest time for which other tasks wait."""
    memory_mib: float
    """Growth of the process' memory."""


def measured(folder: Path, one_in: int) -> CountingCosts:
    """Returns what it costs to count the lines of the log in `folder`, with so large a sample."""
    return asyncio.run(_measured(folder, one_in))


async def _measured(folder: Path, one_in: int) -> CountingCosts:
    routes = {route.app: route for route in (_route(number) for number in range(APPS))}
    reader, counts = AccessLogReader(folder, _reopened, longest=2**40), RequestCounts()
    reader._position = 0  # from the beginning, unlike in the service
    memory, begun, longest = psutil.Process().memory_info().rss, time.process_time(), 0.0
    before = begun
    async for lines in reader.slices():
        counts.add(lines, routes, one_in)
        longest, before = max(longest, time.process_time() - before), time.process_time()
    seconds = time.process_time() - begun
    grown = psutil.Process().memory_info().rss - memory
    assert not counts.unreadable
    return CountingCosts(one_in, LINES / seconds, 1000 * longest, grown / 2**20)


async def _reopened() -> None:
    pass


def _route(number: int) -> Route:
    app = f"app{number}"
    endpoints = {track: {track: _endpoint(f"{app}-{track}")} for track in Track}
    rollout = Rollout(release=f"{app}-canary", at=NOW) if number == 0 else None
    return Route(app=app, hosts=[], health="/up", clusters=True, endpoints=endpoints, rollout=rollout)


def _endpoint(release: str) -> Endpoint:
    return Endpoint(id=release, release=release, address="127.0.0.1:1", state=EndpointState.READY, since=NOW)


def write_log(folder: Path) -> None:
    """Writes the log."""
    create_access_log(folder)
    dice = random.Random(1)
    visitors = [str(uuid.UUID(int=dice.getrandbits(128))) for _ in range(VISITORS)]
    with (folder / ACCESS_LOG).open("a") as log:
        log.writelines(_line(dice, visitors, number) for number in range(LINES))


def _line(dice: random.Random, visitors: Sequence[str], number: int) -> str:
    id_ = str(uuid.UUID(int=dice.getrandbits(128)))
    more = {"request_id": id_, "start_s": f"{1764457000 + number / 1000:.3f}"}
    more |= {"first_byte_us": str(int(dice.lognormvariate(8, 1))), "status": "500" if dice.random() < 0.01 else "200"}
    if number % 2:
        app = f"app{dice.randrange(1, APPS)}"
        return log_line(app, f"{app}-stable", **more)
    track = Track.CANARY if dice.random() < 0.33 else Track.STABLE
    cluster = "app0/split" if track is Track.CANARY else "app0/stable"
    more |= {"cluster": cluster, "track": track, "route": "app0/new"}
    if number % 20:
        more |= {"route": "app0/known", "visitor": f"app0-canary.{dice.choice(visitors)}"}
    return log_line("app0", f"app0-{track}", **more)


def log_line(app: str, release: str, **fields: str) -> str:
    """Returns the line of Envoy's access log for a request of production that was answered well."""
    values = {
        "type": "DownstreamEnd",
        "route": f"{app}/stable",
        "cluster": f"{app}/stable",
        "track": "stable",
        "release": release,
        "status": "200",
        "details": "via_upstream",
        "received_ms": "0",
        "first_byte_us": "2345",
        "duration_ms": "3",
        "start_s": "1764457000.250",
        "request_id": str(uuid.uuid4()),
        "content_type": "text/html",
        **fields,
    }
    return "\t".join(values.get(name, "-") for name in FIELDS) + "\n"


def rows(samplings: Sequence[int] = SAMPLINGS) -> list[CountingCosts]:
    """Returns the costs for each size of the sample."""
    with tempfile.TemporaryDirectory(prefix="slipway-log-") as folder:
        write_log(Path(folder))
        return [measured(Path(folder), one_in) for one_in in samplings]


def main() -> int:
    print("  ".join(f"{name:>15}" for name in CountingCosts._fields))
    for row in rows():
        print("  ".join(f"{value:15.0f}" for value in row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
