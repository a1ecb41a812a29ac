"""Instances in containers are isolated and limited, their ends come from the engine's events, and a stack touches only
its own containers.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from services.deployer.config import Settings
from services.deployer.drivers.docker.container import Stack, creation
from services.deployer.drivers.docker.events import Deaths
from services.deployer.drivers.driver import Driver, DriverError, InstanceSpec, InstanceStatus
from services.deployer.main import driver_for
from shared.host.docker_engine import STACK
from shared.manifest import MIB
from shared.models import Artifact

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

pytestmark = [pytest.mark.anyio, pytest.mark.docker]

GROUPS = Path("/sys/fs/cgroup")
# Takes 100 MiB when it is told to.
EATER = """python -c "
import os, time
while not os.path.exists('/tmp/eat'): time.sleep(0.02)
held = b'x' * (100 << 20)
print('held', flush=True)
time.sleep(60)
" """
HOLDER = """python -c "
import time
held = b'x' * (40 << 20)
print('held', flush=True)
time.sleep(60)
" """
# Its child is killed at the limit; it lives on.
PARENT = """python -c "
import subprocess, sys, time
child = subprocess.run([sys.executable, '-c', 'x = bytearray(200 << 20)'])
print('child', child.returncode, flush=True)
time.sleep(60)
" """


@pytest.fixture
async def make(stack: Stack) -> AsyncIterator[Callable[..., Driver]]:
    from services.deployer.drivers.docker.driver import DockerDriver

    made: list[DockerDriver] = []

    def of(own: Stack = stack, groups: Path = GROUPS) -> Driver:
        made.append(DockerDriver(own, os.environ, groups))
        return made[-1]

    yield of
    for driver in made:
        driver.close()


@pytest.fixture
def driver(make: Callable[..., Driver]) -> Driver:
    return make()


@pytest.fixture
def spec(image: Artifact) -> InstanceSpec:
    variables = {"SLIPWAY_APP": "notes", "SLIPWAY_ENVIRONMENT": "production", "SLIPWAY_RELEASE": "notes-r1"}
    return InstanceSpec("notes-r1-1", image, "echo one; sleep 60", variables, 64 * MIB, 9090)


@pytest.fixture
def container(engine: "DockerClient", stack: Stack, spec: InstanceSpec) -> "Callable[[], Container]":
    return lambda: engine.containers.get(stack.container_name(spec.id))


async def until(condition: Callable[[], Awaitable[Any]], within_s: float = 10) -> None:
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def printed(driver: Driver, spec: InstanceSpec, line: str) -> None:
    async def is_there() -> bool:
        return line in await driver.logs(spec.id, 100)

    await until(is_there)


async def ended(driver: Driver, spec: InstanceSpec) -> InstanceStatus:
    async def has_ended() -> bool:
        return not (await driver.statuses())[spec.id].running

    await until(has_ended)
    return (await driver.statuses())[spec.id]


async def test_walls_and_limits_are_really_there(
    driver: Driver, spec: InstanceSpec, container: "Callable[[], Container]"
) -> None:
    await driver.start(spec)
    host = container().attrs["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (64 * MIB, 64 * MIB)
    assert host["CapDrop"] == ["ALL"] and host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Init"] is True and host["PidsLimit"] == 512 and host["PortBindings"] in ({}, None)
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "8m", "max-file": "2"}}


async def test_the_address_is_its_own_on_the_network_with_the_port_of_the_manifest(
    driver: Driver, spec: InstanceSpec, stack: Stack, container: "Callable[[], Container]"
) -> None:
    started = await driver.start(replace(spec, command="echo port $PORT; sleep 60"))
    ip = container().attrs["NetworkSettings"]["Networks"][stack.network]["IPAddress"]
    assert ip and started.address == f"{ip}:9090"
    await printed(driver, spec, "port 9090")


async def test_a_container_says_of_what_it_is(
    driver: Driver, spec: InstanceSpec, stack: Stack, container: "Callable[[], Container]"
) -> None:
    await driver.start(spec)
    labels = {name: value for name, value in container().labels.items() if name.startswith("io.slipway.")}
    assert labels == {
        "io.slipway.stack": stack.id,
        "io.slipway.instance": "notes-r1-1",
        "io.slipway.app": "notes",
        "io.slipway.environment": "production",
        "io.slipway.release": "notes-r1",
    }


async def test_without_a_command_the_images_own_runs(driver: Driver, spec: InstanceSpec) -> None:
    await driver.start(replace(spec, command=""))
    await printed(driver, spec, "own")


async def test_an_image_that_is_not_there_is_named(driver: Driver, spec: InstanceSpec) -> None:
    gone = Artifact(kind="image", ref="notes:17", digest=f"sha256:{0:064}")
    with pytest.raises(DriverError, match="no image notes:17"):
        await driver.start(replace(spec, artifact=gone))
    assert await driver.statuses() == {}


async def test_a_kill_at_the_limit_is_told_as_such(driver: Driver, spec: InstanceSpec) -> None:
    await driver.start(replace(spec, command=HOLDER, memory=24 * MIB))
    await ended(driver, spec)

    async def kill_is_known() -> bool:  # on a busy machine the engine tells the kill after the end
        return (await driver.statuses())[spec.id].oom_kills == 1

    await until(kill_is_known)
    status = (await driver.statuses())[spec.id]
    assert (status.exit_code, status.oom_killed, status.oom_kills) == (137, True, 1)
    assert not status.interrupted


async def test_a_childs_kill_is_counted_and_not_taken_for_the_later_end(
    driver: Driver, spec: InstanceSpec, container: "Callable[[], Container]"
) -> None:
    follows = threading.Event()
    with driver.watching_ends(lambda instance_id: follows.set()):
        assert await asyncio.to_thread(follows.wait, 5)
        started = await driver.start(replace(spec, command=PARENT))
        await printed(driver, spec, "child -9")
        assert (await driver.statuses())[spec.id] == started
        assert (await driver.usage([spec.id]))[spec.id].oom_kills == 1
        await asyncio.sleep(1.2)
        await asyncio.to_thread(container().kill, "SIGKILL")
        status = await ended(driver, spec)
    assert (status.exit_code, status.oom_killed, status.oom_kills) == (137, False, 1)


async def test_memory_that_was_raised_live_can_be_used(
    driver: Driver, spec: InstanceSpec, container: "Callable[[], Container]"
) -> None:
    started = await driver.start(replace(spec, command=EATER))
    await driver.set_memory(spec.id, 256 * MIB)
    host = (await asyncio.to_thread(container)).attrs["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (256 * MIB, 256 * MIB)
    await asyncio.to_thread(container().exec_run, ["touch", "/tmp/eat"])
    await printed(driver, spec, "held")
    assert (await driver.usage([spec.id]))[spec.id].working_set > 100 * MIB
    assert (await driver.statuses())[spec.id] == started


async def test_a_limit_near_to_what_is_used_is_refused(driver: Driver, spec: InstanceSpec) -> None:
    await driver.start(replace(spec, command=HOLDER, memory=128 * MIB))
    await printed(driver, spec, "held")
    with pytest.raises(DriverError, match="more than 80 %"):
        await driver.set_memory(spec.id, 48 * MIB)
    assert (await driver.usage([spec.id]))[spec.id].memory_limit == 128 * MIB


async def test_the_engine_tells_the_same_usage_as_the_control_groups(
    make: Callable[..., Driver], spec: InstanceSpec, tmp_path: Path
) -> None:
    by_files, by_engine = make(), make(groups=tmp_path)
    await by_files.start(replace(spec, command=HOLDER, memory=128 * MIB))
    await printed(by_files, spec, "held")
    one, other = (await by_files.usage([spec.id]))[spec.id], (await by_engine.usage([spec.id]))[spec.id]
    assert one.working_set > 40 * MIB and abs(one.working_set - other.working_set) < 2 * MIB
    assert 0 < one.cpu_seconds <= other.cpu_seconds < one.cpu_seconds + 1
    assert (one.started_at, one.memory_limit) == (other.started_at, other.memory_limit)


async def test_the_engine_is_asked_about_a_container_once_for_each_of_its_starts(
    driver: Driver, spec: InstanceSpec, stack: Stack, container: "Callable[[], Container]"
) -> None:
    from services.deployer.drivers.docker.connection import EngineConnection
    from services.deployer.drivers.docker.container_usage import ContainerUsage

    class Counted(EngineConnection):
        asked = 0

        def client(self) -> "DockerClient":
            self.asked += 1
            return super().client()

    connection = Counted(os.environ)
    usage = ContainerUsage(connection, stack, GROUPS, Deaths())
    starts = [(await driver.start(replace(spec, command="sleep 60"))).started_at]
    try:
        for asked in (2, 1):
            connection.asked = 0
            found = await asyncio.to_thread(usage.of, {spec.id})
            assert (found[spec.id].started_at, found[spec.id].memory_limit) == (starts[0], spec.memory)
            assert connection.asked == asked
        await asyncio.to_thread(container().restart, timeout=0)
        starts.append((await driver.statuses())[spec.id].started_at)
        assert (await asyncio.to_thread(usage.of, {spec.id}))[spec.id].started_at == starts[1] > starts[0]
    finally:
        connection.close()


async def test_a_new_driver_goes_on_where_the_last_one_stopped(make: Callable[..., Driver], spec: InstanceSpec) -> None:
    started = await make().start(spec)
    later = make()
    assert await later.statuses() == {spec.id: started}
    assert await later.start(spec) == started
    await later.stop(spec.id, 5)
    await later.forget(spec.id)
    assert await later.statuses() == {}


async def test_a_start_that_was_cut_off_is_completed_by_the_next(
    driver: Driver, spec: InstanceSpec, stack: Stack, engine: "DockerClient"
) -> None:
    engine.networks.create(stack.network)
    made = engine.containers.create(**creation(spec, stack))
    assert await driver.statuses() == {}
    assert (await driver.start(spec)).running
    own = engine.containers.list(all=True, filters={"label": stack.label})
    assert [each.id for each in own] == [made.id]


async def test_a_planted_container_of_its_name_is_replaced_by_the_recorded_one(
    driver: Driver, spec: InstanceSpec, stack: Stack, engine: "DockerClient", other_image: Artifact
) -> None:
    """It has all marks but another image: as after the loss of Redis, when numbers begin anew."""
    engine.networks.create(stack.network)
    planted = engine.containers.create(**creation(replace(spec, artifact=other_image), stack))
    planted.start()
    assert not (await driver.statuses())[spec.id].is_of("notes-r1", spec.artifact)
    started = await driver.start(spec)
    assert started.running and started.is_of("notes-r1", spec.artifact) and started.artifact == spec.artifact.digest
    own = engine.containers.list(all=True, filters={"label": stack.label})
    assert len(own) == 1 and own[0].id != planted.id
    assert await driver.start(spec) == started


async def test_a_container_of_its_name_that_is_a_persons_is_left_and_named(
    driver: Driver, spec: InstanceSpec, stack: Stack, engine: "DockerClient"
) -> None:
    name = stack.container_name(spec.id)
    inherited = {STACK: stack.id}  # from an image of the stack
    theirs = engine.containers.create(spec.artifact.digest, ["sleep", "60"], name=name, labels=inherited)
    with pytest.raises(
        DriverError, match=rf"a container that is not Slipway's has the name {name}; remove it \(docker"
    ):
        await driver.start(spec)
    theirs.reload()
    assert theirs.status == "created" and await driver.statuses() == {}


async def test_a_copy_is_told_from_the_instance_and_removed_for_good(
    driver: Driver, spec: InstanceSpec, stack: Stack, engine: "DockerClient"
) -> None:
    started = await driver.start(spec)
    planted = {**creation(spec, stack), "name": f"{stack.container_name(spec.id)}-planted"}
    engine.containers.create(**planted, restart_policy={"Name": "always"}).start()
    assert await driver.statuses() == {spec.id: started}
    [copy] = [each for each in await driver.running() if each.is_copy]
    assert (copy.id, copy.release, copy.artifact) == (spec.id, "notes-r1", spec.artifact.digest)
    await driver.remove(copy, 5)
    own = engine.containers.list(all=True, filters={"label": stack.label})
    assert [each.name for each in own] == [stack.container_name(spec.id)]
    assert await driver.statuses() == {spec.id: started}


async def test_what_is_started_twice_at_once_is_there_once(
    make: Callable[..., Driver], spec: InstanceSpec, stack: Stack, engine: "DockerClient"
) -> None:
    driver = make()
    assert len(set(await asyncio.gather(*(driver.start(spec) for _ in range(4))))) == 1
    assert len(engine.containers.list(all=True, filters={"label": stack.label})) == 1


async def test_containers_of_others_are_neither_seen_nor_touched(
    make: Callable[..., Driver], spec: InstanceSpec, stack: Stack, engine: "DockerClient"
) -> None:
    other = make(own=Stack(f"{stack.id}-other", stack.network))
    strange = engine.containers.create(spec.artifact.digest, name=f"slipway-{stack.id}-other-notes-r1-1")
    inherited = {STACK: stack.id}  # from an image of the stack that a person runs
    engine.containers.create(spec.artifact.digest, ["sleep", "60"], labels=inherited).start()
    try:
        assert await other.statuses() == {}
        with pytest.raises(DriverError):
            await other.start(spec)
        await other.forget(spec.id)
        started = await make().start(spec)
        assert await other.statuses() == {}
        assert await make().statuses() == {spec.id: started}
        assert engine.containers.get(str(strange.id)).status == "created"
    finally:
        strange.remove(force=True)


async def test_an_app_that_ignores_sigterm_is_killed_after_its_grace(driver: Driver, spec: InstanceSpec) -> None:
    await driver.start(replace(spec, command="trap '' TERM; echo deaf; while true; do sleep 0.1; done"))
    await printed(driver, spec, "deaf")
    before = time.monotonic()
    await driver.stop(spec.id, 1)
    assert 1 <= time.monotonic() - before < 9, "the engine's own grace is 10 s"
    status = (await driver.statuses())[spec.id]
    assert (status.running, status.exit_code, status.oom_killed) == (False, 137, False)


@pytest.mark.parametrize("method", ["statuses", "start"])
async def test_an_engine_that_does_not_answer_is_said_in_words(stack: Stack, spec: InstanceSpec, method: str) -> None:
    from services.deployer.drivers.docker.driver import DockerDriver

    driver = DockerDriver(stack, {"DOCKER_HOST": "tcp://127.0.0.1:1"}, GROUPS)
    with pytest.raises(DriverError, match="the Docker Engine does not answer"):
        await (driver.statuses() if method == "statuses" else driver.start(spec))


def test_the_setting_chooses_it_and_two_homes_are_two_stacks(engine: "DockerClient", tmp_path: Path) -> None:
    from services.deployer.drivers.docker.driver import DockerDriver

    for home in ("one", "other", "one"):
        assert isinstance(driver_for(Settings(home=tmp_path / home, driver="docker")), DockerDriver)
    one, other = ((tmp_path / home / "stack").read_text() for home in ("one", "other"))
    assert one != other
