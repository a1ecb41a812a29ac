"""Creates, checks, lists and removes volumes of a Docker Engine. The parameter `volumes` of the functions is the Docker
client's collection of volumes.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from services.deployer.drivers.docker.connection import EngineConnection, engine_trouble
from services.deployer.drivers.docker.container import Stack
from services.deployer.drivers.driver import DriverError, VolumeMount


class EngineVolumes:
    """Implements `Volumes` for the engine that `environment` names (`DOCKER_HOST` and similar variables)."""

    def __init__(self, stack: Stack, environment: Mapping[str, str]) -> None:
        self._stack = stack
        self._connection = EngineConnection(environment)

    async def names(self, app: str, environment: str) -> list[str]:
        return await asyncio.to_thread(lambda: sorted(self._found(app, environment)))

    async def remove(self, app: str, environment: str, name: str) -> None:
        await asyncio.to_thread(self._remove, app, environment, name)

    def _found(self, app: str, environment: str) -> dict[str, Any]:
        mount = VolumeMount(app, environment, "", "")
        prefix = self._stack.volume_name(mount)
        labels = [f"{key}={value}" for key, value in self._stack.volume_labels(mount).items()]
        with engine_trouble(f"the volumes of {app}/{environment}"):
            found = self._connection.client().volumes.list(filters={"label": labels})
        return {each.name.removeprefix(prefix): each for each in found if each.name.startswith(prefix)}

    def _remove(self, app: str, environment: str, name: str) -> None:
        if volume := self._found(app, environment).get(name):
            with engine_trouble(f"the volume {name} of {app}/{environment}"):
                volume.remove()


def make(volumes: Any, stack: Stack, mount: VolumeMount) -> None:
    """Creates the volume unless it exists. Raises DriverError if it exists and belongs to another app, environment or
    stack.
    """
    _check(volumes.create(stack.volume_name(mount), labels=stack.volume_labels(mount)), stack, mount)


def check(volumes: Any, stack: Stack, mount: VolumeMount) -> None:
    """Raises DriverError if the volume exists and belongs to another app, environment or stack."""
    name = stack.volume_name(mount)
    for found in volumes.list(filters={"name": name}):  # the engine's filter also finds longer names
        if found.name == name:
            _check(found, stack, mount)


def _check(found: Any, stack: Stack, mount: VolumeMount) -> None:
    labels = found.attrs["Labels"] or {}
    if any(labels.get(key) != value for key, value in stack.volume_labels(mount).items()):
        raise DriverError(f"the engine's volume {found.name} is not this app's; give {mount.name} another name")
