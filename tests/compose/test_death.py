"""Every container of the platform killed and kept away under load: visitors notice nothing but Envoy's own death."""

import json
import logging
import os
import time

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.probe_client import probe, tracks_of_new_visitors, wait_for
from stack.compose.compose import Compose
from stack.compose.compose_stack import ComposeStack, command
from stack.compose.engine import docker
from tests.compose.test_addresses import instances
from tests.e2e.test_faults import ALL_BUT_ENVOY, DOWN_S, each_dies_and_nothing_is_lost, state_of
from tests.support.stack.cadence import RATE, outlast_the_watch
from tests.support.stack.new_app import new_app

log = logging.getLogger(__name__)
pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def settled(stack: ComposeStack, tmp_path_factory: pytest.TempPathFactory) -> Deployable:
    """With a canary on its way, both watched no longer."""
    app = new_app(stack, "hurt", tmp_path_factory.mktemp("hurt"))
    path = app.repository.folder / "slipway.yml"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"resources": {"memory": "128m"}}))
    for environment in Environment:
        (app.repository.folder / "VERSION").write_text(environment)
        app.repository.commit(environment)
        app.deliver(environment)
    wait_for(lambda: app.rollout()["state"] == "progressing", "rollout", 10)
    outlast_the_watch()
    return app


def test_any_container_may_die(stack: ComposeStack, settled: Deployable) -> None:
    app = settled
    before = state_of(app)
    each_dies_and_nothing_is_lost(stack, app)

    with Load(app.public, rate=RATE, host=app.host, limit_s=60) as load:
        time.sleep(1)
        since = load.now()
        with stack.kept_down("envoy"):
            time.sleep(DOWN_S)
        wait_for(lambda: probe(app.public, "/version", app.host).status == 200, "visitors served again", 20)
        until = load.now()
        time.sleep(2)
    log.warning("Envoy away for %g s: %s", DOWN_S, load.report(since, until).lines())
    assert load.report(until + 0.5).lost == 0, load.report(until + 0.5).lines()
    wait_for(stack.is_ready, "ready again", 30)
    assert state_of(app) == before


def test_all_may_be_taken_down(stack: ComposeStack, settled: Deployable) -> None:
    """`make down` ends the apps too, `make up` brings them back, at other addresses than Envoy knows."""
    app = settled
    addresses = set(instances(stack, [app]).values())
    command(stack.settings.home, "down", timeout_s=120)
    assert docker("ps", "--quiet", "--filter", f"name={stack.project}") == ""
    assert docker("network", "ls", "--format", "{{.Name}}", "--filter", f"name={stack.project}") == stack.project
    command(stack.settings.home, "up", timeout_s=120)
    wait_for(lambda: app.sees(app.production, commit_of(app, "production")), "production served again", 30)
    wait_for(lambda: app.sees(app.canary, commit_of(app, "canary")), "the canary served again", 30)
    assert len(addresses) == 2 and not addresses & set(instances(stack, [app]).values())
    assert app.rollout()["state"] == "progressing"
    assert set(tracks_of_new_visitors(app.public, 300, host=app.host)) == {"stable", "canary"}


def commit_of(app: Deployable, environment: str) -> str:
    view = app.call("deployer", "GET", f"/apps/{app.app}/environments/{environment}")
    return str(view["release"]["commit"])


def test_a_service_that_is_killed_within_its_container_is_started_again(stack: ComposeStack) -> None:
    first = stack.pid("flags")
    os.kill(first, 9)
    wait_for(lambda: stack.pid("flags") not in (0, first), "another process", 20)
    wait_for(stack.is_ready, "ready again", 30)


def test_an_upgrade_of_one_container_replaces_no_other(stack: ComposeStack) -> None:
    """Compose replaces what depends on a container together with that: Envoy and Redis, so visitors would notice."""
    containers = Compose(stack.settings.home / "env").configuration()["services"]
    assert {*ALL_BUT_ENVOY, "envoy"} <= containers.keys()
    assert [name for name, each in containers.items() if "depends_on" in each] == []


def test_make_up_again_restarts_nothing(stack: ComposeStack) -> None:
    before = [stack.pid(program) for program in (*ALL_BUT_ENVOY, "envoy")]
    command(stack.settings.home, "up", timeout_s=120)
    assert [stack.pid(program) for program in (*ALL_BUT_ENVOY, "envoy")] == before
