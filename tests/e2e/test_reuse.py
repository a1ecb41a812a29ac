"""Release after dev builds nothing twice: the canary's very artifact goes to production."""

import json
from collections.abc import Callable
from pathlib import Path

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack


def test_what_passed_on_dev_goes_to_production_without_a_second_run(
    stack: LocalStack, make_app: Callable[[str], Deployable], tmp_path: Path
) -> None:
    app, ran = make_app("twice"), tmp_path / "ran"
    path = app.repository.folder / "slipway.yml"
    steps = [{"name": "test", "stage": "test", "commands": [f"echo ran >> {ran}"]}]
    path.write_text(json.dumps({**json.loads(path.read_text()), "steps": steps}))
    app.repository.commit("first")
    app.deliver(Environment.PRODUCTION)
    (app.repository.folder / "VERSION").write_text("2")
    commit = app.repository.commit("second")
    app.deliver(Environment.CANARY)
    wait_for(lambda: app.rollout()["state"] == "progressing", "rollout", 20)
    pushed = app.repository.push("release").finish()
    assert "--- reused: twice-2 passed with the same commit, manifest and gates" in pushed.output
    assert f"{stack.settings.url('build')}/builds/twice-2" in pushed.output
    wait_for(lambda: app.sees(app.production, commit), "the commit in production", 20)
    first, second = [app.call("build", "GET", f"/builds/twice-{number}") for number in (2, 3)]
    assert (second["state"], second["reused"], second["steps"]) == ("success", "twice-2", [])
    assert second["artifact"] == first["artifact"]
    assert len(ran.read_text().splitlines()) == 2  # of three pushes
    live = app.latest_release(Environment.PRODUCTION)
    assert (live["build"], live["commit"], live["state"]) == ("twice-3", commit, "live")
    with stack.api("build") as build:
        page = build.get("/builds/twice-3", headers={"Accept": "text/html"}).text
    assert 'Reused from <a href="/builds/twice-2">twice-2</a>' in page
