"""What steps that are processes are given, and how what they leave is found."""

import asyncio
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.build.executors.executor import Order, SealRequest, Workspace
from services.build.executors.process.executor import MARKER, ProcessExecutor, passed_on
from services.build.system.stop import Stop
from shared.host.directory_digest import directory_digest
from tests.support.build.executors import Printed, workspace_in

pytestmark = pytest.mark.anyio


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_in(tmp_path)


@pytest.fixture
def executor(tmp_path: Path) -> ProcessExecutor:
    return ProcessExecutor(passed_on(os.environ), tmp_path / "cache", grace_s=0.2)


async def test_leftovers_of_this_workspace_alone_are_ended(executor: ProcessExecutor, workspace: Workspace) -> None:
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


async def test_the_environment_of_a_step(tmp_path: Path, workspace: Workspace) -> None:
    printed = Printed()
    executor = ProcessExecutor({"PATH": os.environ["PATH"]}, tmp_path / "cache")
    await executor.run(workspace, Order(["env"], 10, {"MINE": "1", MARKER: "stolen"}), printed, Stop())
    told = dict(line.split("=", 1) for line in printed.data.decode().splitlines() if "=" in line)
    assert told["PATH"].split(":")[:2] == [f"{workspace.folder}/.venv/bin", f"{workspace.folder}/node_modules/.bin"]
    assert (told["HOME"], told["TMPDIR"]) == (str(workspace.scratch), str(workspace.scratch))
    assert told[MARKER] == str(workspace.folder)


async def test_what_passed_is_sealed_in_place(executor: ProcessExecutor, workspace: Workspace) -> None:
    (workspace.folder / "app.py").write_text("pass\n")
    delivery = SealRequest(Path("/nowhere"), "python app.py", datetime(2026, 1, 1, tzinfo=UTC), "http://git")
    artifact = await executor.seal(workspace, delivery, Printed(), Stop())
    assert (artifact.kind, artifact.ref) == ("directory", str(workspace.folder))
    assert artifact.digest == directory_digest(workspace.folder)
    assert not workspace.scratch.exists()
    assert await executor.has(artifact)
    (workspace.folder / "app.py").write_text("fail\n")
    assert not await executor.has(artifact)
    shutil.rmtree(workspace.folder)
    assert not await executor.has(artifact)


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
