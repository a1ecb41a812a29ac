"""A step's service whose image checks itself: the step begins when the check says that it is well, and not before."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.build.executors.executor import Order, Outcome, ServiceOrder, Workspace
from services.build.system.stop import Stop
from tests.support.build.executors import Engine, Printed, found_engine, workspace_in

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
use IO::Socket::INET;
print "it is ", IO::Socket::INET->new(PeerAddr => $ENV{DB_HOST}, PeerPort => $ENV{DB_PORT})->getline, "\\n"
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield from found_engine()


@pytest.fixture
async def workspace(engine: Engine, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Workspace]:
    workspace, executor = workspace_in(tmp_path), engine.executor()
    await executor.prepare(workspace, Printed(), Stop())
    yield workspace
    await executor.discard(workspace)


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


async def asked(engine: Engine, workspace: Workspace, image: str, printed: Printed, timeout_s: float = 30) -> Outcome:
    service = ServiceOrder("db", image, None, {}, port=None, ready=None, timeout_s=timeout_s)
    order = Order([f"perl -e '{ASK}'"], 60, image=BASE, services=[service])
    outcome: Outcome = await engine.executor().run(workspace, order, printed, Stop())
    assert engine.containers(build=workspace.build) == []
    return outcome


async def test_the_first_command_finds_it_well(engine: Engine, workspace: Workspace) -> None:
    printed = Printed()
    outcome = await asked(engine, workspace, image_of(engine, "(sleep 3; touch /ready) &"), printed)
    assert (outcome.reason, printed.lines[-1]) == ("", "it is well")


async def test_one_that_is_never_well_fails_the_step_and_says_so(engine: Engine, workspace: Workspace) -> None:
    printed = Printed()
    outcome = await asked(engine, workspace, image_of(engine, "echo no luck"), printed, timeout_s=2)
    told = "could not be started: the service db was not ready within its time-out of 2 s: its image's HEALTHCHECK says"
    assert outcome.exit_code is None and outcome.reason.startswith(told)
    assert printed.lines == ["the last lines of the service db:", "no luck"]
