"""A long log, the last part of `make bench-build`: a step prints 200 000 lines, some with a secret of the app.

A follower over SSE and the pusher's terminal are to have them as soon as they are printed, while API and page answer.

Beside it the same program prints into a file and through `cat`.
"""

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared.models import Environment
from stack import engine
from stack.borrow import own_container_stack, own_stack
from stack.control import LocalStack
from stack.delivery import BRANCH, LIVE_WITHIN_S, Deployable, Refused, indented
from stack.engine import EngineError
from stack.outside import wait_for
from stack.report import percentile

APP = "slipway-bench-log"
SOURCE = Path(__file__).parent / "bench_app"
LINES = 200_000
SECRET = f"bench-{uuid.uuid4().hex}"
PRINT = f"""import os, sys
line_by_line = sys.argv[1] == "lines"
out = open(1, "wb", buffering=0 if line_by_line else 8192)
for number in range({LINES}):
    told = os.environ["TOKEN"] if number % 1000 == 0 else "nothing of it"
    out.write(f"{{number:07d}} the quick brown fox jumps over the lazy dog, and is told {{told}}\\n".encode())
"""
LAST = f"{LINES - 1:07d} the quick".encode()
WAYS = {"blocks": "in blocks of 8 KiB", "lines": "line by line"}
ASKED_EVERY_S = 0.01
TIMES = {
    "file_s": "into a file",
    "cat_s": "through cat",
    "step_s": "the step",
    "sse_s": "SSE",
    "terminal_s": "terminal",
}
HEAD = f"{'':32}" + "".join(f"{name:>13}" for name in TIMES.values())


@dataclass(frozen=True)
class Streamed:
    """Seconds: of the program by itself, of the step, and from the step's beginning until all lines had come to the
    followers. `answers_ms`: how long the others waited meanwhile."""

    file_s: float
    cat_s: float
    step_s: float
    sse_s: float
    terminal_s: float
    answers_ms: Mapping[str, list[float]]


class Follower(threading.Thread):
    """Over SSE, into a file; `at` is when the last line came."""

    def __init__(self, stack: LocalStack, build: str, kept: Path) -> None:
        super().__init__(daemon=True)
        self._connection = _connection(stack, timeout=60)
        self._connection.request("GET", f"/builds/{build}/events", headers=_token(stack))
        self._kept = kept
        self.at = 0.0

    def run(self) -> None:
        answer, before = self._connection.getresponse(), b""
        with self._kept.open("wb") as kept:
            while data := answer.read1(2**16):
                if not self.at and LAST in before + data:
                    self.at = time.time()
                kept.write(data)
                before = data[-len(LAST) :]
        self._connection.close()


class Reader(threading.Thread):
    """Asks for a build as JSON and as a page, and for the service's health, one after the other, until it is stopped.
    `took`: what was asked for, when, and the milliseconds until the whole answer."""

    def __init__(self, stack: LocalStack, build: str) -> None:
        super().__init__(daemon=True)
        self._connection = _connection(stack, timeout=10)
        path, token = f"/builds/{build}", _token(stack)
        self._asked = {
            "build": (path, token),
            "page": (path, {**token, "Accept": "text/html"}),
            "health": ("/health", {}),
        }
        self._over = threading.Event()
        self.took: list[tuple[str, float, float]] = []

    def run(self) -> None:
        while not self._over.is_set():
            for name, (path, headers) in self._asked.items():
                began, clock = time.time(), time.perf_counter()
                self._connection.request("GET", path, headers=headers)
                answer = self._connection.getresponse()
                body = answer.read()
                self.took.append((name, began, (time.perf_counter() - clock) * 1000))
                if answer.status != 200 or SECRET.encode() in body:
                    raise Refused(f"{name} answered {answer.status}, or told the secret")
                self._over.wait(ASKED_EVERY_S)
        self._connection.close()

    def stop(self) -> None:
        self._over.set()
        self.join()


class Bench:
    def __init__(self, stack: LocalStack, name: str, folder: Path) -> None:
        self._stack = stack
        self._app = Deployable(stack, name, folder)
        self._folder = folder
        self._app.repository.copy_from(SOURCE)
        (folder / "print.py").write_text(PRINT)
        self._app.call("build", "POST", "/apps", {"name": name})
        self._app.call("build", "PUT", f"/apps/{name}/secrets/TOKEN", {"value": SECRET})

    def stream(self, way: str) -> Streamed:
        """Pushes it and follows it until it is live; raises Refused."""
        app, program = self._app, f"python print.py {way}"
        step = f"steps: [{{name: print, commands: [{program}], secrets: [TOKEN]}}]"
        (self._folder / "slipway.yml").write_text(f"app: {app.app}\n{step}\nrun: {{command: python server.py}}\n")
        commit = app.repository.commit(way)
        file_s, cat_s = (_alone(self._folder, way, through) for through in ("", "| cat"))
        push = app.repository.push(BRANCH[Environment.PRODUCTION])
        wait_for(lambda: self._latest().get("commit") == commit, "the build", LIVE_WITHIN_S)
        with tempfile.TemporaryDirectory() as kept:
            follower = Follower(self._stack, self._latest()["id"], Path(kept, "sse"))
            reader = Reader(self._stack, self._latest()["id"])
            follower.start()
            reader.start()
            wait_for(lambda: LAST in push.tail() or push.ended, "the last line at the terminal", LIVE_WITHIN_S)
            shown_at = time.time()
            pushed = push.finish(LIVE_WITHIN_S)
            follower.join(LIVE_WITHIN_S)
            reader.stop()
            if SECRET in pushed.output or SECRET.encode() in Path(kept, "sse").read_bytes():
                raise Refused("the log tells the secret")
        build = self._latest()
        if build["state"] != "success" or not follower.at or pushed.output.count("the quick") != LINES:
            raise Refused(f"not everything came, or the build did not pass\n{indented(pushed)[-2000:]}")
        begun, ended = (datetime.fromisoformat(build["steps"][0][key]) for key in ("started_at", "finished_at"))
        since, last = begun.timestamp(), max(follower.at, shown_at)
        answers = defaultdict(list)
        for name, asked_at, took_ms in reader.took:
            if since <= asked_at <= last:
                answers[name].append(took_ms)
        step_s = (ended - begun).total_seconds()
        return Streamed(file_s, cat_s, step_s, follower.at - since, shown_at - since, answers)

    def _latest(self) -> dict[str, Any]:
        items = self._app.call("build", "GET", f"/apps/{self._app.app}/builds?limit=1")["items"]
        return items[0] if items else {}


def measure(bench: Bench, where: str) -> None:
    """Prints the tables."""
    print(
        f"{where}: {LINES} lines of 80 bytes; load of the machine before: {os.getloadavg()[0]:.1f}\n\n{HEAD}",
        flush=True,
    )
    for way, told in WAYS.items():
        found = bench.stream(way)
        times = [getattr(found, name) for name in TIMES]
        print(f"{told:32}" + "".join(f"{seconds:>11.2f} s" for seconds in times))
        print(f"{'    lines/s':32}" + "".join(f"{LINES / seconds:>13.0f}" for seconds in times))
        for name, took in sorted(found.answers_ms.items()):
            p50, p99 = (percentile(sorted(took), share) or 0.0 for share in (0.5, 0.99))
            print(f"    {name} meanwhile: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {max(took):.1f} ms of {len(took)}")
        print(flush=True)


def long_log() -> None:
    """On stacks of its own, as processes and, where a Docker Engine answers, in containers. Raises Refused."""
    with own_stack() as stack, tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        measure(Bench(stack, APP, Path(folder)), "a long log, steps as processes")
    if not engine.answers():
        return
    name = f"{APP}-{uuid.uuid4().hex[:6]}"
    with contextlib.ExitStack() as ending:
        ending.callback(engine.remove_images, f"{engine.APP}={name}")
        stack = ending.enter_context(own_container_stack(name))
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-"))
        measure(Bench(stack, name, Path(folder)), "a long log, steps in containers")


def _alone(folder: Path, way: str, through: str) -> float:
    with tempfile.NamedTemporaryFile() as kept:
        command = f'exec 3>"$KEPT"; "$PYTHON" print.py {way} {through} >&3'
        variables = {**os.environ, "TOKEN": SECRET, "KEPT": kept.name, "PYTHON": sys.executable}
        began = time.perf_counter()
        subprocess.run(["sh", "-c", command], cwd=folder, env=variables, check=True)
        return time.perf_counter() - began


def _connection(stack: LocalStack, timeout: float) -> http.client.HTTPConnection:
    address = urlsplit(stack.settings.url("build"))
    return http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)


def _token(stack: LocalStack) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.token}"}


if __name__ == "__main__":
    try:
        long_log()
    except (Refused, EngineError, TimeoutError, RuntimeError) as error:
        sys.exit(f"bench-log: {error}")
