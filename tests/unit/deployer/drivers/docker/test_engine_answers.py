"""Tests that the Docker driver's own functions read the answers of engines of several versions.

Recorded by `tests/support/deployer/engine_answers.py` on cgroup v1: `20.10` and `28.5` are Debian's packages,
`28.5-containerd` is the same with containerd's image store, `29-next` was built from the engine's source of August 2026
(API 1.56, after 29). Engines 24 to 27 and 29.0 (API 1.43 to 1.52) are not recorded: by the API's changelog, their
answers to these calls are as in one of the recorded engines.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.deployer.drivers.docker.capabilities import starts_as_root
from services.deployer.drivers.docker.container import Stack, has_started, memory_limit, status_of
from services.deployer.drivers.docker.events import Deaths
from services.deployer.drivers.docker.strays import running
from services.deployer.drivers.driver import RunningInstance
from shared.manifest import MIB

ENGINES = sorted((Path(__file__).parent / "engines").glob("*.json"))


@pytest.fixture(params=ENGINES, ids=lambda path: path.stem)
def answers(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.param.read_text())
    return found


@pytest.fixture
def stack(answers: dict[str, Any]) -> Stack:
    return Stack(answers["stack"], answers["network"])


def test_a_running_container_is_read_with_its_identity(answers: dict[str, Any], stack: Stack) -> None:
    status = status_of(answers["running"], stack.network, None, 0, None)
    assert has_started(answers["running"]) and status.running and status.exit_code is None
    assert (status.id, status.release, status.artifact) == ("notes-r1-1", "notes-r1", answers["image"]["Id"])
    assert status.address.endswith(":9090") and status.capabilities == ("CHOWN", "SETUID")
    assert memory_limit(answers["running"]) == 64 * MIB


def test_its_end_is_read_from_the_inspection_and_from_the_event(answers: dict[str, Any], stack: Stack) -> None:
    deaths = Deaths()
    deaths.follow(0)
    deaths.note(answers["event"])
    container = answers["ended"]["Id"]
    assert (deaths.was_oom(container), deaths.kills(container)) == (False, 0)
    status = status_of(answers["ended"], stack.network, None, deaths.kills(container), deaths.was_oom(container))
    assert (status.running, status.exit_code, status.oom_killed, status.interrupted) == (False, 3, False, False)


def test_what_runs_is_listed_with_the_image_by_which_it_was_made(answers: dict[str, Any], stack: Stack) -> None:
    client = SimpleNamespace(api=SimpleNamespace(containers=lambda filters: answers["listed"]))
    container, image = answers["running"]["Id"], answers["image"]["Id"]
    expected = RunningInstance(container, "notes-r1-1", release="notes-r1", artifact=image)
    assert running(cast(Any, client), stack) == [expected]

    answers["listed"][0]["Names"] = ["/planted"]
    assert [each.is_copy for each in running(cast(Any, client), stack)] == [True]


def test_an_image_without_a_user_starts_as_root(answers: dict[str, Any]) -> None:
    assert starts_as_root(answers["image"])
