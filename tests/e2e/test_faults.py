"""Every service and Redis killed with -9 and kept down: visitors notice nothing, and afterwards all is as it was."""

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.probe_client import probe, tracks_of_new_visitors, wait_for
from stack.local.local_stack import LocalStack
from tests.support.stack.cadence import RATE, outlast_the_watch

DOWN_S = float(os.environ.get("E2E_DOWN_S", "2.5"))  # 20 where there is time
NUMBERS = itertools.count(1)
ALL_BUT_ENVOY = ("build", "deployer", "monitor", "flags", "proxy", "redis", "keeper")


def state_of(app: Deployable) -> dict[str, Any]:
    """Returns the state of the app that an outage must not change."""
    environments = {
        name: app.call("deployer", "GET", f"/apps/{app.app}/environments/{name}") for name in ("production", "canary")
    }
    rollout = app.rollout()
    return {
        # A deployer that was away for long has paused it, and says so in `reason` and `at`.
        "rollout": {key: rollout[key] for key in ("release", "state", "enabled", "weight")},
        **{
            name: (view["release"] and view["release"]["id"], [item["id"] for item in view["instances"]])
            for name, view in environments.items()
        },
    }


@pytest.fixture
def with_canary(stack: LocalStack, make_app: Callable[[str], Deployable]) -> Deployable:
    app = make_app(f"hurt{next(NUMBERS)}")
    for number, environment in (("1", Environment.PRODUCTION), ("2", Environment.CANARY)):
        (app.repository.folder / "VERSION").write_text(number)
        app.repository.commit(number)
        app.deliver(environment)
    with stack.api("proxy") as proxy:
        wait_for(lambda: proxy.get(f"/apps/{app.app}/rollout").json()["state"] == "progressing", "rollout", 10)
    return app


@pytest.fixture
def settled(with_canary: Deployable) -> Deployable:
    outlast_the_watch()
    return with_canary


def test_any_service_or_redis_may_die(stack: LocalStack, settled: Deployable) -> None:
    each_dies_and_nothing_is_lost(stack, settled)


def each_dies_and_nothing_is_lost(stack: LocalStack, app: Deployable) -> None:
    """Each of ALL_BUT_ENVOY in turn, under load; the state afterwards is the one before."""
    before = state_of(app)
    losses = {}
    with Load(app.public, rate=RATE, host=app.host, limit_s=400) as load:
        for program in ALL_BUT_ENVOY:
            since = load.now()
            with stack.kept_down(program):
                time.sleep(DOWN_S)
            wait_for(stack.is_ready, f"ready again after {program}", 30)
            wait_for(lambda: app.rollout()["state"] == "progressing", f"the rollout goes on after {program}", 15)
            losses[program] = load.report(since)
        time.sleep(1)
    for program, report in losses.items():
        assert report.lost == 0, f"{program}: {report.lines()}"
    assert load.report().lost == 0
    assert state_of(app) == before


def test_envoy_starts_again_while_nothing_but_the_keeper_runs(stack: LocalStack, with_canary: Deployable) -> None:
    app = with_canary
    with contextlib.ExitStack() as down:
        for program in ALL_BUT_ENVOY:
            if program != "keeper":
                down.enter_context(stack.kept_down(program))
        os.kill(stack.pid("envoy"), signal.SIGKILL)
        wait_for(lambda: probe(app.public, "/version", app.host).status == 200, "visitors served again", 20)
        assert set(tracks_of_new_visitors(app.public, 100, host=app.host)) == {"stable", "canary"}
    wait_for(stack.is_ready, "ready again", 60)


def test_an_abort_works_while_redis_is_down(stack: LocalStack, with_canary: Deployable) -> None:
    app = with_canary
    release = state_of(app)["rollout"]["release"]
    with stack.kept_down("redis"), stack.api("proxy") as proxy:
        answer = proxy.post(f"/apps/{app.app}/rollout/abort", json={"release": release, "reason": "by hand"})
        assert (answer.status_code, answer.json()["state"]) == (200, "aborted")
        assert tracks_of_new_visitors(app.public, 100, host=app.host) == {"stable": 100}
    wait_for(stack.is_ready, "ready again", 30)
    with stack.api("deployer") as deployer:
        wait_for(
            lambda: deployer.get(f"/releases/{release}").json().get("state") == "rolled_back", "retired afterwards", 30
        )
    assert app.rollout()["reason"] == "by hand"


@pytest.mark.smoke
def test_a_build_that_was_running_is_taken_up_and_ends_once(
    stack: LocalStack, make_app: Callable[[str], Deployable], tmp_path: Path
) -> None:
    app = make_app("taken-up")
    manifest = app.repository.folder / "slipway.yml"
    manifest.write_text(
        "app: taken-up\nsteps: [{name: long, commands: [echo begun, sleep 3]}]\n"
        "run: {command: python app.py, health: /up}\n"
    )
    commit = app.repository.commit("first")
    push = app.repository.push("release")
    with stack.api("build") as build:
        wait_for(lambda: "begun" in build.get("/builds/taken-up-1/log").text, "the step runs", 30)
        with stack.kept_down("build"):
            push.finish()
        wait_for(stack.is_ready, "ready again", 30)
        wait_for(lambda: build.get("/builds/taken-up-1").json()["state"] == "success", "the build ends", 60)
        assert [item["id"] for item in build.get("/apps/taken-up/builds").json()["items"]] == ["taken-up-1"]
    with stack.api("deployer") as deployer:
        releases = deployer.get("/apps/taken-up/environments/production/releases").json()["items"]
    assert [release["build"] for release in releases] == ["taken-up-1"]
    assert probe(app.production, "/version", app.host).commit == commit


def test_a_release_that_does_not_start_explains_itself_and_leaves_production_alone(
    stack: LocalStack, make_app: Callable[[str], Deployable]
) -> None:
    app = make_app("broken")
    good = app.repository.commit("good")
    app.deliver(Environment.PRODUCTION)
    app.repository.replace(
        "app.py", "def main() -> None:\n", "def main() -> None:\n    raise SystemExit('no licence')\n"
    )
    app.repository.commit("ends at once")
    with Load(app.production, rate=RATE, host=app.host, limit_s=60) as load:
        pushed = app.repository.push("release").finish()
    assert "failure" in pushed.output
    assert "exit code 1" in pushed.output
    assert app.sees(app.production, good)
    assert load.report().lost == 0, load.report().lines()
    failed = app.latest_release(Environment.PRODUCTION)
    assert failed["state"] == "failed"
    release = app.call("deployer", "GET", f"/releases/{failed['id']}")
    assert "no licence" in "\n".join(release["failure"]["log"])


def test_a_release_that_dies_right_after_it_went_live_is_rolled_back_by_itself(
    stack: LocalStack, make_app: Callable[[str], Deployable]
) -> None:
    app = make_app("shortlived")
    good = app.repository.commit("good")
    app.deliver(Environment.PRODUCTION)
    app.repository.replace(
        "app.py",
        "def main() -> None:\n",
        "def main() -> None:\n    threading.Timer(2, os._exit, [3]).start()\n",
    )
    bad = app.repository.commit("dies after 2 s")
    app.repository.push("release").finish()
    wait_for(lambda: app.sees(app.production, good), "the good version is back", 40)

    def fallen() -> dict[str, Any]:
        releases = app.call("deployer", "GET", f"/apps/{app.app}/environments/production/releases")["items"]
        return next(release for release in releases if release["commit"] == bad)

    # The faulty release leaves its state only when the one that replaces it is live, a moment after visitors get it.
    wait_for(lambda: fallen()["state"] == "rolled_back", "the faulty release rolled back", 15)
    assert "exit code 3" in fallen()["reason"]
    with stack.api("deployer") as deployer:
        live = deployer.get(f"/apps/{app.app}/environments/production").json()["release"]
    assert (live["commit"], live["state"]) == (good, "live")
