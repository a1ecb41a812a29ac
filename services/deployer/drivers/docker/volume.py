"""Creates and checks volumes of a Docker Engine; never removes one. `volumes` is the Docker client's collection."""

from typing import Any

from services.deployer.drivers.docker.container import Stack
from services.deployer.drivers.driver import DriverError, VolumeMount


def make(volumes: Any, stack: Stack, mount: VolumeMount) -> None:
    """Creates the volume unless it exists. Raises DriverError if it belongs to another app, environment or stack."""
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
