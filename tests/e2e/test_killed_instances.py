"""Canaries are promoted and aborted under load while instances are killed at random: only what was inside a killed
instance is lost, and nothing runs twice.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.abort.app_source import bad_app
from shared.models import Environment
from stack.clients.connection import Lost
from stack.clients.delivery import Deployable, RequestRefused
from stack.clients.load import Client
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack
from tests.support.stack.cadence import RATE

SEED = int(os.environ.get("E2E_SEED", time.time()))
ROUNDS = int(os.environ.get("E2E_ROLLOUTS", "2"))  # 50 where there is time
POSTS, NEW = 0.3, 0.3  # shares of the requests
NOTICED_S = 1.0  # after a kill: by then Envoy knows it, also on a busy machine
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sent:
    """A request and how it ended; `answer` is `200`, another status, or why there was none."""

    ident: str
    method: str
    at: float
    done: float
    answer: str


@dataclass(frozen=True)
class Kill:
    instance: str
    at: float


class NumberedLoad:
    """Sends GET and POST at a constant rate in a thread, each with a number of its own, as visitors with a kept
    connection and new ones."""

    def __init__(self, app: Deployable, rate: float) -> None:
        self.sent: list[Sent] = []
        self._app = app
        self._rate = rate
        self._random = random.Random(SEED)
        self._idle: list[Client] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> "NumberedLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    async def _run(self) -> None:
        started = time.monotonic()
        async with asyncio.TaskGroup() as requests:
            for number in itertools.count():
                if self._stopping.is_set():
                    break
                requests.create_task(self._send(str(number)))
                await asyncio.sleep(max(0.0, started + (number + 1) / self._rate - time.monotonic()))
        for client in self._idle:
            client.close()

    async def _send(self, ident: str) -> None:
        method = "POST" if self._random.random() < POSTS else "GET"
        is_new = self._random.random() < NEW
        client = self._idle.pop() if self._idle and not is_new else Client(self._app.public, self._app.host)
        at = time.monotonic()
        try:
            answer = str((await client.request(method, f"/run?{ident}", b"body" if method == "POST" else b"")).status)
        except Lost as lost:
            answer = str(lost)
        self.sent.append(Sent(ident, method, at, time.monotonic(), answer))
        if is_new:
            client.close()
        else:
            self._idle.append(client)


def instances(app: Deployable) -> dict[str, list[dict[str, Any]]]:
    """Returns track → instances that the registry holds of the app."""
    found: dict[str, list[dict[str, Any]]] = app.call("deployer", "GET", "/registry")["instances"].get(app.app, {})
    return {track: of for track, of in found.items() if of}


def is_settled(app: Deployable) -> bool:
    of = instances(app)
    return list(of) == ["stable"] and [each["state"] for each in of["stable"]] == ["ready"] * 2


def killed(stack: LocalStack, app: Deployable, chance: random.Random, *, spare: str = "") -> Kill:
    """Kills one of the instances that visitors are sent to, but none of the track `spare`."""
    tracks = instances(app).items()
    ready = [each["id"] for track, of in tracks for each in of if each["state"] == "ready" and track != spare]
    kill = Kill(chance.choice(sorted(ready)), time.monotonic())
    record = stack.settings.home / "instances" / kill.instance / "record.json"
    with contextlib.suppress(OSError):  # it has just been ended by a release
        os.killpg(json.loads(record.read_text())["pid"], signal.SIGKILL)
    return kill


def opened(app: Deployable) -> str:
    """Releases a canary, and returns its release once its rollout is open."""
    app.repository.commit("canary")
    app.deliver(Environment.CANARY)
    release = str(app.latest_release(Environment.CANARY)["id"])
    wait_for(lambda: app.rollout()["release"] == release, "the rollout", 20)
    return release


def asked(app: Deployable, action: str, release: str) -> None:
    with contextlib.suppress(RequestRefused):  # the death of an instance has ended the rollout
        app.rollout(action, release=release)


def ends(stack: LocalStack, app: Deployable, number: int, chance: random.Random) -> tuple[str, Kill]:
    """Promotes every second canary and aborts the others, and kills an instance before or after that. Returns how the
    rollout ended: the death of its instance aborts a canary, too."""
    release, action = opened(app), "promote" if number % 2 else "abort"
    time.sleep(chance.random())
    if chance.random() < 0.5:
        asked(app, action, release)
        time.sleep(chance.random() / 2)
        kill = killed(stack, app, chance)
    else:
        kill = killed(stack, app, chance, spare="canary" if number % 2 else "")
        time.sleep(chance.random() / 2)
        asked(app, action, release)
    try:
        wait_for(lambda: app.rollout()["state"] in ("promoted", "aborted"), "the rollout's end", 60)
    except TimeoutError as error:
        newest = [app.latest_release(each) for each in Environment]
        raise AssertionError(f"{error}; {action}, {kill}, {app.rollout()}, {newest}, {instances(app)}") from error
    return str(app.rollout()["state"]), kill


def excuse(request: Sent, kills: list[Kill], runs: dict[str, list[str]]) -> str:
    """Returns in which killed instance the request was; empty if it was in none."""
    for kill in kills:
        inside = set(runs.get(request.ident, [])) <= {kill.instance}
        if inside and request.at <= kill.at + NOTICED_S and request.done >= kill.at:
            return kill.instance
    return ""


@pytest.mark.timeout(300 + 30 * ROUNDS)
def test_only_what_was_inside_a_killed_instance_is_lost_and_nothing_runs_twice(
    stack: LocalStack, tmp_path: Path
) -> None:
    app = bad_app(stack, "beaten", tmp_path / "beaten", replicas=2)
    calls, chance = tmp_path / "calls", random.Random(SEED)
    (app.repository.folder / "calls").write_text(str(calls))
    app.repository.commit("first")
    app.deliver(Environment.PRODUCTION)
    kills: list[Kill] = []
    ended: Counter[str] = Counter()
    with NumberedLoad(app, RATE) as load:
        for number in range(ROUNDS):
            wait_for(lambda: is_settled(app), "production alone, with two instances", 60)
            end, kill = ends(stack, app, number, chance)
            kills.append(kill)
            ended[end] += 1
        wait_for(lambda: is_settled(app), "production alone, with two instances", 60)

    runs: dict[str, list[str]] = {}
    for line in calls.read_text().splitlines():
        word, ident, instance = line.split()
        if word == "begun":
            runs.setdefault(ident, []).append(instance)
    lost = [request for request in load.sent if request.answer != "200"]
    lines = [
        f"{each.method} {each.ident}: {each.answer}, was in {excuse(each, kills, runs)}, begun: {each.ident in runs}"
        for each in lost
    ]
    head = f"seed {SEED}: {len(load.sent)} sent, {dict(ended)}, {len(kills)} kills, lost {len(lost)}"
    said = "\n".join([head, *lines])
    log.warning(said)
    assert all(excuse(request, kills, runs) for request in lost), said
    assert {request.answer for request in lost} <= {"503"}, said
    assert {ident: by for ident, by in runs.items() if len(by) > 1} == {}, said
