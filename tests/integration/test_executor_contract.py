"""Every executor keeps the contract of the port `Executor`."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.build.executors.docker.dockerfile import PYTHON
from services.build.executors.executor import ExecutorObjects, Order, ServiceOrder, Workspace
from services.build.reports import report_file
from services.build.reports.report_text import Unreadable
from services.build.system.stop import Stop
from tests.support.build.executors import Case, Engine, Printed, found_engine, process_case, workspace_in

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield from found_engine()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_in(tmp_path)


@pytest.fixture(params=["process", pytest.param("docker", marks=pytest.mark.docker)])
def made(request: pytest.FixtureRequest, tmp_path: Path, workspace: Workspace) -> Iterator[Case]:
    """Every implementation."""
    if request.param == "process":
        yield process_case(tmp_path)
    else:
        engine: Engine = request.getfixturevalue("engine")
        yield engine.case()
        engine.clear(build=workspace.build)


@pytest.fixture
async def case(made: Case, workspace: Workspace, anyio_backend: str) -> Case:
    """With the workspace prepared."""
    assert (await made.executor.prepare(workspace, Printed(), Stop())).reason == ""
    return made


async def test_commands_run_until_one_fails(case: Case, workspace: Workspace) -> None:
    printed = Printed()
    order = Order(["echo one", "echo two; false; echo three", "echo four"], 60)
    outcome = await case.executor.run(workspace, order, printed, Stop())
    assert (outcome.exit_code, outcome.reason, outcome.skipped) == (1, "exited with 1", 1)
    assert printed.lines == ["one", "two"]


@pytest.mark.parametrize("commands", [["false"], ["true", "true", "exit 7"]])
async def test_a_step_whose_last_command_failed_says_so(case: Case, workspace: Workspace, commands: list[str]) -> None:
    assert (await case.executor.run(workspace, Order(commands, 60), Printed(), Stop())).skipped == 0


async def test_a_step_that_is_killed_says_by_what(case: Case, workspace: Workspace) -> None:
    outcome = await case.executor.run(workspace, Order(["kill -9 $$"], 60), Printed(), Stop())
    assert outcome.reason == "was ended by SIGKILL"


async def test_output_comes_while_the_step_runs(case: Case, workspace: Workspace) -> None:
    printed, stop = Printed(), Stop()
    running = asyncio.create_task(case.executor.run(workspace, Order(["printf early; sleep 60"], 60), printed, stop))
    await printed.wait_for(b"\nearly")
    assert not running.done()
    stop.set()
    await running


@pytest.mark.parametrize(
    "command", ["sleep 60", "trap '' TERM; sleep 60 & sleep 60", "env -i setsid sleep 60 & sleep 60"]
)
async def test_a_stopped_step_leaves_no_process(case: Case, workspace: Workspace, command: str) -> None:
    printed, stop = Printed(), Stop()
    order = Order([f"echo begun; {command}"], 60)
    running = asyncio.create_task(case.executor.run(workspace, order, printed, stop))
    await printed.wait_for(b"\nbegun")
    stop.set()
    assert (await running).exit_code is None
    assert case.living(workspace) == []


async def test_a_time_out_ends_the_step_and_says_so(case: Case, workspace: Workspace) -> None:
    outcome = await case.executor.run(workspace, Order(["sleep 60 & sleep 60"], 0.2), Printed(), Stop())
    assert outcome.reason == "took longer than its time-out of 0.2 s"
    assert case.living(workspace) == []


async def test_what_a_step_leaves_in_the_background_is_ended(case: Case, workspace: Workspace) -> None:
    order = Order(["setsid sleep 60 & env -i setsid sleep 61 & echo done"], 60)
    outcome = await case.executor.run(workspace, order, Printed(), Stop())
    assert outcome.exit_code == 0
    assert case.living(workspace) == []


async def test_a_cancelled_call_leaves_no_process(case: Case, workspace: Workspace) -> None:
    printed = Printed()
    running = asyncio.create_task(case.executor.run(workspace, Order(["echo begun; sleep 60"], 60), printed, Stop()))
    await printed.wait_for(b"\nbegun")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(5):
        while case.living(workspace):
            await asyncio.sleep(0.02)
    assert case.living(workspace) == []


async def test_a_folder_that_is_gone_is_an_outcome(case: Case, workspace: Workspace) -> None:
    shutil.rmtree(workspace.folder)
    outcome = await case.executor.run(workspace, Order(["true"], 60), Printed(), Stop())
    assert outcome.reason == "could not be started: No such file or directory"


async def test_a_report_lies_in_the_folder_as_old_as_it_is(case: Case, workspace: Workspace) -> None:
    start = report_file.begin(workspace.scratch)
    order = Order(
        ["mkdir out; echo fresh > out/a.xml; echo old > b.xml; touch -d 2020-01-01 b.xml; ln -s out/a.xml c.xml"],
        60,
        reports=["out/a.xml", "b.xml", "c.xml", "d.xml"],
    )
    assert (await case.executor.run(workspace, order, Printed(), Stop())).reason == ""
    assert report_file.read_fresh(workspace.folder, "out/a.xml", start, ()) == b"fresh\n"
    for path, reason in {"b.xml": "is older", "c.xml": "the link c.xml", "d.xml": "was not written"}.items():
        with pytest.raises(Unreadable, match=reason):
            read = report_file.read_fresh(workspace.folder, path, start, ())
            pytest.fail(f"{path} counted: {read!r}")


async def test_what_a_glob_names_lies_in_the_folder_also_of_a_step_that_fails(case: Case, workspace: Workspace) -> None:
    (workspace.folder / "a.xml").write_text("from the commit\n")
    os.utime(workspace.folder / "a.xml", (1, 1))
    start = report_file.begin(workspace.scratch)
    write = "mkdir -p 'out put/deep'; echo 1 > 'out put/b.xml'; echo 2 > 'out put/deep/c.xml'; echo 3 > d.txt"
    order = Order([f"{write}; ln -s d.txt e.xml; exit 3"], 60, reports=["**/*.xml", "none/*.xml"])
    outcome = await case.executor.run(workspace, order, Printed(), Stop())
    assert (outcome.exit_code, outcome.reason) == (3, "exited with 3")
    found = report_file.find(workspace.folder, "**/*.xml", start)
    assert found == ["e.xml", "out put/b.xml", "out put/deep/c.xml"]
    read = [report_file.read_fresh(workspace.folder, path, start, ()) for path in found[1:]]
    assert read == [b"1\n", b"2\n"]
    with pytest.raises(Unreadable, match="the link e"):
        report_file.read_fresh(workspace.folder, "e.xml", start, ())


async def test_steps_share_the_folder_and_home(case: Case, workspace: Workspace) -> None:
    (workspace.folder / "given").write_text("from the commit\n")
    first = Order(["cat given > made", "echo kept > $HOME/kept"], 60)
    assert (await case.executor.run(workspace, first, Printed(), Stop())).reason == ""
    printed = Printed()
    assert (await case.executor.run(workspace, Order(["cat made $HOME/kept"], 60), printed, Stop())).reason == ""
    assert printed.lines == ["from the commit", "kept"]


async def test_programs_of_the_workspace_come_first(case: Case, workspace: Workspace) -> None:
    printed = Printed()
    folder = workspace.folder / "node_modules" / ".bin"
    folder.mkdir(parents=True)
    (folder / "ls").write_text("#!/bin/sh\necho mine\n")
    (folder / "ls").chmod(0o755)
    await case.executor.run(workspace, Order(["ls", "python -c 'import sys; print(sys.prefix)'"], 60), printed, Stop())
    assert printed.lines[0] == "mine"
    assert printed.lines[1].endswith("/.venv")


async def test_a_command_is_shown_behind_what_the_one_before_it_printed(case: Case, workspace: Workspace) -> None:
    printed = Printed()
    order = Order(["head -c 250000 /dev/zero | tr '\\0' x; echo", "echo then"], 30)
    assert (await case.executor.run(workspace, order, printed, Stop())).reason == ""
    assert printed.data.splitlines()[1:] == [b"x" * 250_000, b"$ echo then", b"then"]


async def test_no_line_of_a_fast_step_is_lost(case: Case, workspace: Workspace) -> None:
    printed = Printed()
    await case.executor.run(workspace, Order(["seq 200000; echo an error >&2; echo last"], 60), printed, Stop())
    assert printed.lines == [*(str(number) for number in range(1, 200_001)), "an error", "last"]


async def test_the_environment_tells_of_the_commit_and_nothing_of_the_platform(
    case: Case, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_TOKEN", "secret")
    printed = Printed()
    await case.executor.run(workspace, Order(["env"], 60, {"MINE": "1"}), printed, Stop())
    told = dict(line.split("=", 1) for line in printed.lines if "=" in line)
    assert (told["CI"], told["CI_COMMIT_SHA"], told["CI_COMMIT_BRANCH"]) == ("true", "a" * 40, "dev")
    assert (told["CI_PIPELINE_NUMBER"], told["SLIPWAY_BUILD_ID"], told["MINE"]) == ("7", "notes-7", "1")
    assert "SLIPWAY_TOKEN" not in told


async def test_what_is_discarded_is_gone_and_may_be_discarded_again(case: Case, workspace: Workspace) -> None:
    await case.executor.run(workspace, Order(["true"], 60), Printed(), Stop())
    await case.executor.discard(workspace)
    await case.executor.discard(workspace)
    assert not workspace.scratch.exists()
    assert case.kept(workspace) == []


async def test_what_outlives_a_step_is_told_and_removed(case: Case, workspace: Workspace) -> None:
    cached = Order(["mkdir -p $PIP_CACHE_DIR"], 60)
    await case.executor.run(workspace, cached, Printed(), Stop())
    found = await case.executor.objects()
    assert found.apps == {workspace.app} and found.builds <= {workspace.build}
    for _ in range(2):
        await case.executor.remove(found)
        assert await case.executor.objects() == ExecutorObjects(frozenset(), frozenset())


async def test_what_can_run_steps_is_well(case: Case) -> None:
    assert await case.executor.check() is None


async def test_steps_run_beside_each_other_in_one_workspace(case: Case, workspace: Workspace) -> None:
    """Each waits for what the other does; only together do they come to an end."""
    one, other = [
        Order([f"touch {mine}; until [ -e {theirs} ]; do sleep 0.05; done"], 60)
        for mine, theirs in (("a", "b"), ("b", "a"))
    ]
    outcomes = await asyncio.gather(*(case.executor.run(workspace, order, Printed(), Stop()) for order in (one, other)))
    assert [outcome.reason for outcome in outcomes] == ["", ""]
    assert case.living(workspace) == []


async def test_the_end_of_a_step_leaves_those_beside_it_alive(case: Case, workspace: Workspace) -> None:
    printed = Printed()
    order = Order(["echo begun; while [ ! -e over ]; do sleep 0.05; done; echo lived"], 60)
    running = asyncio.create_task(case.executor.run(workspace, order, printed, Stop()))
    await printed.wait_for(b"\nbegun")
    short = Order(["setsid sleep 60 & touch begun"], 60)
    assert (await case.executor.run(workspace, short, Printed(), Stop())).reason == ""
    assert (await case.executor.run(workspace, Order(["sleep 60"], 0.1), Printed(), Stop())).exit_code is None
    assert not running.done()
    assert (await case.executor.run(workspace, Order(["touch over"], 60), Printed(), Stop())).reason == ""
    assert (await running).reason == ""
    assert printed.lines[-1] == "lived"


async def test_a_stop_ends_all_steps_of_a_workspace(case: Case, workspace: Workspace) -> None:
    stop, printed = Stop(), [Printed(), Printed()]
    running = [
        asyncio.create_task(case.executor.run(workspace, Order(["echo begun; sleep 60"], 60), each, stop))
        for each in printed
    ]
    for each in printed:
        await each.wait_for(b"\nbegun")
    stop.set()
    assert [(await each).reason for each in running] == ["was stopped", "was stopped"]
    assert case.living(workspace) == []


async def test_a_report_counts_beside_another_step(case: Case, workspace: Workspace) -> None:
    async def report(name: str) -> bytes:
        start = report_file.begin(workspace.scratch)
        order = Order([f"echo {name} > {name}.xml"], 60, reports=[f"{name}.xml"])
        assert (await case.executor.run(workspace, order, Printed(), Stop())).reason == ""
        return report_file.read_fresh(workspace.folder, f"{name}.xml", start, ())

    assert list(await asyncio.gather(report("one"), report("two"))) == [b"one\n", b"two\n"]


def service(command: str = "exec python -m http.server $PORT --bind 0.0.0.0", **changes: Any) -> ServiceOrder:
    given = ServiceOrder("web", PYTHON, command, {"MINE": "of the service"}, port=8123, ready=None, timeout_s=30)
    return replace(given, **changes)


ASK = "python -c \"import os, urllib.request as u; print(u.urlopen('http://%s:%s/' % (os.environ['WEB_HOST'], os.environ['WEB_PORT'])).status)\""  # noqa: E501


@pytest.mark.parametrize("ready", [None, 'test "$MINE" = "of the service" && test -n "$PORT"'])
async def test_a_service_is_there_before_the_step_and_gone_after_it(
    case: Case, workspace: Workspace, ready: str | None
) -> None:
    command = "sleep 0.3; exec python -m http.server $PORT --bind 0.0.0.0" if ready is None else service().command
    commands = [ASK] if ready is None else ["echo 200"]
    printed = Printed()
    order = Order(commands, 60, services=[service(str(command), ready=ready)])
    outcome = await case.executor.run(workspace, order, printed, Stop())
    assert (outcome.reason, printed.lines[-1]) == ("", "200")
    assert case.living(workspace) == []


async def test_two_steps_have_services_of_their_own(case: Case, workspace: Workspace) -> None:
    order = Order([ASK], 60, services=[service()])
    printed = [Printed(), Printed()]
    outcomes = await asyncio.gather(*(case.executor.run(workspace, order, each, Stop()) for each in printed))
    assert [outcome.reason for outcome in outcomes] == ["", ""]
    assert [each.lines[-1] for each in printed] == ["200", "200"]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo no luck; exit 3", "could not be started: the service web ended with 3 before it was ready"),
        ("echo no luck; sleep 60", "could not be started: the service web was not ready within its time-out of 1 s: "),
    ],
)
async def test_a_service_that_does_not_become_ready_says_why(
    case: Case, workspace: Workspace, command: str, reason: str
) -> None:
    printed = Printed()
    order = Order(["echo never"], 60, services=[service(command, timeout_s=1)])
    outcome = await case.executor.run(workspace, order, printed, Stop())
    assert outcome.exit_code is None and outcome.reason.startswith(reason)
    assert printed.lines == ["the last lines of the service web:", "no luck"]
    assert case.living(workspace) == []


@pytest.mark.parametrize("ready", [None, "sleep 60"])
async def test_a_stop_ends_a_step_that_waits_for_its_service(
    case: Case, workspace: Workspace, ready: str | None
) -> None:
    stop = Stop()
    order = Order(["echo never"], 60, services=[service("sleep 60", ready=ready)])
    running = asyncio.create_task(case.executor.run(workspace, order, Printed(), stop))
    async with asyncio.timeout(30):
        while not case.living(workspace):
            await asyncio.sleep(0.05)
    stop.set()
    assert (await asyncio.wait_for(running, 20)).reason == "was stopped"
    assert case.living(workspace) == []
