"""Housekeeping removes images from an engine that nothing needs, and leaves all others."""

import io
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from services.deployer.drivers.docker.container import Stack, creation
from services.deployer.drivers.driver import InstanceSpec
from shared.clock import now
from shared.host.docker_engine import APP, STACK
from shared.manifest import MIB
from shared.models import Artifact
from tests.support.deployer.engine import BASE

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.docker
Build = Callable[..., str]


@pytest.fixture
def build(engine: "DockerClient", stack: Stack) -> Build:
    """The id of an image of the stack, or of another one."""

    def build(tag: str | None, own: Stack = stack) -> str:
        recipe = io.BytesIO(f"FROM {BASE}\nLABEL {STACK}={own.id} {APP}=notes nonce={uuid.uuid4().hex}\n".encode())
        built, _ = engine.images.build(fileobj=recipe, tag=tag and f"slipway/notes:{own.id}-{tag}", rm=True)
        return str(built.id)

    return build


@pytest.fixture
def remove(engine: "DockerClient", stack: Stack) -> Callable[..., None]:
    """Returns a function that removes images as housekeeping does an hour later."""
    from services.deployer.drivers.docker.images import remove_unneeded

    def remove(*needed: str, at: datetime | None = None) -> None:
        remove_unneeded(engine, stack, needed, at or now() + timedelta(minutes=61))

    return remove


def left(engine: "DockerClient", own: Stack) -> set[str]:
    return {str(image.id) for image in engine.images.list(filters={"label": own.label})}


def test_an_image_is_known_by_its_id(
    engine: "DockerClient", stack: Stack, build: Build, remove: Callable[..., None]
) -> None:
    needed, waste, dangling = build("a"), build("b"), build(None)
    several = build("c")
    engine.images.get(several).tag("slipway/notes", f"{stack.id}-d")
    engine.images.get(needed).tag("slipway/notes", f"{stack.id}-b")  # waste has no tag any more
    remove(needed, at=now())
    assert left(engine, stack) == {needed, waste, dangling, several}
    remove(needed)
    assert left(engine, stack) == {needed}
    assert len(engine.images.get(needed).tags) == 2
    remove(needed)


def test_what_any_container_was_made_from_stays(
    engine: "DockerClient", stack: Stack, build: Build, remove: Callable[..., None]
) -> None:
    images = [build("ended"), build("runs"), build("by-a-person")]
    engine.images.get(images[0]).tag("slipway/notes", f"{stack.id}-twice")  # is removed by force
    engine.networks.create(stack.network)
    for number, image in enumerate(images):
        spec = InstanceSpec(f"r1-{number}", Artifact(kind="image", ref="", digest=image), "sleep 60", {}, 64 * MIB, 80)
        made: dict[str, Any] = creation(spec, stack)
        if number == 2:
            made = {"image": image, "name": f"{stack.id}-mine", "command": ["true"]}
        container = engine.containers.create(**made)
        if number == 1:
            container.start()
    remove("sha256:something-else")
    assert left(engine, stack) == set(images)


def test_what_a_person_tagged_and_what_another_stack_built_stay(
    engine: "DockerClient", stack: Stack, build: Build, remove: Callable[..., None]
) -> None:
    other, tag = Stack(f"{stack.id}-b", ""), f"slipway-test-{uuid.uuid4().hex[:8]}"
    own, mine, others = build("a"), build("b"), build("a", other)
    engine.images.get(mine).tag(tag)
    try:
        remove("sha256:something-else")
        assert left(engine, stack) == {mine} and left(engine, other) == {others}
        assert own not in left(engine, other)
    finally:
        engine.images.remove(tag)
        engine.images.remove(others, force=True)
