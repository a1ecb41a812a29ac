"""Fills a home over REST and by `git push`: two apps with a canary under way each, and all else that a home keeps."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from services.build.git.remote_source import Forge
from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack
from tests.support.build.webhooks import SECRET, call

APP = Path(__file__).parent / "app"
MIB = 2**20
# Without `.venv`, which holds absolute paths of the machine's Python, an artifact runs anywhere, and is small.
SLIM = {"name": "slim", "stage": "analysis", "commands": ["rm -r .venv"]}
REPORTS = {"junit": "reports/junit.xml", "coverage": "reports/coverage.xml", "sarif": "reports/lint.sarif"}
KEPT: dict[str, Any] = {
    "app": "kept",
    "steps": [
        {"name": "compile", "stage": "build", "commands": ['echo "with $NPM_TOKEN"'], "secrets": ["NPM_TOKEN"]},
        {"name": "check", "stage": "test", "commands": ["python3 check.py"], "reports": REPORTS},
        SLIM,
    ],
    "gates": {"test_failures": 0, "coverage": 50, "changed_coverage": 10, "findings": 3, "new_findings": 1},
    "run": {"command": "python3 app.py", "health": "/up"},
    "hosts": ["kept.example"],
    "resources": {"memory": "64m", "max_memory": "128m"},
}
KEEPER: dict[str, Any] = {
    "app": "keeper",
    "steps": [SLIM],
    "run": {"command": "python3 app.py", "health": "/up"},
    "volumes": [{"name": "data", "path": "/data"}],
    "canary": {"weight": 10},
}


def fill(stack: LocalStack, clones: Path, messages: str) -> None:
    """Returns once nothing is under way but the canaries. `clones` is an empty folder, `messages` an apprise URL."""
    kept, keeper = (_app(stack, clones, manifest) for manifest in (KEPT, KEEPER))
    _notifiers(kept, messages)
    _flags(kept)
    _apps(kept, keeper)
    _fetched(stack, kept)

    _change(kept, "first")
    kept.deliver(Environment.PRODUCTION)
    _change(kept, "second", verdict="flaky", version=2)
    kept.deliver(Environment.PRODUCTION)
    _change(kept, "third", verdict="fail", version=3)
    kept.repository.push("release").finish()
    _change(kept, "fourth", version=4)
    kept.deliver(Environment.CANARY)
    wait_for(partial(_is_under_way, kept, "kept-r3"), "a rollout", 10)
    kept.rollout("abort", release="kept-r3", reason="it was a trial")
    _change(kept, "fifth", version=5)
    kept.deliver(Environment.CANARY)
    kept.call("proxy", "PUT", "/apps/kept/rollout", {"weight": 20})
    _change(keeper, "first")
    keeper.deliver(Environment.PRODUCTION)
    _change(keeper, "second", version=2)
    keeper.deliver(Environment.CANARY)

    _watch(kept)
    for app, release in ((kept, "kept-r4"), (keeper, "keeper-r2")):
        wait_for(partial(_is_under_way, app, release), f"the rollout of {release}", 10)

    def is_silent() -> bool:
        deliveries = kept.call("monitor", "GET", "/deliveries")["items"]
        return all(each["state"] in ("delivered", "silenced") for each in deliveries)

    wait_for(is_silent, "the messages", 20)


def _app(stack: LocalStack, clones: Path, manifest: dict[str, Any]) -> Deployable:
    app = Deployable(stack, manifest["app"], clones / manifest["app"])
    app.repository.copy_from(APP)
    (app.repository.folder / "slipway.yml").write_text(json.dumps(manifest))
    return app


def _change(app: Deployable, message: str, verdict: str = "pass", version: int = 1) -> None:
    """Commits another version; `verdict` is that of its tests."""
    folder = app.repository.folder
    (folder / "verdict").write_text(f"{verdict}\n")
    lines = (folder / "app.py").read_text().splitlines(keepends=True)
    lines = [f"VERSION = {version}\n" if line.startswith("VERSION = ") else line for line in lines]
    (folder / "app.py").write_text("".join(lines))
    app.repository.commit(message)


def _is_under_way(app: Deployable, release: str) -> bool:
    rollout = app.rollout()
    return (rollout["release"], rollout["state"]) == (release, "progressing")


def _notifiers(app: Deployable, messages: str) -> None:
    mail = "mailto://user:word@mail.example/?to=team@example.com"
    items = [
        {"name": "team", "url": messages, "events": ["build.*"]},
        {"name": "absent", "url": mail, "enabled": False},
    ]
    app.call("monitor", "PUT", "/notifiers", {"items": items})
    silence = {"app": "keeper", "until": "2099-01-01T00:00:00Z", "reason": "it is only an example"}
    app.call("monitor", "POST", "/silences", silence)


def _flags(app: Deployable) -> None:
    switch = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
    rule = {"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on"]}
    app.call("flags", "PUT", "/flags/new-page", {**switch, "targeting": rule})
    app.call("flags", "PATCH", "/flags/new-page?environment=canary", {"defaultVariant": "on"})
    colours = {"state": "ENABLED", "variants": {"red": "#f00", "blue": "#00f"}, "defaultVariant": "red"}
    app.call("flags", "PUT", "/flags/colour", {**colours, "targeting": {"fractional": [["red", 50], ["blue", 50]]}})
    limit = {"state": "ENABLED", "variants": {"low": 10, "high": 99}, "defaultVariant": "low"}
    app.call("flags", "PUT", "/flags/limit", {**limit, "metadata": {"mirror": "plain-limit", "owner": "team"}})
    app.call("flags", "PATCH", "/flags/limit", {"defaultVariant": "high"})
    app.call("flags", "PUT", "/flags/retired", {**switch, "state": "DISABLED"})
    app.call("flags", "PUT", "/flags/removed", switch)
    app.call("flags", "DELETE", "/flags/removed")


def _apps(kept: Deployable, keeper: Deployable) -> None:
    branches = {"release": "production", "dev": "canary", "main": "production"}
    kept.call("build", "POST", "/apps", {"name": "kept", "branches": branches, "gates": {"coverage": 40}})
    kept.call("build", "PUT", "/apps/kept/secrets/NPM_TOKEN", {"value": "npm-only-of-this-home"})
    keeper.call("build", "POST", "/apps", {"name": "keeper", "gate": "push", "flaky": {"reruns": 0}})
    for environment in Environment:
        body = {"variables": {"GREETING": f"hello {environment}"}, "secrets": {"DATABASE_URL": f"only-{environment}"}}
        kept.call("deployer", "PATCH", f"/apps/kept/environments/{environment}", body)
    policy = {"up": 0.1, "up_soon": 0.1, "down": 0.04, "samples": 2, "cooldown_s": 3600}
    kept.call("monitor", "PUT", "/policies/kept/production", policy)
    kept.call("monitor", "PUT", "/policies/keeper/production", {"enabled": False})


def _fetched(stack: LocalStack, app: Deployable) -> None:
    """Makes an app whose source is elsewhere, and calls its webhook with what asks for nothing."""
    source = {"forge": "github", "url": "https://git.example/fetched.git", "token": "word", "webhook_secret": SECRET}
    app.call("build", "POST", "/apps", {"name": "fetched", "source": source})
    ping = call(Forge.GITHUB, event="ping", delivery="held-1")
    with stack.api("build") as build:
        build.post("/webhooks/github/fetched", headers=ping.headers, content=ping.body).raise_for_status()


def _watch(kept: Deployable) -> None:
    """Sets rules, and waits for an alert that is over, one that fires, and a memory limit that was doubled."""

    def is_firing(name: str) -> bool:
        alerts = kept.call("monitor", "GET", "/alerts")["items"]
        return any((alert["rule"], alert["state"]) == (name, "firing") for alert in alerts)

    def is_doubled() -> bool:
        stats = kept.call("deployer", "GET", "/stats")["items"]
        production = [each for each in stats if (each["app"], each["environment"]) == ("kept", "production")]
        return [each["memory_limit"] for each in production] == [128 * MIB]

    rule = {"metric": "memory", "threshold": 0.01, "app": "kept", "environment": "production"}
    for name in ("brief", "lasting"):
        kept.call("monitor", "PUT", f"/rules/{name}", rule)
        wait_for(partial(is_firing, name), f"the alert {name}", 30)
    kept.call("monitor", "PUT", "/rules/brief", {**rule, "threshold": 5})
    kept.call("monitor", "PUT", "/rules/cpu", {"metric": "cpu", "threshold": 300, "enabled": False})
    wait_for(lambda: not is_firing("brief"), "the end of the alert brief", 30)
    wait_for(is_doubled, "a doubled memory limit", 60)
