"""Says in a build's log what the build does, while nothing else is written to it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from services.build.builds.build import Build
from services.build.logs.build_log import BuildLog
from services.build.logs.wait_lines import EVERY_S
from shared.runtime.loops import cancel


def doing(build: Build) -> str:
    """Returns what a build does whose log says nothing; empty while it is deployed, which says that itself."""
    if build.passed:
        return ""
    steps = ", ".join(step.name for step in build.steps if step.state == "running")
    return f"the step {steps} runs" if steps else "the platform prepares, judges or seals the commit"


@contextlib.asynccontextmanager
async def broken_silence(log: BuildLog, what: Callable[[], str], *, every_s: float = EVERY_S) -> AsyncIterator[None]:
    """Writes `what()` to the log whenever nothing was written to it for `every_s`, until the block ends. An empty text
    is not written.
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
