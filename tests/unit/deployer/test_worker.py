"""What the worker makes of the proxy's answers, above all of late ones."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import pytest

from services.deployer.action import Sync
from services.deployer.environment import AppFacts, Place
from services.deployer.proxy import NotYet, Refused
from services.deployer.store import MemoryStore
from services.deployer.worker import Tools, Worker
from shared.models import Environment, RouteState
from tests.unit.deployer.fakes import FakeDriver, FakeProxy, a_release, a_world, an_instance

pytestmark = pytest.mark.anyio
RELEASE = a_release(1)
WORLD = a_world([RELEASE], [an_instance(RELEASE, 1)])
ROUTABLE = {"notes-r1-1": RouteState.ROUTABLE}


class SlowProxy(FakeProxy):
    """Answers when told to, with what it is given. `stubborn`: a cancellation gets lost on the way, as in redis-py."""

    def __init__(self) -> None:
        self.calls = 0
        self.go_on = asyncio.Event()
        self.stubborn = False
        self.answer: Callable[[], dict[str, RouteState]] = lambda: ROUTABLE

    async def sync(self, app: str, body: Mapping[str, Any]) -> dict[str, RouteState]:
        self.calls += 1
        answer, go_on = self.answer, self.go_on
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            if not self.stubborn:
                raise
            await go_on.wait()
        return answer()


@pytest.fixture
def proxy() -> SlowProxy:
    return SlowProxy()


@pytest.fixture
async def worker(proxy: SlowProxy) -> AsyncIterator[Worker]:
    async def nothing(*args: str) -> None: ...

    facts = AppFacts("", "", {})
    tools = Tools(MemoryStore(), FakeDriver(), proxy, facts, 1, "localhost", cast(Any, nothing), poll_s=0)
    made = Worker(Place("notes", Environment.PRODUCTION), tools, lambda: None, nothing, nothing, cast(Any, nothing))
    yield made
    proxy.go_on.set()
    await made.close()


async def synced(worker: Worker, proxy: SlowProxy) -> None:
    worker.keep_going([Sync()], WORLD)
    await asyncio.sleep(0)
    proxy.go_on.set()
    await asyncio.sleep(0.01)


async def test_an_answer_is_known_until_the_registry_changes(worker: Worker, proxy: SlowProxy) -> None:
    await synced(worker, proxy)
    assert worker.routes == ROUTABLE
    worker.registry_changed()
    assert worker.routes is None


@pytest.mark.parametrize("stubborn", [False, True])
async def test_an_answer_about_an_older_registry_is_not_taken(worker: Worker, proxy: SlowProxy, stubborn: bool) -> None:
    proxy.stubborn = stubborn
    worker.keep_going([Sync()], WORLD)
    await asyncio.sleep(0)
    worker.registry_changed()
    proxy.go_on.set()
    await asyncio.sleep(0.01)
    assert (proxy.calls, worker.routes) == (1, None)


async def test_after_a_change_the_proxy_is_asked_again_without_waiting_for_the_last_answer(
    worker: Worker, proxy: SlowProxy
) -> None:
    worker.keep_going([Sync()], WORLD)
    await asyncio.sleep(0)
    worker.registry_changed()
    worker.keep_going([Sync()], WORLD)
    await asyncio.sleep(0)
    assert proxy.calls == 2


def fails_with(error: Exception) -> Callable[[], dict[str, RouteState]]:
    def answer() -> dict[str, RouteState]:
        raise error

    return answer


async def test_what_is_missing_is_waited_for_and_forgotten_when_it_is_there(worker: Worker, proxy: SlowProxy) -> None:
    proxy.answer = fails_with(NotYet("Envoy has not confirmed"))
    await synced(worker, proxy)
    assert (worker.waits_for, worker.refused) == ("waits for the proxy: Envoy has not confirmed", "")
    assert not worker.routes
    worker.registry_changed()
    proxy.answer = lambda: ROUTABLE
    await synced(worker, proxy)
    assert worker.waits_for == ""
    assert worker.routes == ROUTABLE


async def test_a_refusal_counts_until_the_registry_changes(worker: Worker, proxy: SlowProxy) -> None:
    proxy.answer = fails_with(Refused("host a.example belongs to app b"))
    await synced(worker, proxy)
    assert worker.refused == "the proxy refuses the route: host a.example belongs to app b"
    worker.registry_changed()
    assert worker.refused == ""
