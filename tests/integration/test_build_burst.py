"""Pushes over 5 apps, as fast as git takes them: the newest of each branch is built, the others make way."""

import itertools
import os
import subprocess
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from services.build.executors.process.executor import MARKER
from shared.host.process_search import marked_pids
from tests.support.build.service import BuildService, Developer, eventually

pytestmark = pytest.mark.slow

APPS = [f"app{number}" for number in range(1, 6)]
BRANCHES = ["release", "dev"]  # every other push of an app
PUSHES = int(os.environ.get("E2E_PUSHES", "5"))  # of each app; 10 where there is time
LINES = [f"line {number} of 20" for number in range(1, 21)]
STEP = 'for n in $(seq 1 20); do echo "line $n of 20"; sleep 0.1; done'


@pytest.fixture
def build_settings() -> dict[str, str]:
    return {"SLIPWAY_BUILD_CONCURRENCY": "3"}


class Pushing:
    """A push whose terminal is looked at when its build has ended."""

    def __init__(self, app: str, branch: str, commit: str, process: "subprocess.Popen[str]") -> None:
        self.app = app
        self.branch = branch
        self.commit = commit
        self.shown = ""
        self._process = process

    def end(self) -> None:
        self.shown = self._process.communicate(timeout=150)[0]


def push_all(folder: Path, service: BuildService) -> list[Pushing]:
    """One app after the other, so that a branch gets its next push while its build runs; every other push of an app to
    another branch.
    """
    developers = {app: Developer(folder / app, service, app) for app in APPS}
    pushes = []
    for app, number in itertools.product(APPS, range(PUSHES)):
        branch = BRANCHES[number % 2]
        steps = f"steps: [{{name: count, commands: ['sh ci.sh']}}]\nrun: {{command: x}}\nhosts: [h{number}]\n"
        commit = developers[app].commit({"slipway.yml": f"app: {app}\n{steps}", "ci.sh": STEP})
        process = developers[app].push_in_background(f"{commit}:refs/heads/{branch}")
        pushes.append(Pushing(app, branch, commit, process))
        queued_by = time.monotonic() + 30
        while commits_of(service, app)[-1:] != [commit]:
            assert time.monotonic() < queued_by, process.communicate(timeout=30)
            time.sleep(0.02)
    return pushes


def builds_of(service: BuildService, app: str) -> list[dict[str, Any]]:
    """Oldest first."""
    items: list[dict[str, Any]] = service.http.get(f"/apps/{app}/builds?limit=100").json().get("items", [])
    return items[::-1]


def commits_of(service: BuildService, app: str) -> list[str]:
    return [build["commit"] for build in builds_of(service, app)]


def platforms_end(log: str, build: dict[str, Any]) -> int:
    return sum(line.startswith(f"{build['id']} {build['state']}: ") for line in log.splitlines())


def test_of_many_pushes_the_newest_of_each_branch_is_built_and_nothing_is_stuck(
    service: BuildService, database: Any, tmp_path: Path
) -> None:
    pushes = push_all(tmp_path, service)
    eventually(lambda: database.zcard("build:unended") == 0, 150)
    for push in pushes:
        push.end()
    newest = {(push.app, push.branch): push.commit for push in pushes}
    ended: dict[str, int] = defaultdict(int)
    for app in APPS:
        builds = builds_of(service, app)
        assert [build["commit"] for build in builds] == [push.commit for push in pushes if push.app == app]
        for build in builds:
            ended[build["state"]] += 1
            if newest[app, build["branch"]] == build["commit"]:
                assert build["state"] == "success", build
            else:
                assert build["state"] in ("success", "superseded"), build
            check_traces(service, build)
    for push in pushes:
        [build] = [build for build in builds_of(service, push.app) if build["commit"] == push.commit]
        assert platforms_end("\n".join(each.removeprefix("remote: ") for each in push.shown.splitlines()), build) == 1
    assert ended["superseded"] > 0


def check_traces(service: BuildService, build: dict[str, Any]) -> None:
    """Whatever became of it: no process, no half of a checkout, and a log with all that its step printed."""
    folder = service.home / "releases" / build["app"] / build["id"]
    log = service.log(build["id"])
    printed = [line for line in log.splitlines() if line in LINES]
    assert marked_pids(MARKER, str(folder)) == []
    assert folder.exists() == (build["state"] == "success")
    assert not list(folder.parent.glob(f".{build['id']}*"))
    assert platforms_end(log, build) == 1, log
    assert printed == LINES[: len(printed)], log
    if build["state"] == "success":
        assert printed == LINES, log
        assert log.splitlines()[-1].startswith(f"{build['id']} success: ")
