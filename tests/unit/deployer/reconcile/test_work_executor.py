"""The work executor acts on the proxy's answers, above all on late ones."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import pytest

from services.deployer.drivers.driver import InstanceSpec, InstanceStatus
from services.deployer.plan.action import Check, SetMemory, StartInstance, StopInstance, SyncProxy
from services.deployer.reconcile.proxy_client import NotYet, ProxyRefused, sync_pause_s
from services.deployer.reconcile.work_executor import WorkContext, WorkExecutor
from services.deployer.releases.environment import AppFacts, EnvironmentId
from services.deployer.store import Store
from shared.manifest import MIB
from shared.models import Environment, InstanceState, ReleaseState
from shared.proxy_models import InstanceRoute, RouteState
from tests.support.deployer.fakes import FakeDriver, FakeProxy, a_release, a_world, an_instance

pytestmark = pytest.mark.anyio
RETRY_S = 0.3
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

    async def sync(self, app: str, body: Mapping[str, Any]) -> dict[str, InstanceRoute]:
        self.calls += 1
        answer, go_on = self.answer, self.go_on
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            if not self.stubborn:
                raise
            await go_on.wait()
        return {instance_id: InstanceRoute(route=route) for instance_id, route in answer().items()}


@pytest.fixture
def proxy() -> SlowProxy:
    return SlowProxy()


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def resized() -> list[tuple[str, int, str]]:
    """Collects the executor's reports about changes of memory limits."""
    return []


@pytest.fixture
async def executor(
    store: Store, proxy: SlowProxy, driver: FakeDriver, resized: list[tuple[str, int, str]]
) -> AsyncIterator[WorkExecutor]:
    async def nothing(*args: str) -> None: ...

    async def note(instance: str, memory: int, refusal: str) -> None:
        resized.append((instance, memory, refusal))

    facts = AppFacts("", "", dict.fromkeys(Environment, ""))
    context = WorkContext(
        store,
        driver,
        proxy,
        facts,
        1,
        "localhost",
        cast(Any, nothing),
        cast(Any, nothing),
        poll_s=0,
        memory_retry_s=RETRY_S,
    )
    made = WorkExecutor(EnvironmentId("notes", Environment.PRODUCTION), context, lambda: None, nothing, nothing, note)
    yield made
    proxy.go_on.set()
    await made.close()


async def synced(executor: WorkExecutor, proxy: SlowProxy) -> None:
    executor.start([SyncProxy()], WORLD)
    await asyncio.sleep(0)
    proxy.go_on.set()
    await asyncio.sleep(0.01)


async def test_an_answer_is_known_until_the_registry_changes(executor: WorkExecutor, proxy: SlowProxy) -> None:
    await synced(executor, proxy)
    assert executor.routes == ROUTABLE
    executor.registry_changed()
    assert executor.routes is None


@pytest.mark.parametrize("stubborn", [False, True])
async def test_an_answer_about_an_older_registry_is_not_taken(
    executor: WorkExecutor, proxy: SlowProxy, stubborn: bool
) -> None:
    proxy.stubborn = stubborn
    executor.start([SyncProxy()], WORLD)
    await asyncio.sleep(0)
    executor.registry_changed()
    proxy.go_on.set()
    await asyncio.sleep(0.01)
    assert (proxy.calls, executor.routes) == (1, None)


@pytest.mark.parametrize(("since_s", "pause_s"), [(0.1, 0.05), (1, 0.05), (10, 0.5), (20, 1.0), (1800, 1.0)])
def test_the_longer_instances_drain_the_rarer_the_proxy_is_asked(since_s: float, pause_s: float) -> None:
    assert sync_pause_s(0.05, since_s) == pause_s


async def test_after_a_change_the_proxy_is_asked_again_without_waiting_for_the_last_answer(
    executor: WorkExecutor, proxy: SlowProxy
) -> None:
    executor.start([SyncProxy()], WORLD)
    await asyncio.sleep(0)
    executor.registry_changed()
    executor.start([SyncProxy()], WORLD)
    await asyncio.sleep(0)
    assert proxy.calls == 2


def fails_with(error: Exception) -> Callable[[], dict[str, RouteState]]:
    def answer() -> dict[str, RouteState]:
        raise error

    return answer


async def test_what_is_missing_is_waited_for_and_forgotten_when_it_is_there(
    executor: WorkExecutor, proxy: SlowProxy
) -> None:
    proxy.answer = fails_with(NotYet("Envoy has not confirmed"))
    await synced(executor, proxy)
    assert (executor.waits_for, executor.refused) == ("waits for the proxy: Envoy has not confirmed", "")
    assert not executor.routes
    executor.registry_changed()
    proxy.answer = lambda: ROUTABLE
    await synced(executor, proxy)
    assert executor.waits_for == ""
    assert executor.routes == ROUTABLE


@pytest.mark.parametrize(
    ("state", "hosts", "routes"),
    [
        (ReleaseState.LIVE, ["a.example"], None),  # what Envoy has is not known
        (ReleaseState.LIVE, [], {}),
        (ReleaseState.FAILED, ["a.example"], {}),  # it claims no host any more
    ],
)
async def test_an_app_that_is_refused_its_own_host_has_no_route(
    executor: WorkExecutor,
    proxy: SlowProxy,
    state: ReleaseState,
    hosts: list[str],
    routes: dict[str, RouteState] | None,
) -> None:
    proxy.answer = fails_with(ProxyRefused("there is no room"))
    release = a_release(1, state, manifest=RELEASE.manifest.model_copy(update={"hosts": hosts}))
    executor.start([SyncProxy()], a_world([release], [an_instance(release, 1)]))
    await asyncio.sleep(0)
    proxy.go_on.set()
    await asyncio.sleep(0.01)
    assert (executor.refused, executor.routes) == ("the proxy refuses the route: there is no room", routes)


async def test_of_a_call_that_the_proxy_does_not_understand_nothing_is_concluded(
    executor: WorkExecutor, proxy: SlowProxy
) -> None:
    """As while services are upgraded one after the other."""
    proxy.answer = fails_with(ProxyRefused("unknown field", is_conflict=False))
    await synced(executor, proxy)
    assert (executor.refused, executor.routes) == ("the proxy refuses the route: unknown field", None)


async def test_a_refusal_counts_until_the_registry_changes(executor: WorkExecutor, proxy: SlowProxy) -> None:
    proxy.answer = fails_with(ProxyRefused("host a.example belongs to app b"))
    await synced(executor, proxy)
    assert executor.refused == "the proxy refuses the route: host a.example belongs to app b"
    executor.registry_changed()
    assert executor.refused == ""


# --- starting and stopping -----------------------------------------------------------------------------------------


class SlowDriver(FakeDriver):
    """Its starts take until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def start(self, spec: InstanceSpec) -> InstanceStatus:
        await self.go_on.wait()
        return await super().start(spec)


@pytest.mark.parametrize("driver", [SlowDriver()], ids=["slow"])
async def test_nothing_counts_as_stopped_whose_start_is_still_on_its_way(
    executor: WorkExecutor, driver: SlowDriver
) -> None:
    executor.start([StartInstance("notes-r1-1")], WORLD)
    await asyncio.sleep(0)
    executor.start([StopInstance("notes-r1-1")], WORLD)
    await asyncio.sleep(0.01)
    assert executor.stopped == set()
    driver.go_on.set()
    await asyncio.sleep(0.01)
    executor.start([StopInstance("notes-r1-1")], WORLD)
    await asyncio.sleep(0.01)
    assert (driver.started, driver.stopped, executor.stopped) == (["notes-r1-1"], ["notes-r1-1"], {"notes-r1-1"})


# --- memory -----------------------------------------------------------------------------------------------------------

INSTANCE = "notes-r1-1"


async def set_memory(executor: WorkExecutor, driver: FakeDriver, memory: int) -> None:
    await driver.start(InstanceSpec(INSTANCE, RELEASE.artifact, "run", {}, 64 * MIB, 8000))
    executor.start([SetMemory(INSTANCE, memory)], WORLD)
    await asyncio.sleep(0.01)


async def test_a_limit_that_was_changed_is_told(
    executor: WorkExecutor, driver: FakeDriver, resized: list[tuple[str, int, str]]
) -> None:
    await set_memory(executor, driver, 128 * MIB)
    assert driver.limits[INSTANCE] == 128 * MIB
    assert resized == [(INSTANCE, 128 * MIB, "")]
    assert (executor.memory_refused(), executor.fixed_memory) == ({}, set())


async def test_a_refusal_is_told_and_remembered_until_a_limit_is_accepted(
    executor: WorkExecutor, driver: FakeDriver, resized: list[tuple[str, int, str]]
) -> None:
    driver.working_set = 60 * MIB
    await set_memory(executor, driver, 32 * MIB)
    assert resized == [(INSTANCE, 32 * MIB, "notes-r1-1 uses more")]
    assert executor.memory_refused() == {INSTANCE: 32 * MIB} and driver.limits[INSTANCE] == 64 * MIB
    await set_memory(executor, driver, 128 * MIB)
    assert executor.memory_refused() == {}


async def test_a_refusal_is_tried_again_after_a_while(executor: WorkExecutor, driver: FakeDriver) -> None:
    driver.working_set = 60 * MIB
    await set_memory(executor, driver, 32 * MIB)
    await asyncio.sleep(RETRY_S / 2)
    assert executor.memory_refused() == {INSTANCE: 32 * MIB}
    await asyncio.sleep(RETRY_S)
    assert executor.memory_refused() == {}


async def test_an_engine_that_cannot_change_limits_is_not_asked_about_that_instance_again(
    executor: WorkExecutor, driver: FakeDriver, resized: list[tuple[str, int, str]]
) -> None:
    driver.sets_memory = False
    await set_memory(executor, driver, 128 * MIB)
    assert (executor.fixed_memory, resized) == ({INSTANCE}, [])
    executor.forget(INSTANCE)
    assert executor.fixed_memory == set()


async def test_an_engine_that_is_away_speaks_against_no_release(executor: WorkExecutor, driver: FakeDriver) -> None:
    release = a_release(1, ReleaseState.STARTING)
    instance = an_instance(release, 1, InstanceState.STARTING)
    world = a_world([release], [instance], statuses={})
    driver.is_away = True
    executor.start([StartInstance(instance.id)], world)
    await asyncio.sleep(0.05)
    assert executor.start_errors == {}
    driver.is_away = False
    async with asyncio.timeout(5):
        while not driver.started:
            executor.start([StartInstance(instance.id)], world)
            await asyncio.sleep(0.01)
    assert (driver.started, executor.start_errors) == ([instance.id], {})


async def test_an_error_that_no_contract_names_ends_the_start(
    executor: WorkExecutor, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(spec: InstanceSpec) -> None:
        raise ValueError("embedded null byte")

    monkeypatch.setattr(driver, "start", fail)
    monkeypatch.setattr(driver, "preflight", fail)
    release = a_release(1, ReleaseState.STARTING)
    instance = an_instance(release, 1, InstanceState.STARTING)
    executor.start([Check(release.id), StartInstance(instance.id)], a_world([release], [instance], statuses={}))
    async with asyncio.timeout(5):
        while not (executor.start_errors and executor.checked):
            await asyncio.sleep(0.01)
    reason = "an error of the platform itself: ValueError: embedded null byte; the deployer's log has the details"
    assert (executor.start_errors, executor.checked) == ({instance.id: reason}, {release.id: reason})


async def test_when_work_that_pauses_is_to_be_tried_again_is_known(
    executor: WorkExecutor, driver: FakeDriver, resized: list[tuple[str, int, str]]
) -> None:
    assert executor.next_try_at() == float("inf")
    driver.working_set = 120 * MIB
    await driver.start(InstanceSpec("notes-r1-1", RELEASE.artifact, "run", {}, 64 * MIB, 8000))
    executor.start([SetMemory("notes-r1-1", 128 * MIB)], WORLD)
    async with asyncio.timeout(5):
        while not resized:
            await asyncio.sleep(0.01)
    assert 0 < executor.next_try_at() - time.monotonic() <= RETRY_S
    driver.is_away = True
    executor.start([StartInstance("notes-r1-1")], WORLD)  # gets no answer
    await asyncio.sleep(0.05)
    assert 0 < executor.next_try_at() - time.monotonic() <= RETRY_S
    await asyncio.sleep(RETRY_S)
    assert 0 < executor.next_try_at() - time.monotonic() <= 0.5
