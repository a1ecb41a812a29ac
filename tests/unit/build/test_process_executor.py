"""What every Executor does, and what processes are given."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from services.build.executor import Executor, Order, Stop, Workspace
from services.build.process_executor import MARKER, ProcessExecutor, passed_on

pytestmark = pytest.mark.anyio


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "checkout").mkdir()
    (tmp_path / "scratch").mkdir()
    return Workspace("notes-7", "notes", "a" * 40, "dev", 7, tmp_path / "checkout", tmp_path / "scratch")


EXECUTORS: dict[str, Callable[[Path], Executor]] = {
    "process": lambda cache: ProcessExecutor(passed_on(os.environ), cache, grace_s=0.2),
}


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest, tmp_path: Path) -> Executor:
    """Every implementation."""
    make = EXECUTORS[str(request.param)]
    return make(tmp_path / "cache")


class Printed:
    """Collects what is printed, and can be waited for."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, data: bytes) -> None:
        self.data += data

    async def wait_for(self, text: bytes) -> None:
        async with asyncio.timeout(5):
            while text not in self.data:
                await asyncio.sleep(0.01)


def living(workspace: Workspace) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(workspace.folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


async def test_commands_run_until_one_fails(executor: Executor, workspace: Workspace) -> None:
    printed = Printed()
    order = Order(["echo one", "echo two; false; echo three", "echo four"], 10)
    outcome = await executor.run(workspace, order, printed, Stop())
    assert (outcome.exit_code, outcome.reason) == (1, "exited with 1")
    lines = printed.data.decode().splitlines()
    assert [line for line in lines if not line.startswith("$")] == ["one", "two"]


async def test_a_step_that_is_killed_says_by_what(executor: Executor, workspace: Workspace) -> None:
    outcome = await executor.run(workspace, Order(["kill -9 $$"], 10), Printed(), Stop())
    assert outcome.reason == "was ended by SIGKILL"


async def test_output_comes_while_the_step_runs(executor: Executor, workspace: Workspace) -> None:
    printed, stop = Printed(), Stop()
    running = asyncio.create_task(executor.run(workspace, Order(["printf early; sleep 60"], 60), printed, stop))
    await printed.wait_for(b"\nearly")
    assert not running.done()
    stop.set()
    await running


@pytest.mark.parametrize("command", ["sleep 60", "trap '' TERM; sleep 60 & sleep 60", "setsid sleep 60 & sleep 60"])
async def test_a_stopped_step_leaves_no_process(executor: Executor, workspace: Workspace, command: str) -> None:
    printed, stop = Printed(), Stop()
    order = Order([f"echo begun; {command}"], 60)
    running = asyncio.create_task(executor.run(workspace, order, printed, stop))
    await printed.wait_for(b"\nbegun")
    stop.set()
    assert (await running).exit_code is None
    assert living(workspace) == []


async def test_a_time_out_ends_the_step_and_says_so(executor: Executor, workspace: Workspace) -> None:
    outcome = await executor.run(workspace, Order(["sleep 60 & sleep 60"], 0.2), Printed(), Stop())
    assert outcome.reason == "took longer than its time-out of 0.2 s"
    assert living(workspace) == []


async def test_what_a_step_leaves_in_the_background_is_ended(executor: Executor, workspace: Workspace) -> None:
    outcome = await executor.run(workspace, Order(["setsid sleep 60 & echo done"], 10), Printed(), Stop())
    assert outcome.exit_code == 0
    assert living(workspace) == []


async def test_a_cancelled_call_leaves_no_process(executor: Executor, workspace: Workspace) -> None:
    printed = Printed()
    running = asyncio.create_task(executor.run(workspace, Order(["echo begun; sleep 60"], 60), printed, Stop()))
    await printed.wait_for(b"\nbegun")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(5):
        while living(workspace):
            await asyncio.sleep(0.02)
    assert living(workspace) == []


async def test_leftovers_of_this_workspace_alone_are_ended(executor: Executor, workspace: Workspace) -> None:
    ours, others = [
        await asyncio.create_subprocess_exec("sleep", "60", env={"PATH": os.environ["PATH"], MARKER: folder})
        for folder in (str(workspace.folder), "/elsewhere")
    ]
    try:
        assert await executor.end_leftovers(workspace) == 1
        assert await ours.wait() == -15
        assert others.returncode is None
        assert await executor.end_leftovers(workspace) == 0
    finally:
        others.kill()
        await others.wait()


async def test_a_folder_that_is_gone_is_an_outcome(executor: Executor, workspace: Workspace) -> None:
    workspace.folder.rmdir()
    outcome = await executor.run(workspace, Order(["true"], 10), Printed(), Stop())
    assert outcome.reason == "could not be started: No such file or directory"


async def test_the_environment_of_a_step(tmp_path: Path, workspace: Workspace) -> None:
    printed = Printed()
    executor = ProcessExecutor({"PATH": os.environ["PATH"]}, tmp_path / "cache")
    await executor.run(workspace, Order(["env"], 10, {"MINE": "1", MARKER: "stolen"}), printed, Stop())
    told = dict(line.split("=", 1) for line in printed.data.decode().splitlines() if "=" in line)
    assert told["PATH"].split(":")[:2] == [f"{workspace.folder}/.venv/bin", f"{workspace.folder}/node_modules/.bin"]
    assert (told["CI"], told["CI_COMMIT_SHA"], told["CI_COMMIT_BRANCH"]) == ("true", "a" * 40, "dev")
    assert (told["CI_PIPELINE_NUMBER"], told["SLIPWAY_BUILD_ID"], told["MINE"]) == ("7", "notes-7", "1")
    assert (told["HOME"], told["TMPDIR"]) == (str(workspace.scratch), str(workspace.scratch))
    assert told[MARKER] == str(workspace.folder)


def test_the_platforms_own_settings_are_not_passed_on() -> None:
    given = {
        "SLIPWAY_TOKEN": "x",
        "AWS_SECRET": "x",
        "PATH": "p",
        "PIP_INDEX_URL": "u",
        "https_proxy": "h",
        "LC_ALL": "C",
    }
    assert passed_on(given) == {"PATH": "p", "PIP_INDEX_URL": "u", "https_proxy": "h", "LC_ALL": "C"}
