"""The engine's own death under load: what that loses is told, and everything is as it was afterwards."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.probe_client import probe, wait_for
from stack.compose.compose_stack import ComposeStack
from stack.local.programs import ROOT
from tests.e2e.test_faults import state_of
from tests.support.stack.cadence import RATE, outlast_the_watch

log = logging.getLogger(__name__)
pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(
        "E2E_KILL_ENGINE" not in os.environ,
        reason="kills dockerd, and with it what else runs on that engine; E2E_KILL_ENGINE=1 asks for it",
    ),
]
DOWN_S = float(os.environ.get("E2E_DOWN_S", "4"))


def test_the_engine_may_be_killed(stack: ComposeStack, make_app: Callable[[str], Deployable]) -> None:
    app = make_app("unmoored")
    for environment in Environment:
        (app.repository.folder / "VERSION").write_text(environment)
        app.repository.commit(environment)
        app.deliver(environment)
    wait_for(lambda: app.rollout()["state"] == "progressing", "rollout", 10)
    outlast_the_watch()
    before = releases(app)
    with Load(app.public, rate=RATE, host=app.host, limit_s=300) as load:
        time.sleep(2)
        since = load.now()
        os.kill(int(subprocess.check_output(["pgrep", "-x", "dockerd"])), signal.SIGKILL)
        time.sleep(DOWN_S)
        away = load.report(since)
        subprocess.run([ROOT / ".ci" / "docker-engine"], check=True, timeout=120)
        wait_for(lambda: probe(app.public, "/version", app.host).status == 200, "visitors served again", 120)
        served = load.now()
        wait_for(stack.is_ready, "all services ready again", 60)
        time.sleep(5)
    log.warning("dockerd away for %g s: %s", DOWN_S, away.lines())
    log.warning("until served again, %.1f s: %s", served - since, load.report(since, served).lines())
    assert load.report(served + 3).lost == 0, load.report(served + 3).lines()
    wait_for(lambda: releases(app) == before, "the releases as before", 30)
    assert app.rollout()["state"] == "progressing"


def releases(app: Deployable) -> dict[str, object]:
    state = state_of(app)
    return {name: state[name][0] for name in ("production", "canary")}
