"""Those who ask for traffic at the same time share readings of Envoy, whatever their number."""

import asyncio
import itertools
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.proxy.control.envoy_loops import TrafficReader
from services.proxy.traffic import RequestCounts
from shared.errors import Unavailable
from tests.support.proxy.plane import Plane
from tests.support.proxy.routes import route

pytestmark = pytest.mark.anyio

APPS = [f"app{number}" for number in range(100)]


@pytest.fixture
def plane(tmp_path: Path, redis: Redis) -> Plane:
    return Plane(tmp_path, redis, *(route(app=app) for app in APPS))


async def test_a_hundred_askers_cost_at_most_two_readings(plane: Plane) -> None:
    views = await asyncio.gather(*(plane.reader.view(app) for app in APPS))

    assert len(views) == 100
    assert plane.asked["/clusters"] <= 2


async def test_the_traffic_of_all_apps_is_one_reading(plane: Plane) -> None:
    assert sorted(await plane.reader.views()) == sorted(APPS)
    assert plane.asked["/clusters"] == 1


async def test_the_proxy_reads_by_itself_only_if_the_monitor_does_not_ask(plane: Plane) -> None:
    clock = [0.0]
    reader = TrafficReader(plane.control, plane.counts, lambda connections: None, lambda: clock[0])
    await reader.views()
    clock[0] += 2
    await reader.keep_current()
    assert plane.asked["/clusters"] == 1

    clock[0] += 0.5
    await reader.keep_current()
    assert plane.asked["/clusters"] == 2


async def test_the_figures_begin_anew_when_envoy_was_started_again(plane: Plane) -> None:
    numbers = itertools.count(1)
    reader = TrafficReader(plane.control, RequestCounts(lambda: f"epoch {next(numbers)}"), lambda connections: None)
    first = (await reader.views())["app0"].epoch
    plane.uptime_s = 14
    assert (await reader.views())["app0"].epoch == first

    plane.uptime_s = 1
    assert (await reader.views())["app0"].epoch != first


async def test_who_asks_after_a_reading_gets_a_new_one(plane: Plane) -> None:
    await plane.reader.view("app0")
    await plane.reader.view("app0")

    assert plane.asked["/clusters"] == 2


async def test_an_asker_that_has_gone_is_not_answered_for(plane: Plane) -> None:
    running = asyncio.create_task(plane.reader.step())
    await asyncio.sleep(0)
    gone = [asyncio.create_task(plane.reader.view(app)) for app in APPS]
    await asyncio.sleep(0)
    for each in gone:
        each.cancel()
    await asyncio.gather(running, *gone, return_exceptions=True)

    assert plane.asked["/clusters"] == 1


async def test_a_reading_that_was_cut_off_is_made_by_the_next_asker(plane: Plane) -> None:
    cut_off = asyncio.create_task(plane.reader.step())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(plane.reader.view("app0"))
    await asyncio.sleep(0)
    cut_off.cancel()

    assert (await waiting).epoch == "epoch"
    assert plane.asked["/clusters"] == 1


async def test_all_askers_learn_that_envoy_does_not_answer(plane: Plane) -> None:
    plane.envoy_is_away = True

    outcomes = await asyncio.gather(*(plane.reader.view(app) for app in APPS), return_exceptions=True)

    assert {type(each) for each in outcomes} == {Unavailable}
    assert plane.asked["/stats"] <= 2
