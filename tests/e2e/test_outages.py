"""Outages on a whole stack are alerts, whatever was down meanwhile."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack
from tests.support.monitor.notification_stack import webhook
from tests.support.ports import listener

LONG = pytest.mark.skipif(not os.environ.get("E2E_OUTAGES"), reason="takes two minutes; `make soak` sets E2E_OUTAGES")


def fires(stack: LocalStack, alert: str, state: str = "firing") -> Callable[[], bool]:
    return lambda: any((each["id"], each["state"]) == (alert, state) for each in alerts(stack))


def alerts(stack: LocalStack) -> list[dict[str, Any]]:
    with stack.api("monitor") as monitor:
        found: list[dict[str, Any]] = monitor.get("/alerts").json()["items"]
    return found


def reason(stack: LocalStack, alert: str) -> str:
    return next(str(each["reason"]) for each in alerts(stack) if each["id"] == alert)


def test_an_app_that_went_down_while_no_monitor_ran_is_an_alert_that_ends_with_the_repair(
    stack: LocalStack, make_app: Callable[[str], Deployable], tmp_path: Path
) -> None:
    app, needed = make_app("missed"), tmp_path / "needed"
    needed.touch()
    start = "def main() -> None:\n"
    app.repository.replace("app.py", start, f"{start}    open({str(needed)!r}).close()\n")
    app.repository.commit("needs a file")
    app.deliver(Environment.PRODUCTION)
    release = app.latest_release(Environment.PRODUCTION)["id"]
    stored = f"health:{release}"
    wait_for(lambda: is_stored(stack, app.app), "the live release is stored", 10)
    with stack.kept_down("monitor"):
        needed.unlink()
        record = stack.settings.home / "instances" / f"{release}-1" / "record.json"
        os.killpg(json.loads(record.read_text())["pid"], signal.SIGKILL)
    wait_for(stack.is_ready, "the monitor is back", 30)
    wait_for(fires(stack, stored), "the outage is an alert", 60)
    needed.touch()
    wait_for(fires(stack, stored, "resolved"), "the alert has ended", 60)


def is_stored(stack: LocalStack, app: str) -> bool:
    import redis

    with redis.Redis.from_url(stack.settings.redis_connection_url()) as client:
        return bool(client.hexists("monitor:live", app))


@LONG
def test_a_port_that_another_process_took_is_told_with_that_process(stack: LocalStack) -> None:
    for program, port, alert in (
        ("flags", stack.settings.port("flags"), "service:flags"),
        ("envoy", stack.settings.public_port, "envoy:platform"),
    ):
        with stack.kept_down(program), listener(port) as pid:
            wait_for(fires(stack, alert), f"the alert about {program}", 90)
            assert f"(process {pid}) has its port {port}" in reason(stack, alert)
        wait_for(fires(stack, alert, "resolved"), f"the end of the alert about {program}", 120)


@LONG
def test_a_redis_that_is_away_is_told_meanwhile_and_its_return(stack: LocalStack) -> None:
    with webhook() as (hook, requests), stack.api("monitor") as monitor:
        monitor.put("/notifiers", json={"items": [{"name": "team", "url": hook}]}).raise_for_status()
        with stack.kept_down("redis"):
            wait_for(lambda: any("firing: redis" in str(each["body"]) for each in requests), "the message", 90)
            assert fires(stack, "redis:platform")()
            with socket.create_connection(("127.0.0.1", stack.settings.public_port), 1):
                pass  # visitors are served
        wait_for(lambda: any("resolved: redis" in str(each["body"]) for each in requests), "the end", 120)
        titles = [str(each["body"]["title"]) for each in requests]
        assert sum("firing: redis" in title for title in titles) == 1
        monitor.put("/notifiers", json={"items": []}).raise_for_status()
