"""Releases of images, from order to live and out again, on real Redis and a real Docker Engine."""

import asyncio
import contextlib
import io
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from services.deployer.config import Settings
from services.deployer.drivers.docker.container import Stack, creation
from services.deployer.drivers.driver import InstanceSpec
from services.deployer.reconcile.environment_reconciler import RESTS_S
from services.deployer.shutdown import end_instances
from shared.manifest import MIB
from shared.models import Artifact
from tests.support.deployer.deployer_stack import Deployer, Outside, settings_for, visit
from tests.support.deployer.engine import BASE

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

pytestmark = [pytest.mark.anyio, pytest.mark.docker]
APP = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/crash':
            os._exit(3)
        body = os.environ['SLIPWAY_COMMIT'].encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(('0.0.0.0', int(os.environ['PORT'])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def image(engine: "DockerClient") -> Iterator[str]:
    """The id of an image whose own command serves."""
    tag, lines = f"slipway-test-{uuid.uuid4().hex[:8]}", APP.replace("\n", "\\n")
    recipe = f'FROM {BASE}\nRUN printf "{lines}" > /app.py\nCMD ["python3", "/app.py"]\n'
    built, _ = engine.images.build(fileobj=io.BytesIO(recipe.encode()), tag=tag, rm=True)
    yield str(built.id)
    engine.images.remove(tag, force=True)


@pytest.fixture
async def settings(
    outside: Outside, redis_server: str, tmp_path: Path, engine: "DockerClient"
) -> AsyncIterator[Settings]:
    network = f"slipway-test-{uuid.uuid4().hex[:8]}"
    made = settings_for(tmp_path / "home", redis_server, outside)
    yield made.model_copy(update={"driver": "docker", "network": network})
    volumes = set()
    for container in containers(engine, network):
        volumes |= {mount["Name"] for mount in container.attrs["Mounts"]}
        container.remove(force=True, v=True)
    for name in volumes:
        engine.volumes.get(name).remove()
    for each in engine.networks.list(names=[network]):
        each.remove()


def containers(engine: "DockerClient", network: str) -> "list[Container]":
    return engine.containers.list(all=True, filters={"network": network})


def build(outside: Outside, image: str, number: int, **more: Any) -> str:
    manifest: dict[str, Any] = {"app": "notes", "run": {"port": 9090, "health": "/up"}, **more}
    artifact = {"kind": "image", "ref": f"notes:{number}", "digest": image}
    return outside.build(number, manifest=manifest, artifact=artifact)


async def test_a_release_of_an_image_goes_live_and_takes_the_place_of_the_last(
    deployer: Deployer, outside: Outside, image: str, engine: "DockerClient", settings: Settings
) -> None:
    await deployer.deployed(build(outside, image, 1))
    [old] = await deployer.instances("ready")
    assert old["address"].endswith(":9090") and await visit(old) == f"{1:040x}"
    await deployer.deployed(build(outside, image, 2))
    async with asyncio.timeout(15):
        while len(await deployer.instances()) > 1:
            await asyncio.sleep(0.05)
    [new] = await deployer.instances("ready")
    assert await visit(new) == f"{2:040x}"
    running = [each for each in containers(engine, settings.network) if each.status == "running"]
    assert [each.labels["io.slipway.release"] for each in running] == ["notes-r2"]


async def test_only_what_is_recorded_serves(
    settings: Settings, outside: Outside, image: str, short_lived: str, engine: "DockerClient"
) -> None:
    """A container with the name and marks of the first instance is there already, and later a copy of it."""
    stack = Stack(settings.stack_id(), settings.network)
    variables = {"SLIPWAY_RELEASE": "notes-r1", "SLIPWAY_COMMIT": "planted"}
    other = Artifact(kind="image", ref="planted", digest=short_lived)
    planted = creation(InstanceSpec("notes-r1-1", other, "", variables, 64 * MIB, 9090), stack)
    always: Any = {"Name": "always"}
    async with Deployer(settings) as service:
        engine.networks.create(stack.network)
        engine.containers.run(**planted, detach=True, restart_policy=always)
        await service.deployed(build(outside, image, 1))
        [instance] = await service.instances("ready")
        assert instance["id"] == "notes-r1-1" and await visit(instance) == f"{1:040x}"
        engine.containers.run(**{**planted, "name": f"{planted['name']}-copy"}, detach=True, restart_policy=always)
    async with Deployer(settings) as service, asyncio.timeout(20):
        while len(left := containers(engine, settings.network)) > 1:
            await asyncio.sleep(0.1)
        assert [each.name for each in left] == [planted["name"]]
        [instance] = await service.instances("ready")
        assert instance["id"] == "notes-r1-1" and await visit(instance) == f"{1:040x}"


async def test_a_crash_is_told_and_not_found_by_a_look(deployer: Deployer, outside: Outside, image: str) -> None:
    await deployer.deployed(build(outside, image, 1))
    await asyncio.sleep(2)  # the watch after going live
    [instance] = await deployer.instances("ready")
    with contextlib.suppress(httpx.HTTPError):
        await visit(instance, "/crash")
    async with asyncio.timeout(RESTS_S / 2):
        while instance["id"] in [each["id"] for each in await deployer.instances("ready")]:
            await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        while not (ready := await deployer.instances("ready")):
            await asyncio.sleep(0.05)
    assert ready[0]["id"] == "notes-r1-2" and await visit(ready[0]) == f"{1:040x}"


async def test_a_volume_passes_from_release_to_release_one_instance_at_a_time(
    deployer: Deployer, outside: Outside, image: str, engine: "DockerClient", settings: Settings
) -> None:
    keeps = "echo $SLIPWAY_INSTANCE >> $SLIPWAY_VOLUME_DATA/log; cat $SLIPWAY_VOLUME_DATA/log"
    run = {"command": f"{keeps}; exec python3 /app.py", "port": 9090, "health": "/up"}
    volumes = [{"name": "data", "path": "/data"}]
    await deployer.deployed(build(outside, image, 1, run=run, volumes=volumes))
    await deployer.deployed(build(outside, image, 2, run=run, volumes=volumes))
    found = await deployer.call("GET", "/releases/notes-r2")
    assert found["strategy"] == "stop-first" and found["down_s"] > 0
    made = {each.labels["io.slipway.release"]: each for each in containers(engine, settings.network)}
    old, new = made["notes-r1"], made["notes-r2"]
    assert new.logs().decode().splitlines()[:2] == ["notes-r1-1", "notes-r2-1"]
    assert old.attrs["State"]["FinishedAt"] < new.attrs["State"]["StartedAt"]


@pytest.fixture
def short_lived(engine: "DockerClient", image: str) -> Iterator[str]:
    """The id of another image, which a test removes."""
    tag = f"slipway-test-{uuid.uuid4().hex[:8]}"
    built, _ = engine.images.build(fileobj=io.BytesIO(f"FROM {image}\nLABEL nonce={tag}\n".encode()), tag=tag, rm=True)
    yield str(built.id)
    with contextlib.suppress(Exception):
        engine.images.remove(str(built.id), force=True)


async def gone(deployer: Deployer, engine: "DockerClient", image: str) -> None:
    """Waits, for up to 20 s, until one instance is left; then removes the image with its containers."""
    async with asyncio.timeout(20):
        while len(await deployer.instances()) > 1:
            await asyncio.sleep(0.05)
    for container in engine.containers.list(all=True, filters={"ancestor": image}):
        if container.attrs["Image"] == image:
            container.remove(force=True)
    engine.images.remove(image, force=True)


async def test_what_is_not_on_the_engine_any_more_is_neither_released_nor_gone_back_to(
    deployer: Deployer, outside: Outside, image: str, short_lived: str, engine: "DockerClient"
) -> None:
    await deployer.deployed(build(outside, short_lived, 1))
    await deployer.deployed(build(outside, image, 2))
    await gone(deployer, engine, short_lived)
    for path, body in (("rollback", {}), ("rollback", {"to": "notes-r1"}), ("releases", {"build": "notes-1"})):
        refused = await deployer.call("POST", f"/apps/notes/environments/production/{path}", body, status=409)
        assert "has been cleaned up" in refused["detail"] and "build its commit again" in refused["detail"]
    listed = await deployer.call("GET", "/apps/notes/environments/production/releases")
    assert [each["id"] for each in listed["items"]] == ["notes-r2", "notes-r1"]


async def test_a_faulty_release_stays_where_the_image_before_it_is_gone(
    settings: Settings, outside: Outside, image: str, short_lived: str, engine: "DockerClient"
) -> None:
    async with Deployer(settings.model_copy(update={"watch_s": 60})) as deployer:
        await deployer.deployed(build(outside, short_lived, 1))
        await deployer.deployed(build(outside, image, 2))
        await gone(deployer, engine, short_lived)
        [instance] = await deployer.instances("ready")
        with contextlib.suppress(httpx.HTTPError):
            await visit(instance, "/crash")
        async with asyncio.timeout(15):
            while "cleaned up" not in (release := await deployer.call("GET", "/releases/notes-r2"))["reason"]:
                await asyncio.sleep(0.05)
        assert release["state"] == "live" and "exit code 3" in release["reason"]


async def test_the_end_of_the_platform_ends_its_instances_and_speaks_against_none(
    settings: Settings, outside: Outside, image: str, engine: "DockerClient"
) -> None:
    async with Deployer(settings) as service:
        await service.deployed(build(outside, image, 1))
        [old] = await service.instances("ready")
    elsewhere = settings.model_copy(update={"stack": "another"})
    assert await asyncio.to_thread(end_instances, elsewhere, os.environ, 1) == 0
    [container] = containers(engine, settings.network)
    assert container.status == "running"
    for ran in (1, 0):
        begun = time.monotonic()
        assert await asyncio.to_thread(end_instances, settings, os.environ, 3) == ran
        assert time.monotonic() - begun < 20
    container.reload()
    assert container.status == "exited"
    async with Deployer(settings) as service:
        async with asyncio.timeout(15):
            while not (ready := await service.instances("ready")) or ready[0]["id"] == old["id"]:
                await asyncio.sleep(0.05)
        release = await service.call("GET", "/releases/notes-r1")
        assert (release["state"], release["failure"], ready[0]["id"]) == ("live", None, "notes-r1-2")
    await asyncio.to_thread(end_instances, settings, os.environ, 1)


async def test_ready_says_when_the_engine_does_not_answer(
    outside: Outside, redis_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    settings = settings_for(tmp_path / "home", redis_server, outside).model_copy(update={"driver": "docker"})
    async with Deployer(settings) as service:
        answer = await service.call("GET", "/ready", status=503)
        assert "start it" in answer["problems"]["engine"]
