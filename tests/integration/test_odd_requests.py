"""No value that a client puts into a query or a path is an error of the platform, or blamed on Redis."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from redis.asyncio import Redis

from services.build.config import Settings as BuildSettings
from services.build.main import build_app as build
from services.deployer.config import Settings as DeployerSettings
from services.deployer.main import build_app as deployer
from services.flags.config import Settings as FlagsSettings
from services.flags.main import build_app as flags
from services.monitor.config import Settings as MonitorSettings
from services.monitor.main import build_app as monitor
from services.proxy.config import Settings as ProxySettings
from services.proxy.main import build_app as proxy
from shared.config import SharedSettings

pytestmark = pytest.mark.anyio

SERVICES: dict[str, tuple[type[SharedSettings], Callable[[Any], FastAPI]]] = {
    "build": (BuildSettings, build),
    "deployer": (DeployerSettings, deployer),
    "flags": (FlagsSettings, flags),
    "monitor": (MonitorSettings, monitor),
    "proxy": (ProxySettings, proxy),
}
ODD = [
    *("-1", "4611686018427387904", "9223372036854775808", "56519999999999999999", "99999999999999999999-1"),
    *("0288-01-01T00:00:00Z", "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "1e400", "nan"),
    *("%00", "%ED%A0%80", "..", "%2e%2e%2fhealth", "%D9%A3" * 13 + "-a", "9999999999999-x", "9" * 1900, "x" * 1900),
]


def calls(app: FastAPI) -> Iterator[str]:
    """Yields, for each GET of the service, paths in which one query key or one part of the path has an odd value."""
    for path, operations in app.openapi()["paths"].items():
        get = operations.get("get")
        if get is None or "text/event-stream" in str(get["responses"]) or path.endswith("/stream"):
            continue
        plain = re.sub(r"\{app\}", "notes", re.sub(r"\{(?!app)\w+\}", "notes-1", path))
        queries = [each["name"] for each in get.get("parameters", []) if each["in"] == "query"]
        for value in ODD:
            yield from (f"{plain}?{name}={value}" for name in queries)
            for name in re.findall(r"\{\w+\}", path):
                yield re.sub(r"\{\w+\}", "notes", path.replace(name, value))


@pytest.mark.parametrize("service", SERVICES)
async def test_an_odd_value_is_the_clients_fault(
    redis: Redis, redis_socket: Path, tmp_path: Path, service: str
) -> None:
    settings, build_app = SERVICES[service]
    given = {"home": tmp_path, "token": SecretStr("t"), "redis_url": f"unix://{redis_socket}?db=0"}
    app = build_app(settings.model_validate(given))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": "Bearer t"}
    wrong, asked = [], 0
    async with httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers) as client:
        for path in calls(app):
            answer = await client.get(path)
            asked += 1
            if answer.status_code == 500 or "ResponseError" in answer.text:
                wrong.append((path[:200], answer.text[:200]))
    assert wrong == []
    assert asked > 30
