"""An app that needs a secret, on the whole stack: other values lose no request, and none can be read in the home."""

import json
from collections.abc import Callable
from functools import partial

import psutil

from shared.models import Environment
from stack.clients.delivery import Deployable
from stack.clients.load import Load
from stack.clients.probe_client import wait_for
from stack.local.local_stack import LocalStack
from tests.support.stack.cadence import RATE

VALUE = "hush-5b1e77"
PATH = "/apps/secretive/environments/production"


def test_other_secrets_lose_no_request_and_are_nowhere_to_be_read(
    stack: LocalStack, make_app: Callable[[str], Deployable]
) -> None:
    app = make_app("secretive")

    def set_secret(value: str) -> None:
        app.call("deployer", "PATCH", PATH, {"secrets": {"DATABASE_URL": value}})

    def is_alone(instance: str) -> bool:
        return [each["id"] for each in app.call("deployer", "GET", PATH)["instances"]] == [instance]

    set_secret(f"{VALUE}-0")
    command = f'case "$DATABASE_URL" in {VALUE[:5]}*) exec python app.py;; esac; exit 9'
    manifest = {"app": app.app, "run": {"command": command, "health": "/up"}}
    (app.repository.folder / "slipway.yml").write_text(json.dumps(manifest))
    app.repository.commit("it needs a secret")
    app.deliver(Environment.PRODUCTION)
    with Load(app.public, rate=RATE, host=app.host, limit_s=120) as load:
        for number in (1, 2, 3):
            set_secret(f"{VALUE}-{number}")
            instance = f"secretive-r1-{number + 1}"
            wait_for(partial(is_alone, instance), f"{instance} alone", 30)
    report = load.report()
    assert report.sent > 200
    assert report.lost == 0, "\n".join(report.lines())

    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if VALUE in command] == []
    files = [path for path in stack.settings.home.rglob("*") if path.is_file()]
    assert {"deployer.log", "redis.log", "proxy.log"} <= {path.name for path in files}
    assert any(".aof" in path.name for path in files)
    assert [str(path) for path in files if VALUE.encode() in path.read_bytes()] == []
