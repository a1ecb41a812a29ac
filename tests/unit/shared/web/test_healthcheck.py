"""The health check of a container succeeds exactly if the service in it answers 200."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from shared.web.healthcheck import is_healthy
from tests.support.ports import free_port

ROOT = Path(__file__).parents[4]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/health" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield listening
        listening.shutdown()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (500, False)])
def test_it_is_what_health_answers(server: HTTPServer, status: int, healthy: bool) -> None:
    server.status = status  # type: ignore[attr-defined]
    assert is_healthy(server.server_port) is healthy


def test_nobody_who_listens_is_not_healthy() -> None:
    assert not is_healthy(free_port())


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)])
def test_the_images_command_runs_it(server: HTTPServer, status: int, exit_code: int) -> None:
    server.status = status  # type: ignore[attr-defined]
    found = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    python, *arguments = json.loads(found[1])
    assert python == "python"
    environment = {"SLIPWAY_SERVICE": "build", "SLIPWAY_BUILD_PORT": str(server.server_port)}
    ran = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, timeout=60)
    assert ran.returncode == exit_code
