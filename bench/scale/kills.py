"""Kills Envoy, each service and Redis in turn while requests come, and counts what visitors lose."""

import os
import signal
import time
from collections.abc import Iterator

from shared.config import SERVICES
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.probe_client import probe, wait_for
from stack.local.local_stack import LocalStack

RATE = 200.0
KILLED = ("envoy", *SERVICES, "redis")


def kills(stack: LocalStack, app: Deployable) -> Iterator[str]:
    """Yields a line for each killed program: requests sent until all services are ready again, lost ones, the largest
    gap. `app` must be examples/notes.
    """
    yield f"{'killed, at 200 requests/s':28}{'requests':>10}{'lost':>8}{'largest gap':>14}{'ready after':>14}"
    with Load(app.public, rate=RATE, host=app.host, limit_s=900) as load:
        for program in KILLED:
            since, began = load.now(), time.monotonic()
            os.kill(stack.pid(program), signal.SIGKILL)
            if program in SERVICES:
                wait_for(lambda: not stack.is_ready(), f"{program} gone", 10)
            wait_for(stack.is_ready, f"ready again after {program}", 120)
            wait_for(lambda: probe(app.public, "/version", app.host).status == 200, "visitors served", 60)
            ready_s = time.monotonic() - began
            time.sleep(5)
            part = load.report(since)
            yield f"{program:28}{part.sent:>10}{part.lost:>8}{part.largest_gap_ms:>11.0f} ms{ready_s:>12.1f} s"
