"""A benchmark removes what it made in a Docker Engine, and nothing else."""

import io
import threading
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from shared.host import docker_engine
from stack.compose import engine as client
from tests.support.deployer.engine import BASE

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.docker


@pytest.fixture
def apps(engine: "DockerClient") -> Iterator[tuple[str, str]]:
    """Two apps, each with a container that runs, a volume, an image, and a network of its name."""
    made = f"slipway-test-{uuid.uuid4().hex[:8]}", f"slipway-test-{uuid.uuid4().hex[:8]}"
    for app in made:
        labels = {docker_engine.APP: app}
        recipe = io.BytesIO(f"FROM {BASE}\nLABEL {docker_engine.APP}={app}\n".encode())
        engine.images.build(fileobj=recipe, tag=app, rm=True)
        engine.volumes.create(app, labels=labels)
        network = engine.networks.create(app).name
        volumes = {app: {"bind": "/data", "mode": "rw"}}
        engine.containers.run(BASE, "sleep 60", name=app, labels=labels, network=network, volumes=volumes, detach=True)
    yield made
    for app in made:
        client.remove_made(f"{docker_engine.APP}={app}")
        client.remove_images(f"{docker_engine.APP}={app}")
        client.remove_network(app)


def names(engine: "DockerClient") -> dict[str, set[str | None]]:
    return {
        "containers": {each.name for each in engine.containers.list(all=True)},
        "volumes": {each.name for each in engine.volumes.list()},
        "networks": {each.name for each in engine.networks.list()},
        "images": {tag.removesuffix(":latest") for each in engine.images.list() for tag in each.tags},
    }


def test_only_what_is_the_apps_own_is_removed(engine: "DockerClient", apps: tuple[str, str]) -> None:
    mine, other = apps
    client.remove_made(f"{docker_engine.APP}={mine}")
    client.remove_images(f"{docker_engine.APP}={mine}")
    client.remove_network(mine)
    left = names(engine)
    assert {kind for kind, found in left.items() if mine in found} == set()
    assert {kind for kind, found in left.items() if other in found} == left.keys()


def test_removing_may_be_repeated(engine: "DockerClient") -> None:
    nothing = f"slipway-test-{uuid.uuid4().hex[:8]}"
    for remove in (client.remove_made, client.remove_images):
        remove(f"{docker_engine.APP}={nothing}")
    client.remove_network(nothing)
    client.remove_container(nothing)


def test_a_network_that_somebody_is_leaving_is_waited_for(engine: "DockerClient", apps: tuple[str, str]) -> None:
    app = apps[0]
    with pytest.raises(client.EngineError, match="has active endpoints"):
        client.remove_network(app, within_s=0.5)
    leaving = threading.Timer(0.5, client.remove_container, [app])
    leaving.start()
    client.remove_network(app)
    leaving.join()
    assert app not in names(engine)["networks"]
