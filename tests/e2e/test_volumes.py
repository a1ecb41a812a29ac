"""An app that writes to its volume through releases, one that fails, and a rollback: what is lost, and what is kept."""

import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.load_report import Result
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack
from tests.support.stack.cadence import RATE

KEPT = """

def kept(body: bytes) -> Answer:
    place = os.environ["SLIPWAY_VOLUME_DATA"]
    with open(f"{place}/echoed", "ab", buffering=0) as file:
        file.write(b".")
    return Answer(200, body, "application/octet-stream")
"""
APART_S = 0.5


def an_app_that_keeps(make_app: Callable[[str], Deployable], name: str) -> Deployable:
    """Every echo leaves a byte in its volume before it is answered."""
    app = make_app(name)
    path = app.repository.folder / "slipway.yml"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"volumes": [{"name": "data", "path": "/data"}]}))
    echo = 'lambda query, body: Answer(200, body, "application/octet-stream")'
    app.repository.replace("notes.py", echo, "lambda query, body: kept(body)")
    notes = app.repository.folder / "notes.py"
    notes.write_text(notes.read_text() + KEPT)
    return app


def echoed(stack: LocalStack, app: Deployable, environment: Environment) -> int:
    return (stack.settings.home / "volumes" / app.app / environment / "data" / "echoed").stat().st_size


def times_without_service(results: list[Result]) -> list[tuple[float, float]]:
    """Returns when the first and the last request of each series of lost requests were due, in seconds."""
    lost = sorted(result.due for result in results if result.lost)
    ends = [earlier for earlier, later in pairwise([*lost, float("inf")]) if later - earlier > APART_S]
    begins = [later for earlier, later in pairwise([float("-inf"), *lost]) if later - earlier > APART_S]
    return list(zip(begins, ends, strict=True))


def test_the_data_stays_and_the_loss_is_what_is_said(stack: LocalStack, make_app: Callable[[str], Deployable]) -> None:
    app = an_app_that_keeps(make_app, "keeper")
    environment = f"/apps/{app.app}/environments/production"

    def releases() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = app.call("deployer", "GET", f"{environment}/releases")["items"]
        return found

    app.repository.commit("1")
    app.deliver(Environment.PRODUCTION)
    with Load(app.public, rate=RATE, host=app.host, limit_s=200) as load:
        for number in ("2", "3"):
            good = app.repository.commit(number)
            pushed = app.repository.push("release").finish()
            assert app.sees(app.production, good), pushed.output
            assert "(stop-first because of its volume data: nobody was served for " in pushed.output
        app.repository.replace(
            "app.py", "def main() -> None:\n", "def main() -> None:\n    raise SystemExit('no licence')\n"
        )
        app.repository.commit("4, which does not start")
        pushed = app.repository.push("release").finish()
        assert f"{app.app}-r3 is started again" in pushed.output
        wait_for(lambda: app.sees(app.production, good), "the good version is back", 20)
        wait_for(lambda: releases()[0]["down_s"] is not None, "how long it was away", 5)
        time.sleep(2 * APART_S)
        app.call("deployer", "POST", f"{environment}/rollback", {})
        wait_for(lambda: releases()[0]["state"] == "live", "rolled back", 20)

    said = [(each["state"], each["down_s"]) for each in reversed(releases())]
    assert [state for state, _ in said] == ["retired", "retired", "retired", "failed", "live"]
    seen = times_without_service(load.results)
    figures = f"said {[down_s for _, down_s in said]}, seen {[round(end - begin, 2) for begin, end in seen]}"
    assert len(seen) == 4, figures
    pairs = [(down_s, end - begin) for (_, down_s), (begin, end) in zip(said[1:], seen, strict=True)]
    assert all(seen_s <= down_s + 0.05 for down_s, seen_s in pairs), figures
    # What is said begins earlier and ends later, by more on a busy machine.
    assert max(seen_s / down_s for down_s, seen_s in pairs) >= 0.6, figures
    assert {result.lost for result in load.results if result.lost} == {"status 503"}

    echoes = sum(result.quick and not result.lost and not result.commit for result in load.results)
    assert echoed(stack, app, Environment.PRODUCTION) == echoes > 0


def test_a_promotion_costs_production_that_time_and_each_keeps_its_own_data(
    stack: LocalStack, make_app: Callable[[str], Deployable]
) -> None:
    app = an_app_that_keeps(make_app, "promoted")
    for environment in Environment:
        commit = app.repository.commit(environment)
        app.deliver(environment)
    with Load(app.public, rate=RATE, host=app.host, limit_s=120) as load:
        time.sleep(2)
        app.rollout("promote", release=app.rollout()["release"])
        wait_for(lambda: app.rollout()["state"] == "promoted", "the promotion", 30)
        assert app.sees(app.production, commit)
        time.sleep(1)
    live = app.latest_release(Environment.PRODUCTION)
    [(begin, end)] = times_without_service(load.results)
    assert live["strategy"] == "stop-first" and end - begin <= live["down_s"] + 0.05
    assert {result.lost for result in load.results if result.lost} == {"status 503"}
    echoes = sum(result.quick and not result.lost and not result.commit for result in load.results)
    kept = [echoed(stack, app, environment) for environment in Environment]
    assert sum(kept) == echoes and min(kept) > 0
