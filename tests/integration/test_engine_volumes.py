"""Volumes of an environment on a real engine: listed by name, removed one by one, and nobody else's."""

import os
import uuid
from collections.abc import Iterator

import pytest

from services.deployer.drivers.docker.container import Stack
from services.deployer.drivers.driver import VolumeMount

pytestmark = [pytest.mark.anyio, pytest.mark.docker]


@pytest.fixture
def stack() -> Iterator[Stack]:
    import docker

    made = Stack(f"test{uuid.uuid4().hex[:8]}", "none")
    client = docker.from_env()
    yield made
    for volume in client.volumes.list(filters={"label": f"io.slipway.stack={made.id}"}):
        volume.remove()
    client.close()


async def test_volumes_are_listed_and_removed_by_name(stack: Stack) -> None:
    import docker

    from services.deployer.drivers.docker.volume import EngineVolumes, make

    client = docker.from_env()
    for app, environment, name in (
        ("notes", "production", "data"),
        ("notes", "production", "cache-two"),
        ("notes", "canary", "data"),
        ("notes-two", "production", "data"),
    ):
        make(client.volumes, stack, VolumeMount(app, environment, name, "/data"))
    volumes = EngineVolumes(stack, os.environ)
    assert await volumes.names("notes", "production") == ["cache-two", "data"]
    for _ in range(2):
        await volumes.remove("notes", "production", "data")
        assert await volumes.names("notes", "production") == ["cache-two"]
    assert await volumes.names("notes", "canary") == ["data"]
    assert await volumes.names("notes-two", "production") == ["data"]
    client.close()
