"""Requests releases from the deployer, and waits until they are live or have failed."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.build.builds.build import Build
from services.build.system.stop import Stop, Stopped
from shared.errors import Problem
from shared.http import ServiceClient
from shared.models import Environment, ReleaseState, ReleaseView

log = logging.getLogger(__name__)

PATIENCE_S = 600.0
POLL_S = 0.2
RETRY_S = 1.0
_UNDER_WAY = {ReleaseState.PENDING, ReleaseState.STARTING}


class ReleaseRefused(Exception):
    """Reports that the deployer refused a request; the message is the deployer's."""


class Unreachable(Exception):
    """Reports that the deployer has not answered for ten minutes."""


class DeployerClient:
    """Calls the deployer. Each method retries while the deployer does not answer, and is idempotent: the deployer makes
    one release for a build. `waiting` is called once with the reason if the deployer does not answer. All methods raise
    ReleaseRefused, Unreachable and Stopped."""

    def __init__(self, deployer: ServiceClient, *, patience_s: float = PATIENCE_S, poll_s: float = POLL_S) -> None:
        self._deployer = deployer
        self._patience_s = patience_s
        self._poll_s = poll_s

    async def request(self, build: Build, waiting: Callable[[str], None], stop: Stop) -> ReleaseView:
        """Returns a release of `build` in its environment: a new one, or one that is live already."""
        path = f"/apps/{build.app}/environments/{build.environment}/releases"
        body = {"build": build.id}
        answer = await self._retried(lambda: self._deployer.post(path, body, repeatable=True), waiting, stop)
        return ReleaseView.model_validate(answer)

    async def follow(self, release: ReleaseView, waiting: Callable[[str], None], stop: Stop) -> ReleaseView:
        """Waits until the release is neither pending nor starting, and returns it."""
        while release.state in _UNDER_WAY:
            await _pause(self._poll_s, stop)
            release = await self.look(release.id, waiting, stop)
        return release

    async def look(self, release_id: str, waiting: Callable[[str], None], stop: Stop) -> ReleaseView:
        """Returns the present state of the release."""
        path = f"/releases/{release_id}"
        return ReleaseView.model_validate(await self._retried(lambda: self._deployer.get(path), waiting, stop))

    async def _retried(self, call: Callable[[], Awaitable[Any]], waiting: Callable[[str], None], stop: Stop) -> Any:
        deadline = time.monotonic() + self._patience_s
        told = False
        while True:
            try:
                return await call()
            except Problem as problem:
                if problem.status < 500:
                    raise ReleaseRefused(problem.detail) from problem
                if time.monotonic() > deadline:
                    raise Unreachable(problem.detail) from problem
                if not told:
                    log.warning("the deployer does not answer: %s", problem.detail)
                    waiting(problem.detail)
                    told = True
            await _pause(RETRY_S, stop)


def went_live(release: ReleaseView) -> bool:
    """Returns True if the release is live, or was live before another replaced it."""
    if release.state is ReleaseState.RETIRED:
        return release.live_at is not None
    return release.state is ReleaseState.LIVE


def downtime_text(release: ReleaseView, volumes: Sequence[str]) -> str:
    """Returns a clause on the downtime of a stop-first release, to append to a sentence; empty without downtime.
    `volumes` holds the names of the volumes in the build's manifest."""
    if release.unchanged or release.down_s is None:
        return ""
    plural = "s" if len(volumes) > 1 else ""
    why = f"its volume{plural} {', '.join(volumes)}" if volumes else "the volume of the release before it"
    what = "nobody was served" if release.environment is Environment.PRODUCTION else "there was no canary"
    return f" (stop-first because of {why}: {what} for {release.down_s:.1f} s)"


async def _pause(seconds: float, stop: Stop) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
        raise Stopped
