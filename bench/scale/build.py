"""Measures what the build service's loops cost at 1, 10, 100 and 400 idle apps, each with one repository.

The service's own parts run the steps of one minute as fast as they can; Redis and git are real ones. Exit 1 if an idle
app costs a process, or the loops need more than 0.01 CPU seconds a minute for each app.
"""

import asyncio
import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from redis.asyncio import Redis

from bench.scale.redis_server import redis_server, use_of
from services.build.builds.build import Build
from services.build.builds.build_store import BuildStore
from services.build.builds.lease_store import Lease
from services.build.builds.status_store import StatusStore
from services.build.executors.process.executor import ProcessExecutor
from services.build.forges.delivery_store import DeliveryStore
from services.build.forges.status_outbox import StatusOutbox
from services.build.git.git_fetch import Fetcher
from services.build.git.pre_receive_objects import PreReceiveObjects
from services.build.git.ref_stamp import TICK_NS
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.queue.workers import Workers
from services.build.retention.executor_gc import ExecutorGc
from services.build.retention.repository_gc import RepositoryGc
from services.build.triggers.pre_receive import PreReceiveGate
from services.build.triggers.push_handler import PushHandler
from services.build.triggers.remote_sync import RemoteSync
from shared.clock import now
from shared.models import BuildState
from shared.runtime.keyed_tasks import KeyedTasks
from shared.security.outgoing import AddressGuard
from shared.security.vault import Vault

APPS = (1, 10, 100, 400)
BUILDS = 20  # of each app
MOST_CPU_S = 0.01  # a minute and app
NOBODY = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
Step = Callable[[], Awaitable[float | None]]


@dataclass(frozen=True)
class BuildRow:
    """Holds what an idle minute of the build service costs with `apps` apps."""

    apps: int
    processes: int
    cpu_s: float
    """CPU seconds of the service's loops and the processes that they start."""
    parts_s: dict[str, float]
    """The same by loop."""
    commands: float
    """Redis commands a second."""


class BuildLoops:
    """The service's parts, put together as `services/build/main.py` does."""

    def __init__(self, home: Path, redis: Redis, http: httpx.AsyncClient) -> None:
        path = os.environ["PATH"]
        self.store = BuildStore(redis)
        self.repositories = Repositories(home / "repositories", path)
        logs, vault, deliveries = BuildLogs(home / "logs"), Vault(home / "key", "build:sources"), DeliveryStore(redis)
        handler = PushHandler(self.store, self.repositories, logs, wake=lambda: None, url="http://build", now=now)
        workers = Workers(self.store, logs, _no_build, 2, now, Lease(redis, "bench").hold, wake=lambda: None)
        gate = PreReceiveGate(
            self.store,
            handler,
            PreReceiveObjects(self.repositories),
            logs,
            wake=lambda: None,
            on_abandoned=lambda: None,
            is_connected=lambda push: False,
        )
        fetcher = Fetcher(self.repositories, vault, path, AddressGuard())
        sync = RemoteSync(self.store, deliveries, handler, fetcher, KeyedTasks("fetch"), now, wake=lambda: None)
        statuses = KeyedTasks("statuses")
        outbox = StatusOutbox(self.store, StatusStore(redis), vault, http, statuses, "http://build")
        collector = ExecutorGc(self.store, ProcessExecutor({}, home))
        self.reconcile = handler.reconcile
        self.loops: list[tuple[str, int, Step]] = [  # name, times a minute, step
            ("schedule", 120, workers.step),
            ("reconcile", 20, handler.reconcile),
            ("door", 30, gate.step),
            ("deliveries", 60, sync.step),
            ("statuses", 60, outbox.step),
            ("leftovers", 1, collector.step),
            ("upkeep", 1, RepositoryGc(self.store, self.repositories, path).step),
        ]

    async def fill(self, apps: int) -> None:
        """Makes so many apps, each with a repository whose pushes were built."""
        first = self.repositories.path("app-000")
        self.repositories.ensure("app-000")
        git = partial(
            subprocess.run, env={**os.environ, **NOBODY}, input="\n", check=True, capture_output=True, text=True
        )
        tree = git(["git", "--git-dir", str(first), "mktree", "--batch"]).stdout.strip()
        commit = git(["git", "--git-dir", str(first), "commit-tree", "-m", "change", tree]).stdout.strip()
        for branch in ("release", "dev", "feature/one"):
            git(["git", "--git-dir", str(first), "update-ref", f"refs/heads/{branch}", commit])
        for number in range(1, apps):
            shutil.copytree(first, self.repositories.path(f"app-{number:03}"))
        await self.reconcile()
        for build in await self.store.unended():
            await self.store.update(build.id, partial(_ended))
        for path in self.repositories.folder.rglob("*"):
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 2 * TICK_NS))

    async def minute(self) -> dict[str, float]:
        """Runs the steps of a minute; returns the CPU seconds of each loop, with those of ended processes."""
        spent = {}
        for name, times, step in self.loops:
            begun = _cpu_s()
            for _ in range(times):
                await step()
            spent[name] = _cpu_s() - begun
        return spent


async def _no_build(build: str, stop: Any) -> None:
    return None


def _ended(build: Build) -> Build:
    return build.model_copy(update={"state": BuildState.SUCCESS, "finished_at": now()})


def _cpu_s() -> float:
    return sum(sum(resource.getrusage(whose)[:2]) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class ProcessCount:
    """Counts the processes that Python starts."""

    def __init__(self) -> None:
        self.count = 0
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        self.count += event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec")


async def measured(apps: int, started: ProcessCount) -> BuildRow:
    async with contextlib.AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
        redis = await stack.enter_async_context(redis_server())
        loops = BuildLoops(home, redis, await stack.enter_async_context(httpx.AsyncClient()))
        await loops.fill(apps)
        for _, _, step in loops.loops:
            await step()
        await asyncio.sleep(1)  # the statuses of the builds, which no forge is told
        before, processes = await use_of(redis), started.count
        parts = await loops.minute()
        after = await use_of(redis)
        commands = (after.commands - before.commands) / 60
        return BuildRow(apps, started.count - processes, sum(parts.values()), parts, commands)


def rows(apps: Sequence[int] = APPS) -> list[BuildRow]:
    started = ProcessCount()
    return [asyncio.run(measured(count, started)) for count in apps]


def main() -> int:
    measures = rows([int(argument) for argument in sys.argv[1:]] or APPS)
    names = list(measures[0].parts_s)
    print("an idle minute of the build service's loops: processes, CPU seconds, Redis commands a second\n")
    print(f"{'apps':>5}{'processes':>11}{'CPU s':>8}{'commands':>10}   {', '.join(names)}")
    for row in measures:
        parts = "  ".join(f"{row.parts_s[name]:.2f}" for name in names)
        print(f"{row.apps:5}{row.processes:11}{row.cpu_s:8.2f}{row.commands:10.1f}   {parts}")
    first = measures[0]
    return 0 if all(row.processes <= 1 and row.cpu_s <= first.cpu_s + MOST_CPU_S * row.apps for row in measures) else 1


if __name__ == "__main__":
    sys.exit(main())
