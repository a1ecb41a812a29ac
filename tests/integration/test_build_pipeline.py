"""Whole runs of builds: steps beside each other, skipped or ignored, with services. Nothing is deployed."""

import asyncio
import dataclasses
import os
from pathlib import Path

import pytest

from services.build.analysis.code_analysis import Analysis
from services.build.analysis.exclusions import Exclusions
from services.build.builds import build as domain
from services.build.builds.build import Build
from services.build.executors.executor import Outcome, Workspace
from services.build.executors.process.executor import ProcessExecutor, passed_on
from services.build.pipeline.deadline import TimeLimits
from services.build.reports.metric import Measure
from services.build.system.pipe import Output
from services.build.system.stop import Stop
from shared.manifest import Gates
from shared.models import BuildState
from tests.support.build.platform import Platform

pytestmark = pytest.mark.anyio
RUN = "\nrun: {command: python app.py}\n"
MEET = "touch %s; n=0; until [ -e %s ]; do n=$((n+1)); [ $n -lt 400 ]; sleep 0.05; done"
JUNIT = "echo \"<testsuite><testcase name='t'/></testsuite>\" > j.xml"


async def run(platform: Platform, steps: str, branch: str = "release", stop: Stop | None = None) -> Build:
    return await platform.build({"slipway.yml": f"app: notes\n{steps}{RUN}", "app.py": ""}, stop, branch)


def states(build: Build) -> dict[str, str]:
    return {step.name: step.state for step in build.steps}


async def test_steps_run_beside_each_other_and_their_lines_are_told_apart(platform: Platform) -> None:
    steps = f"""steps:
- {{name: one, commands: ["{MEET % ("a", "b")}; printf 'half of '; sleep 0.2; echo one"]}}
- {{name: two, depends_on: [], commands: ["{MEET % ("b", "a")}; printf 'part of '; sleep 0.2; printf two"]}}
- {{name: last, commands: [echo alone]}}
"""
    build = await run(platform, steps)
    assert (build.state, states(build)) == (BuildState.SUCCESS, dict.fromkeys(["one", "two", "last"], "success"))
    lines = platform.log(build).splitlines()
    assert {"one | half of one", "two | part of two", "alone"} <= set(lines)
    assert [lines[step.line - 1] for step in build.steps] == [f"--- build: {step.name}" for step in build.steps]


async def test_a_secret_is_hidden_in_each_of_them(platform: Platform) -> None:
    await platform.set_secret("KEY", "hunter2-of-the-app")
    steps = f"""steps:
- {{name: one, secrets: [KEY], commands: ["{MEET % ("a", "b")}; printf hunter2-; sleep 0.2; echo of-the-app"]}}
- {{name: two, depends_on: [], commands: ["{MEET % ("b", "a")}; printf hunter2-; sleep 0.2; echo of-the-app"]}}
"""
    log = platform.log(await run(platform, steps))
    assert "one | ***" in log.splitlines() and "two | ***" in log.splitlines()
    assert "of-the-app" not in "\n".join(line for line in log.splitlines() if " | $ " not in line)


async def test_after_a_failure_nothing_begins_and_what_runs_goes_on(platform: Platform) -> None:
    steps = """steps:
- {name: bad, commands: ["until [ -e running ]; do sleep 0.05; done; echo an error here; exit 3"]}
- {name: good, depends_on: [], commands: ["touch running; sleep 1; echo went on"]}
- {name: never, commands: [echo never]}
- {name: later, stage: test, commands: [echo never]}
"""
    build = await run(platform, steps)
    assert (build.state, build.reason) == (BuildState.FAILURE, "gate steps: bad exited with 3")
    assert states(build) == {"bad": "failure", "good": "success", "never": "skipped", "later": "skipped"}
    assert build.steps[-1].reason == "bad failed"
    assert "an error here" in build.excerpt and "went on" not in build.excerpt
    assert "good | went on" in platform.log(build)


async def test_a_stop_ends_all_that_run(platform: Platform) -> None:
    stop = Stop()
    steps = """steps:
- {name: one, commands: ["touch one; sleep 60"]}
- {name: two, depends_on: [], commands: ["touch two; sleep 60"]}
"""
    running = asyncio.create_task(run(platform, steps, stop=stop))
    async with asyncio.timeout(30):
        while not {"one", "two"} <= {path.name for path in platform.context.releases.glob("notes/*/*")}:
            await asyncio.sleep(0.05)
    stop.set()
    assert (await asyncio.wait_for(running, 10)).state is BuildState.RUNNING  # the service ended: to be taken up again


REPORTS_THEN_WAITS = """steps:
- {name: unit, commands: [sh t.sh], reports: {junit: j.xml}}
- {name: slow, commands: ["touch slow; sleep 60"], reports: {coverage: c.xml}}
"""


def reported(platform: Platform, build: Build) -> list[tuple[str, str, str]]:
    report = platform.context.reports.read(build.id)
    return [(test.step, test.id, test.outcome) for test in report.tests] if report else []


class TellsWhenPrepared(ProcessExecutor):
    def __init__(self, folder: Path, prepared: asyncio.Event) -> None:
        super().__init__(passed_on(os.environ), folder / "cache")
        self._prepared = prepared

    async def prepare(self, workspace: Workspace, output: Output, stop: Stop) -> Outcome:
        outcome = await super().prepare(workspace, output, stop)
        self._prepared.set()
        return outcome


class StopsTheBuild(Analysis):
    """An analysis that lasts longer than the preparation, and in which the build is stopped."""

    def __init__(self, prepared: asyncio.Event, stop: Stop) -> None:
        self._prepared = prepared
        self._stop = stop

    async def measure(self, source: Path, exclusions: Exclusions, gates: Gates | None = None) -> dict[str, Measure]:
        await self._prepared.wait()
        self._stop.set()
        return {}


async def test_after_a_stop_in_the_analysis_no_step_begins(platform: Platform, tmp_path: Path) -> None:
    prepared, stop = asyncio.Event(), Stop()
    executor, analysis = TellsWhenPrepared(tmp_path, prepared), StopsTheBuild(prepared, stop)
    platform.context = dataclasses.replace(platform.context, executor=executor, analysis=analysis)
    build = await run(platform, "steps: [{name: never, commands: [echo never]}]", stop=stop)
    assert (build.state, build.steps) == (BuildState.RUNNING, [])


@pytest.mark.parametrize("state", [BuildState.CANCELLED, BuildState.SUPERSEDED])
@pytest.mark.slow
async def test_what_ended_steps_reported_is_kept_of_a_build_that_is_stopped(
    platform: Platform, state: BuildState
) -> None:
    stop, queued = Stop(), await platform.queue(files(REPORTS_THEN_WAITS))
    running = asyncio.create_task(platform.run(queued, stop))
    async with asyncio.timeout(30):
        while not list(platform.context.releases.glob("notes/*/slow")):
            await asyncio.sleep(0.05)
    intent = domain.StopRequest(state=state, reason="no longer wanted")
    await platform.store.update(queued.id, lambda build: domain.with_changes(build, stop=intent))
    stop.set()
    build = await asyncio.wait_for(running, 10)
    assert (build.state, states(build)["unit"]) == (state, "success")
    assert reported(platform, build) == [("unit", "t", "passed")]


@pytest.mark.slow
async def test_what_ended_steps_reported_is_kept_of_a_build_that_took_too_long(platform: Platform) -> None:
    platform.context = dataclasses.replace(platform.context, limits=TimeLimits(whole_s=8.0))
    build = await platform.build(files(REPORTS_THEN_WAITS))
    assert (build.state, build.reason) == (
        BuildState.FAILURE, "the build took longer than its limit of 8 s, in the step slow",
    )  # fmt: skip
    assert reported(platform, build) == [("unit", "t", "passed")]


async def test_a_step_that_is_not_for_this_branch_is_skipped_with_its_reason(platform: Platform) -> None:
    steps = "steps:\n- {name: test, when: {branch: release}, commands: [sh t.sh], reports: {junit: j.xml}}\n"
    build = await platform.build(files(steps), branch="dev")
    assert (build.state, states(build), build.untested) == (BuildState.SUCCESS, {"test": "skipped"}, True)
    assert build.steps[0].reason == "runs on release only, this is dev"


async def test_a_gate_that_only_a_skipped_step_could_fill_says_no(platform: Platform) -> None:
    steps = "steps:\n- {name: test, when: {branch: release}, commands: [sh t.sh], reports: {junit: j.xml}}\n"
    build = await platform.build(files(f"gates: {{test_failures: 0}}\n{steps}"), branch="dev")
    assert build.state is BuildState.FAILURE
    assert "test, which would report it, was skipped: it runs on release only, this is dev" in build.reason
    assert (await platform.build(files(f"gates: {{test_failures: 0}}\n{steps}"))).state is BuildState.SUCCESS


async def test_a_failure_that_is_ignored_is_shown_and_its_reports_count(platform: Platform) -> None:
    steps = "steps:\n- {name: lint, failure: ignore, commands: [sh t.sh, exit 4], reports: {junit: j.xml}}\n"
    build = await platform.build(files(steps))
    assert (build.state, states(build), build.steps[0].ignored) == (BuildState.SUCCESS, {"lint": "failure"}, True)
    assert [gate.reason for gate in build.gates if gate.name == "steps"] == [
        "0 of 1 passed; lint exited with 4, which is ignored"
    ]
    assert [gate.figure for gate in build.gates if gate.name == "test_failures"] == [0]
    missing = await platform.build(files(steps.replace("sh t.sh, ", "")))
    assert missing.state is BuildState.FAILURE and "j.xml was not written by the step" in missing.reason


async def test_a_step_has_a_service_and_a_secret_for_it(platform: Platform) -> None:
    await platform.set_secret("KEY", "hunter2-of-the-app")
    steps = """steps:
- name: test
  commands: ["python ask.py"]
  services: [{name: the-db, command: "exec python serve.py", secrets: [KEY]}]
"""
    ask = "import os, socket\nplace = os.environ['THE_DB_HOST'], int(os.environ['THE_DB_PORT'])\n"
    serve = (
        "import os, socket\ns = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n"
        "while True: s.accept()[0].sendall(b'knows ' + str(len(os.environ['KEY'])).encode())\n"
    )
    build = await platform.build(
        {**files(steps), "ask.py": ask + "print(socket.create_connection(place).recv(99))\n", "serve.py": serve}
    )
    assert (build.state, build.reason[:6]) == (BuildState.SUCCESS, "passed"), platform.log(build)
    assert "b'knows 18'" in platform.log(build)


async def test_a_service_that_needs_containers_is_a_fault_of_the_manifest(platform: Platform) -> None:
    build = await platform.build(
        files("steps:\n- name: a\n  commands: [x]\n  services:\n  - {name: db, image: 'postgres:17'}\n")
    )
    assert build.state is BuildState.FAILURE
    assert "steps.0.services.0 (line 6): db needs containers, and this platform runs steps as processes" in build.reason


SHELL = "app: notes\nrun: {command: sh serve.sh}\n"


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        ({}, False),
        ({"serve.sh": "exec python3 -m http.server $PORT\n"}, True),
        ({"slipway.yml": "app: notes\nrun: {command: python -m http.server $PORT}\n"}, True),
        ({"start": "pip install -r more.txt\n"}, True),
    ],
    ids=["nothing names Python", "a file does", "the run command does", "a file names pip"],
)
async def test_an_app_without_python_has_no_venv_in_its_artifact(
    platform: Platform, changes: dict[str, str], stays: bool
) -> None:
    build = await platform.build({"slipway.yml": SHELL, "serve.sh": "exec serve $PORT\n", **changes})
    assert entries(build) == {"slipway.yml", "serve.sh", *changes} | ({".venv"} if stays else set())


async def test_an_app_whose_manifest_is_inferred_keeps_its_venv(platform: Platform) -> None:
    """No text of the commit says `python`; the inferred command does."""
    build = await platform.build({"app.py": "import os\nos.environ['PORT']\n"})
    assert entries(build) == {"app.py", ".venv"}


def entries(build: Build) -> set[str]:
    """The names in the artifact's folder."""
    assert build.artifact is not None, build.reason
    return set(os.listdir(build.artifact.built_in))


def files(steps: str) -> dict[str, str]:
    return {"slipway.yml": f"app: notes\n{steps}{RUN}", "app.py": "", "t.sh": JUNIT}
