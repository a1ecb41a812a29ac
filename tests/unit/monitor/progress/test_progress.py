"""The loop that ends steps: what it asks, what it tells the proxy, and when it asks again."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from services.monitor.progress.gate import GateCheck
from services.monitor.progress.progress import Progress
from shared.config import SharedSettings
from shared.http import ServiceClient
from shared.models import Track
from shared.proxy_models import RolloutAdvance, RolloutState, RolloutView
from tests.support.monitor.monitor_world import NoRegistry
from tests.unit.monitor.progress.test_gate import FAIL, NOW, PASS, UNSURE, Said, rollout

pytestmark = pytest.mark.anyio


@dataclass
class OneAnalysis:
    """An analysis that says `said` at each gate; `asked` are the gates, True for a last one."""

    said: Said
    release: str = "notes-r2"
    last_window_at: datetime | None = NOW
    asked: list[bool] = field(default_factory=list)

    @property
    def judge(self) -> "OneAnalysis":
        return self

    def at_gate(self, last: bool) -> Said:
        self.asked.append(last)
        return self.said


class Broken(OneAnalysis):
    def at_gate(self, last: bool) -> Said:
        raise ZeroDivisionError


@dataclass
class World:
    """The proxy's answers (`statuses`, then 200), what it was told, and everything that the loop reads."""

    views: dict[str, RolloutView] = field(default_factory=lambda: {"notes": rollout()})
    analyses: dict[str, OneAnalysis] = field(default_factory=dict)
    checks: list[GateCheck] = field(default_factory=list)
    now: datetime = NOW
    statuses: list[int] = field(default_factory=list)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    checked: list[tuple[str, str, int]] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.told.append((request.url.path, json.loads(request.content)))
        return httpx.Response(self.statuses.pop(0) if self.statuses else 200, json={"detail": "not so"})

    def of(self, app: str) -> OneAnalysis | None:
        return self.analyses.get(app)

    async def gate_checks(self, app: str, release: str, step: int) -> Sequence[GateCheck]:
        self.checked.append((app, release, step))
        return self.checks

    def says(self, said: Said, app: str = "notes", release: str = "notes-r2") -> OneAnalysis:
        self.analyses[app] = OneAnalysis(said, release, self.now)
        return self.analyses[app]

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for analysis in self.analyses.values():
            analysis.last_window_at = self.now


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def progress(world: World) -> AsyncIterator[Progress]:
    settings = SharedSettings(token=SecretStr("token"))
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
        proxy = ServiceClient("proxy", settings, NoRegistry(), http)
        yield Progress(proxy, lambda: world.views, world, world.gate_checks, lambda: world.now)


async def test_a_step_whose_time_is_over_ends_by_its_verdict(world: World, progress: Progress) -> None:
    analysis = world.says(Said(UNSURE, score=55))
    await progress.step()
    [(path, body)] = world.told
    assert path == "/apps/notes/rollout/advance"
    advance = RolloutAdvance.model_validate(body)
    assert (advance.release, advance.step, advance.hold) == ("notes-r2", 0, "")
    assert (advance.verdict.result, advance.verdict.score, analysis.asked) == (UNSURE, 55, [False])
    await progress.step()
    assert len(world.told) == 1, "the proxy has answered"


async def test_a_step_that_runs_or_is_paused_is_not_asked_about(world: World, progress: Progress) -> None:
    analysis = world.says(Said(PASS))
    later = NOW + timedelta(seconds=1)
    for fields in ({"step_ends_at": later}, {"step_ends_at": None}, {"state": RolloutState.PAUSED}):
        world.views["notes"] = rollout(**fields)
        await progress.step()
    assert (world.told, analysis.asked) == ([], [])


async def test_a_last_step_that_is_not_certain_is_held_and_asked_about_every_ten_seconds(
    world: World, progress: Progress
) -> None:
    analysis = world.says(Said(UNSURE, requests={Track.CANARY: 40}))
    world.views["notes"] = rollout(1)
    for _ in range(21):
        await progress.step()
        world.later(1)
    assert analysis.asked == [True, True, True]
    assert [body["hold"] for _, body in world.told] == [
        "the canary has had 40 requests that count, 60 more are needed"
    ] * 3
    analysis.said = Said(PASS)
    world.later(10)
    await progress.step()
    assert world.told[-1][1]["hold"] == ""


async def test_without_figures_of_this_release_the_step_holds(world: World, progress: Progress) -> None:
    world.says(Said(PASS), release="notes-r1")
    await progress.step()
    assert world.told[0][1]["hold"] == "the monitor has no figures of this rollout yet"


async def test_a_gate_that_fails_holds_the_step_which_the_rule_then_aborts(world: World, progress: Progress) -> None:
    world.says(Said(FAIL, score=0, reason="12 of 130 requests failed"))
    await progress.step()
    [(path, body)] = world.told
    assert path == "/apps/notes/rollout/advance"
    assert body["hold"] == "the canary has failed: 12 of 130 requests failed"
    assert world.checked == [], "the app's own checks are not asked any more"


async def test_a_check_of_the_app_is_asked_and_holds_the_step(world: World, progress: Progress) -> None:
    world.says(Said(PASS))
    world.checks = [GateCheck("load", UNSURE, "the hook has not answered")]
    await progress.step()
    assert world.checked == [("notes", "notes-r2", 0)]
    assert world.told[0][1]["hold"] == "load: the hook has not answered"


@pytest.mark.parametrize(("status", "calls"), [(503, 2), (504, 2), (409, 1), (404, 1)])
async def test_a_proxy_that_does_not_confirm_is_told_again(
    world: World, progress: Progress, status: int, calls: int
) -> None:
    world.says(Said(PASS))
    world.statuses = [status]
    await progress.step()
    world.later(1)
    await progress.step()
    assert len(world.told) == calls


async def test_a_restarted_monitor_tells_it_again_and_the_next_step_is_its_own(
    world: World, progress: Progress
) -> None:
    world.says(Said(PASS))
    await progress.step()
    world.views["notes"] = rollout(1)
    await progress.step()
    assert [body["step"] for _, body in world.told] == [0, 1]


async def test_an_error_about_one_app_stops_no_other(world: World, progress: Progress) -> None:
    world.analyses["aaa"] = Broken(Said(PASS))
    world.views["aaa"] = rollout(app="aaa")
    world.says(Said(PASS))
    with pytest.raises(ZeroDivisionError):
        await progress.step()
    assert [path for path, _ in world.told] == ["/apps/notes/rollout/advance"]


async def test_a_fixed_share_is_left_alone(world: World, progress: Progress) -> None:
    world.says(Said(PASS))
    world.views["notes"] = rollout(steps=[])
    await progress.step()
    assert world.told == []
