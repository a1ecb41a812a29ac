"""Every phase has its limit, and says which it was."""

import asyncio
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from services.build.git.repository import GitTooSlow, Repositories
from services.build.pipeline.deadline import OverTime, TimeLimits, in_words, within
from services.build.pipeline.deployer_client import DeployerClient
from services.build.system.stop import Stop
from shared.clock import now
from shared.models import BuildState, Environment, ReleaseState, ReleaseView
from tests.support.build.platform import Platform

pytestmark = pytest.mark.anyio
MANIFEST = "app: notes\nsteps: [{name: wait, commands: [%s]}]\nrun: {command: x}\n"


def limit(platform: Platform, **limits: float) -> None:
    platform.context = dataclasses.replace(platform.context, limits=TimeLimits(**limits))


async def test_what_takes_too_long_is_cancelled_and_named() -> None:
    cancelled = []
    with pytest.raises(OverTime, match=r"^the checkout took longer than its limit of 0.01 s$"):
        async with within(0.01, "the checkout"):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
    assert cancelled


async def test_a_time_out_of_the_phases_own_is_no_end_of_the_phase() -> None:
    with pytest.raises(TimeoutError):
        async with within(60, "the checkout"):
            raise TimeoutError


def test_limits_are_told_in_the_largest_unit_that_fits() -> None:
    assert [in_words(seconds) for seconds in (7200, 5400, 90, 0.5)] == ["2 h", "90 min", "90 s", "0.5 s"]


async def test_a_build_that_takes_too_long_fails_and_leaves_no_process(platform: Platform, tmp_path: Path) -> None:
    limit(platform, whole_s=8)
    pid = tmp_path / "pid"
    build = await platform.build({"slipway.yml": MANIFEST % f"echo $$ > {pid}; echo is slow; exec sleep 60"})
    assert build.state is BuildState.FAILURE
    assert build.reason == "the build took longer than its limit of 8 s, in the step wait"
    assert "is slow" in build.excerpt and build.reason in platform.log(build)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert list((platform.context.releases / "notes").iterdir()) == []


async def test_a_checkout_that_takes_too_long_is_an_error_of_the_platform(platform: Platform) -> None:
    limit(platform, checkout_s=0.0)
    build = await platform.build({"slipway.yml": MANIFEST % "exit 0"})
    assert (build.state, build.reason) == (
        BuildState.ERROR, "reading the commit took longer than its limit of 0 s",
    )  # fmt: skip


async def test_a_git_that_takes_too_long_is_an_error_of_the_platform(platform: Platform, tmp_path: Path) -> None:
    queued = await platform.queue({"slipway.yml": MANIFEST % "exit 0"})
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\nexec sleep 60\n")
    git.chmod(0o755)
    repositories = Repositories(
        platform.context.repositories.folder, f"{git.parent}:{os.environ['PATH']}", timeout_s=0.2
    )
    platform.context = dataclasses.replace(platform.context, repositories=repositories)
    build = await platform.run(queued)
    assert (build.state, build.reason) == (
        BuildState.ERROR, "an error of the platform: GitTooSlow: git took longer than its limit of 0.2 s",
    )  # fmt: skip
    with pytest.raises(GitTooSlow):  # which is not: there is no such commit
        repositories.commit("notes", queued.commit)


async def test_a_checkout_that_is_given_up_leaves_nothing(platform: Platform, tmp_path: Path) -> None:
    queued = await platform.queue({"slipway.yml": MANIFEST % "exit 0"})
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    writes = 'for n in $(seq 300); do mkdir -p "$GIT_WORK_TREE/$n"; sleep 0.01; done'
    git.write_text(f'#!/bin/sh\ncase "$*" in *checkout-index*) {writes};; *) exec {shutil.which("git")} "$@";; esac\n')
    git.chmod(0o755)
    repositories = Repositories(platform.context.repositories.folder, f"{git.parent}:{os.environ['PATH']}")
    platform.context = dataclasses.replace(platform.context, repositories=repositories)
    limit(platform, checkout_s=1.5)
    build = await platform.run(queued)
    assert build.reason == "the checkout took longer than its limit of 1.5 s"
    assert list((platform.context.releases / "notes").iterdir()) == []


async def test_sealing_has_a_limit(platform: Platform) -> None:
    limit(platform, seal_s=0.0)
    build = await platform.build({"slipway.yml": MANIFEST % "exit 0"})
    assert (build.state, build.passed) == (BuildState.ERROR, False)
    assert build.reason == "making the artifact took longer than its limit of 0 s"


class Undecided(DeployerClient):
    """A deployer whose release never gets anywhere."""

    def __init__(self) -> None:
        self._poll_s = 0.01

    async def request(self, build: Any, waiting: Any, stop: Stop) -> ReleaseView:
        return await self.look("notes-r1", waiting, stop)

    async def look(self, release_id: str, waiting: Any, stop: Stop) -> ReleaseView:
        place: dict[str, Any] = {"app": "notes", "environment": Environment.PRODUCTION}
        facts: dict[str, Any] = {"build": "notes-1", "commit": "a" * 40, "created_at": now()}
        return ReleaseView(id=release_id, state=ReleaseState.STARTING, **place, **facts)


async def test_a_deploy_that_gets_nowhere_is_not_waited_for_without_end(platform: Platform) -> None:
    platform.context = dataclasses.replace(platform.context, deployer=Undecided())
    limit(platform, deploy_s=0.3, ready_factor=0)
    first = await platform.queue({"slipway.yml": MANIFEST % "exit 0"})
    build = await platform.again(first, environment=Environment.PRODUCTION)
    assert (build.state, build.passed) == (BuildState.ERROR, True)
    assert build.reason == "the deploy took longer than its limit of 0.3 s; see release notes-r1"
    assert (platform.context.releases / "notes" / build.id).is_dir()
