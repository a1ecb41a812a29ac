"""Checks the contract of services/deployer/drivers/driver.py against each implementation."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

import pytest

from services.deployer.config import Settings
from services.deployer.drivers.driver import (
    ArtifactGone,
    Driver,
    DriverError,
    InstanceSpec,
    InstanceStatus,
    UnknownInstance,
    VolumeMount,
)
from services.deployer.drivers.process.driver import ProcessDriver
from services.deployer.drivers.process.end import stop_instances
from services.deployer.main import driver_for
from shared.host.directory_digest import directory_digest
from shared.manifest import MIB
from shared.models import Artifact
from tests.support.deployer.fakes import FakeDriver
from tests.support.deployer.machine import leftovers, writable_parent

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["process-cgroup", "process-guard", "fake", pytest.param("docker", marks=pytest.mark.docker)])
async def driver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Driver]:
    if request.param == "fake":
        yield FakeDriver()
        return
    if request.param == "docker":
        stack = request.getfixturevalue("stack")  # first: without Docker's package it skips
        from services.deployer.drivers.docker.driver import DockerDriver

        containers = DockerDriver(stack, os.environ, Path("/sys/fs/cgroup"))
        yield containers
        containers.close()
        return
    groups = writable_parent(tmp_path) if request.param == "process-cgroup" else None
    yield ProcessDriver(tmp_path, {"PATH": "/usr/bin:/bin"}, groups)
    await asyncio.to_thread(stop_instances, tmp_path, 1.0)
    assert list(leftovers(tmp_path)) == []


@pytest.fixture
def artifact(request: pytest.FixtureRequest, driver: Driver, tmp_path: Path) -> Artifact:
    """Returns an artifact of the kind that the driver runs."""
    if request.node.callspec.params["driver"] == "docker":
        image: Artifact = request.getfixturevalue("image")
        return image
    (tmp_path / "artifact").mkdir()
    return Artifact(kind="directory", ref=str(tmp_path / "artifact"), digest=directory_digest(tmp_path / "artifact"))


@pytest.fixture
def gone(driver: Driver, artifact: Artifact, tmp_path: Path) -> Artifact:
    """One that was removed. Its reference alone says nothing: a tag may be moved."""
    if isinstance(driver, FakeDriver):
        driver.gone.add("gone")
    ref = artifact.ref if artifact.kind == "image" else "gone"
    return artifact.model_copy(update={"ref": ref, "digest": f"sha256:{'0' * 64}"})


@pytest.fixture
def other(request: pytest.FixtureRequest, driver: Driver, artifact: Artifact, tmp_path: Path) -> Artifact:
    """Another one of the same kind."""
    if artifact.kind == "image":
        image: Artifact = request.getfixturevalue("other_image")
        return image
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("other")
    return Artifact(kind="directory", ref=str(tmp_path / "other"), digest=directory_digest(tmp_path / "other"))


@pytest.fixture
def spec(artifact: Artifact) -> InstanceSpec:
    return InstanceSpec("notes-r1-1", artifact, "echo one; echo two; sleep 60", {}, 64 * MIB, 8000)


LATER = "echo three; sleep 60"


def ending(spec: InstanceSpec) -> InstanceSpec:
    return replace(spec, command="exit 3")


async def ended(driver: Driver, instance_id: str) -> InstanceStatus:
    async with asyncio.timeout(5):
        while (status := (await driver.statuses())[instance_id]).running:
            await asyncio.sleep(0.01)
    return status


async def wrote(driver: Driver, instance_id: str, lines: int) -> None:
    async with asyncio.timeout(5):
        while len(await driver.logs(instance_id, 10)) < lines:
            await asyncio.sleep(0.01)


async def test_a_started_instance_runs_and_has_an_address(driver: Driver, spec: InstanceSpec) -> None:
    started = await driver.start(spec)
    assert started.running and started.exit_code is None
    assert await driver.statuses() == {spec.id: started}
    host, port = started.address.split(":")
    assert ip_address(host).is_private and 1024 <= int(port) <= 65_535


async def test_starting_again_is_answered_with_what_runs(driver: Driver, spec: InstanceSpec) -> None:
    assert await driver.start(spec) == await driver.start(spec)


async def test_what_has_its_id_and_is_of_another_release_is_replaced(driver: Driver, spec: InstanceSpec) -> None:
    old = replace(spec, environment={"SLIPWAY_RELEASE": "notes-r1"})
    first = await driver.start(old)
    second = await driver.start(replace(old, command=LATER, environment={"SLIPWAY_RELEASE": "notes-r2"}))
    assert (first.release, second.release) == ("notes-r1", "notes-r2")
    assert second.running and [each.release for each in await driver.running()] == ["notes-r2"]
    assert await driver.statuses() == {spec.id: second}


async def test_what_has_its_id_and_is_of_another_artifact_is_replaced(
    driver: Driver, spec: InstanceSpec, other: Artifact
) -> None:
    first, second = await driver.start(ending(spec)), await driver.start(replace(spec, artifact=other))
    assert (first.artifact, second.artifact) == (spec.artifact.digest, other.digest)
    assert second.running and [each.artifact for each in await driver.running()] == [other.digest]


async def test_what_runs_is_told_with_its_identity_and_removed(driver: Driver, spec: InstanceSpec) -> None:
    spec = replace(spec, environment={"SLIPWAY_RELEASE": "notes-r1"})
    await driver.start(spec)
    await driver.start(replace(spec, id="notes-r1-2"))
    await driver.start(replace(ending(spec), id="notes-r1-3"))
    await ended(driver, "notes-r1-3")
    first, second = sorted(await driver.running(), key=lambda each: each.id)
    assert (first.id, first.release, first.artifact) == (spec.id, "notes-r1", spec.artifact.digest)
    assert (second.id, first.is_copy, second.is_copy) == ("notes-r1-2", False, False)
    for _ in range(2):
        await driver.remove(first, 5)
    assert [each.id for each in await driver.running()] == ["notes-r1-2"]
    assert (await driver.statuses([spec.id, "notes-r1-2"])).keys() == {"notes-r1-2"}


async def test_two_instances_have_two_addresses(driver: Driver, spec: InstanceSpec) -> None:
    other = replace(spec, id="notes-r1-2")
    assert (await driver.start(spec)).address != (await driver.start(other)).address


async def test_an_ended_instance_tells_its_exit_code_and_is_not_started_again(
    driver: Driver, spec: InstanceSpec
) -> None:
    await driver.start(ending(spec))
    status = await ended(driver, spec.id)
    assert (status.exit_code, status.interrupted) == (3, False)
    again = await driver.start(ending(spec))
    assert not again.running and again.started_at == status.started_at


@pytest.mark.slow
async def test_a_stopped_instance_has_ended_and_may_be_stopped_again(driver: Driver, spec: InstanceSpec) -> None:
    await driver.start(spec)
    await driver.stop(spec.id, 5)
    await driver.stop(spec.id, 5)
    status = (await driver.statuses())[spec.id]
    assert not status.running and not status.interrupted


async def test_logs_are_there_also_after_the_end(driver: Driver, spec: InstanceSpec) -> None:
    await driver.start(spec)
    await wrote(driver, spec.id, 2)
    await driver.stop(spec.id, 5)
    assert (await driver.logs(spec.id, 10))[:2] == ["one", "two"]
    assert len(await driver.logs(spec.id, 1)) == 1


async def test_usage_is_known_only_of_what_runs(driver: Driver, spec: InstanceSpec) -> None:
    assert await driver.usage([spec.id]) == {}
    started = await driver.start(spec)
    await wrote(driver, spec.id, 2)
    used = (await driver.usage([spec.id, "unknown"]))[spec.id]
    assert used.working_set > 0 and used.memory_limit == 64 * MIB and used.started_at == started.started_at
    await driver.stop(spec.id, 5)
    assert await driver.usage([spec.id]) == {}


async def test_memory_is_changed_while_it_runs(driver: Driver, spec: InstanceSpec) -> None:
    started = await driver.start(spec)
    for memory in (128 * MIB, 32 * MIB):
        for _ in range(2):
            await driver.set_memory(spec.id, memory)
        used = (await driver.usage([spec.id]))[spec.id]
        assert (used.memory_limit, used.oom_kills) == (memory, 0)
    assert (await driver.statuses())[spec.id] == started


async def test_memory_of_what_does_not_run_is_not_changed(driver: Driver, spec: InstanceSpec) -> None:
    with pytest.raises(UnknownInstance):
        await driver.set_memory(spec.id, 128 * MIB)
    await driver.start(spec)
    await driver.stop(spec.id, 5)
    with pytest.raises(DriverError):
        await driver.set_memory(spec.id, 128 * MIB)


async def test_a_limit_above_all_of_the_machine_is_refused_and_the_old_one_stays(
    driver: Driver, spec: InstanceSpec
) -> None:
    await driver.start(spec)
    with pytest.raises(
        DriverError, match=r"MiB is more than the \d+ MiB that the machine has in all; it keeps its limit"
    ):
        await driver.set_memory(spec.id, 2**60)
    assert (await driver.usage([spec.id]))[spec.id].memory_limit == spec.memory


async def test_what_keeps_within_its_limit_is_left_alone(driver: Driver, spec: InstanceSpec) -> None:
    started = await driver.start(spec)
    for _ in range(3):
        await driver.enforce()
    assert (await driver.statuses())[spec.id] == started


async def test_statuses_are_those_of_the_instances_that_were_asked_for(driver: Driver, spec: InstanceSpec) -> None:
    one, other = await driver.start(spec), await driver.start(replace(spec, id="notes-r1-10"))
    assert await driver.statuses([one.id, "unknown"]) == {one.id: one}
    assert await driver.statuses([]) == {}
    assert await driver.statuses() == {one.id: one, other.id: other}


async def test_an_end_is_reported_with_its_instance(driver: Driver, spec: InstanceSpec) -> None:
    loop, ends = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def on_end(instance_id: str | None) -> None:
        loop.call_soon_threadsafe(ends.put_nowait, instance_id)

    with driver.watching_ends(on_end):
        await driver.start(spec)
        await driver.start(replace(spec, id="notes-r1-2"))
        await driver.stop(spec.id, 5)
        async with asyncio.timeout(5):
            while (ended := await ends.get()) != spec.id:
                assert ended is None, "which stands for any"
    assert not (await driver.statuses([spec.id]))[spec.id].running


async def test_an_end_by_itself_is_no_oom_kill(driver: Driver, spec: InstanceSpec) -> None:
    await driver.start(ending(spec))
    status = await ended(driver, spec.id)
    assert (status.oom_killed, status.oom_kills) == (False, 0)


async def test_an_instance_is_forgotten_only_after_its_end(driver: Driver, spec: InstanceSpec) -> None:
    await driver.start(spec)
    with pytest.raises(DriverError):
        await driver.forget(spec.id)
    await driver.stop(spec.id, 5)
    await driver.forget(spec.id)
    await driver.forget(spec.id)
    assert await driver.statuses() == {}


async def test_an_unknown_instance_is_named_as_such(driver: Driver) -> None:
    with pytest.raises(UnknownInstance):
        await driver.stop("unknown", 1)
    with pytest.raises(UnknownInstance):
        await driver.logs("unknown", 1)


async def test_an_artifact_of_another_kind_is_refused(driver: Driver, spec: InstanceSpec) -> None:
    kind: Literal["directory", "image"] = "image" if spec.artifact.kind == "directory" else "directory"
    other = Artifact(kind=kind, ref="notes:1", digest="sha256:0")
    with pytest.raises(DriverError):
        await driver.start(replace(spec, artifact=other))
    assert await driver.statuses() == {}


async def test_an_artifact_that_is_there_is_told_from_one_that_is_not(
    driver: Driver, artifact: Artifact, gone: Artifact
) -> None:
    await driver.verify(artifact)
    with pytest.raises(ArtifactGone):
        await driver.verify(gone)


async def test_what_is_needed_new_or_in_use_outlives_the_tidying(
    driver: Driver, spec: InstanceSpec, gone: Artifact
) -> None:
    started = await driver.start(spec)
    for needed in ([spec.artifact], [gone], []):
        await driver.collect_garbage(needed)
    await driver.verify(spec.artifact)
    assert await driver.statuses() == {spec.id: started}


async def test_an_engine_that_is_well_says_nothing(driver: Driver) -> None:
    assert await driver.check() is None


DATA = VolumeMount("notes", "production", "my-data", "/data")
WRITES = 'echo $SLIPWAY_INSTANCE >> "$SLIPWAY_VOLUME_MY_DATA/log"; cat "$SLIPWAY_VOLUME_MY_DATA/log"; sleep 60'


async def seen_in_volume(driver: Driver, spec: InstanceSpec, lines: int) -> list[str]:
    """Returns the lines in the volume as seen by an instance that first adds its id; the instance is stopped and
    forgotten.
    """
    await driver.start(spec)
    await wrote(driver, spec.id, lines)
    found = await driver.logs(spec.id, 10)
    await driver.stop(spec.id, 5)
    await driver.forget(spec.id)
    return found


async def test_a_volumes_content_outlives_its_instances(driver: Driver, spec: InstanceSpec) -> None:
    first = replace(spec, command=WRITES, volumes=(DATA,))
    assert await seen_in_volume(driver, first, 1) == ["notes-r1-1"]
    second = replace(first, id="notes-r2-1", volumes=(replace(DATA, path="/moved"),))
    assert await seen_in_volume(driver, second, 2) == ["notes-r1-1", "notes-r2-1"]


@pytest.mark.parametrize("other", [{"environment": "canary"}, {"app": "other"}, {"name": "my-data-2"}])
async def test_another_environments_or_apps_volume_is_another(
    driver: Driver, spec: InstanceSpec, other: dict[str, str]
) -> None:
    first = replace(spec, command=WRITES, volumes=(DATA,))
    await seen_in_volume(driver, first, 1)
    mount = replace(DATA, **other)
    second = replace(first, id="notes-r2-1", command=WRITES.replace(DATA.variable, mount.variable), volumes=(mount,))
    assert await seen_in_volume(driver, second, 1) == ["notes-r2-1"]


async def test_what_can_be_started_passes_the_check_and_what_cannot_says_why(
    driver: Driver, spec: InstanceSpec
) -> None:
    await driver.preflight(replace(spec, volumes=(DATA,)))
    assert await driver.statuses() == {}
    gone = spec.artifact.model_copy(update={"ref": "/nowhere", "digest": f"sha256:{'0' * 64}"})
    if isinstance(driver, FakeDriver):
        driver.gone.add("/nowhere")
    with pytest.raises(DriverError, match=r"artifact is gone|no image|no directory"):
        await driver.preflight(replace(spec, artifact=gone))
    with pytest.raises(DriverError, match=r"resources\.memory is \d+ MiB, but the machine has \d+ MiB"):
        await driver.preflight(replace(spec, memory=2**60, is_new=True))
    with pytest.raises(DriverError, match=r"resources\.memory is \d+ MiB, but the machine has \d+ MiB"):
        await driver.start(replace(spec, memory=2**60, is_new=True))
    assert await driver.statuses() == {}


def test_an_unknown_driver_raises(tmp_path: Path) -> None:
    settings = Settings.model_construct(home=tmp_path, driver="steam")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no such driver; choose from process, docker"):
        driver_for(settings)
