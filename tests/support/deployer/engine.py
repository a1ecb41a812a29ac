"""A Docker Engine for tests: an image, and a stack of their own, of which nothing is left."""

import gc
import os
import uuid
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from services.deployer.drivers.docker.container import Stack
from shared.models import Artifact

if TYPE_CHECKING:
    from docker import DockerClient

BASE = "python:3.13-slim"


@pytest.fixture(scope="session")
def engine() -> "Iterator[DockerClient]":
    """Yields a client of the Docker Engine. Without an engine or the base image, the test is skipped; in CI it
    fails.
    """
    missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    try:
        import docker
        from docker.errors import DockerException, ImageNotFound
    except ImportError as error:
        missing(str(error))
    try:
        client = docker.from_env()
    except DockerException as error:
        why = f"no Docker Engine answers: {error}"
        error.__traceback__ = error.__context__ = error.__cause__ = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()  # the client leaves the socket of a vain attempt open
        missing(why)
    try:
        client.images.get(BASE)
    except ImageNotFound:
        missing(f"the engine has no image {BASE}")
    finally:
        client.close()
    yield client
    client.close()


@pytest.fixture(scope="session")
def image(engine: "DockerClient") -> Iterator[Artifact]:
    """Its own command says so and stays."""
    yield from _built(engine)


@pytest.fixture(scope="session")
def other_image(engine: "DockerClient") -> Iterator[Artifact]:
    yield from _built(engine)


def _built(engine: "DockerClient") -> Iterator[Artifact]:
    from io import BytesIO

    tag = f"slipway-test-{uuid.uuid4().hex[:8]}"
    recipe = BytesIO(f'FROM {BASE}\nCMD ["sh", "-c", "echo own; sleep 60"]\nLABEL test={tag}\n'.encode())
    built, _ = engine.images.build(fileobj=recipe, tag=tag, rm=True)
    yield Artifact(kind="image", ref=tag, digest=str(built.id))
    engine.images.remove(tag, force=True)


@pytest.fixture
def stack(engine: "DockerClient") -> Iterator[Stack]:
    name = uuid.uuid4().hex[:8]
    stack = Stack(f"test-{name}", f"slipway-test-{name}")
    yield stack
    for container in engine.containers.list(all=True, filters={"label": stack.label}):
        container.remove(force=True, v=True)
    for image in {str(each.id) for each in engine.images.list(filters={"label": stack.label})}:
        engine.images.remove(image, force=True)
    for volume in engine.volumes.list(filters={"label": stack.label}):
        volume.remove(force=True)
    for network in engine.networks.list(names=[stack.network]):
        network.remove()
