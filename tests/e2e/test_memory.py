"""A leak under load: memory doubles while serving, up to the manifest's maximum, and what happens there."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.mail_sink import MailSink, mail_sink
from stack.clients.probe_client import probe, wait_for
from stack.local.local_stack import LocalStack

MIB = 2**20
LEAK_MB_S = float(os.environ.get("E2E_LEAK_MB_S", "4"))  # 2 with the default policy, where there is time
BOUNDS = {"memory": "64m", "max_memory": "256m"}
STEPS = [(64 * MIB, 128 * MIB), (128 * MIB, 256 * MIB)]


@pytest.fixture
def leaking(stack: LocalStack, make_app: Callable[[str], Deployable]) -> Callable[[str, MailSink], Deployable]:
    def make(name: str, sink: MailSink) -> Deployable:
        app = make_app(name)
        path = app.repository.folder / "slipway.yml"
        manifest = json.loads(path.read_text()) | {"resources": BOUNDS, "notify": [sink.url("ops@example.com")]}
        path.write_text(json.dumps(manifest))
        for number, environment in (("1", Environment.PRODUCTION), ("2", Environment.CANARY)):
            (app.repository.folder / "VERSION").write_text(number)
            app.repository.commit(number)
            app.deliver(environment)
        if LEAK_MB_S > 2:  # the default cool-down of 30 s bears 2 MB/s between 64 and 128 MiB
            for environment in Environment:
                app.call("monitor", "PUT", f"/policies/{name}/{environment}", {"cooldown_s": 10})
        return app

    return make


def changes(app: Deployable, environment: Environment) -> list[tuple[int, int]]:
    """The limits that were changed, oldest first."""
    decisions = app.call("monitor", "GET", f"/policies/{app.app}/{environment}/decisions")["items"]
    return [(d["from"], d["to"]) for d in reversed(decisions) if d["action"] == "up" and d["state"] == "applied"]


def firing(app: Deployable) -> dict[str, dict[str, Any]]:
    """Environment → the firing alert MemoryAtCap."""
    alerts = app.call("monitor", "GET", f"/alerts?app={app.app}")["items"]
    return {
        alert["environment"]: alert for alert in alerts if alert["rule"] == "MemoryAtCap" and alert["state"] == "firing"
    }


def test_a_leak_gets_double_the_memory_up_to_its_cap_and_loses_no_request(
    leaking: Callable[[str, MailSink], Deployable],
) -> None:
    with mail_sink() as sink:
        app = leaking("leak", sink)
        stats = {
            item["environment"]: item
            for item in app.call("deployer", "GET", "/stats")["items"]
            if item["app"] == "leak"
        }
        assert {item["memory_limit"] for item in stats.values()} == {64 * MIB}
        with Load(app.public, rate=100, host=app.host, limit_s=240) as load:
            deadline = time.monotonic() + 200
            while time.monotonic() < deadline:
                rollout = app.rollout()
                # Each leaks until it is told to be at its cap; beyond that it would be killed, and requests lost.
                # Production is slower, because a canary is not blamed for what production does as well.
                leaks = {app.canary: LEAK_MB_S / 2} if rollout["state"] == "progressing" else {}
                if "production" not in firing(app):
                    leaks[app.production] = LEAK_MB_S / (4 if leaks else 2)
                if not leaks:
                    break
                for url, megabytes in leaks.items():
                    assert probe(url, f"/eat?mb={megabytes:g}", app.host).status in (200, 503)
                time.sleep(0.5)
            time.sleep(1)
        report = load.report()
        assert report.lost == 0, report.lines()
        assert changes(app, Environment.PRODUCTION) == STEPS
        assert changes(app, Environment.CANARY) == STEPS, "a canary is aborted at the cap, not before"
        assert rollout["reason"].startswith("MemoryAtCap"), rollout
        stats = {
            item["environment"]: item
            for item in app.call("deployer", "GET", "/stats")["items"]
            if item["app"] == "leak"
        }
        assert (stats["production"]["oom_kills"], stats["production"]["restarts"]) == (0, 0)
        assert stats["production"]["memory_limit"] == 256 * MIB
        registered = app.call("deployer", "GET", "/registry")["instances"]["leak"]["stable"]
        assert [item["memory_limit"] for item in registered] == [256 * MIB]

        def told(*words: str) -> int:
            return sum(all(word in f"{mail.subject} {mail.text}" for word in words) for mail in sink.messages)

        wait_for(lambda: told("MemoryAtCap", "production") > 0, "the mail about MemoryAtCap", 30)
        for environment in Environment:
            for before, after in ((64, 128), (128, 256)):
                assert told(f"{before} → {after} MiB", str(environment)) == 1, [mail.subject for mail in sink.messages]
