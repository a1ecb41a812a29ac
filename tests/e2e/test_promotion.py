"""A canary that production never judged: its promotion is refused, its commit is judged, and then it is live, while
services are killed at some or all of ten moments of that way.
"""

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from shared.config import ServiceName
from shared.models import Environment
from stack.clients.delivery import Deployable, RequestRefused
from stack.clients.load import Load
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack

RATE = 20.0
MOMENTS = 10
SEED = int(os.environ.get("E2E_SEED", time.time()))
KILLS = int(os.environ.get("E2E_KILLS", "4"))  # of the ten moments; all where there is time
CALL = re.compile(r"POST (/apps/\S+/builds) (\{[^}]*\})")


class Way:
    """The calls of a person who asks again while a service is being started again."""

    def __init__(self, stack: LocalStack, app: Deployable) -> None:
        self.stack = stack
        self.app = app
        self.moments = 0
        self._killed = set(random.Random(SEED).sample(range(1, MOMENTS + 1), KILLS))

    def kill(self, service: ServiceName) -> None:
        """Kills the service, if this is one of the moments at which this run kills."""
        self.moments += 1
        if self.moments not in self._killed:
            return
        wait_for(lambda: self.stack.pid(service) != 0, f"{service} runs", 20)
        os.kill(self.stack.pid(service), signal.SIGKILL)

    def get(self, service: ServiceName, path: str) -> Any:
        """Returns the answer; empty while the service does not answer."""
        try:
            return self.app.call(service, "GET", path)
        except (httpx.HTTPError, RequestRefused):
            return {}

    def promote(self, release: str) -> str:
        """Asks for the promotion. Returns why it is refused: at once, or, if that could not be found out at once, by
        the pause of the rollout, which it ends. Empty once the canary is promoted."""
        path = f"/apps/{self.app.app}/rollout"
        if refusal := self._asked("promote", release):
            return refusal
        ends = ("promoted as", "promotion refused")  # not a pause while the deployer is away
        wait_for(lambda: self.get("proxy", path).get("reason", "").startswith(ends), "the promotion's end", 60)
        view = self.get("proxy", path)
        if view["state"] == "promoted":
            return ""
        self._asked("resume", release)
        return str(view["reason"])

    def _asked(self, action: str, release: str) -> str:
        """Asks until the service answers. Returns the detail of a 409."""
        while True:
            try:
                self.app.rollout(action, release=release)
                return ""
            except (httpx.HTTPError, RequestRefused) as error:
                _, is_conflict, answer = str(error).partition("answered 409: ")
                if is_conflict:
                    return str(json.loads(answer)["detail"])
            time.sleep(0.05)


def seen_at(visitors: Load, commit: str) -> list[float]:
    """Returns when visitors were answered by the commit, in seconds since the load's start."""
    return [result.done for result in visitors.results if result.commit == commit]


def test_a_canary_that_production_never_judged_is_judged_before_it_is_live(
    stack: LocalStack, make_app: Callable[[str], Deployable], tmp_path: Path
) -> None:
    app = make_app("judged")
    path, judged = app.repository.folder / "slipway.yml", tmp_path / "load-has-passed"
    load = {"name": "load", "commands": ["sleep 1", f"touch {judged}"], "when": {"branch": "release"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"steps": [load]}))
    app.repository.commit("1")
    app.deliver(Environment.PRODUCTION)
    commit = app.repository.commit("2")
    app.deliver(Environment.CANARY)
    wait_for(lambda: app.rollout()["state"] == "progressing", "the rollout", 20)
    judged.unlink()
    release = app.rollout()["release"]
    way = Way(stack, app)

    with Load(app.production, rate=RATE, host=app.host, limit_s=120) as visitors:
        for service in ("build", "deployer", "proxy"):
            way.kill(service)
            refusal = way.promote(release)
            assert "load runs on release only, this is dev" in refusal, refusal
        assert not judged.exists() and not seen_at(visitors, commit)
        wait_for(stack.is_ready, "all services well", 30)

        found = CALL.search(refusal)
        assert found is not None, refusal
        build = app.call("build", "POST", found[1], json.loads(found[2]))["id"]
        way.kill("build")
        here = f"/builds/{build}"
        wait_for(lambda: way.get("build", here).get("state") == "running", f"{build} runs", 30)
        way.kill("monitor")
        way.kill("build")
        wait_for(lambda: bool(way.get("build", here).get("passed")), f"{build} has passed", 30)
        way.kill("deployer")
        wait_for(lambda: bool(way.get("build", here).get("release")), f"{build} has a release", 30)
        way.kill("proxy")
        wait_for(lambda: way.get("build", here).get("finished_at") is not None, f"the end of {build}", 60)
        ended = way.get("build", here)
        assert (ended["state"], ended["commit"], ended["branch"]) == ("success", commit, "release"), ended

        way.kill("deployer")
        way.kill("proxy")
        assert way.promote(release) == ""
        started_at = time.time() - visitors.now()
        wait_for(lambda: app.sees(app.production, commit), "the commit in production", 10)
    assert way.moments == MOMENTS
    assert [result for result in visitors.results if result.lost] == [], f"seed {SEED}"
    judged_at = judged.stat().st_mtime - started_at
    assert min(seen_at(visitors, commit)) > judged_at, "production served it before it was judged"

    wait_for(stack.is_ready, "all services well", 30)
    assert app.rollout()["reason"] == f"promoted as {ended['release']}"
    path_of_releases = f"/apps/{app.app}/environments/production/releases"
    releases = app.call("deployer", "GET", path_of_releases)["items"]
    assert [each["state"] for each in releases if each["commit"] == commit] == ["live"], "it was released once"
    wait_for(lambda: app.call("deployer", "GET", f"/releases/{release}")["state"] == "retired", "the canary's end", 20)
