"""The flags service as a process of its own, as OpenFeature's SDKs meet it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.flags.auth import app_token
from shared.models import Environment
from shared.security.auth import derived_secret
from tests.support.ports import free_port, wait_for_port

TOKEN = "platform-token"
ROOT = Path(__file__).parent.parent.parent
SWITCH: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
FLAGS: dict[str, dict[str, Any]] = {
    "switch": SWITCH,
    "colour": {"state": "ENABLED", "variants": {"a": "blue", "b": "red"}, "defaultVariant": "a"},
    "count": {"state": "ENABLED", "variants": {"a": 3, "b": 4}, "defaultVariant": "a"},
    "ratio": {"state": "ENABLED", "variants": {"a": 1, "b": 0.5}, "defaultVariant": "a"},
    "limits": {"state": "ENABLED", "variants": {"a": {"max": [1, 2]}}, "defaultVariant": "a"},
    "beta": SWITCH
    | {"defaultVariant": "off", "targeting": {"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on", None]}},
    "disabled": SWITCH | {"state": "DISABLED"},
    "kind": SWITCH | {"metadata": {"owner": "ann"}},
}


@dataclass(frozen=True)
class Service:
    """`token`: an app's, of production. `app_redis_url`: as an app is told."""

    url: str
    token: str
    app_redis_url: str
    process: subprocess.Popen[bytes]

    def api(self) -> httpx.Client:
        """Returns a client that sends the platform's token."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, verify=False)


def start(home: Path, redis_url: str) -> Service:
    """One copy of the service, ready."""
    port = free_port()
    environment = {
        **os.environ,
        "SLIPWAY_HOME": str(home),
        "SLIPWAY_TOKEN": TOKEN,
        "SLIPWAY_REDIS_URL": redis_url,
        "SLIPWAY_FLAGS_PORT": str(port),
    }
    with (home / "flags.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "services.flags"], cwd=ROOT, env=environment, stderr=log)
    wait_for_port(port)
    app_redis = redis_url.replace("redis://", f"redis://app:{derived_secret(TOKEN, 'redis:app')}@")
    return Service(f"http://127.0.0.1:{port}", app_token(TOKEN, Environment.PRODUCTION), app_redis, process)


@pytest.fixture(scope="module")
def running(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = start(tmp_path_factory.mktemp("flags"), redis_server)
    yield service
    service.process.terminate()
    service.process.wait(10)


@pytest.fixture
def service(running: Service) -> Service:
    """With FLAGS in both environments, and nothing else."""
    flags = {"environments": {each: {"flags": FLAGS} for each in Environment}}
    with running.api() as api:
        api.post("/import", params={"mode": "replace"}, json=flags)
        assert len(api.get("/flags").raise_for_status().json()["items"]) == len(FLAGS)
    return running
