"""Flags read by OpenFeature's SDKs for Node and for browsers from the running service."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.conftest import Service

pytestmark = pytest.mark.slow

CLIENTS = Path(__file__).parent / "node"
NPM_S = 120


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clients with their packages, as locked, in a copy of their folder."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        reason = f"{' and '.join(missing)} not installed: OpenFeature's Node clients cannot run"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    copy = tmp_path_factory.mktemp("clients") / "node"
    shutil.copytree(CLIENTS, copy, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    installed = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=NPM_S)
    assert installed.returncode == 0, installed.stderr
    return copy


class WebClient:
    """web.mjs: `told` is each line that it writes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def told(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the client has ended"
        return json.loads(line)

    def ask(self) -> Any:
        """Returns the flag values that the client holds now."""
        assert self._process.stdin
        self._process.stdin.write("asked\n")
        self._process.stdin.flush()
        return self.told()


@contextmanager
def web_client(clients: Path, service: Service, learns_by: str) -> Iterator[WebClient]:
    command = ["node", "web.mjs", service.url, service.token, learns_by]
    process = subprocess.Popen(command, cwd=clients, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        try:
            yield WebClient(process)
        finally:
            process.kill()


def test_the_server_sdk_reads_every_type_and_error(clients: Path, service: Service) -> None:
    command = ["node", "server.mjs", service.url, service.token]
    ran = subprocess.run(command, cwd=clients, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    values = {name: details["value"] for name, details in told.items() if "errorCode" not in details}
    assert values == {
        "switch": True,
        "colour": "blue",
        "count": 3,
        "ratio": 1,
        "limits": {"max": [1, 2]},
        "chosen": True,
        "other": False,
    }
    assert told["chosen"] == {"value": True, "variant": "on", "reason": "TARGETING_MATCH"}
    errors = {name: (details["value"], details["errorCode"]) for name, details in told.items() if name not in values}
    assert errors == {
        "disabled": (True, "GENERAL"),  # this provider takes an answer without a value for an error; the default holds
        "unknown": (True, "FLAG_NOT_FOUND"),
        "mistaken": (True, "TYPE_MISMATCH"),
        "refused": (False, "GENERAL"),
    }


def test_the_web_sdk_is_told_of_a_change_by_the_stream(clients: Path, service: Service) -> None:
    with web_client(clients, service, "sse") as web, service.api() as api:
        ready = web.told()
        assert (ready["event"], ready["switch"], ready["beta"]) == ("ready", True, True)
        assert (ready["disabled"]["value"], ready["disabled"]["reason"]) == (True, "DISABLED")
        while 304 not in ready["statuses"]:  # its stream is open: it was told the etag and asked whether it still holds
            ready["statuses"] += web.ask()["statuses"]
            time.sleep(0.01)
        for variant, value in [("off", False), ("on", True)]:
            api.patch("/flags/switch", json={"defaultVariant": variant}).raise_for_status()
            changed = web.told()
            assert (changed["event"], changed["flagsChanged"], changed["switch"]) == ("changed", ["switch"], value)
            assert changed["statuses"] == [200]
        api.patch("/flags/beta", params={"environment": "canary"}, json={"defaultVariant": "on"}).raise_for_status()
        time.sleep(0.3)
        assert web.ask()["statuses"] == []  # another environment's change is not told


def test_the_web_sdk_polls_and_is_told_that_nothing_changed(clients: Path, service: Service) -> None:
    with web_client(clients, service, "polling") as web, service.api() as api:
        assert web.told()["statuses"] == [200]
        time.sleep(0.5)
        asked = web.ask()["statuses"]
        assert len(asked) >= 2 and set(asked) == {304}
        api.post("/flags/beta/switch", params={"to": "off", "rules": "aside"}).raise_for_status()
        changed = web.told()
        assert (changed["flagsChanged"], changed["beta"]) == (["beta"], False)
