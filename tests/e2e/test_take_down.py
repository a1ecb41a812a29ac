"""An app on a real stack is restarted, stopped, started and taken down, while each service that takes part is killed:
no request is lost in a restart, and no process, route, file or key of it is left.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import redis as sync_redis

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.probe_client import probe, wait_for
from stack.local.local_stack import LocalStack
from tests.support.stack.cadence import RATE
from tests.support.stack.new_app import new_app
from tests.support.stack.traces import keys, processes

PRODUCTION, CANARY = Environment.PRODUCTION, Environment.CANARY
KILLED = ("none", "build", "deployer", "proxy", "monitor")


def path_of(app: Deployable, environment: Environment) -> str:
    return f"/apps/{app.app}/environments/{environment}"


def files(stack: LocalStack, name: str) -> list[str]:
    """Files with the app's name, and those of Envoy and the proxy that hold it. The access log keeps its lines."""
    home = stack.settings.home
    named = [path for path in home.rglob(f"*{name}*") if "volumes" not in path.parts]
    logs = ("access.log", "requests.log")
    held = [path for path in (home / "envoy").rglob("*") if path.is_file() and not path.name.startswith(logs)]
    inside = [path for path in held if name.encode() in path.read_bytes()]
    logged = [
        each for each in (home / "envoy").glob("requests.log*") if f'"route":"{name}/'.encode() in each.read_bytes()
    ]
    return [str(path.relative_to(home)) for path in {*named, *inside, *logged}]


def traces(stack: LocalStack, name: str) -> list[Any]:
    with sync_redis.Redis.from_url(stack.settings.redis_connection_url(), decode_responses=True) as database:
        return [*keys(database, name), *files(stack, name), *processes(stack, f"{name}-r")]


def answers(app: Deployable) -> int:
    return probe(app.public, "/", app.host).status


def is_only_ready(app: Deployable, instance: str) -> bool:
    instances = app.call("deployer", "GET", path_of(app, PRODUCTION))["instances"]
    return [each["id"] for each in instances if each["state"] == "ready"] == [instance]


def test_a_restart_loses_nothing_and_a_stop_ends_what_serves(
    stack: LocalStack, make_app: Callable[[str], Deployable]
) -> None:
    app = make_app("halted")
    app.repository.commit("1")
    app.deliver(PRODUCTION)
    with Load(app.public, rate=RATE, host=app.host, limit_s=60) as load:
        for fresh in ("halted-r1-2", "halted-r1-3"):
            app.call("deployer", "POST", f"{path_of(app, PRODUCTION)}/restart")
            wait_for(partial(is_only_ready, app, fresh), f"the restart by {fresh}", 30)
        time.sleep(1)
    assert [result for result in load.results if result.lost] == []

    app.call("deployer", "POST", f"{path_of(app, PRODUCTION)}/stop")
    wait_for(lambda: processes(stack, "halted-r") == [], "the end of the instances", 30)
    assert answers(app) == 503
    app.call("deployer", "POST", f"{path_of(app, PRODUCTION)}/start")
    wait_for(lambda: answers(app) == 200, "the start", 30)


def gone(stack: LocalStack, name: str) -> bool:
    try:
        with stack.api("build") as build:
            return build.get(f"/apps/{name}").status_code == 404
    except Exception:
        return False  # it is being started again


@dataclass(frozen=True)
class TakenDown:
    """An app that was live in both environments, with secrets and a silence; `commits`: what they served."""

    app: Deployable
    commits: list[str]


@pytest.fixture(scope="module")
def fallen(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TakenDown]]:
    """An app for each service that is killed while its app is taken down. At the end all have stayed away."""

    def live(killed: str) -> TakenDown:
        name = f"fallen{killed}"
        app = new_app(stack, name, tmp_path_factory.mktemp(name))
        commits = []
        for number, environment in (("1", PRODUCTION), ("2", CANARY)):
            commits.append(app.repository.commit(number))
            app.deliver(environment)
        app.call("deployer", "PATCH", path_of(app, PRODUCTION), {"secrets": {"KEY": "a secret"}})
        app.call("build", "PUT", f"/apps/{name}/secrets/KEY", {"value": "another secret"})
        app.call("monitor", "POST", "/silences", {"app": name, "duration_s": 600, "reason": "it is taken down"})
        samples = [f"monitor:samples:{name}-r{release}-1" for release in (1, 2)]
        with sync_redis.Redis.from_url(stack.settings.redis_connection_url()) as database:
            wait_for(lambda: database.exists(*samples) == 2, "samples of both environments", 30)
        return TakenDown(app, commits)

    with ThreadPoolExecutor(2) as delivering:
        apps = dict(zip(KILLED, delivering.map(live, KILLED), strict=True))
    yield apps
    time.sleep(4)  # each loop that could find a trace of one has looked
    for each in apps.values():
        if gone(stack, each.app.app):  # else it was not taken down: that test was not run
            assert traces(stack, each.app.app) == [], "nothing brings it back"
            assert not any(each.app.sees(url, c) for url in (each.app.public, each.app.canary) for c in each.commits)


@pytest.mark.parametrize("killed", KILLED)
def test_nothing_is_left_of_an_app_that_is_taken_down(
    stack: LocalStack, fallen: dict[str, TakenDown], killed: str
) -> None:
    app, name = fallen[killed].app, fallen[killed].app.app
    assert traces(stack, name)

    with stack.api("build") as build:
        assert build.delete(f"/apps/{name}").status_code == 202
    if killed != "none":
        time.sleep(0.3)
        os.kill(stack.pid(killed), signal.SIGKILL)
    wait_for(lambda: gone(stack, name), "the end of the app", 60)
    wait_for(lambda: traces(stack, name) == [], "the end of all traces of it", 20)
    assert not any(app.sees(url, commit) for url in (app.public, app.canary) for commit in fallen[killed].commits)
    with stack.api("proxy") as proxy:
        assert proxy.get(f"/apps/{name}/rollout").status_code == 404
    wait_for(stack.is_ready, "all services well", 30)
