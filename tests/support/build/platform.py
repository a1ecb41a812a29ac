"""Whole runs of builds without a service: real git, steps, analysis and stores. Nothing is deployed."""

import asyncio
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis

from services.build.analysis.code_analysis import Analysis
from services.build.builds.app import App
from services.build.builds.build import Build
from services.build.builds.build_store import BuildStore
from services.build.cache.cache_store import CacheStore
from services.build.executors.executor import Executor
from services.build.executors.process.executor import ProcessExecutor, passed_on
from services.build.gates.history_store import HistoryStore
from services.build.gates.report_archive import ReportFiles
from services.build.git.repository import Repositories
from services.build.logs.build_log import BuildLogs
from services.build.pipeline.build_context import BuildContext
from services.build.pipeline.deadline import TimeLimits
from services.build.pipeline.deployer_client import DeployerClient
from services.build.pipeline.run import run_build
from services.build.secrets.secret import new_secret
from services.build.secrets.secret_store import SecretStore
from services.build.system.stop import Stop
from shared.clock import now
from shared.host.disk_reserve import DiskReserve
from shared.host.machine import DiskLimits
from shared.models import Environment
from shared.security.vault import Vault
from tests.support.build.builds import build as a_build
from tests.support.build.executors import share_virtualenv


@dataclass
class Platform:
    """With the app `notes`."""

    context: BuildContext
    store: BuildStore
    history: HistoryStore
    secrets: SecretStore
    work: Path

    async def set_secret(self, name: str, value: str) -> None:
        await self.secrets.put("notes", name, new_secret(name, value, {}, now(), self.context.vault))

    async def build(self, files: Mapping[str, str], stop: Stop | None = None, branch: str = "release") -> Build:
        """Commits `files` and runs a build of that commit."""
        return await self.run(await self.queue(files, branch), stop)

    async def again(self, build: Build, branch: str = "", **changes: Any) -> Build:
        """Another build of the same commit, from the beginning unless `changes` say so."""
        branch = branch or build.branch or ""
        return await self.run(await self._queued(build.commit, branch, **{"fresh": True, **changes}))

    async def run(self, queued: Build, stop: Stop | None = None) -> Build:
        await run_build(self.context, queued.id, stop or Stop())
        return await self.store.build(queued.id)

    async def queue(self, files: Mapping[str, str], branch: str = "release") -> Build:
        return await self._queued(await asyncio.to_thread(self._commit, files), branch)

    async def _queued(self, commit: str, branch: str, **changes: Any) -> Build:
        number = await self.store.next_number("notes")
        queued = a_build(number, **{"commit": commit, "branch": branch, "environment": None, **changes})
        await self.store.add(queued, is_head=True)
        return queued

    def _commit(self, files: Mapping[str, str]) -> str:
        self.context.repositories.ensure("notes")
        self.work.mkdir(exist_ok=True)
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._git("init", "--quiet", "--initial-branch=release")
        self._git("add", "--all", "--force")
        self._git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "--message=change")
        self._git("push", "--quiet", "--force", str(self.context.repositories.path("notes")), "HEAD:release")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.work, capture_output=True, text=True, check=True)
        return done.stdout

    def log(self, build: Build) -> str:
        return (self.context.releases.parent / "logs" / f"{build.id}.log").read_text()


async def processes(folder: Path, redis: Redis, reserve_bytes: int = 0) -> Platform:
    """Its steps are processes."""
    share_virtualenv(folder / "cache")
    executor = ProcessExecutor(passed_on(os.environ), folder, grace_s=0.2)
    return await platform_with(executor, folder, redis, reserve_bytes)


async def platform_with(executor: Executor, folder: Path, redis: Redis, reserve_bytes: int = 0) -> Platform:
    store, history, secrets = BuildStore(redis), HistoryStore(redis), SecretStore(redis)
    await store.add_app(App(name="notes", branches={"release": Environment.PRODUCTION}, created_at=now()))
    path = os.environ["PATH"]
    context = BuildContext(
        store=store,
        history=history,
        cache=CacheStore(redis),
        secrets=secrets,
        vault=Vault(folder / "key", "build:secrets"),
        repositories=Repositories(folder / "repositories", path),
        executor=executor,
        analysis=Analysis({"PATH": path}),
        logs=BuildLogs(folder / "logs"),
        reports=ReportFiles(folder / "reports"),
        deployer=cast(DeployerClient, None),  # no environment, no deploy
        releases=folder / "releases",
        reserve=DiskReserve(folder, DiskLimits(0, 0, reserve_bytes)),
        urls=lambda app, environment: [],
        git_url=lambda app: f"http://127.0.0.1/git/{app}.git",
        build_url=lambda build: f"http://127.0.0.1/builds/{build}",
        now=now,
        steps_at_a_time=2,
        limits=TimeLimits(),
    )
    return Platform(context, store, history, secrets, folder / "work")
