"""Tests what a pusher reads while a step prints nothing."""

import asyncio
from pathlib import Path

import pytest

from services.build.builds.build_steps import step_started
from services.build.logs.build_log import BuildLogs
from services.build.pipeline.silence import broken_silence, doing
from shared.manifest import Stage
from tests.support.build.builds import AT, build

pytestmark = pytest.mark.anyio


async def test_a_silent_step_is_said_again_and_again(tmp_path: Path) -> None:
    logs = BuildLogs(tmp_path)
    with logs.open("notes-1") as log:
        async with broken_silence(log, lambda: "the step test runs", every_s=0.05):
            while logs.read("notes-1", 0).count(b"\n") < 2:
                await asyncio.sleep(0.01)
        size = log.size
        async with broken_silence(log, lambda: "", every_s=0.01):
            await asyncio.sleep(0.05)
        assert log.size == size
    lines = logs.read("notes-1", 0).decode().splitlines()
    assert set(lines) == {"    still at it: the step test runs, for 0 s without output"}


def test_a_build_says_which_step_runs_but_not_while_it_is_deployed() -> None:
    running = step_started(build(1), "test", Stage.TEST, AT)
    assert doing(running) == "the step test runs"
    assert doing(build(1)) == "the platform prepares or judges the commit, or makes its artifact"
    assert doing(build(1, passed=True)) == ""
