"""A step's service whose image checks itself: the step begins when the check says that it is well, and not before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.build.build import Build
from shared.models import BuildState
from tests.unit.build.executors import Engine, found_engine
from tests.unit.build.platform import Platform, platform_with

pytestmark = [pytest.mark.anyio, pytest.mark.docker]
BASE = "debian:trixie-slim"
PORT = 7000
# It listens from its first moment on, and tells whether it is ready.
SERVE = f"""\
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => {PORT}, Listen => 9, ReuseAddr => 1) or die $!;
while (my $c = $s->accept) {{ print $c (-e "/ready" ? "well" : "not yet"); close $c }}
"""
ASK = """\
import os, socket
with socket.create_connection((os.environ["DB_HOST"], int(os.environ["DB_PORT"]))) as db:
    print("the service is", db.recv(99).decode())
"""
MANIFEST = """app: notes
steps:
- {name: ask, commands: [python ask.py], services: [{name: db, image: "%s", timeout: 20}]}
run: {command: cat app.txt}
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield from found_engine()


@pytest.fixture
async def platform(engine: Engine, tmp_path: Path, anyio_backend: str) -> Platform:
    return await platform_with(engine.executor(), tmp_path)


def image_of(engine: Engine, begin: str) -> str:
    """An image of a service that is well once there is a file `/ready`; `begin` is run before it listens."""
    label = f"LABEL io.slipway.stack={engine.stack}"
    check = "HEALTHCHECK --interval=200ms --timeout=5s --start-period=60s CMD test -e /ready"
    container = engine.client.containers.create(BASE, ["sh", "-c", f"{begin}\nexec perl -e '{SERVE}'"])
    try:
        image = container.commit("slipway-test/db", engine.stack, changes=[label, check, f"EXPOSE {PORT}"])
    finally:
        container.remove()
    return str(image.tags[0])


async def asked(platform: Platform, image: str) -> Build:
    return await platform.build({"slipway.yml": MANIFEST % image, "ask.py": ASK, "app.txt": "an app\n"})


async def test_the_first_command_finds_it_well(engine: Engine, platform: Platform) -> None:
    build = await asked(platform, image_of(engine, "(sleep 5; touch /ready) &"))
    assert build.state is BuildState.SUCCESS, platform.log(build)
    assert "the service is well" in platform.log(build).splitlines()
    assert engine.containers(build=build.id) == []


async def test_one_that_is_never_well_fails_the_step_and_says_so(engine: Engine, platform: Platform) -> None:
    image = image_of(engine, "echo no luck")
    build = await platform.build(
        {"slipway.yml": MANIFEST.replace("timeout: 20", "timeout: 2") % image, "ask.py": ASK, "app.txt": "an app\n"}
    )
    assert build.state is BuildState.FAILURE
    assert "the service db was not ready within its time-out of 2 s: its image's HEALTHCHECK says" in build.reason
    log = platform.log(build)
    assert "no luck" in log.splitlines() and "the service is" not in log
    assert engine.containers(build=build.id) == []
