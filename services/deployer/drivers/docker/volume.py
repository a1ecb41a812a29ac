"""Volumes of a Docker Engine: made for an app and environment, and never removed. `volumes` is the client's access."""

from typing import Any

from services.deployer.drivers.docker.container import Stack
from services.deployer.drivers.driver import DriverError, VolumeMount


def make(volumes: Any, stack: Stack, mount: VolumeMount) -> None:
    """Or takes the one that is there. Raises DriverError if that is another's."""
    _check(volumes.create(stack.volume_name(mount), labels=stack.volume_labels(mount)), stack, mount)


def check(volumes: Any, stack: Stack, mount: VolumeMount) -> None:
    """Raises DriverError if there is one that is another's."""
    name = stack.volume_name(mount)
    for found in volumes.list(filters={"name": name}):  # the engine's filter also finds longer names
        if found.name == name:
            _check(found, stack, mount)


def _check(found: Any, stack: Stack, mount: VolumeMount) -> None:
    labels = found.attrs["Labels"] or {}
    if any(labels.get(key) != value for key, value in stack.volume_labels(mount).items()):
        raise DriverError(f"the engine's volume {found.name} is not this app's; give {mount.name} another name")
