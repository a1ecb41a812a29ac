"""Volumes of the Docker driver: how they are named and marked, and whose they are."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.deployer.drivers.docker.container import Stack
from services.deployer.drivers.driver import Driver, DriverError, InstanceSpec, VolumeMount
from shared.manifest import MIB
from shared.models import Artifact

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.anyio, pytest.mark.docker]
DATA = VolumeMount("notes", "canary", "data", "/data")


@pytest.fixture
def driver(stack: Stack) -> Iterator[Driver]:
    from services.deployer.drivers.docker.driver import DockerDriver

    made = DockerDriver(stack, os.environ, Path("/sys/fs/cgroup"))
    yield made
    made.close()


@pytest.fixture
def spec(image: Artifact) -> InstanceSpec:
    return InstanceSpec("notes-r1-1", image, "sleep 60", {}, 64 * MIB, 9090, (DATA,))


async def test_a_volume_says_whose_it_is_and_stays_when_its_instance_goes(
    driver: Driver, spec: InstanceSpec, stack: Stack, engine: "DockerClient"
) -> None:
    await driver.start(spec)
    [mount] = engine.containers.get(stack.container_name(spec.id)).attrs["Mounts"]
    assert (mount["Name"], mount["Destination"]) == (f"slipway-{stack.id}-notes-canary-data", "/data")
    await driver.stop(spec.id, 1)
    await driver.forget(spec.id)
    assert engine.volumes.get(mount["Name"]).attrs["Labels"] == {
        "io.slipway.stack": stack.id,
        "io.slipway.app": "notes",
        "io.slipway.environment": "canary",
    }


async def test_a_volume_of_the_same_name_that_is_anothers_is_refused_by_check_and_start(
    driver: Driver, spec: InstanceSpec, engine: "DockerClient", stack: Stack
) -> None:
    """The volume `data` of app `notes-canary` has the same name as `canary-data` of app `notes`."""
    theirs = replace(DATA, app="notes-canary")
    await driver.start(replace(spec, id="notes-canary-r1-1", volumes=(theirs,)))
    mine = replace(spec, volumes=(replace(DATA, name="canary-data"),))
    assert stack.volume_name(theirs) == stack.volume_name(mine.volumes[0])
    for call in (driver.preflight, driver.start):
        with pytest.raises(DriverError, match="is not this app's; give canary-data another name"):
            await call(mine)
    assert list(await driver.statuses()) == ["notes-canary-r1-1"]
