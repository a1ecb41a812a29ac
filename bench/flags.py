"""Measures for `make bench-flags` how soon a switched flag reaches an app: by Redis, and by OFREP's stream.

On a stack of its own. Exit 1 if one of the slowest but one takes 100 ms.
"""

import asyncio
import contextlib
import queue
import sys
import threading
import time
from collections.abc import Sequence
from statistics import median

import httpx

from shared.models import Environment
from shared.security.auth import derived_secret
from shared.store import connect
from stack.local.local_stack import LocalStack
from stack.stack_fixture import own_stack

FLAG = "slipway-bench"
SWITCHES = 200
STREAMS = 20
BOUND_MS = 100.0
ANSWER_S = 5.0


class FlagStream:
    """A client of OFREP's stream, in a thread of its own; `told` are the moments of the events."""

    def __init__(self, url: str, token: str) -> None:
        self.told: queue.Queue[float] = queue.Queue()
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with (
            contextlib.suppress(httpx.HTTPError),  # the stack ends first
            httpx.stream("GET", self._url, headers=self._headers, timeout=None, trust_env=False) as answer,
        ):
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self.told.put(time.perf_counter())


def main() -> int:
    with own_stack() as stack, stack.api("flags") as api:
        switch = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
        api.put(f"/flags/{FLAG}", json=switch).raise_for_status()
        rows = [
            ("a Redis client, from the answer on", asyncio.run(by_redis(stack, api))),
            (f"the last of {STREAMS} streams, from the request on", by_stream(stack, api)),
        ]
    print(f"{SWITCHES} switches of a flag until it is seen by\n\n{'':50}{'median':>10}{'slowest':>10}")
    for name, times_ms in rows:
        print(f"{name:50}{median(times_ms):7.1f} ms{max(times_ms):7.1f} ms")
    return 0 if all(sorted(times_ms)[-2] < BOUND_MS for _, times_ms in rows) else 1  # the machine may be busy once


async def by_redis(stack: LocalStack, api: httpx.Client) -> Sequence[float]:
    times_ms = []
    async with connect(stack.settings.redis_connection_url()) as database:
        for number in range(SWITCHES):
            plain = _switch(api, number)
            answered = time.perf_counter()
            while await database.get(f"flag:{FLAG}") != plain:
                if time.perf_counter() - answered > ANSWER_S:
                    raise TimeoutError("the mirror of the flag does not change")
            times_ms.append(1000 * (time.perf_counter() - answered))
    return times_ms


def by_stream(stack: LocalStack, api: httpx.Client) -> Sequence[float]:
    production = Environment.PRODUCTION
    token = f"{production}.{derived_secret(stack.token, f'flags:{production}')}"
    streams = [FlagStream(f"{stack.settings.url('flags')}/ofrep/v1/stream", token) for _ in range(STREAMS)]
    for stream in streams:
        stream.told.get(timeout=ANSWER_S)  # a stream begins with an event
    times_ms = []
    for number in range(SWITCHES):
        asked = time.perf_counter()
        _switch(api, number)
        times_ms.append(1000 * (max(stream.told.get(timeout=ANSWER_S) for stream in streams) - asked))
    return times_ms


def _switch(api: httpx.Client, number: int) -> str:
    """Returns the value that a Redis client now reads."""
    variant, plain = (("off", "0"), ("on", "1"))[number % 2]
    answer = api.patch(f"/flags/{FLAG}", json={"defaultVariant": variant}, params={"environment": "production"})
    answer.raise_for_status()
    return plain


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (TimeoutError, queue.Empty, httpx.HTTPError) as error:
        sys.exit(f"bench-flags: {error!r}")
