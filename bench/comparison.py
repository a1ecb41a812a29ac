"""Runs update after update under load, in the same way for every platform."""

import time
from dataclasses import dataclass
from typing import Protocol

from bench.switchover import QUIET_S, Switchover, is_over, switchover
from stack.clients.load import Load
from stack.clients.probe_client import wait_for

OVER_WITHIN_S = 30.0


@dataclass(frozen=True)
class StartedUpdate:
    """An update that was started."""

    version: str
    ready: float
    """Time at which the image of `version` was in the engine, by `time.monotonic()`."""


class Platform(Protocol):
    """Serves an app at `url` (`host`: the Host header, or empty) and can update it."""

    url: str
    host: str

    def update(self) -> StartedUpdate:
        """Starts an update to another version. Returns as soon as it is under way, or later."""
        ...


def measure_updates(
    platform: Platform, updates: int, rate: float, within_s: float
) -> tuple[list[Switchover], list[str]]:
    """Returns the measurements of each update, and the reasons of lost requests.

    Starts no further update after `within_s` seconds. Raises TimeoutError if one does not end.
    """
    began = time.monotonic()
    windows: list[tuple[str, float, float, float]] = []
    limit_s = within_s + 120  # no load is left running by whatever is stuck
    with Load(platform.url, rate=rate, host=platform.host, limit_s=limit_s, slow_share=0) as load:
        time.sleep(QUIET_S)
        while len(windows) < updates and time.monotonic() - began < within_s:
            since = load.now()
            started = platform.update()
            _wait_until_over(load, started.version)
            ready = load.now() - (time.monotonic() - started.ready)
            windows.append((started.version, ready, since, load.now()))
    # Only now has every request its end: some had to wait for an answer, or for the end of their patience.
    return [switchover(load.results, *window) for window in windows], load.report().reasons


def _wait_until_over(load: Load, version: str) -> None:
    wait_for(lambda: is_over(load.results, version, load.now()), f"no answer but {version[:12]}'s", OVER_WITHIN_S)
