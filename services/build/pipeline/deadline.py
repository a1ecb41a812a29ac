"""Limits the time of each phase of a build. Steps, analysis tools and image builds also have limits of their own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True)
class TimeLimits:
    """Holds the time limits of a build's phases, in seconds."""

    whole_s: float = 7200.0
    """Time from the start of a run until the artifact is complete."""
    checkout_s: float = 300.0
    """Time to read the commit, and again to write its files to the checkout."""
    seal_s: float = 2400.0
    """Time to make the artifact."""
    deploy_s: float = 1800.0
    """Time from the request of a release until it is live, without the wait for its instances to be ready."""
    ready_factor: float = 4.0
    """Longest wait for a release's instances to be ready, as a multiple of `run.ready_within` of the manifest."""


class OverTime(Exception):
    """Reports that a phase exceeded its time limit; the message names the phase and the limit."""

    def __init__(self, phase: str, limit_s: float) -> None:
        super().__init__(f"{phase} took longer than its limit of {in_words(limit_s)}")
        self.phase = phase


@contextlib.asynccontextmanager
async def within(limit_s: float, phase: str) -> AsyncIterator[None]:
    """Runs the block; after `limit_s` seconds cancels it and raises OverTime, which names `phase`. Work of the block in
    threads goes on.
    """
    try:
        async with asyncio.timeout(limit_s) as timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise
        raise OverTime(phase, limit_s) from error


def in_words(seconds: float) -> str:
    """Returns the duration in its largest whole unit: `2 h` for 7200."""
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:g} {unit}"
    return f"{seconds:g} s"
