"""Measures for `make bench-scale` what 1, 10, 100 and 400 live apps cost: idle, at a push, at an abort, at Envoy's end;
and at the most apps, what one of 10 000 flags costs when it is switched.

All apps run on one stack of its own, as processes (bench/app, one instance each); the stack grows from one row to the
next. CPU of a program includes its ended children, such as git and build steps, but no running app. Exit 1 if one of
the goals is missed: idle at most 2.5 + 0.1 N CPU seconds a minute; a push at the most apps costs at most 1.3 times one
at 10; an abort at most 1 s more than at 1; the same number of inotify instances in Envoy.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import psutil

from bench.flags import among_many
from bench.scale.kills import kills
from bench.scale.new_visitors import NewVisitors
from shared.models import Environment
from shared.store import connect
from stack.clients.delivery import NOTES, AppDelivery, Deployable, RequestRefused
from stack.clients.probe_client import probe, wait_for
from stack.local.local_stack import LocalStack
from stack.local.programs import PROGRAMS, ROOT
from stack.stack_fixture import own_stack

APPS = (1, 10, 100, 400)
FLAGS = 10_000
PUSHES = 5
ABORTS = 3
SETTLE_S = 20.0  # longer than a new release is watched more closely
MIB = 2**20
GOOD = "        self._transport.write(ANSWER * len(requests))"
BAD = """        bad = ANSWER.replace(b"200 OK", b"500 Broken")
        checked = (b" /up ", b" /version ")
        self._transport.write(b"".join(ANSWER if any(p in r for p in checked) else bad for r in requests))"""


@dataclass(frozen=True)
class ScaleRow:
    """Holds what was measured with `apps` live apps."""

    apps: int
    idle_cpu_s: dict[str, float]
    """CPU seconds a minute by program, while nothing happens."""
    rss_mib: dict[str, float]
    commands_s: float
    """Redis commands a second, while nothing happens."""
    inotify: int
    """Inotify instances of Envoy."""
    descriptors: int
    """Open file descriptors of Envoy."""
    push_cpu_s: dict[str, float]
    """CPU seconds that one push costs, by program, less those of an idle time just before; medians of five."""
    push_s: float
    """Seconds from a push until it is live; median of five."""
    abort_s: float
    """Seconds from the first answer 500 of a bad canary to the last one; median of three."""
    abort_answers: int
    """Answers 500 in that time; the most of three."""
    envoy_s: float
    """Seconds from Envoy's kill until every app was served again."""


class ScaleBench:
    """Grows a stack and measures it. `folder` holds the repositories of the apps."""

    def __init__(self, stack: LocalStack, folder: Path, window_s: float) -> None:
        self._stack = stack
        self._folder = folder
        self._window_s = window_s
        self._apps: list[Deployable] = []
        self._number = 0

    def row(self, apps: int) -> ScaleRow:
        """Grows the stack to so many apps and measures."""
        self._grow_to(apps)
        time.sleep(SETTLE_S)
        commands = asyncio.run(self._commands())
        before, began = self._cpu_s(), time.monotonic()
        time.sleep(self._window_s)
        lasted_s = time.monotonic() - began
        after = self._cpu_s()
        idle = {name: 60 * (after[name] - before[name]) / lasted_s for name in PROGRAMS}
        commands_s = (asyncio.run(self._commands()) - commands) / lasted_s
        rss = {name: process.memory_info().rss / MIB for name, process in self._processes()}
        inotify, descriptors = self._envoy_files()
        pushes = [self._push() for _ in range(PUSHES)]
        aborts = [self._abort() for _ in range(ABORTS)]
        return ScaleRow(
            apps,
            idle,
            rss,
            commands_s,
            inotify,
            descriptors,
            push_cpu_s={name: median(cpu_s[name] for cpu_s, _ in pushes) for name in PROGRAMS},
            push_s=median(live_s for _, live_s in pushes),
            abort_s=median(seconds for seconds, _ in aborts),
            abort_answers=max(answers for _, answers in aborts),
            envoy_s=self._kill_envoy(),
        )

    def kills(self) -> list[str]:
        """Returns the lines about programs that are killed while an app more is visited."""
        app = Deployable(self._stack, "visited", self._folder / "visited")
        app.repository.copy_from(NOTES)
        shutil.rmtree(app.repository.folder / "tests")
        (app.repository.folder / "slipway.yml").write_text("app: visited\nrun: {command: python app.py, health: /up}\n")
        app.repository.commit("first")
        app.deliver(Environment.PRODUCTION)
        return list(kills(self._stack, app))

    def flags(self) -> Iterator[str]:
        """Yields the lines about a switch among many flags, of which the stack keeps all."""
        costs = among_many(self._stack, FLAGS)
        yield f"one switch among {FLAGS} flags: CPU ms of flags      {costs.cpu_ms:.1f}"
        yield f"one switch among {FLAGS} flags: ms to a Redis client {costs.redis_ms:.1f}"
        yield f"the latest of 100 evaluations a second meanwhile, ms {costs.late_ms:.1f}"

    def _grow_to(self, apps: int) -> None:
        new = [self._new_app(number) for number in range(len(self._apps), apps)]
        with ThreadPoolExecutor(2) as pushing:
            list(pushing.map(lambda app: app.deliver(Environment.PRODUCTION), new))
        self._apps += new

    def _new_app(self, number: int) -> Deployable:
        app = Deployable(self._stack, f"scale-{number}", self._folder / str(number))
        app.repository.copy_from(ROOT / "bench" / "app")
        manifest = app.repository.folder / "slipway.yml"
        app.repository.replace("slipway.yml", manifest.read_text().splitlines()[0], f"app: {app.app}")
        app.repository.commit("first")
        return app

    def _edit(self, app: Deployable) -> None:
        self._number += 1
        (app.repository.folder / "VERSION").write_text(str(self._number))
        app.repository.commit(f"edit {self._number}")

    def _push(self) -> tuple[dict[str, float], float]:
        """Returns the CPU seconds by program, and the seconds, of one push. With many apps the idle stack costs ten
        times as much as a push, so what it costs is measured anew before each.
        """
        self._edit(self._apps[0])
        idle_cpu_s, lasted_s = self._cpu_over(lambda: None)
        idle = {name: cpu_s / lasted_s for name, cpu_s in idle_cpu_s.items()}
        delivered: list[AppDelivery] = []
        cpu_s, lasted_s = self._cpu_over(lambda: delivered.append(self._apps[0].deliver(Environment.PRODUCTION)))
        return {name: cpu_s[name] - idle[name] * lasted_s for name in cpu_s}, delivered[0].push_s

    def _cpu_over(self, act: Callable[[], object]) -> tuple[dict[str, float], float]:
        """Returns the CPU seconds by program of `act` and of the 20 s after it, in which an old instance ends and what
        follows a release is done, and how long both lasted.
        """
        before, began = self._cpu_s(), time.monotonic()
        act()
        time.sleep(SETTLE_S)
        return {name: cpu_s - before[name] for name, cpu_s in self._cpu_s().items()}, time.monotonic() - began

    def _abort(self) -> tuple[float, int]:
        """Returns the seconds from the first to the last answer 500 of a bad canary, and their number."""
        app = self._apps[0]
        self._edit(app)
        app.repository.replace("server.py", GOOD, BAD)
        app.repository.commit("bad")
        with NewVisitors(app.public, app.host) as visitors:
            release = app.deliver(Environment.CANARY).release
            wait_for(lambda: _is_aborted(app, release), f"the abort of {release}", 120)
            time.sleep(1)
        app.repository.replace("server.py", BAD, GOOD)
        bad = visitors.moments(500)
        return bad[-1] - bad[0], len(bad)

    def _kill_envoy(self) -> float:
        began = time.monotonic()
        os.kill(self._stack.pid("envoy"), signal.SIGKILL)
        for app in self._apps:
            wait_for(partial(_is_served, app), f"{app.app} served", 120)
        return time.monotonic() - began

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        for name in PROGRAMS:
            yield name, psutil.Process(self._stack.pid(name))

    def _cpu_s(self) -> dict[str, float]:
        return {name: sum(process.cpu_times()[:4]) for name, process in self._processes()}

    async def _commands(self) -> int:
        async with connect(self._stack.settings.redis_connection_url()) as redis:
            return int((await redis.info("stats"))["total_commands_processed"])

    def _envoy_files(self) -> tuple[int, int]:
        """Returns the numbers of Envoy's inotify instances and of all its file descriptors."""
        folder = Path(f"/proc/{self._stack.pid('envoy')}/fd")
        links = [os.readlink(path) for path in folder.iterdir()]
        return sum("inotify" in link for link in links), len(links)


def _is_served(app: Deployable) -> bool:
    return probe(app.public, "/", app.host).status == 200


def _is_aborted(app: Deployable, release: str) -> bool:
    rollout = app.rollout()
    return (rollout["release"], rollout["state"]) == (release, "aborted")


def table(rows: Sequence[ScaleRow]) -> Iterator[str]:
    """Yields the lines that are printed: one column for each number of apps."""
    yield f"{'apps':44}" + "".join(f"{row.apps:>10}" for row in rows)
    for name in PROGRAMS:
        yield _line(f"idle: CPU s/min of {name}", [f"{row.idle_cpu_s[name]:.2f}" for row in rows])
    yield _line("idle: CPU s/min of all", [f"{sum(row.idle_cpu_s.values()):.1f}" for row in rows])
    yield _line("      goal: 2.5 + 0.1 N", [f"{_idle_goal(row):.1f}" for row in rows])
    for name in PROGRAMS:
        yield _line(f"RSS of {name}, MiB", [f"{row.rss_mib[name]:.0f}" for row in rows])
    yield _line("idle: Redis commands/s", [f"{row.commands_s:.0f}" for row in rows])
    yield _line("Envoy's inotify instances", [str(row.inotify) for row in rows])
    yield _line("Envoy's descriptors", [str(row.descriptors) for row in rows])
    for name in PROGRAMS:
        yield _line(f"one push: CPU s of {name}", [f"{row.push_cpu_s[name]:.2f}" for row in rows])
    yield _line("one push: CPU s of all", [f"{sum(row.push_cpu_s.values()):.2f}" for row in rows])
    yield _line("one push: s to live", [f"{row.push_s:.2f}" for row in rows])
    yield _line("bad canary: first to last answer 500, s", [f"{row.abort_s:.2f}" for row in rows])
    yield _line("bad canary: answers 500", [str(row.abort_answers) for row in rows])
    yield _line("Envoy killed: s until all are served", [f"{row.envoy_s:.2f}" for row in rows])


def missed(rows: Sequence[ScaleRow]) -> Iterator[str]:
    """Yields the goals that are missed."""
    first, last = rows[0], rows[-1]
    for row in rows:
        if sum(row.idle_cpu_s.values()) > _idle_goal(row):
            yield f"idle CPU at {row.apps} apps"
    ten = next((row for row in rows if row.apps == 10), first)
    ratio = sum(last.push_cpu_s.values()) / sum(ten.push_cpu_s.values())
    if ratio > 1.3:
        yield f"a push at {last.apps} apps costs {ratio:.2f} times one at {ten.apps}"
    if last.abort_s > first.abort_s + 1:
        yield f"an abort at {last.apps} apps takes {last.abort_s - first.abort_s:.1f} s more than at {first.apps}"
    if last.inotify != first.inotify:
        yield "the number of Envoy's inotify instances changes"


def _idle_goal(row: ScaleRow) -> float:
    return 2.5 + 0.1 * row.apps


def _line(name: str, values: Sequence[str]) -> str:
    return f"{name:44}" + "".join(f"{value:>10}" for value in values)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--apps", type=int, nargs="+", default=APPS, help="numbers of apps, ascending")
    parser.add_argument("--kills-at", type=int, default=100, help="the number of apps at which each program is killed")
    parser.add_argument("--window", type=float, default=60, help="seconds over which the idle stack is measured")
    options = parser.parse_args()
    rows: list[ScaleRow] = []
    last: list[str] = []
    try:
        with own_stack() as stack, tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
            bench = ScaleBench(stack, Path(folder), options.window)
            for apps in options.apps:
                rows.append(bench.row(apps))
                print(f"{apps} apps measured", file=sys.stderr, flush=True)
                if apps == options.kills_at:
                    last += [*bench.kills(), ""]
            last += bench.flags()
    finally:  # also if a later row could not be measured
        print("\n".join([*table(rows), "", *last]))
    goals = list(missed(rows))
    print("\n" + ("all goals are met" if not goals else "missed: " + "; ".join(goals)))
    return 1 if goals else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RequestRefused, TimeoutError, RuntimeError) as error:
        sys.exit(f"bench-scale: {error}")
