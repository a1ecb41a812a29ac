"""The page of all apps shows a hundred of them at a time, those with a rollout first."""

import re
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.api.page_views import ROWS, ProxyPages
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import route

pytestmark = pytest.mark.anyio


def apps_on(page: str) -> list[str]:
    return re.findall(r'id="app-([^"]+)"', page)


async def test_every_app_is_on_one_of_the_pages(tmp_path: Path, redis: Redis) -> None:
    quiet = [f"app{number:03}" for number in range(ROWS)]
    plane = Plane(tmp_path, redis, *(route(app=app) for app in quiet), route(rollout="zoo-r2", app="zoo"))
    pages = ProxyPages(plane.control, plane.counts, plane.reader, plane.settings)

    first, second, third = (pages.overview(None, number) for number in (1, 2, 3))

    assert apps_on(first) == ["zoo", *quiet[:-1]]
    assert apps_on(second) == quiet[-1:]
    assert apps_on(third) == []
    links = [re.findall(r'href="(/\?page=\d+)"', page) for page in (first, second)]
    assert links == [["/?page=2"], ["/?page=1"]]
    assert 'hx-get="/?page=2"' in second, "the page that is shown is the one that is shown again"
    assert "There are no more apps" in third


async def test_a_page_that_shows_all_apps_has_no_links_to_others(tmp_path: Path, redis: Redis) -> None:
    plane = Plane(tmp_path, redis, route(app="notes"))
    page = ProxyPages(plane.control, plane.counts, plane.reader, plane.settings).overview(None)

    assert apps_on(page) == ["notes"]
    assert 'href="/?page=' not in page
