"""The throughput client, and the bare Envoy that it measures."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.bare_envoy import bare_envoy
from bench.proxy import SOURCE
from bench.throughput import measure_throughput
from stack.clients.probe_client import probe
from tests.support.ports import free_port, wait_for_port
from tests.support.stack.misbehaving import Reply, Request, http, serving


@pytest.fixture
def bench_app() -> Iterator[str]:
    port = free_port()
    environment = {**os.environ, "PORT": str(port), "SLIPWAY_COMMIT": "c" * 40}
    process = subprocess.Popen([sys.executable, "server.py"], cwd=SOURCE, env=environment)
    try:
        wait_for_port(port)
        yield f"127.0.0.1:{port}"
        process.terminate()
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()


def test_counts_good_answers(bench_app: str) -> None:
    measured = measure_throughput(f"http://{bench_app}", connections=4, seconds=0.2)
    assert measured.rate > 0
    assert 0 < measured.p50_ms <= measured.p99_ms
    assert measured.failed == 0


def test_the_same_through_a_bare_envoy(bench_app: str, tmp_path: Path) -> None:
    with bare_envoy(tmp_path, bench_app) as url:
        assert probe(url, "/version").commit == "c" * 40
        assert measure_throughput(url, connections=4, seconds=0.2).failed == 0


def test_bad_answers_are_counted_apart() -> None:
    def some_bad(request: Request) -> Reply:
        return Reply(http(b"", status=503 if request.number % 2 else 200))

    with serving(some_bad) as server:
        assert measure_throughput(server.url, connections=2, seconds=0.1).failed > 0


def test_nothing_but_bad_answers_is_no_figure() -> None:
    with (
        serving(lambda request: Reply(http(b"", status=503))) as server,
        pytest.raises(RuntimeError, match="no good answer"),
    ):
        measure_throughput(server.url, connections=2, seconds=0.1)
