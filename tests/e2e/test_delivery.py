"""From a push to visitors: releases, a rollback, a canary, its abort, its promotion, all under load."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.probe_client import probe, tracks_of_new_visitors, wait_for
from stack.local.local_stack import LocalStack
from stack.local.programs import ROOT
from tests.support.stack.cadence import RATE


def next_commit(app: Deployable, text: str) -> str:
    (app.repository.folder / "VERSION").write_text(text)
    return app.repository.commit(text)


@pytest.mark.smoke
def test_a_push_with_tests_and_coverage_is_live_and_says_so(
    stack: LocalStack, make_app: Callable[[str], Deployable]
) -> None:
    app = make_app("whole")
    app.repository.copy_from(ROOT / "examples" / "notes")
    app.repository.replace("slipway.yml", "app: notes", "app: whole")
    commit = app.repository.commit("first")
    pushed = app.repository.push("release").finish()
    assert pushed.accepted, pushed.output
    assert probe(app.production, "/version", app.host).commit == commit, pushed.output
    assert probe(app.public, "/version", app.host).commit == commit
    for words in ("coverage", "test_failures", "complexity", "secrets", str(stack.settings.public_port)):
        assert f"{words}" in pushed.output
    with stack.api("build") as build:
        view = build.get("/builds/whole-1").raise_for_status().json()
    gates = {gate["name"]: gate for gate in view["gates"]}
    assert (view["state"], view["passed"], view["commit"]) == ("success", True, commit)
    assert gates["coverage"]["figure"] >= 70
    assert gates["test_failures"]["figure"] == 0


def test_releases_and_a_canary_lose_no_request(stack: LocalStack, make_app: Callable[[str], Deployable]) -> None:
    app = make_app("steady")
    public = app.public
    next_commit(app, "1")
    app.deliver(Environment.PRODUCTION)
    with Load(public, rate=RATE, host=app.host, limit_s=240) as load:
        for number in ("2", "3"):
            next_commit(app, number)
            app.deliver(Environment.PRODUCTION)
        with stack.api("deployer") as deployer, stack.api("proxy") as proxy:
            before = deployer.get("/apps/steady/environments/production").json()["release"]["commit"]
            deployer.post("/apps/steady/environments/production/rollback", json={}).raise_for_status()
            wait_for(
                lambda: probe(app.production, "/version", app.host).commit != before,
                "rollback",
                30,
            )

            next_commit(app, "4")
            app.deliver(Environment.CANARY)
            wait_for(lambda: app.rollout()["state"] == "progressing", "rollout", 10)
            seen = tracks_of_new_visitors(public, 600, host=app.host)
            assert 0.24 < seen["canary"] / 600 < 0.42, seen  # 33 % ± 4.7 standard deviations
            release = app.rollout()["release"]
            answer = proxy.post("/apps/steady/rollout/abort", json={"release": release, "reason": "trial"})
            assert (answer.status_code, answer.json()["state"]) == (200, "aborted")
            assert tracks_of_new_visitors(public, 200, host=app.host) == {"stable": 200}
            assert proxy.post("/apps/steady/rollout/abort", json={"release": "steady-r1"}).status_code == 409

            commit = next_commit(app, "5")
            app.deliver(Environment.CANARY)
            wait_for(lambda: app.rollout()["state"] == "progressing", "second rollout", 10)
            release = app.rollout()["release"]
            proxy.post("/apps/steady/rollout/promote", json={"release": release}).raise_for_status()
            wait_for(lambda: app.rollout()["state"] == "promoted", "promotion", 60)
            production = probe(app.production, "/version", app.host)
            assert (production.commit, production.track) == (commit, "stable")
        time.sleep(2)
    report = load.report()
    assert report.sent > 1000
    assert report.lost == 0, "\n".join(report.lines())


def test_the_same_build_again_is_unchanged(stack: LocalStack, make_app: Callable[[str], Deployable]) -> None:
    app = make_app("same")
    next_commit(app, "1")
    app.deliver(Environment.PRODUCTION)
    with stack.api("deployer") as deployer:
        live = deployer.get("/apps/same/environments/production").json()["release"]
        answer = deployer.post("/apps/same/environments/production/releases", json={"build": live["build"]})
    assert (answer.status_code, answer.json()["unchanged"], answer.json()["id"]) == (200, True, live["id"])


def test_an_app_brings_its_dependencies_with_it(stack: LocalStack, make_app: Callable[[str], Deployable]) -> None:
    """Installed in the build stage, they run from the artifact: the same command runs without any network."""
    app = make_app("carried")
    folder = app.repository.folder
    (folder / "requirements.txt").write_text("iniconfig\n")
    (folder / "slipway.yml").write_text(
        "app: carried\nsteps: [{name: install, commands: [pip install -q -r requirements.txt]}]\n"
        "run: {command: python app.py, health: /up}\n"
    )
    app.repository.replace("app.py", "import contextlib\n", "import contextlib\nimport iniconfig\n")
    app.repository.commit("a dependency")
    app.deliver(Environment.PRODUCTION)
    artifact = Path(app.call("build", "GET", "/builds/carried-1")["artifact"]["built_in"])
    command = "import iniconfig, socket; print(iniconfig.__file__); socket.create_connection(('127.0.0.1', 1))"
    offline = [] if os.geteuid() else ["unshare", "--net"]
    ran = subprocess.run(
        [*offline, artifact / ".venv" / "bin" / "python", "-I", "-c", command],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.stdout.startswith(str(artifact)), ran.stderr
    if offline:
        assert "Network is unreachable" in ran.stderr
