"""The Docker Engine is killed, hangs, and comes back: what the deployer makes of it. On an engine of these tests' own,
whose containers cannot be visited from here: the prober and the proxy are stand-ins.
"""

import asyncio
import gc
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis.asyncio import Redis

import shared
from services.deployer.drivers.docker.container import Stack, creation
from services.deployer.drivers.driver import Driver, InstanceSpec, NoAnswer
from services.deployer.plan.apply_changes import Commit
from services.deployer.reconcile.environment_reconciler import EnvironmentReconciler, ReconcileContext
from services.deployer.reconcile.reconciler import Reconciler
from services.deployer.reconcile.replacement_turns import ReplacementTurns
from services.deployer.reconcile.strays import Strays
from services.deployer.reconcile.work_executor import WorkContext
from services.deployer.releases.environment import AppFacts, EnvironmentId
from services.deployer.releases.instance import Instance
from services.deployer.store import Store
from shared.clock import now
from shared.manifest import MIB
from shared.models import Artifact, Environment, InstanceState, ReleaseState
from shared.registry import Registry
from shared.runtime.loops import cancel
from tests.support.deployer.engine import BASE
from tests.support.deployer.fakes import (
    ENCRYPTION,
    LIMITS,
    FakeDriver,
    FakeProber,
    FakeProxy,
    a_manifest,
    a_release,
    stored_events,
)
from tests.support.second_engine import SecondEngine, a_second_engine

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.docker,
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),  # as in `collect`
]
PRODUCTION = EnvironmentId("notes", Environment.PRODUCTION)
STACK = Stack("test", "slipway")
SHARED = Path(shared.__file__).parent


@pytest.fixture(scope="module")
def loaded(engine: "DockerClient", tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondEngine]:
    yield from a_second_engine(tmp_path_factory.mktemp("engine"), BASE)
    collect()


@pytest.fixture
def second(loaded: SecondEngine, caplog: pytest.LogCaptureFixture) -> Iterator[SecondEngine]:
    yield loaded
    loaded.stop()
    caplog.get_records("call").clear()  # logged errors hold the sockets
    collect()


def collect() -> None:
    """The engine's client leaves the sockets of vain attempts open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
async def driver(second: SecondEngine, tmp_path: Path) -> AsyncIterator[Driver]:
    made = a_driver(second, tmp_path)
    yield made
    made.close()


def a_driver(second: SecondEngine, groups: Path) -> Any:
    from services.deployer.drivers.docker.driver import DockerDriver

    return DockerDriver(STACK, second.environment, groups)


def artifact(second: SecondEngine) -> Artifact:
    client = second.client()
    try:
        return Artifact(kind="image", ref=BASE, digest=str(client.images.get(BASE).id))
    finally:
        client.close()


async def until(condition: Callable[[], Awaitable[Any]], within_s: float) -> float:
    """After how many seconds."""
    begun = time.monotonic()
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.05)
    return time.monotonic() - begun


@pytest.mark.parametrize("flags", [(), ("--live-restore",)], ids=["", "live-restore"])
async def test_the_driver_says_that_it_knows_nothing_and_then_the_truth(
    second: SecondEngine, driver: Driver, flags: tuple[str, ...]
) -> None:
    await asyncio.to_thread(second.start, *flags)
    spec = InstanceSpec("notes-r1-1", artifact(second), "sleep 600", {}, 64 * MIB, 9090)
    ends: list[float] = []
    with driver.watching_ends(lambda instance_id: ends.append(time.monotonic())):
        started = await driver.start(spec)
        await asyncio.to_thread(second.kill)
        for ask in (driver.statuses(), driver.start(spec), driver.logs(spec.id, 1), driver.verify(spec.artifact)):
            begun = time.monotonic()
            with pytest.raises(NoAnswer, match="start it"):
                await ask
            assert time.monotonic() - begun < 10
        assert "start it" in (await driver.check() or "")
        ends.clear()
        await asyncio.to_thread(second.start, *flags)
        assert await driver.check() is None
        status = (await driver.statuses())[spec.id]
        await until(lambda: asyncio.sleep(0, bool(ends)), 5)
        if flags:
            assert status == started
            return
        assert (status.running, status.interrupted, status.oom_killed) == (False, True, False)
        # What ends by itself from now on is told at once, and as such.
        await driver.start(InstanceSpec("notes-r1-2", spec.artifact, "sleep 1; exit 143", {}, 64 * MIB, 9090))
        ends.clear()
        await until(lambda: asyncio.sleep(0, bool(ends)), 10)
        other = (await driver.statuses())["notes-r1-2"]
        assert (other.running, other.interrupted, other.exit_code) == (False, False, 143)


WATCHING = """
import asyncio, os, socket
from shared.host.docker_engine import SocketWatch
with socket.socket(socket.AF_UNIX) as engine:
    engine.connect("/var/run/docker.sock")
    engine.sendall(b"GET /_ping HTTP/1.0\\r\\n\\r\\n")
    print(engine.recv(1000).split()[1], flush=True)
async def main():
    while True:
        await SocketWatch({}, lambda: os._exit(0)).step()
        await asyncio.sleep(0.1)
asyncio.run(main())
"""


async def test_a_container_with_the_socket_of_an_engine_that_was_restarted_gets_the_new_one(
    second: SecondEngine,
) -> None:
    await asyncio.to_thread(second.start, "--live-restore")
    socket = second.environment["DOCKER_HOST"].removeprefix("unix://")
    volumes = [f"{socket}:/var/run/docker.sock", f"{SHARED}:/slipway/shared:ro"]
    given: dict[str, Any] = {"working_dir": "/slipway", "environment": {"PYTHONDONTWRITEBYTECODE": "1"}}
    client = second.client()
    try:
        always: Any = {"Name": "always"}
        container = client.containers.run(
            BASE, ["python", "-c", WATCHING], detach=True, restart_policy=always, volumes=volumes, **given
        )

        async def has_asked(times: int) -> bool:
            return (await asyncio.to_thread(container.logs, stderr=False)).split() == [b"b'200'"] * times

        await until(lambda: has_asked(1), 10)
        await asyncio.to_thread(second.shut_down)
        await asyncio.to_thread(second.start, "--live-restore")
        await until(lambda: has_asked(2), 20)
        await asyncio.sleep(1)
        assert await has_asked(2)
    finally:
        client.close()


async def test_an_engine_that_hangs_is_said_in_time_and_well_again_by_itself(
    second: SecondEngine, driver: Driver
) -> None:
    await asyncio.to_thread(second.start)
    assert await driver.check() is None
    second.hang()
    try:
        for _ in range(2):
            begun = time.monotonic()
            assert "does not answer" in (await driver.check() or "")
            assert time.monotonic() - begun < 10
    finally:
        second.go_on()
    await until(lambda: is_well(driver), 10)


async def is_well(driver: Driver) -> bool:
    return await driver.check() is None


class Life:
    """One life of the deployer's inside, with a reconciler that runs."""

    def __init__(self, store: Store, registry: Registry, driver: Any) -> None:
        self._driver = driver
        facts = AppFacts("", "", dict.fromkeys(Environment, ""))
        self._proxy = FakeProxy(registry, FakeDriver())
        self._work_context = WorkContext(
            store, driver, self._proxy, facts, 5, "localhost", cast(Any, None), poll_s=0.01
        )
        self._context = ReconcileContext(registry, FakeProber(), ReplacementTurns(), LIMITS, now)
        self._lock = asyncio.Lock()
        self._reconciler = Reconciler(store, self._environment_reconciler)

    def _environment_reconciler(self, environment_id: EnvironmentId) -> EnvironmentReconciler:
        return EnvironmentReconciler(
            environment_id, self._context, self._work_context, self._lock, lambda woken: self._reconciler.wake(woken)
        )

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._watch = self._driver.watching_ends(
            lambda instance_id: loop.call_soon_threadsafe(self._reconciler.instance_ended, instance_id)
        )
        self._watch.__enter__()
        self._running = asyncio.create_task(self._reconciler.loop.run())

    async def __aexit__(self, *error: object) -> None:
        await cancel([self._running])
        self._watch.__exit__(None, None, None)
        await self._reconciler.close()
        self._driver.close()


@pytest.mark.parametrize("restarted", [False, True], ids=["", "deployer-too"])
@pytest.mark.parametrize("end", ["kill", "terminate"])
async def test_every_wanted_instance_is_started_again_and_no_release_is_blamed(
    second: SecondEngine, redis: Redis, tmp_path: Path, restarted: bool, end: str
) -> None:
    await asyncio.to_thread(second.start)
    store, registry = Store(redis, ENCRYPTION), Registry(redis)
    manifest = a_manifest(replicas=2).model_copy(update={"run": a_manifest().run.model_copy(update=RUN)})
    ordered = a_release(1, ReleaseState.PENDING, artifact=artifact(second), manifest=manifest)
    await store.commit(PRODUCTION, Commit({ordered.id: ordered}))

    async def ready() -> list[Instance]:
        found = (await store.load(PRODUCTION)).instances.values()
        return [each for each in found if each.state is InstanceState.READY]

    async def is_live() -> bool:
        release = await store.release(ordered.id)
        return release is not None and release.state is ReleaseState.LIVE and len(await ready()) == 2

    async def others_are_ready() -> bool:
        return len(instances := await ready()) == 2 and not {each.id for each in instances} & old.keys()

    life = Life(store, registry, a_driver(second, tmp_path))
    async with life:
        await until(is_live, 20)
        old = {each.id: each.address for each in await ready()}
        if not restarted:
            await asyncio.to_thread(second.kill if end == "kill" else second.shut_down)
            await asyncio.sleep(3)
            await asyncio.to_thread(second.start)
            assert await until(others_are_ready, 30) < 10
    if restarted:
        await asyncio.to_thread(second.kill if end == "kill" else second.shut_down)
        async with Life(store, registry, a_driver(second, tmp_path)):
            await asyncio.sleep(3)
            await asyncio.to_thread(second.start)
            assert await until(others_are_ready, 30) < 10
    release, instances = await store.release(ordered.id), await ready()
    assert release is not None and (release.state, release.failure) == (ReleaseState.LIVE, None)
    assert {(each.restarts, each.crashes) for each in instances} == {(0, 0)}
    assert "" not in old.values() and not {each.address for each in instances} & set(old.values())
    assert all("failed" not in event.type for event in await stored_events(redis))


async def test_what_a_restart_policy_brings_back_with_the_engine_is_ended_unless_it_is_recorded(
    second: SecondEngine, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(second.start)
    store, registry = Store(redis, ENCRYPTION), Registry(redis)
    manifest = a_manifest().model_copy(update={"run": a_manifest().run.model_copy(update=RUN)})
    ordered = a_release(2, ReleaseState.PENDING, artifact=artifact(second), manifest=manifest)
    await store.commit(PRODUCTION, Commit({ordered.id: ordered}))
    driver = a_driver(second, tmp_path)
    strays = Strays(driver, store, 1)

    async def ready() -> list[str]:
        return [i.id for i in (await store.load(PRODUCTION)).instances.values() if i.state is InstanceState.READY]

    async def is_live() -> bool:
        release = await store.release(ordered.id)
        return release is not None and release.state is ReleaseState.LIVE

    async def only_what_is_recorded_runs() -> bool:
        await strays.step()
        running = await driver.running()
        return [each.id for each in running] == await ready() and not any(each.is_copy for each in running)

    async with Life(store, registry, driver):
        await until(is_live, 20)
        client, [live] = second.client(), await ready()
        try:
            old = InstanceSpec(
                "notes-r1-1", ordered.artifact, "sleep 600", {"SLIPWAY_RELEASE": "notes-r1"}, 64 * MIB, 9
            )
            again = creation(old, STACK)
            copy = {**creation(replace(old, id=live), STACK), "name": "planted"}
            for planted in (again, copy):
                client.containers.run(**planted, detach=True, restart_policy={"Name": "always"})
            assert len(await driver.running()) == 3
            await asyncio.to_thread(second.shut_down)
            await asyncio.to_thread(second.start)

            def names(*, everything: bool) -> set[str]:
                return {each["Names"][0] for each in client.api.containers(all=everything)}

            async def are_back() -> bool:
                return names(everything=False) >= {"/planted", f"/{again['name']}"}

            async def are_gone() -> bool:
                return not names(everything=True) & {"/planted", f"/{again['name']}"}

            await until(are_back, 30)
            await until(only_what_is_recorded_runs, 60)
            await until(are_gone, 30)
        finally:
            client.close()


RUN = {"command": "trap 'exit 0' TERM; while true; do sleep 0.1; done", "port": 9090}
