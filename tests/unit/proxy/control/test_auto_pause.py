"""A silent deployer pauses rollouts; what it paused goes on by itself, and nothing else does."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from services.proxy.control.auto_pause import answers
from services.proxy.routes.rollout import Promotion, Rollout
from shared.config import SharedSettings
from shared.errors import Conflict
from shared.http import ServiceClient
from shared.models import Track
from shared.proxy_models import RolloutState
from tests.support.proxy.plane import EmptyRegistry, Plane
from tests.support.proxy.proxy_stack import Deployer
from tests.support.proxy.routes import NOW, endpoint, route

pytestmark = pytest.mark.anyio

PROGRESSING, PAUSED = RolloutState.PROGRESSING, RolloutState.PAUSED
STABLE, CANARY = endpoint("notes-r1-1"), endpoint("notes-r2-1", port=20001)
ROUTE = route(STABLE, canary=(CANARY,), rollout="notes-r2")
SILENCE, ANSWERS = [False] * 6, [True] * 3


def rollout(plane: Plane, app: str = "notes") -> Rollout:
    rollout = plane.control.route(app).rollout
    assert rollout is not None
    return rollout


@pytest.fixture
async def plane(tmp_path: Path, redis: Redis) -> Plane:
    """Returns a control plane that the deployer has answered once."""
    plane = Plane(tmp_path, redis, ROUTE)
    await plane.probe_deployer(True)
    return plane


async def test_silence_pauses_and_answers_resume_each_with_reason_time_and_event(plane: Plane) -> None:
    await plane.probe_deployer(*SILENCE)
    paused = rollout(plane)
    assert (paused.state, paused.resumes_by_itself) == (PAUSED, True)
    assert paused.reason.startswith("the deployer does not answer")
    assert (paused.at - NOW).total_seconds() == 1 + 5  # seconds after the last answer
    assert plane.control.route("notes").split_weight() == 33
    await plane.probe_deployer(*ANSWERS)
    assert (rollout(plane).state, rollout(plane).reason) == (PROGRESSING, "the deployer answers again")
    events = [(event.type, event.id, event.reason, event.at) for event in await plane.events()]
    assert events == [
        ("rollout.paused", "notes-r2", paused.reason, paused.at),
        ("rollout.progressing", "notes-r2", "the deployer answers again", rollout(plane).at),
    ]


async def test_a_slow_answer_now_and_then_pauses_nothing(plane: Plane) -> None:
    await plane.probe_deployer(*[False, True, False, False, True] * 10)
    assert rollout(plane) == ROUTE.rollout
    assert plane.probes == 51


async def test_the_platforms_pause_outlives_a_restart_of_the_service(plane: Plane) -> None:
    await plane.probe_deployer(*SILENCE)
    paused = rollout(plane)
    plane.start()
    assert rollout(plane) == paused
    await plane.probe_deployer(*SILENCE)
    assert rollout(plane) == paused  # its reason and time are the first ones
    await plane.probe_deployer(*ANSWERS)
    assert rollout(plane).state is PROGRESSING


async def test_a_deployer_that_starts_with_the_platform_has_longer(tmp_path: Path, redis: Redis) -> None:
    plane = Plane(tmp_path, redis, ROUTE)
    await plane.probe_deployer(*[False] * 14)
    assert rollout(plane) == ROUTE.rollout
    await plane.probe_deployer(False, False)
    assert rollout(plane).state is PAUSED


async def test_only_rollouts_that_silence_paused_go_on(tmp_path: Path, redis: Redis) -> None:
    failed = Rollout(release="shop-r2", state=PAUSED, reason="promotion failed", at=NOW)
    shop = route(app="shop").model_copy(update={"rollout": failed})
    ended = Rollout(release="blog-r2", state=RolloutState.PROMOTED, at=NOW)
    blog = route(app="blog").model_copy(update={"rollout": ended})
    plane = Plane(tmp_path, redis, ROUTE, shop, blog)
    await plane.probe_deployer(True, *SILENCE)
    assert [rollout(plane, app).state for app in ("notes", "shop", "blog")] == [PAUSED, PAUSED, RolloutState.PROMOTED]
    await plane.probe_deployer(*ANSWERS)
    assert rollout(plane).state is PROGRESSING
    assert (rollout(plane, "shop"), rollout(plane, "blog")) == (failed, ended)


async def test_nobody_is_asked_without_a_rollout_on_its_way(tmp_path: Path, redis: Redis) -> None:
    plane = Plane(tmp_path, redis, route(STABLE))
    await plane.probe_deployer(*SILENCE)
    assert plane.probes == 0
    plane.control.put(ROUTE)  # opened by a deployer that lives
    await plane.probe_deployer(*SILENCE)
    assert rollout(plane).state is PAUSED


async def test_a_promotion_waits_and_goes_on(plane: Plane) -> None:
    promotion = Promotion(asked_at=plane.now)
    await plane.rollouts.promote("notes", "notes-r2")
    await plane.probe_deployer(*SILENCE)
    assert (rollout(plane).state, rollout(plane).promotion) == (PAUSED, promotion)
    await plane.probe_deployer(*ANSWERS)
    assert (rollout(plane).state, rollout(plane).promotion) == (PROGRESSING, promotion)


async def test_a_promotion_that_is_refused_makes_the_pause_one_that_stays(plane: Plane) -> None:
    await plane.rollouts.promote("notes", "notes-r2")
    await plane.probe_deployer(*SILENCE)
    canary = {"id": "notes-r2", "app": "notes", "environment": "canary", "build": "notes-7", "commit": "0" * 40}
    plane.deployer["GET /releases/notes-r2"] = (200, {**canary, "state": "live", "created_at": NOW.isoformat()})
    plane.deployer["GET /apps/notes/environments/production/releases"] = (200, {"items": []})
    plane.deployer["POST /apps/notes/environments/production/releases"] = (409, {"detail": "not passed"})
    await plane.deployer_tasks.step()
    await plane.probe_deployer(*ANSWERS)
    assert (rollout(plane).state, rollout(plane).reason) == (PAUSED, "promotion refused: not passed")


async def test_a_paused_rollout_is_aborted_at_once_and_stays_so(plane: Plane) -> None:
    await plane.probe_deployer(*SILENCE)
    answer = await plane.rollouts.abort("notes", "notes-r2", "errors", {})
    assert answer.state is RolloutState.ABORTED
    assert not plane.control.route("notes").ready(Track.CANARY)
    await plane.probe_deployer(*ANSWERS)
    assert rollout(plane).state is RolloutState.ABORTED


async def test_a_person_does_not_resume_what_goes_on_by_itself(plane: Plane) -> None:
    await plane.probe_deployer(*SILENCE)
    with pytest.raises(Conflict, match="goes on by itself"):
        await plane.rollouts.resume("notes", "notes-r2", "")
    assert rollout(plane).state is PAUSED


# --- one probe --------------------------------------------------------------------------------------------------------


@pytest.fixture
def deployer() -> Iterator[Deployer]:
    deployer = Deployer()
    yield deployer
    deployer.close()


@pytest.fixture
async def client(tmp_path: Path, deployer: Deployer) -> AsyncIterator[ServiceClient]:
    settings = SharedSettings(home=tmp_path, deployer_port=deployer.port)
    async with httpx.AsyncClient(verify=False) as http:
        yield ServiceClient("deployer", settings, EmptyRegistry(), http)


async def test_an_answer_that_this_process_was_too_late_to_read_is_an_answer(client: ServiceClient) -> None:
    """It comes at once, and the event loop looks at it after 2 s. A probe has 1.5 s."""
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(time.sleep, 2))
    assert await answers(client)


async def test_a_deployer_that_is_gone_does_not_answer(client: ServiceClient, deployer: Deployer) -> None:
    assert await answers(client)
    deployer.close()
    assert not await answers(client)


async def test_an_abort_waits_for_no_other_apps_pause_and_is_not_undone_by_its_own(
    tmp_path: Path, redis: Redis
) -> None:
    apps = ["blog", "notes", "shop"]
    plane = Plane(tmp_path, redis, *(route(rollout=f"{app}-r2", app=app) for app in apps))
    await plane.probe_deployer(True, *[False] * 4)
    states: list[RolloutState] = []

    async def abort() -> None:
        while rollout(plane, "blog").state is PROGRESSING:
            await asyncio.sleep(0)
        plane.control.abort("shop", "errors")
        states.extend(rollout(plane, app).state for app in apps)

    aborting = asyncio.create_task(abort())
    await plane.probe_deployer(False)
    await aborting

    assert states == [PAUSED, PROGRESSING, RolloutState.ABORTED]
    assert [rollout(plane, app).state for app in apps] == [PAUSED, PAUSED, RolloutState.ABORTED]
