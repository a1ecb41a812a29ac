"""Requests releases from the deployer, waits until they are live or have failed, and cancels them."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.build.builds.build import Build
from services.build.system.api_call import api_call
from services.build.system.stop import Stop, Stopped
from shared.errors import Problem
from shared.http import ServiceClient
from shared.models import Environment, ReleaseState, ReleaseView

PATIENCE_S = 600.0
POLL_S = 0.2
RETRY_S = 1.0
AWAY_LIMIT_S = 600.0
NEWEST = 20  # releases, among which the release of a running build must be
Waiting = Callable[[str, str], Awaitable[None]]
"""Callback that is called repeatedly during a wait, with what is waited for and with the time so far: `3 s of 60`."""
_UNDER_WAY = {ReleaseState.PENDING, ReleaseState.STARTING}


class ReleaseRefused(Exception):
    """Reports that the deployer refused a request; the message is the deployer's reason."""


class Unreachable(Exception):
    """Reports that the deployer has not answered for ten minutes."""


class Unfinished(Exception):
    """Reports that a release already serves visitors but cannot be completed, as another service of the platform, or
    Redis, has been unavailable for too long.
    """


class DeployerClient:
    """Asks the deployer, the service that runs releases, to release a build, and follows or cancels that release. Each
    method may be repeated, since the deployer makes one release for a build. A method that has the parameters `waiting`
    and `stop` tries again while the deployer does not answer. It then calls `waiting` every second with the reason, and
    raises Unreachable after 10 minutes. It raises Stopped once `stop` is set, as when the build is cancelled, and
    ReleaseRefused if the deployer refuses.
    """

    def __init__(self, deployer: ServiceClient, *, patience_s: float = PATIENCE_S, poll_s: float = POLL_S) -> None:
        self._deployer = deployer
        self._patience_s = patience_s
        self._poll_s = poll_s

    async def request(self, build: Build, waiting: Waiting, stop: Stop) -> ReleaseView:
        """Asks the deployer to release `build` to the build's environment, and returns the release: a new one, the one
        of this build that is already starting, or the live release if that has the same commit and artifact. While the
        deployer does not answer, tries again and calls `waiting` with the reason and the time so far. Raises Stopped
        once `stop` is set, as when the build is cancelled, Unreachable after 10 minutes, and ReleaseRefused if the
        deployer refuses.
        """
        path = f"/apps/{build.app}/environments/{build.environment}/releases"
        body = {"build": build.id}
        answer = await self._retried(lambda: self._deployer.post(path, body, repeatable=True), waiting, stop)
        return ReleaseView.model_validate(answer)

    async def follow(self, release: ReleaseView, waiting: Waiting, stop: Stop) -> ReleaseView:
        """Waits until the release is neither pending nor starting, and returns it. Calls `waiting` meanwhile with the
        state of the release and what it waits for. Raises Unfinished if the release serves visitors but cannot be
        completed, since a part of the platform has been down for 10 minutes; also Stopped once `stop` is set, and
        Unreachable or ReleaseRefused if the deployer does not answer or refuses.
        """
        while release.state in _UNDER_WAY:
            await waiting(f"{release.id} {release.state}: {release.reason}", progress(release))
            if release.switched_at is not None and release.wait is not None and release.wait.away_s >= AWAY_LIMIT_S:
                raise Unfinished(f"{release.id} {release.reason}")
            await _pause(self._poll_s, stop)
            release = await self.look(release.id, waiting, stop)
        return release

    async def cancel(self, build: Build, reason: str, waiting: Waiting, stop: Stop) -> ReleaseView | None:
        """Asks the deployer to end the release of the build for `reason`, unless it already serves visitors or has
        ended. Returns the release in its present state, or None if the build has none. While the deployer does not
        answer, tries again and calls `waiting`. Raises Stopped once `stop` is set, Unreachable after 10 minutes, and
        ReleaseRefused if the deployer refuses to tell the release's state.
        """
        release = await self._release_of(build, waiting, stop)
        if release is None or release.state not in _UNDER_WAY:
            return release
        body = {"state": ReleaseState.RETIRED, "reason": reason}
        path = f"/releases/{release.id}/retire"
        try:
            answer = await self._retried(lambda: self._deployer.post(path, body, repeatable=True), waiting, stop)
        except ReleaseRefused:
            return await self.look(release.id, waiting, stop)
        return ReleaseView.model_validate(answer)

    async def refusal_to_cancel(self, build: Build) -> str:
        """Returns the reason why the build's release can no longer be cancelled, with the remedy; empty if it can be
        cancelled, or if the deployer does not answer.
        """
        if build.release is None:
            return ""
        try:
            release = ReleaseView.model_validate(await self._deployer.get(f"/releases/{build.release}"))
        except Problem:
            return ""
        is_production = release.environment is Environment.PRODUCTION
        if release.state is not ReleaseState.LIVE and not (release.switched_at is not None and is_production):
            return ""
        call = api_call("POST", f"/apps/{build.app}/environments/{release.environment}/rollback", {})
        remedy = f"{call} of the deployer rolls back"
        return f"{release.id} serves visitors already; {remedy}"

    async def _release_of(self, build: Build, waiting: Waiting, stop: Stop) -> ReleaseView | None:
        path = f"/apps/{build.app}/environments/{build.environment}/releases"
        page = await self._retried(lambda: self._deployer.get(path, limit=NEWEST), waiting, stop)
        releases = [ReleaseView.model_validate(item) for item in page["items"]]
        return next((release for release in releases if release.build == build.id), None)

    async def look(self, release_id: str, waiting: Waiting, stop: Stop) -> ReleaseView:
        """Returns the release in its present state. While the deployer does not answer, tries again and calls `waiting`
        with the reason and the time so far. Raises Unreachable after 10 minutes, ReleaseRefused if the deployer refuses
        the request, and Stopped once `stop` is set.
        """
        path = f"/releases/{release_id}"
        return ReleaseView.model_validate(await self._retried(lambda: self._deployer.get(path), waiting, stop))

    async def _retried(self, call: Callable[[], Awaitable[Any]], waiting: Waiting, stop: Stop) -> Any:
        begun = time.monotonic()
        while True:
            try:
                return await call()
            except Problem as problem:
                if problem.status < 500:
                    raise ReleaseRefused(problem.detail) from problem
                away_s = time.monotonic() - begun
                if away_s > self._patience_s:
                    raise Unreachable(problem.detail) from problem
                await waiting(f"waits for the deployer: {problem.detail}", f"{away_s:.0f} s of {self._patience_s:.0f}")
            await _pause(RETRY_S, stop)


def went_live(release: ReleaseView) -> bool:
    """Returns True if the release is live, or was live before another release replaced it."""
    if release.state is ReleaseState.RETIRED:
        return release.live_at is not None
    return release.state is ReleaseState.LIVE


def progress(release: ReleaseView) -> str:
    """Returns how long the release has waited for its instances, and of which limit, as a text (`3 s of 60`); while a
    part of the platform is down, for how long it has been down. Returns an empty text if the release does not wait.
    """
    wait = release.wait
    if wait is None:
        return ""
    if wait.is_held:
        return f"a part of the platform is down, for {wait.away_s:.0f} s of {AWAY_LIMIT_S:.0f} so far"
    more = ", longer as the CPU is short" if wait.waited_s > wait.limit_s and release.switched_at is None else ""
    return f"{wait.waited_s:.0f} s of {wait.limit_s:.0f}{more}" if release.switched_at is None else ""


def downtime_text(release: ReleaseView, volumes: Sequence[str]) -> str:
    """Returns a clause about the downtime of a stop-first release, to be appended to a sentence; empty if there was no
    downtime. `volumes` holds the names of the volumes in the build's manifest.
    """
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
