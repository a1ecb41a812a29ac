"""Lists and pages of many apps and rollouts, through REST, without an Envoy."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from services.proxy.api.page_views import ProxyPages
from services.proxy.api.pages import pages_router
from services.proxy.api.rest import router
from services.proxy.control.sync import RegistrySync
from services.proxy.counting.visitor_log import VisitorLog
from services.proxy.envoy.limits import FileLimit
from services.proxy.routes.rollout import Rollout
from services.proxy.routes.route import Route
from shared.proxy_models import RolloutState
from shared.registry import Registry
from shared.web.app import create_app
from tests.support.paging import refused, walked
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import NOW, endpoint, route

pytestmark = pytest.mark.anyio


def one(number: int) -> Route:
    """The last two have an active rollout, and the last one had others before."""
    app = f"app-{number:03}"
    made = route(endpoint(f"{app}-r1-1"), app=app, rollout=f"{app}-r60" if number > 117 else None)
    if number < 119:
        return made
    earlier = [Rollout(release=f"{app}-r{each}", at=NOW, state=RolloutState.ABORTED) for each in range(59, 39, -1)]
    return made.model_copy(update={"earlier": earlier})


@pytest.fixture
async def client(tmp_path: Path, redis: Redis) -> AsyncIterator[httpx.AsyncClient]:
    plane = Plane(tmp_path, redis, *map(one, range(120)))
    pages = ProxyPages(plane.control, plane.counts, plane.reader, plane.settings)
    registry = Registry(redis)
    sync = RegistrySync(plane.control, registry, plane.counts, "localhost", FileLimit(20_000))
    log = VisitorLog(tmp_path, plane.control.admin.reopen_logs, 0)
    routers = [router(sync, plane.rollouts, plane.reader, pages, log), pages_router(plane.rollouts, pages)]
    app = create_app("proxy", plane.settings, registry, description="", routers=routers)
    headers = {"Authorization": "Bearer token"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy", headers=headers) as client:
        yield client


async def test_the_overview_shows_fifty_apps_active_rollouts_first(client: httpx.AsyncClient) -> None:
    found: list[str] = []
    path = "/"
    while path:
        page = (await client.get(path)).text
        shown = re.findall(r'id="app-(app-\d+)"', page)
        assert len(shown) <= 50
        found += shown
        path = next(iter(re.findall(r'href="(/\?cursor=[^"]+)"', page)), "")
    assert found == ["app-118", "app-119", *(f"app-{number:03}" for number in range(118))]
    assert await refused(client, "/", cursor="../") == {"cursor"}


async def test_earlier_rollouts_are_paged(client: httpx.AsyncClient) -> None:
    path = "/apps/app-119/rollouts"
    assert [item["release"] for item in await walked(client, path, limit=7)] == [
        f"app-119-r{number}" for number in range(59, 39, -1)
    ]
    assert await refused(client, path, limit="101", cursor="app-119-r59") == {"limit", "cursor"}
