"""An app in containers is taken down while services are killed: no container, image, network, volume that was not to
stay, file or key of it is left.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import redis as sync_redis

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.probe_client import probe, wait_for
from stack.compose.compose_stack import ComposeStack
from stack.compose.engine import docker
from tests.support.stack.traces import keys

pytestmark = pytest.mark.docker

KEPT, NAMED = {"name": "kept", "path": "/kept"}, {"name": "waste", "path": "/waste"}
OBJECTS = {
    "container": ("ps", "--all", "--format", "{{.Names}}"),
    "image": ("image", "ls", "--format", "{{.ID}}"),
    "network": ("network", "ls", "--format", "{{.Name}}"),
    "volume": ("volume", "ls", "--format", "{{.Name}}"),
}
FILES = (
    "find /var/lib/slipway -path '*{name}*';"
    " grep --recursive --exclude='*.log*' --files-with-matches {name} /var/lib/slipway/envoy;"
    ' grep --files-with-matches \'"route":"{name}/\' /var/lib/slipway/envoy/requests.log*'
)


@pytest.fixture
def database(stack: ComposeStack) -> Iterator["sync_redis.Redis"]:
    """A client of the stack's Redis, which has no port on this machine; its answers are decoded."""
    network = f'{{{{(index .NetworkSettings.Networks "{stack.project}_platform").IPAddress}}}}'
    address = docker("inspect", "--format", network, stack.container("redis"))
    password = docker("exec", stack.container("flags"), "cat", "/run/slipway/redis/password")
    with sync_redis.Redis(host=address, password=password, decode_responses=True) as client:
        yield client


def objects(stack: ComposeStack, name: str) -> list[str]:
    """Lists what the engine has of the app."""
    own = [f"--filter=label=io.slipway.{key}={value}" for key, value in (("stack", stack.project), ("app", name))]
    return [f"{kind} {each}" for kind, command in OBJECTS.items() for each in docker(*command, *own).split()]


def files(stack: ComposeStack, name: str) -> list[str]:
    """Files with the app's name in the services' volumes, and those of Envoy and the proxy that hold it. The access
    log keeps its lines.
    """
    command = f"({FILES.format(name=name)}) 2>/dev/null || true"
    return [
        f"{service} {each}"
        for service in ("build", "deployer", "proxy")
        for each in docker("exec", stack.container(service), "sh", "-c", command).split()
    ]


def removed(stack: ComposeStack, name: str) -> bool:
    try:
        with stack.api("build") as build:
            return build.get(f"/apps/{name}").status_code == 404
    except httpx.HTTPError:
        return False  # it is being started again


def test_nothing_is_left_of_an_app_that_is_taken_down(
    stack: ComposeStack, make_app: Callable[[str], Deployable], database: "sync_redis.Redis"
) -> None:
    name = "felled"
    app = make_app(name)
    path = app.repository.folder / "slipway.yml"
    steps = [{"name": "test", "commands": ["mkdir -p $PIP_CACHE_DIR"]}]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"volumes": [KEPT, NAMED], "steps": steps}))
    app.repository.commit("1")
    app.deliver(Environment.PRODUCTION)
    (app.repository.folder / "VERSION").write_text("2")
    app.repository.commit("2")
    app.deliver(Environment.CANARY)
    app.call("deployer", "PATCH", f"/apps/{name}/environments/production", {"secrets": {"KEY": "a secret"}})
    app.call("build", "PUT", f"/apps/{name}/secrets/KEY", {"value": "another secret"})
    kinds = {each.split()[0] for each in objects(stack, name)}
    assert kinds == {"container", "image", "volume"} and files(stack, name) and keys(database, name)

    with stack.api("build") as build:
        assert build.delete(f"/apps/{name}", params={"volume": "waste"}).status_code == 202
    for service in ("deployer", "build"):
        time.sleep(0.5)
        os.kill(stack.pid(service), signal.SIGKILL)
    wait_for(lambda: removed(stack, name), "the end of the app", 90)

    def left() -> list[str]:
        there = [*objects(stack, name), *files(stack, name), *keys(database, name)]
        return [each for each in there if not (each.startswith("volume ") and each.endswith("-kept"))]

    wait_for(lambda: left() == [], "the end of all traces of it", 30)
    time.sleep(3)
    assert left() == [], "nothing brings it back"
    kept = [each for each in objects(stack, name) if each.startswith("volume ")]
    assert len(kept) == 2, kept  # of production and of the canary
    assert probe(app.public, "/version", app.host).status == 404, "no app has the host name any more"
    wait_for(stack.is_ready, "all services well", 60)
