"""Measures a long log, the last part of `make bench-build`: a step prints 200 000 lines, some with a secret of the app.

A follower over SSE and the pusher's terminal should get them as soon as they are printed, while API and page answer.
For comparison the same program prints into a file, through `cat` and, for containers, through `docker run`. The program
itself reports when it begins and ends to print: no interpreter's or container's start is measured.
"""

import contextlib
import http.client
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared.host import docker_engine
from shared.models import Environment
from stack.clients.delivery import BRANCH, LIVE_WITHIN_S, Deployable, RequestRefused, indented
from stack.clients.load_report import percentile
from stack.clients.probe_client import wait_for
from stack.compose import engine
from stack.compose.engine import EngineError
from stack.local.local_stack import LocalStack
from stack.stack_fixture import own_container_stack, own_stack

APP = "slipway-bench-log"
SOURCE = Path(__file__).parent / "app"
IMAGE = "python:3.13-slim"
LINES = 200_000
SECRET = f"bench-{uuid.uuid4().hex}"
PRINT = f"""import os, sys, time
out, began = open(1, "wb", buffering=8192 if sys.argv[1] == "blocks" else 0), time.time()
for number in range({LINES}):
    text = os.environ["TOKEN"] if number % 1000 == 0 else "nothing of it"
    out.write(f"{{number:07d}} the quick brown fox jumps over the lazy dog, and is told {{text}}\\n".encode())
out.flush()
out.write(f"printed from {{began}} to {{time.time()}}\\n".encode())
"""
LAST = b"printed from "
PRINTED = re.compile(r"printed from ([\d.]+) to ([\d.]+)")
WAYS = {"blocks": "in blocks of 8 KiB", "lines": "line by line"}
ASKED_EVERY_S = 0.01


@dataclass(frozen=True)
class Streamed:
    """The measurements of one run."""

    took_s: Mapping[str, float]
    """Seconds in which the program printed, alone and as a step; and from its first line as a step until the last one
    reached each follower.
    """
    answers_ms: Mapping[str, list[float]]
    """Milliseconds of other requests meanwhile, by kind."""


class LogFollower(threading.Thread):
    """Follows the log over SSE into a file; `at` is when the last line came."""

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
    """Requests a build as JSON and as a page, and the service's health, one after the other, until it is stopped.

    `took`: the request's name, its time, and the milliseconds until the whole answer.
    """

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
        self.fault = ""

    def run(self) -> None:
        while not self._over.is_set() and not self.fault:
            for name, (path, headers) in self._asked.items():
                began, clock = time.time(), time.perf_counter()
                self._connection.request("GET", path, headers=headers)
                answer = self._connection.getresponse()
                body = answer.read()
                self.took.append((name, began, (time.perf_counter() - clock) * 1000))
                if answer.status != 200 or SECRET.encode() in body:
                    self.fault = f"{name} answered {answer.status}, or told the secret"
                self._over.wait(ASKED_EVERY_S)
        self._connection.close()

    def stop(self) -> None:
        """Stops the requests. Raises RequestRefused if one failed or contained the secret."""
        self._over.set()
        self.join()
        if self.fault:
            raise RequestRefused(self.fault)


class LogBench:
    """Pushes commits whose step prints the log, and follows it."""

    def __init__(self, stack: LocalStack, name: str, folder: Path) -> None:
        self._stack = stack
        self._app = Deployable(stack, name, folder)
        self._folder = folder
        self._app.repository.copy_from(SOURCE)
        (folder / "print.py").write_text(PRINT)
        self._app.call("build", "POST", "/apps", {"name": name})
        self._app.call("build", "PUT", f"/apps/{name}/secrets/TOKEN", {"value": SECRET})

    def stream(self, way: str, with_docker_run: bool) -> Streamed:
        """Pushes a commit and follows its log until it is live; `with_docker_run` compares it with that.
        Raises RequestRefused.
        """
        app = self._app
        step = f"steps: [{{name: print, commands: [python print.py {way}], secrets: [TOKEN]}}]"
        (self._folder / "slipway.yml").write_text(f"app: {app.app}\n{step}\nrun: {{command: python server.py}}\n")
        commit = app.repository.commit(way)
        took_s = alone(self._folder, way, with_docker_run)
        push = app.repository.push(BRANCH[Environment.PRODUCTION])
        wait_for(lambda: self._latest().get("commit") == commit, "the build", LIVE_WITHIN_S)
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder, "sse")
            follower = LogFollower(self._stack, self._latest()["id"], kept)
            reader = Reader(self._stack, self._latest()["id"])
            follower.start()
            reader.start()
            wait_for(lambda: LAST in push.tail() or push.ended, "the last line at the terminal", LIVE_WITHIN_S)
            shown_at = time.time()
            pushed = push.finish(LIVE_WITHIN_S)
            follower.join(LIVE_WITHIN_S)
            reader.stop()
            streamed = kept.read_bytes()
        printed = PRINTED.search(pushed.output)
        state, lines = self._latest()["state"], (pushed.output.count("the quick"), streamed.count(b"the quick"))
        if state != "success" or printed is None or lines != (LINES, LINES):
            raise RequestRefused(f"{state}; of {LINES} lines came {lines}\n{indented(pushed)[-2000:]}")
        if SECRET in pushed.output or SECRET.encode() in streamed:
            raise RequestRefused("the log tells the secret")
        since, until = map(float, printed.groups())
        took_s |= {"as a step": until - since, "SSE": follower.at - since, "terminal": shown_at - since}
        answers = defaultdict(list)
        for name, asked_at, took_ms in reader.took:
            if since <= asked_at <= max(follower.at, shown_at):
                answers[name].append(took_ms)
        return Streamed(took_s, answers)

    def _latest(self) -> dict[str, Any]:
        items = self._app.call("build", "GET", f"/apps/{self._app.app}/builds?limit=1")["items"]
        return items[0] if items else {}


def alone(folder: Path, way: str, with_docker_run: bool) -> dict[str, float]:
    """Returns the seconds in which the program prints, by destination."""
    program = [sys.executable, "print.py", way]
    run = ["docker", "run", "--rm", "--log-driver=none", "--env=TOKEN", f"--volume={folder}:/print:ro", IMAGE]
    ways = {"file": program, "cat": program} | (
        {"docker run": [*run, "python", "/print/print.py", way]} if with_docker_run else {}
    )
    took_s = {}
    for name, command in ways.items():
        with tempfile.TemporaryFile("w+") as kept, contextlib.ExitStack() as ending:
            output: Any = kept
            if name == "cat":
                cat = ending.enter_context(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=kept))
                output = cat.stdin
            subprocess.run(command, cwd=folder, env={**os.environ, "TOKEN": SECRET}, stdout=output, check=True)
            ending.close()
            kept.seek(0)
            if (printed := PRINTED.search(kept.read())) is None:
                raise RequestRefused(f"{name}: the program did not print to its end")
        began, ended = map(float, printed.groups())
        took_s[name] = ended - began
    return took_s


def measure(bench: LogBench, where: str, with_docker_run: bool) -> None:
    """Prints the tables."""
    print(f"a long log, {where}: {LINES} lines of 80 bytes; load of the machine before: {os.getloadavg()[0]:.1f}")
    for way, label in WAYS.items():
        found = bench.stream(way, with_docker_run)
        print(f"\n{label:16}" + "".join(f"{name:>12}" for name in found.took_s))
        print(f"{'':16}" + "".join(f"{seconds:>10.2f} s" for seconds in found.took_s.values()))
        print(f"{'lines/s':16}" + "".join(f"{LINES / seconds:>12.0f}" for seconds in found.took_s.values()))
        for name, took in found.answers_ms.items():
            p50, p99 = (percentile(sorted(took), share) or 0.0 for share in (0.5, 0.99))
            print(f"{name:16} meanwhile: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {max(took):.1f} ms of {len(took)}")
    print(flush=True)


def long_log() -> None:
    """Runs on stacks of its own, as processes and, where a Docker Engine answers, in containers. Raises
    RequestRefused.
    """
    with own_stack() as stack, tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        measure(LogBench(stack, APP, Path(folder)), "steps as processes", with_docker_run=False)
    if not engine.answers():
        return
    name = f"{APP}-{uuid.uuid4().hex[:6]}"
    with contextlib.ExitStack() as ending:
        ending.callback(engine.remove_images, f"{docker_engine.APP}={name}")
        stack = ending.enter_context(own_container_stack(name))
        folder = ending.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-"))
        measure(LogBench(stack, name, Path(folder)), "steps in containers", with_docker_run=True)


def _connection(stack: LocalStack, timeout: float) -> http.client.HTTPConnection:
    address = urlsplit(stack.settings.url("build"))
    return http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout)


def _token(stack: LocalStack) -> dict[str, str]:
    return {"Authorization": f"Bearer {stack.token}"}


if __name__ == "__main__":
    try:
        long_log()
    except (RequestRefused, EngineError, TimeoutError, RuntimeError) as error:
        sys.exit(f"bench-log: {error}")
