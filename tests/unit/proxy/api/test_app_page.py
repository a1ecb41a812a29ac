"""Tests what the page of one app shows besides its rollout."""

import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.api.page_views import ProxyPages
from services.proxy.routes.edge import EdgeSettings, MappedPath
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import route

pytestmark = pytest.mark.anyio


async def test_the_page_of_an_app_shows_its_hosts_and_paths_and_a_poll_brings_a_change(
    tmp_path: Path, redis: Redis
) -> None:
    plane = Plane(tmp_path, redis, route())
    pages = ProxyPages(plane.control, plane.counts, plane.reader, plane.settings)
    before = pages.rollout("notes", None)
    assert "<code>notes.localhost</code>" in before and "Canonical host" not in before

    edge = EdgeSettings(
        hosts=["*.example.com"],
        canonical_host="www.example.com",
        catch_all=True,
        paths=[MappedPath(prefix="/api", app="api", strip=True)],
    )
    plane.control.put(plane.control.route("notes").model_copy(update={"edge": edge}))
    [seen] = re.findall(r"seen=(\w+)", before)
    after = pages.rollout("notes", None, shown=seen)
    for text in ("*.example.com", "www.example.com", "notes.localhost", "Unknown host names", "/api"):
        assert text in after
    assert "<code>*</code>" not in after
