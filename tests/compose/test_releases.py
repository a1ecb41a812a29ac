"""Releases, rollbacks, failures and a doubling of memory of an app in containers, under load: nothing is lost."""

import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.probe_client import probe, wait_for, wait_for_commit
from stack.compose.compose_stack import ComposeStack
from tests.support.stack.cadence import RATE

log = logging.getLogger(__name__)
pytestmark = pytest.mark.docker

RELEASES = int(os.environ.get("E2E_RELEASES", "3"))  # 20 where there is time
ROLLBACKS = int(os.environ.get("E2E_ROLLBACKS", "2"))  # 3 where there is time
MIB = 2**20
PRODUCTION = Environment.PRODUCTION
MAIN = "def main() -> None:\n"


def test_nothing_is_lost_through_releases_rollbacks_failures_and_more_memory(
    stack: ComposeStack, make_app: Callable[[str], Deployable]
) -> None:
    app = make_app("busy")
    bounds(app, "64m", "128m")
    good = [app.repository.commit("0")]
    app.deliver(PRODUCTION)
    with Load(app.public, rate=RATE, host=app.host) as load:
        for number in range(1, RELEASES):
            (app.repository.folder / "VERSION").write_text(str(number))
            good.append(app.repository.commit(str(number)))
            app.deliver(PRODUCTION)
        for _ in range(ROLLBACKS):
            app.call("deployer", "POST", f"/apps/{app.app}/environments/production/rollback", {})
            good.append(good[-2])
            wait_for_commit(app.production, good[-1], host=app.host)
            wait_for(lambda: app.latest_release(PRODUCTION)["state"] == "live", "the rollback live", 20)
        eat_until_doubled(app)
        failures = [failed(app, change) for change in (will_not_start, fails_its_health, needs_more_than_it_may_have)]
        assert app.sees(app.production, good[-1])
        time.sleep(1)
    report = load.report()
    log.warning("%d releases: %s", RELEASES, report.lines())
    assert report.lost == 0, report.lines()
    starts, health, memory = failures
    assert "exit code 1" in starts["reason"] and "no licence" in "\n".join(starts["failure"]["log"])
    assert "503" in health["reason"], health["reason"]
    assert "memory" in memory["reason"] and "128 MiB" in memory["reason"], memory["reason"]


def bounds(app: Deployable, memory: str, most: str) -> None:
    edit_manifest(app, "resources", {"memory": memory, "max_memory": most})


def edit_manifest(app: Deployable, section: str, values: dict[str, Any]) -> None:
    path = app.repository.folder / "slipway.yml"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {section: manifest.get(section, {}) | values}))


def will_not_start(app: Deployable) -> None:
    app.repository.replace("app.py", MAIN, f"{MAIN}    raise SystemExit('no licence')\n")


def fails_its_health(app: Deployable) -> None:
    edit_manifest(app, "run", {"ready_within": 10})
    app.repository.replace("notes.py", 'return Answer(200, b"ok\\n", "text/plain")', 'return Answer(503, b"ill\\n")')


def needs_more_than_it_may_have(app: Deployable) -> None:
    app.repository.replace("app.py", MAIN, f"{MAIN}    eaten = bytearray(os.urandom(2**20)) * 200\n")


def failed(app: Deployable, change: Callable[[Deployable], None]) -> dict[str, Any]:
    """The release of a commit with that change, which is taken back afterwards."""
    before = app.repository.commit("before")
    change(app)
    commit = app.repository.commit(change.__name__)
    pushed = app.repository.push("release").finish()
    app.repository.go_back_to(before)
    release: dict[str, Any] = app.call("deployer", "GET", f"/releases/{app.latest_release(PRODUCTION)['id']}")
    assert (release["commit"], release["state"]) == (commit, "failed"), pushed.output
    assert release["reason"] in pushed.output
    return release


def eat_until_doubled(app: Deployable) -> None:
    def instance() -> dict[str, Any]:
        items = app.call("deployer", "GET", "/stats")["items"]
        return next(each for each in items if (each["app"], each["state"]) == (app.app, "ready"))

    before = instance()
    assert before["memory_limit"] == 64 * MIB
    while instance()["working_set"] < 0.88 * before["memory_limit"]:
        assert probe(app.production, "/eat?mb=2", app.host).status == 200
        time.sleep(0.2)
    wait_for(lambda: instance()["memory_limit"] == 128 * MIB, "the limit doubled", 30)
    assert (instance()["id"], instance()["oom_kills"]) == (before["id"], before["oom_kills"])


def test_an_unchanged_release_says_so(stack: ComposeStack, make_app: Callable[[str], Deployable]) -> None:
    app = make_app("same")
    app.repository.commit("only")
    app.deliver(PRODUCTION)
    path = "/apps/same/environments/production/releases"
    wait_for(lambda: app.latest_release(PRODUCTION)["state"] == "live", "live", 20)
    again = app.call("deployer", "POST", path, {"build": "same-1"})
    assert (again["id"], again["unchanged"]) == ("same-r1", True)
    assert len(app.call("deployer", "GET", path)["items"]) == 1
