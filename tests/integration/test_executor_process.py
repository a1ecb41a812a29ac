"""Steps that are processes get their environment, and every process that they leave is found."""

import asyncio
import os
import shutil
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from services.build.executors.executor import Order, SealRequest, ServiceOrder, Workspace
from services.build.executors.process.executor import MARKER, ProcessExecutor, passed_on
from services.build.system.stop import Stop
from shared.host.artifact_folder import check_artifact
from shared.host.directory_digest import directory_digest
from tests.support.build.executors import Printed, process_case, workspace_in

pytestmark = pytest.mark.anyio
DELIVERY = SealRequest(Path("/nowhere"), "python app.py", datetime(2026, 1, 1, tzinfo=UTC), "http://git")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_in(tmp_path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Shared by the tests: to make the copy of pip to which each `.venv` has links takes seconds."""
    return tmp_path.parent


@pytest.fixture
def cache(home: Path) -> Path:
    return home / "cache"


@pytest.fixture
def executor(home: Path) -> ProcessExecutor:
    return ProcessExecutor(passed_on(os.environ), home, grace_s=0.2)


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


# Leaves its parent, its session and the mark in its environment, as daemons do that write their title there.
DAEMON = """
import ctypes, os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() or os.setsid() or os.fork():
    os._exit(0)
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
begin, end = int(fields[47]), int(fields[48])  # env_start and env_end in proc(5)
ctypes.memset(begin, 0, end - begin)
assert b"SLIPWAY" not in open("/proc/self/environ", "rb").read()
open("daemon", "w").write(str(os.getpid()))
signal.pause()
"""
READY = "while [ ! -e daemon ]; do sleep 0.02; done"


async def test_a_daemon_ends_with_its_step_whatever_it_did_to_its_environment(
    executor: ProcessExecutor, workspace: Workspace
) -> None:
    (workspace.folder / "daemon.py").write_text(DAEMON)
    command = f"{sys.executable} daemon.py; {READY}"
    printed = Printed()
    outcome = await executor.run(
        workspace, Order([command, "kill -0 $(cat daemon) && echo it lives"], 20), printed, Stop()
    )
    assert (outcome.reason, printed.lines) == ("", ["it lives"]), "it lives as long as its step"
    assert not psutil.pid_exists(int((workspace.folder / "daemon").read_text()))


async def test_the_daemon_of_a_service_ends_with_its_step(executor: ProcessExecutor, workspace: Workspace) -> None:
    (workspace.folder / "daemon.py").write_text(DAEMON)
    command = f"{sys.executable} daemon.py; {READY}; exec {sys.executable} -m http.server $PORT --bind 127.0.0.1"
    service = ServiceOrder("web", None, command, {}, None, None, 20)
    outcome = await executor.run(workspace, Order(["true"], 20, services=[service]), Printed(), Stop())
    assert outcome.reason == ""
    assert not psutil.pid_exists(int((workspace.folder / "daemon").read_text()))


async def test_a_step_that_kills_its_runner_leaves_nothing_that_has_the_mark(workspace: Workspace) -> None:
    case = process_case(workspace.folder.parent)
    outcome = await case.executor.run(workspace, Order(["kill -9 $PPID; sleep 60"], 20), Printed(), Stop())
    assert outcome.reason == "was ended by SIGKILL"
    assert case.living(workspace) == []


async def test_a_command_that_a_real_time_signal_ends_is_a_failure(
    executor: ProcessExecutor, workspace: Workspace
) -> None:
    outcome = await executor.run(workspace, Order(["kill -40 $$"], 20), Printed(), Stop())
    assert (outcome.exit_code, outcome.reason) == (-40, "was ended by signal 40")


async def test_the_environment_of_a_step(tmp_path: Path, workspace: Workspace) -> None:
    printed = Printed()
    executor = ProcessExecutor({"PATH": os.environ["PATH"]}, tmp_path)
    await executor.run(workspace, Order(["env"], 10, {"MINE": "1", MARKER: "stolen"}), printed, Stop())
    told = dict(line.split("=", 1) for line in printed.data.decode().splitlines() if "=" in line)
    assert told["PATH"].split(":")[:2] == [f"{workspace.folder}/.venv/bin", f"{workspace.folder}/node_modules/.bin"]
    assert (told["HOME"], told["TMPDIR"]) == (str(workspace.scratch), str(workspace.scratch))
    assert told[MARKER] == str(workspace.folder)


async def test_what_passed_is_sealed_in_place(executor: ProcessExecutor, workspace: Workspace, home: Path) -> None:
    (workspace.folder / "app.py").write_text("pass\n")
    artifact = await executor.seal(workspace, DELIVERY, Printed(), Stop())
    assert (artifact.kind, artifact.built_in) == ("directory", str(workspace.folder))
    assert artifact.ref == str(workspace.folder.relative_to(home))
    assert artifact.digest == directory_digest(workspace.folder)
    assert not workspace.scratch.exists()
    assert await executor.has(artifact)
    (workspace.folder / "app.py").write_text("fail\n")
    assert not await executor.has(artifact)
    shutil.rmtree(workspace.folder)
    assert not await executor.has(artifact)


async def test_what_was_installed_runs_wherever_the_home_is(
    executor: ProcessExecutor, workspace: Workspace, tmp_path: Path
) -> None:
    await executor.prepare(workspace, Printed(), Stop())
    artifact = await executor.seal(workspace, DELIVERY, Printed(), Stop())
    moved = tmp_path.with_name("moved") / workspace.folder.name
    shutil.copytree(tmp_path, moved.parent, symlinks=True)
    shutil.rmtree(workspace.folder)
    command = [str(moved / ".venv" / "bin" / "pip"), "--version"]  # a program as installers write them
    said = await asyncio.to_thread(lambda: subprocess.run(command, capture_output=True, text=True))
    assert said.stdout.startswith("pip "), said.stderr
    at_home = artifact.model_copy(update={"ref": str(moved.relative_to(tmp_path.parent))})
    check_artifact(tmp_path.parent, at_home)


SHARED = "import pip, os; print(os.path.realpath(pip.__file__))"


async def run(executor: ProcessExecutor, workspace: Workspace, *commands: str) -> list[str]:
    """Runs the commands as a step, which must succeed, and returns the lines that they printed."""
    printed = Printed()
    outcome = await executor.run(workspace, Order(commands, 60), printed, Stop())
    assert outcome.reason == "", printed.lines
    return printed.lines


async def test_the_venv_of_a_build_holds_no_copy_of_pip(
    executor: ProcessExecutor, workspace: Workspace, tmp_path: Path, home: Path
) -> None:
    assert (await executor.prepare(workspace, Printed(), Stop())).reason == ""
    venv = workspace.folder / ".venv"
    assert len(list(venv.rglob("*"))) < 60
    [shared] = await run(executor, workspace, f"python -c '{SHARED}'")
    assert shared.startswith(str(home / "cache" / "virtualenv"))

    await run(executor, workspace, "pip uninstall -q -y setuptools", "python -m venv --without-pip other")

    other = workspace_in(tmp_path / "other", 8)
    assert (await executor.prepare(other, Printed(), Stop())).reason == ""
    assert await run(executor, other, f"python -c '{SHARED}'", "python -c 'import setuptools'") == [shared]


def contents(venv: Path) -> dict[str, str]:
    """Returns what each file, link and folder of a `.venv` holds, by its path in it; its own path is VENV."""
    found = {}
    for path in venv.rglob("*"):
        text = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "a folder"
        found[str(path.relative_to(venv))] = text.replace(str(venv), "VENV")
    return found


async def a_venv(executor: ProcessExecutor, workspace: Workspace) -> Path:
    assert (await executor.prepare(workspace, Printed(), Stop())).reason == ""
    return workspace.folder / ".venv"


async def test_a_venv_is_a_copy_of_an_earlier_builds_as_virtualenv_makes_it(
    executor: ProcessExecutor, workspace: Workspace, tmp_path: Path, cache: Path
) -> None:
    first = contents(await a_venv(executor, workspace))
    [template] = (cache / "virtualenv" / "templates").iterdir()
    made = template.stat().st_mtime_ns
    other = workspace_in(tmp_path / "other", 8)
    venv = await a_venv(executor, other)
    assert template.stat().st_mtime_ns == made, "the second one was copied"
    assert contents(venv) == first
    commands = (
        "pip --version",
        "python -c 'import sys; print(sys.prefix)'",
        "sh -c '. .venv/bin/activate; echo $VIRTUAL_ENV'",
    )
    pip, *prefixes = await run(executor, other, *commands)
    assert str(venv) in pip and prefixes == [str(venv)] * 2


@pytest.mark.parametrize("lost", ["wheel", "templates"])
async def test_a_venv_is_made_anew_where_what_it_links_to_has_gone(
    executor: ProcessExecutor, workspace: Workspace, tmp_path: Path, cache: Path, lost: str
) -> None:
    await a_venv(executor, workspace)
    shutil.rmtree(cache / "virtualenv" / lost)
    other = workspace_in(tmp_path / "other", 8)
    venv = await a_venv(executor, other)
    assert all(path.exists() for path in venv.rglob("*"))
    assert contents(await a_venv(executor, workspace)) == contents(venv)


async def test_a_venv_whose_path_has_a_space_is_no_copy(
    executor: ProcessExecutor, workspace: Workspace, tmp_path: Path
) -> None:
    await a_venv(executor, workspace)
    spacious = workspace_in(tmp_path / "with a space", 8)
    venv = await a_venv(executor, spacious)
    [pip] = await run(executor, spacious, "pip --version")
    assert str(venv) in pip


@pytest.mark.parametrize("kind", ["named pipe", "socket", "device"])
async def test_what_no_copy_can_hold_is_refused_by_name(
    executor: ProcessExecutor, workspace: Workspace, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = workspace.folder / "run"
    folder.mkdir()
    (folder / "link").symlink_to("app.py")
    monkeypatch.chdir(folder)  # the path of a socket has at most 107 bytes
    assert await executor.misfit(workspace) is None
    if kind == "named pipe":
        os.mkfifo("at\nwork")
    elif kind == "device":
        try:
            os.mknod("at\nwork", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("a device is made by root only")
    else:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind("at\nwork")
    reason = await executor.misfit(workspace) or ""
    assert reason.startswith(f"its steps left 'run/at\\nwork', a {kind}, which no copy"), reason
    assert "remove it at the end of the step" in reason


@pytest.mark.parametrize(
    ("uses_python", "step", "stays"),
    [
        (False, "true", False),
        (True, "true", True),
        (False, "python -m pip --version", False),  # which leaves caches of Python
        (False, "cd .venv/lib/python3*; touch site-packages/more.py", True),
        (False, "touch .venv/bin/tool", True),
        (False, "rm .venv/bin/activate", True),
        (False, "rm -r .venv", False),
    ],
)
async def test_a_venv_that_nobody_used_is_no_part_of_the_artifact(
    executor: ProcessExecutor, workspace: Workspace, uses_python: bool, step: str, stays: bool
) -> None:
    await executor.prepare(workspace, Printed(), Stop())
    await run(executor, workspace, step)
    delivery = replace(DELIVERY, uses_python=uses_python)
    artifact = await executor.seal(workspace, delivery, Printed(), Stop())
    assert (workspace.folder / ".venv").exists() is stays
    assert artifact.digest == directory_digest(workspace.folder)


async def test_a_venv_that_another_service_made_stays(
    executor: ProcessExecutor, workspace: Workspace, home: Path
) -> None:
    await executor.prepare(workspace, Printed(), Stop())
    successor = ProcessExecutor(passed_on(os.environ), home)
    await successor.seal(workspace, replace(DELIVERY, uses_python=False), Printed(), Stop())
    assert (workspace.folder / ".venv").exists()


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
