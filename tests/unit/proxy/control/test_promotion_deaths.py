"""A promotion that is refused until production has judged the commit, while the proxy dies after any call it makes."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.proxy.routes.rollout import Rollout
from shared.canary import Canary
from shared.errors import Conflict
from shared.proxy_models import RolloutAdvance, RolloutState, VerdictResult, VerdictSummary
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import NOW, endpoint, record, route

pytestmark = pytest.mark.anyio
COMMIT = record("notes-r2-1").commit
CANARY = endpoint("notes-r2-1", port=20001).model_copy(update={"commit": COMMIT})
REFUSAL = "notes-7 has not run steps that production asks for: load"


class Died(Exception):
    """The service is killed; what it asked for was done."""


class DyingPlane(Plane):
    """Its deployer has the canary `notes-r2` of build notes-7, which it refuses for production until that has `judged`
    the commit and runs it. The service dies after `left` calls."""

    def __init__(self, home: Path, redis: Redis, left: float) -> None:
        self.left = left
        self.judged = self.retired = False
        super().__init__(home, redis, route(endpoint("notes-r1-1"), canary=(CANARY,)))

    @property
    def rollout(self) -> Rollout:
        rollout = self.control.route("notes").rollout
        assert rollout is not None
        return rollout

    def _deployer(self, request: httpx.Request) -> httpx.Response:
        answer = self._answer(request.method, request.url.path, request.read())
        self.left -= 1
        if self.left < 0:
            raise Died
        return answer

    def _answer(self, method: str, path: str, body: bytes) -> httpx.Response:
        if path == "/releases/notes-r2/retire":
            assert json.loads(body)["reason"] == "promoted as notes-r9"
            self.retired = True
            return httpx.Response(200, json=release("notes-r2", "canary", "notes-7"))
        if path == "/releases/notes-r2":
            return httpx.Response(200, json=release("notes-r2", "canary", "notes-7"))
        judged = release("notes-r9", "production", "notes-8")
        if path.endswith("/production/releases") and method == "GET":
            return httpx.Response(200, json={"items": [judged] if self.judged else []})
        if not self.judged:
            return httpx.Response(409, json={"detail": REFUSAL})
        return httpx.Response(204) if method == "GET" else httpx.Response(200, json={**judged, "unchanged": True})


def release(release_id: str, environment: str, build: str) -> dict[str, Any]:
    of_app = {"id": release_id, "app": "notes", "environment": environment, "build": build, "commit": COMMIT}
    return {**of_app, "state": "live", "created_at": NOW.isoformat()}


async def person(plane: DyingPlane) -> None:
    """Asks for the promotion, and has the commit judged when it is refused."""
    if plane.rollout.state is RolloutState.PAUSED:
        assert plane.rollout.reason == f"promotion refused: {REFUSAL}"
        plane.judged = True
        await plane.rollouts.resume("notes", "notes-r2", "")
    elif plane.rollout.active and plane.rollout.promotion is None:
        try:
            await plane.rollouts.promote("notes", "notes-r2")
        except Conflict as conflict:
            assert conflict.detail == REFUSAL
            plane.judged = True


@pytest.mark.parametrize("is_refused_late", [False, True])
async def test_a_promotion_goes_on_whenever_the_proxy_dies(tmp_path: Path, redis: Redis, is_refused_late: bool) -> None:
    for calls in count():
        await redis.flushdb()
        plane, died = DyingPlane(tmp_path / str(calls), redis, calls), False
        await plane.rollouts.open("notes", "notes-r2", 40, [])
        if is_refused_late:  # build did not answer when the promotion was asked for
            plane.judged = True
            plane.left += 1
            await plane.rollouts.promote("notes", "notes-r2")
            plane.judged = False
        for _ in range(10):
            try:
                await person(plane)
                await plane.deployer_tasks.step()
            except Died:
                died, plane.left = True, float("inf")
                plane.start()
            if plane.retired:
                break
            assert plane.rollout.state is not RolloutState.PROMOTED or plane.judged
        assert plane.retired, f"died after {calls} calls"
        assert (plane.rollout.state, plane.rollout.reason) == (RolloutState.PROMOTED, "promoted as notes-r9")
        if not died:
            break
    assert calls >= 5


async def test_an_automatic_promotion_goes_on_whenever_the_proxy_dies(tmp_path: Path, redis: Redis) -> None:
    verdict = VerdictSummary(result=VerdictResult.PASS, score=97, reason="harm is ruled out", at=NOW)
    last_step = RolloutAdvance(release="notes-r2", step=0, verdict=verdict)
    for calls in count():
        await redis.flushdb()
        plane, died = DyingPlane(tmp_path / str(calls), redis, calls), False
        await plane.rollouts.open("notes", "notes-r2", None, [], Canary(promote="automatic"))
        for _ in range(10):
            try:
                if plane.rollout.state is RolloutState.PROGRESSING:
                    await plane.rollouts.advance("notes", last_step)
                else:
                    await person(plane)
                await plane.deployer_tasks.step()
            except Died:
                died, plane.left = True, float("inf")
                plane.start()
            if plane.retired:
                break
        assert plane.retired, f"died after {calls} calls"
        assert (plane.rollout.state, plane.rollout.reason) == (RolloutState.PROMOTED, "promoted as notes-r9")
        if not died:
            break
    assert calls >= 5
