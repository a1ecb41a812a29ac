"""The launcher tells what does not work, and why: at the start, and afterwards each change that lasts."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.config import SERVICES, SharedSettings
from stack.local.service_watch import REPAIR, ServiceWatch
from tests.support.ports import free_port

WORDS = "Bad file format reading the append only file appendonly.aof.1.incr.aof: make a backup of your AOF file"


class FiveServices:
    """Servers in place of the services; those in `problems` are not ready."""

    def __init__(self) -> None:
        self.problems: dict[int, dict[str, str]] = {}
        this = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                problems = this.problems.get(int(self.headers["Host"].rpartition(":")[2]), {})
                self.send_response(503 if problems else 200)
                self.end_headers()
                self.wfile.write(json.dumps({"ready": not problems, "problems": problems}).encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in SERVICES]
        self.ports = {name: each.server_port for name, each in zip(SERVICES, self._servers, strict=True)}
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def services() -> Iterator[FiveServices]:
    made = FiveServices()
    yield made
    made.close()


@pytest.fixture
def settings(tmp_path: Path, services: FiveServices) -> SharedSettings:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "redis.log").write_text("9:M 01 Jan 2026 00:00:00.000 # of an earlier start\n")
    ports = {f"{name}_port": port for name, port in services.ports.items()}
    return SharedSettings.model_validate(
        {"home": tmp_path, "token": "t", "redis_url": f"redis://127.0.0.1:{free_port()}/0", **ports}
    )


class Time:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


def test_a_redis_that_does_not_start_is_told_after_3_s_with_its_last_words(
    settings: SharedSettings, services: FiveServices, capsys: pytest.CaptureFixture[str]
) -> None:
    time = Time()
    watch = ServiceWatch(settings, 60, lambda: False, clock=time)
    services.problems = {services.ports["build"]: {"loop heartbeat": "late", "redis": "Redis does not answer"}}
    watch.step()
    log = settings.home / "logs" / "redis.log"
    with log.open("a") as file:
        file.write(f"9:M 29 Nov 2026 19:38:51.219 # {WORDS}\n")
    for time.s in (2.9, 3.0, 4.0):
        watch.step()
    assert capsys.readouterr().err == (
        f"Redis does not run; its last words: {WORDS} (29 Nov 2026 19:38:51); see {log}\n"
        f"Its data is damaged: {REPAIR}\n"
    )
    time.s = 60
    watch.step()
    told = capsys.readouterr().err
    assert "build is not ready after 60 s: redis: Redis does not answer; see " in told
    services.problems = {}
    watch.step()
    assert watch.seconds == 60


def test_what_is_not_ready_for_two_looks_is_told_once_and_its_return(
    settings: SharedSettings, services: FiveServices, capsys: pytest.CaptureFixture[str]
) -> None:
    time = Time()
    watch = ServiceWatch(settings, 60, lambda: False, look_s=10, clock=time)
    watch.step()
    assert watch.seconds == 0
    services.problems = {services.ports["flags"]: {"disk": "it is full"}}
    lines = []
    for time.s in range(5, 60, 5):
        watch.step()
        lines += [(time.s, line) for line in capsys.readouterr().err.splitlines()]
        if time.s == 35:
            services.problems = {}
    logs = settings.home / "logs"
    assert lines == [
        (20, f"flags is not ready: disk: it is full; see {logs / 'flags.log'}"),
        (40, "flags is ready again"),
    ]


def test_at_the_end_nothing_is_asked(settings: SharedSettings, capsys: pytest.CaptureFixture[str]) -> None:
    watch = ServiceWatch(settings, 0, lambda: True)
    watch.step()
    assert (watch.seconds, capsys.readouterr().err) == (None, "")
