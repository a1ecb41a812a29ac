"""Takes a canary through the steps of its manifest to production, with visitors, and nobody touches it."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from shared.models import Environment
from stack.clients.delivery import NOTES, Deployable
from stack.clients.load import Load
from stack.local.local_stack import LocalStack
from tests.support.stack.cadence import RATE

LONG = pytest.mark.skipif(not os.environ.get("E2E_STEPS"), reason="takes two minutes; `make soak` sets E2E_STEPS")
STEPS = [{"weight": 5, "for": "20s"}, {"weight": 33, "for": "45s"}]
ENDS_WITHIN_S = 180.0


@LONG
def test_a_good_canary_goes_from_step_to_step_and_is_promoted_without_a_lost_request(
    stack: LocalStack, tmp_path: Path
) -> None:
    app = Deployable(stack, "stepping", tmp_path / "stepping")
    app.repository.copy_from(NOTES)
    shutil.rmtree(app.repository.folder / "tests")
    run, canary = {"command": "python app.py", "health": "/up"}, {"steps": STEPS, "promote": "automatic"}
    (app.repository.folder / "slipway.yml").write_text(json.dumps({"app": app.app, "run": run, "canary": canary}))
    app.repository.commit("first")
    app.deliver(Environment.PRODUCTION)
    app.repository.commit("second")
    with Load(app.public, rate=RATE, host=app.host, limit_s=ENDS_WITHIN_S + 60) as load:
        delivery = app.deliver(Environment.CANARY)
        seen: list[int] = []
        rollout: dict[str, Any] = {}
        deadline = time.monotonic() + ENDS_WITHIN_S
        while rollout.get("state") != "promoted" and time.monotonic() < deadline:
            rollout = app.rollout()
            if rollout["state"] == "progressing" and rollout["weight"] not in seen[-1:]:
                seen.append(rollout["weight"])
            time.sleep(0.5)
        time.sleep(2)
    report = load.report()
    assert (rollout["release"], rollout["state"]) == (delivery.release, "promoted"), rollout
    assert seen == [5, 33], rollout
    assert app.sees(app.production, delivery.commit)
    assert report.lost == 0, report.lines()
    evidence = app.call("monitor", "GET", f"/releases/{delivery.release}/analysis")
    assert evidence["verdict"]["result"] == "pass", evidence["verdict"]
    steps = [(step["step"], step["weight"]) for step in evidence["steps"]]
    assert steps[:2] == [(0, 5), (1, 33)], evidence["steps"]
    assert steps[2:] in ([], [(2, 33)]), evidence["steps"]  # until its promotion was done
