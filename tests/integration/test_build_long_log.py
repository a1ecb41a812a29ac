"""A log of 200 000 lines: every follower gets each line once and in order, and an app's secret stands in none of it."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.build.builds.build import Build
from shared.models import BuildState
from tests.integration.test_build_secrets import dump
from tests.support.build.executors import Engine, found_engine
from tests.support.build.platform import Platform, platform_with
from tests.support.build.service import BuildService, Developer, eventually

SECRET = "hunter2-and-more"
LINES = 200_000
EVERY = 100  # lines from one that tells the secret to the next
LEAVES_AFTER = 4 * 2**20  # bytes, after which a follower connects anew
# Two thirds in blocks, which are cut wherever they are full; then line by line, as Python prints in a step, secrets in
# two pieces.
PRINT = f"""
import os, sys
secret, out = os.environ["TOKEN"], sys.stdout.buffer
def told(number):
    return secret if number % {EVERY} == 0 else "nothing"
def line(number):
    return f"{{number:07d}} the quick brown fox jumps over the lazy dog, and is told {{told(number)}}\\n".encode()
lines = [line(number) for number in range({LINES})]
blocks = b"".join(lines[: {LINES} * 2 // 3])
for start in range(0, len(blocks), 10007):
    out.write(blocks[start : start + 10007])
    out.flush()
for number in range({LINES} * 2 // 3, {LINES}):
    for piece in (lines[number][:75], lines[number][75:]) if number % {EVERY} == 0 else (lines[number],):
        out.write(piece)
        out.flush()
"""
MANIFEST = """app: notes
steps: [{name: long, commands: [python print.py, echo then], secrets: [TOKEN]}]
run: {command: cat app.txt}
"""
FILES = {"slipway.yml": MANIFEST, "print.py": PRINT, "app.txt": "an app\n"}


def expected() -> list[str]:
    told = ["***" if number % EVERY == 0 else "nothing" for number in range(LINES)]
    lines = [
        f"{number:07d} the quick brown fox jumps over the lazy dog, and is told {told[number]}"
        for number in range(LINES)
    ]
    return ["$ python print.py", *lines, "$ echo then", "then"]


def assert_whole(shown: str) -> None:
    """Compared by hand: a difference of 200 000 lines is shown to nobody."""
    lines = shown.splitlines()
    begin = lines.index("$ python print.py")
    for place, (line, wanted) in enumerate(zip(lines[begin:], expected(), strict=False)):
        assert line == wanted, f"line {place}"
    assert "then" in lines
    assert SECRET not in shown and "hunter2" not in shown


class Follower(threading.Thread):
    """Over SSE. In the middle it leaves, and resumes behind the last event that it has seen."""

    def __init__(self, service: BuildService, build: str) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._path = f"/builds/{build}/events"
        self._last = ""
        self.log: list[str] = []
        self.raw: list[str] = []
        self.connections = 0
        self.end = ""

    def run(self) -> None:
        while not self.end:
            self.connections += 1
            self._follow()

    def _follow(self) -> None:
        headers = {"Last-Event-ID": self._last} if self._last else {}
        event, received = "", 0
        with self._service.http.stream("GET", self._path, headers=headers, timeout=30) as answer:
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                self.raw.append(line)
                if name == "event":
                    event = value
                elif name == "data" and event == "log":
                    self.log.append(json.loads(value))
                    received += len(value)
                elif name == "data" and event == "end":
                    self.end = json.loads(value)
                elif name == "id":
                    self._last = value
                elif not line and received > LEAVES_AFTER and self.connections == 1:
                    return


class Reader(threading.Thread):
    """Asks for the build, as JSON and as a page, while it runs. `during`: answers given while lines were printed."""

    def __init__(self, service: BuildService, build: str) -> None:
        super().__init__(daemon=True)
        self._client = httpx.Client(
            verify=False, base_url=service.url, headers=service.http.headers, timeout=30, trust_env=False
        )
        self._path = f"/builds/{build}"
        self.answers: list[str] = []
        self.during = 0
        self.faults: list[str] = []

    def run(self) -> None:
        with self._client as client:
            ended = False
            while not ended:
                for accept in ("application/json", "text/html"):
                    answer = client.get(self._path, headers={"Accept": accept})
                    if answer.status_code != 200:
                        self.faults.append(answer.text)
                    self.answers.append(answer.text)
                self.during += "and is told nothing" in self.answers[-1]
                ended = json.loads(self.answers[-2]).get("finished_at") is not None
                time.sleep(0.05)


@pytest.mark.slow
def test_pusher_browser_and_file_have_all_of_it(service: BuildService, database: Any, tmp_path: Path) -> None:
    service.http.post("/apps", json={"name": "notes"}).raise_for_status()
    service.http.put("/apps/notes/secrets/TOKEN", json={"value": SECRET}).raise_for_status()
    developer = Developer(tmp_path / "work", service, "notes")
    developer.commit(FILES)
    pushing = developer.push_in_background()
    eventually(lambda: service.http.get("/builds/notes-1").status_code == 200)
    follower, reader = Follower(service, "notes-1"), Reader(service, "notes-1")
    follower.start()
    reader.start()
    pushed, _ = pushing.communicate(timeout=120)
    for thread in (follower, reader):
        thread.join(60)
        assert not thread.is_alive()
    build = service.build("notes-1")
    assert (build["state"], follower.end, follower.connections) == ("success", "success", 2), build["reason"]
    log = (service.home / "logs" / "builds" / "notes-1.log").read_text()
    assert_whole(log)
    assert_whole("\n".join(line.removeprefix("remote: ").rstrip() for line in pushed.splitlines()))
    assert "".join(follower.log) == log
    assert service.log("notes-1") == log
    assert reader.during > 0 and reader.faults == []
    kept = [str(dump(database, key)) for key in database.scan_iter()]
    told = "".join([*follower.raw, *reader.answers, *kept, (service.home / "service.log").read_text()])
    assert "hunter2" not in told


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield from found_engine()


async def followed(platform: Platform, build: Build) -> str:
    async def ended() -> bool:
        return (await platform.store.build(build.id)).ended

    return b"".join([lines async for lines in platform.context.logs.follow(build.id, ended)]).decode()


@pytest.mark.anyio
@pytest.mark.docker
async def test_a_container_prints_as_much(engine: Engine, tmp_path: Path, redis: Redis) -> None:
    platform = await platform_with(engine.executor(), tmp_path, redis)
    await platform.set_secret("TOKEN", SECRET)
    queued = await platform.queue(FILES)
    following = asyncio.create_task(followed(platform, queued))
    build = await platform.run(queued)
    assert build.state is BuildState.SUCCESS, build.reason
    assert_whole(platform.log(build))
    assert await following == platform.log(build)
