"""Volumes of a Docker Engine: made for an app and environment, and never removed."""

from docker import DockerClient
from docker.errors import NotFound
from docker.models.volumes import Volume

from services.deployer.docker_container import Stack
from services.deployer.driver import DriverError, VolumeMount


def make(client: DockerClient, stack: Stack, mount: VolumeMount) -> None:
    """Or takes the one that is there. Raises DriverError if that is another's."""
    _check(client.volumes.create(stack.volume_name(mount), labels=stack.volume_labels(mount)), stack, mount)


def check(client: DockerClient, stack: Stack, mount: VolumeMount) -> None:
    """Raises DriverError if there is one that is another's."""
    try:
        found = client.volumes.get(stack.volume_name(mount))
    except NotFound:
        return
    _check(found, stack, mount)


def _check(found: Volume, stack: Stack, mount: VolumeMount) -> None:
    labels = found.attrs["Labels"] or {}
    if any(labels.get(key) != value for key, value in stack.volume_labels(mount).items()):
        raise DriverError(f"the engine's volume {found.name} is not this app's; give {mount.name} another name")
