"""Servers that start as root and serve as another user, from Debian's packages, in the driver's containers."""

import asyncio
import io
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.deployer.drivers.docker.capabilities import ROOT_KEEPS
from services.deployer.drivers.docker.container import Stack
from services.deployer.drivers.driver import Driver, InstanceSpec
from services.deployer.releases.capability_hint import capability_hint
from shared.manifest import MIB
from shared.models import Artifact

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

pytestmark = [pytest.mark.anyio, pytest.mark.docker, pytest.mark.slow]
DEBIAN = "debian:trixie-slim"
RECIPE = f"""\
FROM {DEBIAN}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx apache2 libapache2-mod-php gosu \
 lighttpd libcap2-bin && rm -rf /var/lib/apt/lists/*
RUN useradd -u 1000 app && rm -f /var/www/html/* && echo '<?php echo "from "."php";' > /var/www/html/index.php \
 && cp /usr/bin/perl /usr/bin/capped && setcap cap_net_bind_service=+ep /usr/bin/capped
"""
GET = r"exec 3<>/dev/tcp/127.0.0.1/80 && printf 'GET /%s HTTP/1.0\r\nHost: a\r\n\r\n' >&3 && timeout 5 cat <&3"
# A script as entry points are: it prepares a folder as root, and becomes another user.
GOSU = """\
mkdir -p /srv/data && chown app /srv/data
exec gosu app sh -c 'trap "echo bye; exit 0" TERM; touch /srv/data/a; perl -MIO::Socket::INET -e "
\\$s = IO::Socket::INET->new(LocalPort => 80, Listen => 5) or die;
while (\\$c = \\$s->accept) { print \\$c qq(HTTP/1.0 200 OK\\r\\n\\r\\nfrom gosu); close \\$c }" & wait'
"""
SERVERS = {
    "nginx": ("exec nginx -g 'daemon off;'", "none", "404 Not Found"),
    "apache with php": (". /etc/apache2/envvars; exec apache2 -D FOREGROUND", "index.php", "from php"),
    "lighttpd": ("exec lighttpd -D -f /etc/lighttpd/lighttpd.conf", "none", "404 Not Found"),
    "gosu": (GOSU, "", "from gosu"),
    "a program with the right to low ports": (GOSU.replace("gosu app", "").replace("perl", "capped"), "", "from"),
}


@pytest.fixture(scope="module")
def servers(engine: "DockerClient") -> Iterator[Artifact]:
    if not engine.images.list(DEBIAN):
        pytest.skip(f"the engine has no image {DEBIAN}")
    tag = f"slipway-test-{uuid.uuid4().hex[:8]}"
    built, _ = engine.images.build(fileobj=io.BytesIO(RECIPE.encode()), tag=tag, rm=True)
    yield Artifact(kind="image", ref=tag, digest=str(built.id))
    engine.images.remove(tag, force=True, noprune=True)  # its layers are the cache for the next time


@pytest.fixture
async def driver(stack: Stack) -> AsyncIterator[Driver]:
    from services.deployer.drivers.docker.driver import DockerDriver

    made = DockerDriver(stack, os.environ, Path("/sys/fs/cgroup"))
    yield made
    made.close()


@pytest.mark.parametrize("name", SERVERS)
async def test_it_serves_and_ends_by_itself(
    driver: Driver, servers: Artifact, stack: Stack, engine: "DockerClient", name: str
) -> None:
    command, path, body = SERVERS[name]
    spec = InstanceSpec("notes-r1-1", servers, command, {}, 128 * MIB, 80)
    assert (await driver.start(spec)).capabilities == ROOT_KEEPS
    container = engine.containers.get(stack.container_name(spec.id))
    answer = ""
    deadline = time.monotonic() + 10
    while body not in answer:
        assert time.monotonic() < deadline, await driver.logs(spec.id, 20)
        await asyncio.sleep(0.05)
        answer = await asyncio.to_thread(printed, container, GET.replace("%s", path))
    await driver.stop(spec.id, 10)
    assert (await driver.statuses())[spec.id].exit_code in (0, 143), "137 if it was killed after its grace"


def printed(container: "Container", script: str) -> str:
    output = container.exec_run(["bash", "-c", script]).output
    assert isinstance(output, bytes)
    return output.decode(errors="replace")


async def test_without_capabilities_the_failure_says_so(servers: Artifact, stack: Stack) -> None:
    from services.deployer.drivers.docker.driver import DockerDriver

    driver = DockerDriver(stack, os.environ, Path("/sys/fs/cgroup"), root_keeps=())
    spec = InstanceSpec("notes-r1-1", servers, SERVERS["nginx"][0], {}, 128 * MIB, 80)
    await driver.start(spec)
    async with asyncio.timeout(10):
        while (status := (await driver.statuses())[spec.id]).running:
            await asyncio.sleep(0.05)
    assert status.capabilities == ()
    hint = capability_hint(await driver.logs(spec.id, 50), status.capabilities)
    assert hint is not None and "without capabilities" in hint
    driver.close()


async def test_an_image_that_starts_as_another_user_keeps_none(
    driver: Driver, servers: Artifact, stack: Stack, engine: "DockerClient"
) -> None:
    tag = f"slipway-test-{uuid.uuid4().hex[:8]}"
    recipe = f"FROM {servers.ref}\nUSER 1000\n"
    built, _ = engine.images.build(fileobj=io.BytesIO(recipe.encode()), tag=tag, rm=True)
    try:
        image = Artifact(kind="image", ref=tag, digest=str(built.id))
        spec = InstanceSpec("notes-r1-1", image, "grep Cap /proc/self/status; sleep 60", {}, 64 * MIB, 80)
        assert (await driver.start(spec)).capabilities == ()
        async with asyncio.timeout(10):
            while len(lines := await driver.logs(spec.id, 10)) < 5:
                await asyncio.sleep(0.05)
        assert {line.split()[1] for line in lines} == {"0" * 16}
    finally:
        await driver.stop(spec.id, 0)
        await driver.forget(spec.id)
        engine.images.remove(tag, force=True)
