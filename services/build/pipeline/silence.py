"""Writes to a build's log what the build is doing, while nothing else is written there."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from services.build.builds.build import Build
from services.build.logs.build_log import BuildLog
from services.build.logs.wait_lines import EVERY_S
from shared.runtime.loops import cancel


def doing(build: Build) -> str:
    """Returns what the build is doing at present, for its log; an empty text while it is deployed, because the
    deployment itself writes to the log.
    """
    if build.passed:
        return ""
    steps = ", ".join(step.name for step in build.steps if step.state == "running")
    return f"the step {steps} runs" if steps else "the platform prepares or judges the commit, or makes its artifact"


@contextlib.asynccontextmanager
async def broken_silence(log: BuildLog, what: Callable[[], str], *, every_s: float = EVERY_S) -> AsyncIterator[None]:
    """Writes to the log what the build is doing (the text that `what` returns, unless it is empty), whenever nothing
    else was written there for `every_s` seconds, until the block ends.
    """

    async def watch() -> None:
        size, since = log.size, time.monotonic()
        written_at = since
        while True:
            await asyncio.sleep(every_s / 15)
            now = time.monotonic()
            if log.size != size:
                size, since, written_at = log.size, now, now
            elif now - written_at >= every_s:
                written_at = now
                if text := what():
                    log.say(f"    still at it: {text}, for {now - since:.0f} s without output")
                    size = log.size

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        await cancel([watching])
