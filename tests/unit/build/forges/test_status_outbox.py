"""Forges are told of builds, whatever becomes of forge and service meanwhile."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import respx
from redis.asyncio import Redis

from services.build.builds import build as domain
from services.build.builds.app import new_app
from services.build.builds.build_store import BuildStore
from services.build.builds.status import statuses_of
from services.build.builds.status_store import StatusStore
from services.build.forges.status_outbox import GIVE_UP_S, StatusOutbox
from services.build.git.remote_source import Forge, Source
from shared.manifest import Stage
from shared.models import BuildState
from shared.runtime.keyed_tasks import KeyedTasks
from shared.security.vault import Vault
from tests.support.build.builds import AT, build

pytestmark = pytest.mark.anyio
TOKEN = "token-of-the-forge"
API = "https://api.github.com/repos/octo/notes/statuses/"


class World:
    """Both stores, a clock by hand, and the outbox."""

    def __init__(self, redis: Redis, folder: Path, http: httpx.AsyncClient) -> None:
        self.store = BuildStore(redis)
        self.statuses = StatusStore(redis)
        self.vault = Vault(folder / "key", "trial")
        self.at = 0.0
        self.http = http
        self.told = asyncio.Event()
        self.tasks = KeyedTasks("statuses", self.told.set)
        self.outbox = self.another_outbox()

    def another_outbox(self) -> StatusOutbox:
        """Returns a new outbox on the same stores, as after a restart."""
        return StatusOutbox(
            self.store, self.statuses, self.vault, self.http, self.tasks, "http://build", clock=lambda: self.at
        )

    async def with_source(self, token: str = TOKEN) -> None:
        sealed = self.vault.seal(token) if token else ""
        source = Source(forge=Forge.GITHUB, url="https://github.com/octo/notes.git", token=sealed)
        await self.store.put_app(new_app("notes", AT).model_copy(update={"source": source}))

    async def step(self) -> None:
        """And what it began."""
        self.told.clear()
        await self.outbox.step()
        if not self.tasks.has_room_for("notes"):
            await asyncio.wait_for(self.told.wait(), 10)


@pytest.fixture
async def world(redis: Redis, tmp_path: Path) -> AsyncIterator[World]:
    async with httpx.AsyncClient(verify=False, trust_env=False) as http:
        world = World(redis, tmp_path, http)
        yield world
        await world.tasks.close()


def sent(forge: respx.MockRouter, since: int = 0) -> list[tuple[str, str]]:
    """Context and state of each, in order, but for the first `since`."""
    bodies = [json.loads(call.request.content) for call in forge.calls][since:]
    return [(body["context"].removeprefix("slipway/"), body["state"]) for body in bodies]


async def test_a_build_is_told_stage_by_stage_and_nothing_twice(world: World, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(url__startswith=API).respond(201)
    await world.with_source()
    await world.store.add(build(), is_head=True)
    await world.step()
    assert sent(respx_mock) == [(stage, "pending") for stage in ("build", "test", "analysis", "deploy")]
    assert route.calls[0].request.url.path.endswith(build().commit)
    assert json.loads(route.calls[0].request.content)["target_url"] == "http://build/builds/notes-1"
    assert route.calls[0].request.headers["authorization"] == f"Bearer {TOKEN}"
    await world.store.update("notes-1", lambda stored: domain.started(stored, AT))
    await world.store.update("notes-1", lambda stored: domain.with_changes(stored, stage=Stage.TEST, passed=True))
    await world.store.update("notes-1", lambda stored: domain.ended(stored, BuildState.SUCCESS, "is live", AT))
    await world.step()
    assert sent(respx_mock, 4) == [(stage, "success") for stage in ("build", "test", "analysis", "deploy")]
    await world.step()
    assert sent(respx_mock, 8) == []
    assert await world.statuses.pending() == {}


async def test_only_stages_that_changed_are_told(world: World, respx_mock: respx.MockRouter) -> None:
    respx_mock.post(url__startswith=API).respond(201)
    await world.with_source()
    await world.store.add(build(), is_head=True)
    await world.store.update("notes-1", lambda stored: domain.started(stored, AT))
    await world.step()
    await world.store.update("notes-1", lambda stored: domain.with_changes(stored, stage=Stage.TEST))
    await world.step()
    assert sent(respx_mock, 4) == [("build", "pending"), ("test", "pending")]


async def test_what_nobody_could_see_is_not_told(world: World, respx_mock: respx.MockRouter) -> None:
    respx_mock.post(url__startswith=API).respond(201)
    await world.with_source()
    await world.store.add(build(), is_head=True)
    await world.step()
    await world.store.update("notes-1", lambda stored: domain.with_changes(stored, excerpt="x"))
    assert await world.statuses.pending() == {}


@pytest.mark.parametrize("has_source", [False, True])
async def test_without_a_source_or_token_nobody_is_told(world: World, has_source: bool) -> None:
    if has_source:
        await world.with_source(token="")
    await world.store.add(build(), is_head=True)
    await world.step()
    assert await world.statuses.pending() == {}


async def test_a_forge_that_is_down_is_told_the_newest_when_it_is_back(
    world: World, respx_mock: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    down = respx_mock.post(url__startswith=API).mock(side_effect=httpx.ConnectError("no"))
    await world.with_source()
    await world.store.add(build(), is_head=True)
    await world.step()
    await world.step()
    assert down.call_count == 1  # the back-off holds
    world.outbox = world.another_outbox()
    await world.store.update("notes-1", lambda stored: domain.ended(stored, BuildState.CANCELLED, "by hand", AT))
    down.mock(return_value=httpx.Response(201))
    world.at += 1000
    await world.step()
    assert sent(respx_mock, 1) == [(stage, "error") for stage in ("build", "test", "analysis", "deploy")]
    assert TOKEN not in caplog.text


async def test_after_an_hour_it_is_given_up(
    world: World, respx_mock: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    respx_mock.post(url__startswith=API).respond(502)
    await world.with_source()
    await world.store.add(build(), is_head=True)
    await world.step()
    tries = 1
    while await world.statuses.pending():
        world.at += 60
        await world.step()
        tries += 1
    assert (10 < tries < 100, world.at) == (True, GIVE_UP_S)
    assert "the forge was not told of notes-1: it answered 502" in caplog.text


async def test_what_a_forge_refuses_is_not_asked_again(
    world: World, respx_mock: respx.MockRouter, caplog: pytest.LogCaptureFixture
) -> None:
    route = respx_mock.post(url__startswith=API).respond(401, text=TOKEN)
    await world.with_source()
    await world.store.add(build(), is_head=True)
    await world.step()
    assert (route.call_count, await world.statuses.pending()) == (4, {})
    assert "slipway/test of notes-1 was refused by the forge: 401" in caplog.text
    assert TOKEN not in caplog.text


async def test_the_newest_build_of_a_commit_tells_of_it(world: World, respx_mock: respx.MockRouter) -> None:
    respx_mock.post(url__startswith=API).respond(201)
    await world.with_source()
    await world.store.add(build(1), is_head=True)
    await world.store.add(build(2, commit=build(1).commit), is_head=True)
    await world.step()
    before = len(respx_mock.calls)
    await world.store.update("notes-1", lambda stored: domain.ended(stored, BuildState.ERROR, "late", AT))
    await world.step()
    assert (sent(respx_mock, before), await world.statuses.pending()) == ([], {})


async def test_what_changed_meanwhile_is_still_to_be_told(world: World) -> None:
    await world.store.add(build(), is_head=True)
    sent = statuses_of(build())
    await world.store.update("notes-1", lambda stored: domain.started(stored, AT))
    await world.statuses.done("notes-1", sent)
    (kept,) = (await world.statuses.pending()).values()
    assert kept.statuses[0].verdict == "running"
    for _ in range(2):
        await world.statuses.done("notes-1", kept)
    assert await world.statuses.pending() == {}


async def test_a_redirect_is_not_followed(world: World, respx_mock: respx.MockRouter) -> None:
    """It would take the token along."""
    route = respx_mock.post(url__startswith=API).respond(307, headers={"Location": "https://elsewhere.example/"})
    await world.with_source()
    await world.store.add(build(), is_head=True)
    await world.step()
    assert (route.call_count, len(respx_mock.calls)) == (1, 1)
    assert list(await world.statuses.pending()) == ["notes-1"]
