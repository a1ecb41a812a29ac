"""Probes against a real server."""

import asyncio
import contextlib
import http.server
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from services.deployer.reconcile.probe import ProbeTarget
from services.deployer.reconcile.prober import Prober
from services.deployer.releases.environment import EnvironmentId
from shared.manifest import health_check
from shared.models import Environment
from shared.registry import ProbeRecord
from tests.support.ports import free_port, wait_for_port

pytestmark = pytest.mark.anyio
PRODUCTION = EnvironmentId("notes", Environment.PRODUCTION)


@pytest.fixture
def server() -> Iterator[str]:
    """`host:port` of a server that answers with the status that the path names."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:]))
            self.send_header("Location", "/200")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def target(address: str, health: str, *, is_new: bool) -> ProbeTarget:
    return ProbeTarget(address, health_check(health), "notes.localhost", is_new)


async def probed(target: ProbeTarget, until_misses: int) -> str:
    """The detail of the first probe with that many misses."""
    changed: list[EnvironmentId] = []
    prober = Prober(changed.append)
    prober.follow(PRODUCTION, {"notes-r1-1": target})
    try:
        async with asyncio.timeout(5):
            while "notes-r1-1" not in prober.health() or prober.health()["notes-r1-1"].misses != until_misses:
                await asyncio.sleep(0.01)
        assert until_misses in (1, 2) or changed == [PRODUCTION]
        return prober.health()["notes-r1-1"].detail
    finally:
        await prober.close()


@pytest.mark.parametrize("status", [200, 302])
async def test_an_answer_that_is_well_is_no_miss(server: str, status: int) -> None:
    said = f"GET /{status} with Host notes.localhost answered {status}"
    assert await probed(target(server, f"/{status}", is_new=True), 0) == said


@pytest.mark.parametrize("status", [404, 500])
async def test_any_other_status_is_a_miss(server: str, status: int) -> None:
    said = f"GET /{status} with Host notes.localhost answered {status}"
    assert await probed(target(server, f"/{status}", is_new=True), 3) == said


async def test_nobody_there_is_a_miss() -> None:
    address = f"127.0.0.1:{free_port()}"
    assert await probed(target(address, "/up", is_new=True), 1) == f"GET /up: nothing listens on {address}"


async def test_who_is_not_followed_any_more_has_no_health(server: str) -> None:
    prober = Prober(lambda environment_id: None)
    prober.follow(PRODUCTION, {"notes-r1-1": target(server, "/200", is_new=True)})
    async with asyncio.timeout(5):
        while not prober.health():
            await asyncio.sleep(0.01)
    prober.follow(PRODUCTION, {})
    assert prober.health() == {}
    await prober.close()


async def test_it_says_since_when_an_instance_is_well_or_fails(server: str) -> None:
    prober, begun = Prober(lambda environment_id: None), datetime.now(UTC)

    async def probes(path: str, count: int) -> ProbeRecord:
        prober.follow(PRODUCTION, {"notes-r1-1": target(server, path, is_new=True)})
        awaited = prober.outcomes.total() + count
        async with asyncio.timeout(5):
            while prober.outcomes.total() < awaited:
                await asyncio.sleep(0.01)
        return prober.records(["notes-r1-1", "notes-r9-1"], datetime.now(UTC))["notes-r1-1"]

    assert prober.records(["notes-r1-1"], begun) == {}
    well = await probes("/200", 2)
    assert well.failing_since is None
    assert well.well_since and well.answered_at and begun <= well.well_since < well.answered_at < datetime.now(UTC)
    ill = await probes("/500", 2)
    assert (ill.well_since, ill.failing_since and ill.failing_since > well.answered_at) == (None, True)
    assert ill.answered_at and abs(ill.answered_at - well.answered_at) < timedelta(seconds=0.3)
    again = await probes("/200", 2)
    assert again.failing_since is None
    assert again.well_since and ill.failing_since and again.well_since > ill.failing_since
    await prober.close()


@pytest.mark.slow
async def test_tries_keep_their_rate_however_long_an_answer_takes() -> None:
    """Nobody answers here: three tries that begin 0.9 s apart, and not 0.9 s after each other, which takes 4.5 s."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        detail = await probed(target(f"127.0.0.1:{silent.getsockname()[1]}", "/up", is_new=False), 3)
        assert 2.6 <= time.monotonic() - started <= 4.3
    assert detail == "GET /up: no answer within 0.9 s"


# --- late, and who is to blame ----------------------------------------------------------------------------------------


async def test_an_answer_that_this_process_was_too_late_to_read_is_no_miss(server: str) -> None:
    """The server answers at once, but the event loop looks at it after 1.5 s. The time-out is 0.9 s."""
    prober = Prober(lambda environment_id: None)
    prober.follow(PRODUCTION, {"notes-r1-1": target(server, "/200", is_new=False)})
    await asyncio.sleep(0)  # the probe begins
    time.sleep(1.5)  # noqa: ASYNC251
    async with asyncio.timeout(5):
        while not prober.outcomes:
            await asyncio.sleep(0.01)
    assert set(prober.outcomes) == {"answered"}
    await prober.close()


@contextlib.contextmanager
def app_process() -> Iterator[tuple[str, int]]:
    """`host:port` and process id of an app that can be stopped by a signal."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for_port(port)
            yield f"127.0.0.1:{port}", process.pid
        finally:
            process.kill()


@pytest.mark.slow
async def test_apps_that_stand_still_together_are_not_blamed_and_one_alone_is() -> None:
    shop = EnvironmentId("shop", Environment.PRODUCTION)
    with app_process() as (notes_address, notes_pid), app_process() as (shop_address, shop_pid):
        prober = Prober(lambda environment_id: None)
        prober.follow(PRODUCTION, {"notes-r1-1": target(notes_address, "/", is_new=False)})
        prober.follow(shop, {"shop-r1-1": target(shop_address, "/", is_new=False)})

        async def until(condition: Callable[[], bool]) -> None:
            async with asyncio.timeout(10):
                while not condition():
                    await asyncio.sleep(0.02)

        def misses() -> set[int]:
            return {each.misses for each in prober.health().values()}

        await until(lambda: len(prober.health()) == 2 and misses() == {0})
        os.kill(notes_pid, signal.SIGSTOP)
        os.kill(shop_pid, signal.SIGSTOP)
        await until(lambda: prober.outcomes["discounted"] == 5)
        assert max(misses()) <= 1  # the first that is late does not know of the other yet
        assert "no instance of any app has answered" in (await prober.check() or "")

        os.kill(shop_pid, signal.SIGCONT)
        await until(lambda: prober.health()["notes-r1-1"].misses == 3)
        assert prober.health()["shop-r1-1"].misses == 0
        assert await prober.check() is None
        await prober.close()


async def test_a_probe_that_this_process_cannot_send_says_nothing_about_the_app(server: str) -> None:
    prober = Prober(lambda environment_id: None)
    with no_file_descriptors():
        prober.follow(PRODUCTION, {"notes-r1-1": target(server, "/200", is_new=False)})
        async with asyncio.timeout(5):
            while not prober.outcomes:
                await asyncio.sleep(0.01)
        assert prober.outcomes == {"discounted": 1}
        assert prober.health() == {}
        assert await prober.check() == "a probe could not be sent: GET /200: OSError: [Errno 24] Too many open files"
    await prober.close()


@contextlib.contextmanager
def no_file_descriptors() -> Iterator[None]:
    """Leaves this process none, so that it can open no socket."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for each in opened:
            os.close(each)
